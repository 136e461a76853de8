// Reading of CSV and JSON for a preview. No document.

/** Return the rows of a CSV text (RFC 4180), at most so many; a row that the text cuts off is left out. */
export function rowsOfCsv(text, most = 200, whole = true) {
  const rows = [];
  let row = [];
  let cell = "";
  let quoted = false;
  for (let index = 0; index < text.length && rows.length < most; index += 1) {
    const character = text[index];
    if (quoted) {
      if (character !== '"') cell += character;
      else if (text[index + 1] === '"') cell += text[(index += 1)];
      else quoted = false;
    } else if (character === '"' && cell === "") quoted = true;
    else if (character === ",") {
      row.push(cell);
      cell = "";
    } else if (character === "\n" || character === "\r") {
      if (character === "\r" && text[index + 1] === "\n") index += 1;
      row.push(cell);
      if (row.length > 1 || row[0] !== "") rows.push(row);
      row = [];
      cell = "";
    } else cell += character;
  }
  if (whole && rows.length < most && (cell !== "" || row.length)) rows.push([...row, cell]);
  return rows;
}

/** Return a table {columns, rows} of a JSON value: a list of objects or of lists; null for anything else. */
export function tableOfJson(value, most = 200) {
  const list = Array.isArray(value) ? value : null;
  if (!list?.length || !list.every((item) => item && typeof item === "object")) return null;
  const first = list.slice(0, most);
  if (first.every(Array.isArray)) return { columns: null, rows: first.map((item) => item.map(textOf)) };
  const columns = [...new Set(first.flatMap((item) => Object.keys(item)))].slice(0, 30);
  return { columns, rows: first.map((item) => columns.map((name) => textOf(item[name]))) };
}

const textOf = (value) => (value === undefined || value === null ? "" : typeof value === "object" ? JSON.stringify(value) : String(value));

/** Return how a file is shown: "page", "video", "audio", "image", "table", "json", "text", "document" or "file". */
export function viewOf({ media_type: mediaType = "", name = "" }) {
  const type = mediaType.split(";")[0].trim().toLowerCase();
  if (type === "text/html" || type === "application/xhtml+xml") return "page";
  if (type.startsWith("video/")) return "video";
  if (type.startsWith("audio/")) return "audio";
  // A picture may be active content too (SVG): as <img> it runs nothing.
  if (type.startsWith("image/")) return "image";
  if (type === "text/csv" || name.endsWith(".csv")) return "table";
  if (type === "application/json" || type.endsWith("+json") || name.endsWith(".json")) return "json";
  if (type.startsWith("text/") || /\.(txt|md|vtt|srt|jsonl|log)$/.test(name)) return "text";
  if (type === "application/pdf") return "document";
  return "file";
}

const FIRST = ["page", "video", "image", "audio", "table", "text", "json", "document"];

/** Return the files that can be shown, the one that says most first; the report before other pages. */
export function shownFirst(files) {
  const rank = (file) => FIRST.indexOf(viewOf(file)) - (/(^|\/)report\.html$/.test(file.name) ? 0.5 : 0);
  return files.filter((file) => viewOf(file) !== "file").sort((a, b) => rank(a) - rank(b));
}
