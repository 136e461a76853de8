// The files of the next job. They outlive the page, so that looking at another one stops no upload.
import { signal } from "../../vendor/preact.js";

/**
 * The files: {key, name, size, type, media, use, file, upload, phase, done}.
 *
 * `use` is the input that somebody has chosen, "" for none. `phase` is a signal of {name, error}: "waiting", "sending",
 * "done", "failed" or "stopped"; `done` one of the bytes that are sent. `file` is null where an upload of an earlier job
 * is used again.
 */
export const files = signal([]);
