// One file of a job, shown by its media type. What workers wrote is never part of this page: pages are framed without
// its origin, everything else is a picture, a video or text.
import { html, useEffect, useRef, useSignal } from "../../../vendor/preact.js";
import { addressOf, client } from "../../../api.js";
import { duration } from "../../../format.js";
import { CopyButton } from "../../../parts/commands.js";
import { Loaded, useLoaded } from "../../../parts/loaded.js";
import { route } from "../../../router.js";
import { rowsOfCsv, tableOfJson, viewOf } from "./table_text.js";
import { words } from "./words.js";

const PREVIEW_BYTES = 512 * 1024;
const PREVIEW_CHARS = 100_000;
const PREVIEW_ROWS = 200;

export const addressOfFile = (jobId, name) =>
  addressOf(`/v1/jobs/${jobId}/artifacts/${name.split("/").map(encodeURIComponent).join("/")}`);

export function Viewer({ jobId, file, start_s = null }) {
  const text = words();
  const address = addressOfFile(jobId, file.name);
  const name = file.title || file.name;
  switch (viewOf(file)) {
    case "page":
      return html`<iframe class="view" title=${name} src=${address} sandbox="allow-scripts allow-downloads allow-popups" loading="lazy" referrerpolicy="no-referrer"></iframe>`;
    case "video":
      return html`<${Video} key=${address} address=${address} name=${name} start_s=${start_s} />`;
    case "audio":
      return html`<audio class="view" controls preload="metadata" src=${address} aria-label=${name}></audio>`;
    case "image":
      return html`<a href=${address} target="_blank" rel="noopener"><img class="view" src=${address} alt=${name} /></a>`;
    case "document":
      return html`<p><a class="button" href=${address} target="_blank" rel="noopener">${text.openFile(file.name)}</a></p>`;
    default:
      return html`<${Text} key=${address} jobId=${jobId} file=${file} />`;
  }
}

/** A video; `start_s` is where it begins, so that a link leads to a moment. */
function Video({ address, name, start_s }) {
  const text = words();
  const video = useRef(null);
  const time = useSignal(start_s ?? 0);
  const failed = useSignal(false);
  const seek = () => {
    if (start_s !== null && video.current) video.current.currentTime = Math.min(start_s, video.current.duration || start_s);
  };
  useEffect(() => {
    if (video.current.readyState >= 1) seek();
  }, [start_s]);
  const link = () => {
    const query = new URLSearchParams(route.value.query);
    query.set("t", time.value.toFixed(2));
    return `${location.origin}${location.pathname}?${query}`;
  };
  return html`
    <video ref=${video} class="view" controls preload="metadata" playsinline src=${address} aria-label=${name}
      onLoadedMetadata=${seek} onTimeUpdate=${(event) => (time.value = event.target.currentTime)} onError=${() => (failed.value = true)}></video>
    ${failed.value && html`<p class="hint" role="alert">${text.notPlayed} <a href=${address}>${text.download}</a></p>`}
    <p class="row hint"><span class="number">${duration(time.value)}</span> <${CopyButton} text=${link()} label=${text.copyMoment} /></p>
  `;
}

function Text({ jobId, file }) {
  const loaded = useLoaded((signal) => readBeginning(jobId, file.name, signal), [jobId, file.name, file.sha256]);
  return html`<${Loaded} of=${loaded}>${({ text, whole }) => html`<${Shown} file=${file} text=${text} whole=${whole} />`}<//>`;
}

function Shown({ file, text, whole }) {
  const said = words();
  const kind = viewOf(file);
  let value = null;
  if (kind === "json" && whole) {
    try {
      value = JSON.parse(text);
    } catch {
      // Shown as the text that it is.
    }
  }
  const rows = kind === "table" ? rowsOfCsv(text, PREVIEW_ROWS + 1, whole) : null;
  const table = rows?.length ? { columns: rows[0], rows: rows.slice(1) } : value && tableOfJson(value, PREVIEW_ROWS);
  return html`
    ${table
      ? html`<${Table} table=${table} units=${file.units ?? {}} label=${file.name} />`
      : html`<pre class="view text" tabindex="0">${(value === null ? text : JSON.stringify(value, null, 2)).slice(0, PREVIEW_CHARS)}</pre>`}
    ${(!whole || (table && table.rows.length >= PREVIEW_ROWS) || text.length > PREVIEW_CHARS) && html`<p class="hint">${said.onlyBeginning}</p>`}
  `;
}

function Table({ table, units, label }) {
  return html`
    <div class="scroll view" tabindex="0" role="group" aria-label=${label}><table>
      ${table.columns && html`<thead><tr>${table.columns.map((name, index) => html`<th key=${index}>${name}${units[name] ? ` (${units[name]})` : ""}</th>`)}</tr></thead>`}
      <tbody>${table.rows.map((row, index) => html`<tr key=${index}>${row.map((cell, column) => html`<td key=${column} class=${cell !== "" && !Number.isNaN(Number(cell)) ? "number" : ""}>${cell}</td>`)}</tr>`)}</tbody>
    </table></div>
  `;
}

/** Return the beginning of a file as text: {text, whole}. A large file is not read to its end. */
async function readBeginning(jobId, name, signal) {
  const response = await client.artifact(jobId, name, { signal });
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  for (let size = 0; size < PREVIEW_BYTES; ) {
    const { done, value } = await reader.read();
    if (done) return { text: text + decoder.decode(), whole: true };
    size += value.length;
    text += decoder.decode(value, { stream: true });
  }
  await reader.cancel();
  return { text, whole: false };
}
