// Files that are dropped on any page, or pasted: they go to the Start page.
import { signal, useEffect } from "../vendor/preact.js";

export const FILES_MOST = 600;
/** Files that the Start page has not taken yet. */
export const dropped = signal([]);
/** Whether files hang over the page. */
export const over = signal(false);

/** Take files while the component is shown, and call `onFiles` when there are some in `dropped`. */
export function useFileDrops(isOn, onFiles) {
  useEffect(() => {
    if (!isOn) return undefined;
    const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
    let left = 0;
    const take = (files) => {
      dropped.value = [...dropped.value, ...files];
      onFiles();
    };
    const accept = (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      clearTimeout(left);
      over.value = true;
    };
    const listeners = {
      // Where the page changes below the pointer, the new element is entered without a dragover: a drop that follows at
      // once counts only if the entering was accepted.
      dragenter: accept,
      dragover: accept,
      // The pointer also leaves an element for one inside it.
      dragleave() {
        clearTimeout(left);
        left = setTimeout(() => (over.value = false), 120);
      },
      async drop(event) {
        if (!hasFiles(event)) return;
        event.preventDefault();
        over.value = false;
        take(await filesOf(event.dataTransfer));
      },
      paste(event) {
        if (!event.clipboardData?.files.length) return;
        event.preventDefault();
        take([...event.clipboardData.files]);
      },
    };
    for (const [name, listener] of Object.entries(listeners)) addEventListener(name, listener);
    return () => {
      clearTimeout(left);
      for (const [name, listener] of Object.entries(listeners)) removeEventListener(name, listener);
    };
  }, [isOn]);
}

/** Return the files of a drop, also those in folders, which carry their path. */
async function filesOf(transfer) {
  // The entries can only be read before the first await.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.() ?? null);
  const files = [...transfer.files];
  if (!entries.some((entry) => entry?.isDirectory)) return files;
  const found = [];
  for (const entry of entries) if (entry) await collect(entry, found);
  return found;
}

async function collect(entry, found) {
  // One more than are taken, so that the page can say that some were left out.
  if (found.length > FILES_MOST || entry.name.startsWith(".")) return;
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    found.push(Object.assign(file, { path_in_folder: entry.fullPath.replace(/^\//, "") }));
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const inside = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (inside.length === 0) return;
    for (const one of inside) await collect(one, found);
  }
}
