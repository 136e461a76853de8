// Which file this is, without reading all of it: recognises a file that was dropped before.

const END_BYTES = 1024 ** 2;

/** Return a text of name, size, time of the last change and a hash of the first and the last MiB. */
export async function fingerprintOf(file) {
  const head = await file.slice(0, END_BYTES).arrayBuffer();
  const tail = await file.slice(Math.max(END_BYTES, file.size - END_BYTES)).arrayBuffer();
  const hash = [head, tail].map((part) => hashOf(new Uint8Array(part))).join("");
  return [file.size, file.lastModified, hash, file.name].join(" ");
}

/** FNV-1a in two lanes, 64 bits: WebCrypto is not there on pages without TLS, and nobody is protected by it here. */
function hashOf(bytes) {
  let one = 0x811c9dc5;
  let other = 0x01000193;
  for (const byte of bytes) {
    one = Math.imul(one ^ byte, 0x01000193);
    other = Math.imul(other ^ byte ^ (one >>> 24), 0x85ebca6b);
  }
  return [one, other].map((lane) => (lane >>> 0).toString(16).padStart(8, "0")).join("");
}
