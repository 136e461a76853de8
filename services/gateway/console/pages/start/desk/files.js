// Changes of the list of files, and their uploads.
import { signal } from "../../../vendor/preact.js";
import { client, get } from "../../../api.js";
import { FILES_MOST } from "../../../parts/file_drops.js";
import { judge } from "../choose.js";
import { files } from "../file_list.js";
import { fingerprintOf } from "./fingerprint.js";
import { forget, recordOf, remember } from "../upload_records.js";

/** Larger files are sent in parts, which a reload or a broken connection does not lose. */
const IN_PARTS_BYTES = 32 * 1024 ** 2;
const UPLOADS_AT_ONCE = 2;

const controllers = new Map();
const sending = new Map();
let count = 0;

/** Add dropped files in the order of their names; returns how many were left out because there are too many. */
export function addFiles(dropped) {
  const collator = new Intl.Collator(undefined, { numeric: true });
  const sorted = [...dropped].sort((one, other) => collator.compare(nameOf(one), nameOf(other)));
  const added = sorted.slice(0, Math.max(0, FILES_MOST - files.value.length)).map((file) => {
    const item = { name: nameOf(file), size: file.size, type: file.type };
    const { media = null, type } = judge(item);
    return itemOf({ ...item, file, media, type: media ? type : file.type, upload: null });
  });
  files.value = [...files.value, ...added];
  return sorted.length - added.length;
}

/** Add the inputs of a job: uploads that are on the server already. */
export function addUploads(uploads) {
  const added = uploads.map(({ upload_id: id, filename, content_type: type, size_bytes: size, use }) => {
    const { media = null } = judge({ name: filename, type, size });
    return { ...itemOf({ name: filename, size, type, media, file: null, upload: { id } }), use, phase: signal({ name: "done" }) };
  });
  files.value = [...files.value, ...added];
}

// A folder that was dropped is part of the name: it may say what its files are for.
const nameOf = (file) => file.path_in_folder ?? file.name;

function itemOf(fields) {
  count += 1;
  return { key: count, use: undefined, phase: signal({ name: "waiting" }), done: signal(0), ...fields };
}

/** Change fields of a file; `changes` by key. */
export function changeFiles(changes) {
  files.value = files.value.map((item) => (changes.has(item.key) ? Object.assign({}, item, changes.get(item.key)) : item));
}

/** Put a file before another one. */
export function moveFile(key, before) {
  const moved = files.value.find((item) => item.key === key);
  const others = files.value.filter((item) => item !== moved);
  const index = others.findIndex((item) => item.key === before);
  files.value = others.toSpliced(index < 0 ? others.length : index, 0, moved);
}

export function removeFile(key) {
  stopUpload(key);
  files.value = files.value.filter((item) => item.key !== key);
}

export function removeAll() {
  for (const { key } of files.value) removeFile(key);
}

export function stopUpload(key) {
  controllers.get(key)?.abort();
}

/** Upload the files with these keys that were not begun yet. */
export function uploadAll(keys) {
  for (const item of files.value) if (keys.has(item.key) && item.phase.value.name === "waiting") startUpload(item);
}

/** Upload a file, or go on with its upload; every outcome is in its `phase`. */
export async function startUpload(item) {
  const controller = new AbortController();
  controllers.set(item.key, controller);
  item.phase.value = { name: "sending" };
  try {
    const upload = await turn(() => sentOnce(item, controller.signal, (done) => (item.done.value = done)), controller.signal);
    changeFiles(new Map([[item.key, { upload }]]));
    item.phase.value = { name: "done" };
  } catch (error) {
    item.phase.value = controller.signal.aborted ? { name: "stopped" } : { name: "failed", error };
  } finally {
    controllers.delete(item.key);
  }
}

const queue = [];
let running = 0;

/** Wait for the end of a running upload; throws at once when the signal aborts. */
function placeInQueue(signal) {
  return new Promise((resolve, reject) => {
    queue.push(resolve);
    signal.addEventListener("abort", () => {
      const place = queue.indexOf(resolve);
      if (place < 0) return;
      queue.splice(place, 1);
      reject(signal.reason);
    });
  });
}

/** Run an upload when fewer than the most at once are running. */
async function turn(run, signal) {
  if (running >= UPLOADS_AT_ONCE) await placeInQueue(signal);
  running += 1;
  try {
    signal.throwIfAborted();
    return await run();
  } finally {
    running -= 1;
    queue.shift()?.();
  }
}

/** Return the upload of a file's content; a second file with the same content waits for the first one's upload. */
async function sentOnce(item, signal, onDone) {
  const fingerprint = await fingerprintOf(item.file);
  for (let other; (other = sending.get(fingerprint)); ) {
    const upload = await unlessStopped(other.catch(() => null), signal);
    if (upload) return upload;
  }
  signal.throwIfAborted();
  const sent = send(item, fingerprint, signal, onDone);
  sending.set(fingerprint, sent);
  try {
    return await sent;
  } finally {
    sending.delete(fingerprint);
  }
}

/** Wait for a promise; throws at once when the signal aborts. */
function unlessStopped(promise, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason);
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
  });
}

async function send(item, fingerprint, signal, onDone) {
  const { file, name, size, type } = item;
  const known = await uploadOf(fingerprint, size, signal);
  if (known?.state === "completed") return known;
  const resume = known?.part_size_bytes ? known.id : undefined;
  const note = (upload, complete) => remember(fingerprint, { id: upload.id, name, size, complete });
  const upload = await client.upload(file, {
    filename: name.split("/").at(-1).slice(0, 255) || "file",
    contentType: type,
    multipart: size > IN_PARTS_BYTES || undefined,
    resume,
    onCreated: (created) => note(created, false),
    onProgress: (done) => onDone(done),
    signal,
  });
  note(upload, true);
  return upload;
}

/** Return the upload that was begun for a file, as the server knows it; null if it can no longer be used. */
async function uploadOf(fingerprint, size, signal) {
  const record = recordOf(fingerprint);
  if (!record) return null;
  try {
    const upload = await get(`/v1/uploads/${record.id}`, {}, signal);
    if (upload.size_bytes === size && (upload.state === "completed" || upload.state === "created")) return upload;
  } catch (error) {
    if (error.status !== 404 && error.status !== 410) throw error;
  }
  forget(fingerprint);
  return null;
}
