// Result of a job: its sentence, its files shown by media type, and all of them to download.
import { html } from "../../../vendor/preact.js";
import { bytes, number } from "../../../format.js";
import { setQuery } from "../../../router.js";
import { addressOfFile, Viewer } from "./viewer.js";
import { shownFirst } from "./table_text.js";
import { words } from "./words.js";

const CHIPS = 24;

/** `files` are the job's files as of the point that the page shows. */
export function Result({ job, files, chosen, start_s }) {
  const text = words();
  const viewable = shownFirst(files);
  const file = viewable.find(({ name }) => name === chosen) ?? viewable[0];
  const labels = labelsOf(viewable.slice(0, CHIPS));
  const choose = (name) => setQuery({ file: name, t: null });
  return html`
    <section class="card" aria-labelledby="result-title">
      <h2 id="result-title">${text.result}</h2>
      ${job.headline && html`<p class="headline">${job.headline}</p>`}
      ${viewable.length > 1 && html`<div class="row chips" role="group" aria-label=${text.files}>
        ${viewable.slice(0, CHIPS).map((each, index) => html`<button type="button" key=${each.name} aria-pressed=${String(each === file)} onClick=${() => choose(each.name)}>${labels[index]}</button>`)}
      </div>`}
      ${file && html`<${Viewer} key=${file.name} jobId=${job.id} file=${file} start_s=${start_s} />
        <p class="row hint"><code>${file.name}</code> <a href=${addressOfFile(job.id, file.name)} target="_blank" rel="noopener">${text.openAlone}</a></p>`}
      ${job.result && html`<${Values} value=${job.result} />`}
      <${Files} job=${job} files=${files} />
    </section>
  `;
}

/** Titles of files; where two have the same one, with the kinds of the files. */
function labelsOf(files) {
  const titles = files.map(({ title, name }) => title || name);
  return titles.map((title, index) => (titles.indexOf(title) === titles.lastIndexOf(title) ? title : `${title} (${files[index].name.split(".").at(-1)})`));
}

/** Fields of the result that are short enough to be read; the rest is in the files. */
function Values({ value }) {
  const text = words();
  const rows = Object.entries(value).map(([name, each]) => [name, typeof each === "object" ? JSON.stringify(each) : String(each)]);
  return html`
    <details class="commands"><summary>${text.values(number(rows.length))}</summary>
      <dl class="rows">${rows.map(([name, each]) => html`<dt key=${name}>${name}</dt><dd class="mono">${each.slice(0, 500)}${each.length > 500 ? " …" : ""}</dd>`)}</dl>
    </details>
  `;
}

function Files({ job, files }) {
  const text = words();
  if (files.length === 0) return html`<p class="quiet">${job.finished_at ? text.noFiles : text.noFilesYet}</p>`;
  return html`
    <details class="commands"><summary>${text.allFiles(number(files.length))}</summary>
      <div class="scroll"><table class="cards">
        <thead><tr><th>${text.columns.name}</th><th>${text.columns.type}</th><th class="number">${text.columns.size}</th></tr></thead>
        <tbody>${files.slice(0, 500).map((file) => html`<tr key=${file.name}>
          <td data-label=${text.columns.name}><span><a href=${addressOfFile(job.id, file.name)} download=${file.name.split("/").at(-1)}>${file.name}</a>${file.title && file.title !== file.name ? html`<br /><span class="hint">${file.title}</span>` : ""}</span></td>
          <td data-label=${text.columns.type}><code>${file.media_type}</code></td>
          <td class="number" data-label=${text.columns.size}>${bytes(file.bytes)}</td>
        </tr>`)}</tbody>
      </table></div>
    </details>
  `;
}
