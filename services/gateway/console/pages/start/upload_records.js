// Uploads that this browser has begun, so that the same file dropped again after a reload sends only what is missing.
import { session } from "../../api.js";

const KEY = "saccade.uploads";
const MOST = 100;
/** A server forgets an upload that was not completed after a day (contracts/limits.py, UPLOAD_EXPIRES_S). */
const KEPT_MS = 24 * 3600 * 1000;

const keyOf = (fingerprint) => `${session.value?.tenant ?? ""} ${fingerprint}`;

function read() {
  try {
    const found = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(found) ? found.filter(({ at }) => Date.now() - at < KEPT_MS) : [];
  } catch {
    // No storage, or something else wrote there: nothing is known.
    return [];
  }
}

function write(records) {
  try {
    localStorage.setItem(KEY, JSON.stringify(records.slice(-MOST)));
  } catch {
    // Without storage the file is sent again after a reload.
  }
}

/** Return the upload of a file, {id, name, size, complete}; undefined if there is none. */
export const recordOf = (fingerprint) => read().find(({ key }) => key === keyOf(fingerprint));

/** Remember the upload of a file. */
export function remember(fingerprint, { id, name, size, complete }) {
  const key = keyOf(fingerprint);
  write([...read().filter((record) => record.key !== key), { key, id, name, size, complete, at: Date.now() }]);
}

export function forget(fingerprint) {
  const key = keyOf(fingerprint);
  write(read().filter((record) => record.key !== key));
}

/** Return the uploads of this tenant that were begun and not completed. */
export const unfinished = () => read().filter(({ key, complete }) => !complete && key.startsWith(keyOf("")));

/** Forget all uploads that were not completed. */
export const forgetUnfinished = () => write(read().filter(({ complete }) => complete));
