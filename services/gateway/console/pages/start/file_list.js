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

/**
 * The job that somebody wants, which outlives the page as well: null, or {name, title, used, params, options, state, …}.
 *
 * `name` and `title` are the workload's, `used` its files as {name, key} by input. `state` is "waiting" for uploads,
 * "sending", "done" with `id`, or "failed" with `error` and `content`, the body that was refused.
 */
export const wanted = signal(null);
