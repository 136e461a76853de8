// Rows of the list of jobs.
import { html } from "../../../vendor/preact.js";
import { dateTime, percent, relative, usd } from "../../../format.js";
import { StateLabel } from "../../../parts/state_label.js";
import { href } from "../../../router.js";
import { words } from "./words.js";

const nameOf = (job) => Object.values(job.inputs).flat()[0]?.filename || job.headline || job.id;

/** `selected` is a signal of a set of ids. */
export function Rows({ rows, selected }) {
  const text = words();
  const columns = text.columns;
  const pick = (id, on) => {
    const ids = new Set(selected.value);
    if (on) ids.add(id);
    else ids.delete(id);
    selected.value = ids;
  };
  const all = rows.every(({ id }) => selected.value.has(id));
  return html`
    <div class="scroll"><table class="cards jobs">
      <thead><tr>
        <th class="pick"><input type="checkbox" aria-label=${text.pickAll} checked=${all} onChange=${({ target }) => (selected.value = target.checked ? new Set(rows.map(({ id }) => id)) : new Set())} /></th>
        <th>${columns.state}</th><th>${columns.job}</th><th>${columns.workload}</th><th>${columns.progress}</th><th class="number">${columns.cost}</th><th>${columns.age}</th>
      </tr></thead>
      <tbody>${rows.map(
        (job) => html`<tr key=${job.id} data-id=${job.id}>
          <td class="pick" data-label=${text.pick}><input type="checkbox" aria-label=${text.pickJob(nameOf(job))} checked=${selected.value.has(job.id)} onChange=${({ target }) => pick(job.id, target.checked)} /></td>
          <td data-label=${columns.state}><${StateLabel} state=${job.state} /></td>
          <td data-label=${columns.job}><span><a class="title" href=${href("jobs", job.id)}>${nameOf(job)}</a>${job.error ? html`<br /><span class="hint">${job.error.message}</span>` : job.headline ? html`<br /><span class="hint">${job.headline}</span>` : ""}</span></td>
          <td data-label=${columns.workload}>${job.workload}</td>
          <td data-label=${columns.progress}>${job.finished_at ? "" : html`<span class="row"><progress max="1" value=${job.progress} aria-label=${columns.progress}></progress> <span class="number hint">${percent(job.progress)}</span></span>`}</td>
          <td class="number" data-label=${columns.cost}>${usd(job.cost.actual_usd)}</td>
          <td data-label=${columns.age}><time datetime=${job.created_at} title=${dateTime(job.created_at)}>${relative(job.created_at)}</time></td>
        </tr>`,
      )}</tbody>
    </table></div>
  `;
}
