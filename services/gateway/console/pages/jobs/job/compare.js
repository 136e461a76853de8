// Two jobs of one workload side by side: what differs, and their results.
import { html } from "../../../vendor/preact.js";
import { get } from "../../../api.js";
import { dateTime } from "../../../format.js";
import { Loaded, useLoaded } from "../../../parts/loaded.js";
import { href, setQuery } from "../../../router.js";
import { common } from "../../../words.js";
import { differences } from "./differences.js";
import { firstName } from "./head.js";
import { shownFirst } from "./table_text.js";
import { Viewer } from "./viewer.js";
import { words } from "./words.js";

const ROWS = 100;

export function Compare({ job, other: otherId, files }) {
  const text = words();
  const loaded = useLoaded(
    async (signal) => {
      const other = await get(`/v1/jobs/${otherId}`, undefined, signal);
      // A job without files answers so; it can be compared all the same.
      const listed = await get(`/v1/jobs/${otherId}/artifacts`, undefined, signal).catch(() => ({ artifacts: [] }));
      return { other, artifacts: listed.artifacts };
    },
    [otherId],
  );
  return html`
    <section class="card" aria-labelledby="compare-title">
      <div class="row between"><h2 id="compare-title">${text.comparison}</h2><button type="button" onClick=${() => setQuery({ with: null })}>${common().close}</button></div>
      <${Loaded} of=${loaded}>${({ other, artifacts }) => html`<${Sides} job=${job} other=${other} files=${files} artifacts=${artifacts} />`}<//>
    </section>
  `;
}

function Sides({ job, other, files, artifacts }) {
  const text = words();
  const rows = differences(job, other);
  const first = shownFirst(files)[0];
  const second = shownFirst(artifacts).find(({ name }) => name === first?.name) ?? shownFirst(artifacts)[0];
  const title = (each) => html`<a href=${href("jobs", each.id)}>${firstName(each)}</a><br /><span class="hint">${dateTime(each.created_at)}</span>`;
  return html`
    ${job.workload !== other.workload && html`<p class="hint">${text.otherWorkload(other.workload)}</p>`}
    <div class="scroll" tabindex="0" role="group" aria-label=${text.comparison}><table>
      <thead><tr><th>${text.columns.field}</th><th>${title(job)}</th><th>${title(other)}</th></tr></thead>
      <tbody>${rows.slice(0, ROWS).map(({ name, one, two }) => html`<tr key=${name}><td><code>${name}</code></td><td class="wrap">${one}</td><td class="wrap">${two}</td></tr>`)}</tbody>
    </table></div>
    ${rows.length === 0 && html`<p class="quiet">${text.same}</p>`}
    <div class="sides">
      <div>${first && html`<${Viewer} key=${first.name} jobId=${job.id} file=${first} />`}</div>
      <div>${second && html`<${Viewer} key=${second.name} jobId=${other.id} file=${second} />`}</div>
    </div>
  `;
}
