// Jobs that a result leads to: rows of it are chosen, and Start opens with the same uploads and the rows as parameters.
import { html, useSignal } from "../../../vendor/preact.js";
import { number } from "../../../format.js";
import { href } from "../../../router.js";
import { words } from "./words.js";

/** `declared` are the follow-ups of the job's workload, as GET /v1/workloads has them. */
export function FollowUps({ job, declared }) {
  if (job.state !== "succeeded" || !job.result) return null;
  return declared
    .filter(({ rows, picks }) => (job.result[rows]?.length ?? 0) >= picks.length)
    .map((followUp) => html`<${FollowUp} key=${followUp.title} job=${job} followUp=${followUp} rows=${job.result[followUp.rows]} />`);
}

function FollowUp({ job, followUp, rows }) {
  const text = words();
  const chosen = useSignal(proposed(rows, followUp));
  const { picks, columns, title } = followUp;
  const differ = new Set(chosen.value).size === picks.length;
  const pick = (place, index) => (chosen.value = chosen.value.map((each, at) => (at === place ? index : each)));
  const names = Object.entries(columns);
  return html`
    <section class="card" aria-label=${title}>
      <h2>${title}</h2>
      <div class="scroll"><table>
        <thead><tr>${picks.map((each) => html`<th key=${each.title}>${each.title}</th>`)}${names.map(([name, shown]) => html`<th key=${name} class="number">${shown}</th>`)}</tr></thead>
        <tbody>${rows.map((row, index) => html`<tr key=${index}>
          ${picks.map((each, place) => html`<td key=${each.title}><input type="radio" name=${`${title} ${place}`} aria-label=${text.choose(each.title, index + 1)} checked=${chosen.value[place] === index} onChange=${() => pick(place, index)} /></td>`)}
          ${names.map(([name, shown]) => html`<td key=${name} class="number" data-label=${shown}>${shownValue(row[name])}</td>`)}
        </tr>`)}</tbody>
      </table></div>
      <div class="row">
        ${differ ? html`<a class="button primary" href=${addressOf(job, followUp, chosen.value.map((index) => rows[index]))}>${title}</a>` : html`<p class="hint" role="status">${text.differ}</p>`}
      </div>
    </section>
  `;
}

const shownValue = (value) => (typeof value === "number" ? number(value, Number.isInteger(value) ? 0 : 2) : String(value ?? ""));

/** Return positions of the first rows, those that few want after the others, in their order. */
export function proposed(rows, { picks, unlikely }) {
  const order = rows.map((_, index) => index).sort((one, other) => Number(rows[one][unlikely] ?? 0) - Number(rows[other][unlikely] ?? 0) || one - other);
  return order.slice(0, picks.length).sort((one, other) => one - other);
}

/** Return the address of Start with the follow-up's workload, the job's uploads and the chosen rows. */
export function addressOf(job, followUp, rows) {
  const params = {};
  followUp.picks.forEach(({ into }, place) => {
    const values = Object.entries(followUp.fields).map(([name, from]) => [name, rows[place][from]]);
    const parent = into.slice(0, -1).reduce((at, name) => (at[name] ??= {}), params);
    parent[into.at(-1)] = Object.fromEntries(values);
  });
  const inputs = Object.entries(followUp.inputs).map((pair) => pair.join(":")).join(",");
  return href({ workload: followUp.workload, like: job.id, inputs, params: JSON.stringify(params) });
}
