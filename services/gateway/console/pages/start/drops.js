// Files that are dropped anywhere on the page, or pasted.
import { useEffect, useSignal } from "../../vendor/preact.js";
import { FILES_MOST } from "./file_list.js";

/** Call `onFiles` with dropped or pasted files while the component is shown; returns whether files hang over the page. */
export function useDrops(onFiles) {
  const over = useSignal(false);
  useEffect(() => {
    const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
    let left = 0;
    const listeners = {
      dragover(event) {
        if (!hasFiles(event)) return;
        event.preventDefault();
        clearTimeout(left);
        over.value = true;
      },
      // The pointer also leaves an element for one inside it.
      dragleave() {
        clearTimeout(left);
        left = setTimeout(() => (over.value = false), 120);
      },
      async drop(event) {
        if (!hasFiles(event)) return;
        event.preventDefault();
        over.value = false;
        onFiles(await filesOf(event.dataTransfer));
      },
      paste(event) {
        if (!event.clipboardData?.files.length) return;
        event.preventDefault();
        onFiles([...event.clipboardData.files]);
      },
    };
    for (const [name, listener] of Object.entries(listeners)) addEventListener(name, listener);
    return () => {
      clearTimeout(left);
      for (const [name, listener] of Object.entries(listeners)) removeEventListener(name, listener);
    };
  }, []);
  return over.value;
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
