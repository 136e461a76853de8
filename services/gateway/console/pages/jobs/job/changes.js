// What changed of the job between two points of its history: a mark that was set, and what the page shows.
import { html } from "../../../vendor/preact.js";
import { get } from "../../../api.js";
import { number, usd } from "../../../format.js";
import { Commands } from "../../../parts/commands.js";
import { Loaded, useLoaded } from "../../../parts/loaded.js";
import { setQuery } from "../../../router.js";
import { inOrder, rowsOf } from "./differences.js";
import { words } from "./words.js";

const ROWS = 200;
/** A slider asks for many: only the one where it rests for a moment is read. */
const REST_MS = 60;

/** `mark` is a cursor, `at` the point that the page shows, null for now; `newest` changes with the job. */
export function Changes({ jobId, mark, at, newest }) {
  const text = words();
  const { since, until } = inOrder(mark, at);
  const loaded = useLoaded(
    async (signal) => {
      await new Promise((resolve) => setTimeout(resolve, REST_MS));
      return signal.aborted ? undefined : get(`/v1/jobs/${jobId}/changes`, { since, until: until ?? undefined }, signal);
    },
    [jobId, since, until, until === null ? newest : ""],
  );
  const query = new URLSearchParams({ since, ...(until === null ? {} : { until }) });
  return html`
    <section class="card" aria-labelledby="changes-title">
      <div class="row between">
        <h2 id="changes-title">${text.changes}</h2>
        <div class="row">
          <button type="button" onClick=${() => setQuery({ at: mark, mark: at ?? newest })}>${text.swapMarks}</button>
          <button type="button" onClick=${() => setQuery({ mark: null })}>${text.endChanges}</button>
        </div>
      </div>
      <p class="hint">${text.from} <code>${since}</code> ${text.until} ${until === null ? text.now : html`<code>${until}</code>`}</p>
      <${Loaded} of=${loaded}>${(found) => html`<${Fields} found=${found} />`}<//>
      <${Commands} cli=${`saccade job diff ${jobId} ${since}${until === null ? "" : ` ${until}`}`} path=${`/v1/jobs/${jobId}/changes?${query}`} />
    </section>
  `;
}

function Fields({ found }) {
  const text = words();
  const rows = rowsOf(found.changed);
  const events = found.events.length + found.events_left_out;
  return html`
    <p role="status">${text.changedFields(number(rows.length), number(events), usd(found.cost_usd))}</p>
    ${rows.length > 0 &&
    html`<div class="scroll" tabindex="0" role="group" aria-label=${text.changes}><table class="cards">
      <thead><tr><th>${text.columns.field}</th><th>${text.before}</th><th>${text.after}</th></tr></thead>
      <tbody>${rows.slice(0, ROWS).map(({ name, before, after }) => html`<tr key=${name}>
        <td data-label=${text.columns.field}><code>${name}</code></td><td class="wrap" data-label=${text.before}>${before}</td><td class="wrap" data-label=${text.after}>${after}</td>
      </tr>`)}</tbody>
    </table></div>`}
    ${rows.length > ROWS && html`<p class="hint">${text.firstRows(number(ROWS), number(rows.length))}</p>`}
  `;
}
