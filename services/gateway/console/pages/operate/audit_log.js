// The audit log, newest first, with the state of its chain of hashes.
import { html, useSignal } from "../../vendor/preact.js";
import { get } from "../../api.js";
import { dateTime, number } from "../../format.js";
import { Commands } from "../../parts/commands.js";
import { Loaded, useLoaded } from "../../parts/loaded.js";
import { Problem } from "../../parts/problem.js";
import { addressOfId } from "../../object_address.js";
import { route, setQuery } from "../../router.js";
import { words } from "./words.js";

const PAGE = 50;

export function AuditLog({ query }) {
  const all = words();
  const text = all.audit;
  const filter = Object.fromEntries(["noun", "verb", "id", "by"].map((name) => [name, query.get(name) ?? undefined]));
  const more = useSignal([]);
  const cursor = useSignal(null);
  const page = useLoaded(
    async (signal) => {
      const found = await get("/v1/audit", { ...filter, limit: PAGE }, signal);
      more.value = [];
      error.value = null;
      cursor.value = found.next_cursor;
      return found;
    },
    [query.toString()],
  );
  const error = useSignal(null);
  const older = async () => {
    const asked = query.toString();
    const from = cursor.value;
    const isShown = () => asked === route.value.query.toString() && from === cursor.value;
    error.value = null;
    try {
      const found = await get("/v1/audit", { ...filter, limit: PAGE, cursor: from });
      if (!isShown()) return;
      more.value = [...more.value, ...found.data];
      cursor.value = found.next_cursor;
    } catch (problem) {
      if (isShown()) error.value = problem;
    }
  };
  const field = (name, label) => html`<input type="search" aria-label=${label} placeholder=${label} value=${filter[name] ?? ""} onChange=${(event) => setQuery({ [name]: event.target.value.trim() })} />`;
  return html`
    <p class="quiet">${text.intro}</p>
    <div class="row">${field("noun", text.noun)} ${field("verb", text.verb)} ${field("id", text.id)} ${field("by", all.by)}</div>
    <p></p>
    <${Loaded} of=${page}>
      ${({ data, chain }) => html`
        <${Chain} chain=${chain} />
        ${data.length === 0
          ? html`<div class="empty"><h2>${text.none}</h2></div>`
          : html`<div class="scroll"><table class="cards">
              <thead><tr><th>${all.when}</th><th>${all.type}</th><th>${all.subject}</th><th>${all.by}</th><th>${all.why}</th><th>${text.details}</th></tr></thead>
              <tbody>${[...data, ...more.value].map((record) => html`<${Row} key=${record.sequence} record=${record} />`)}</tbody>
            </table></div>`}
        ${error.value && html`<${Problem} error=${error.value} retry=${older} />`}
        ${cursor.value && html`<p><button type="button" onClick=${older}>${all.next}</button></p>`}
      `}
    <//>
    <${Commands} cli="saccade audit" path="/v1/audit" />
  `;
}

function Chain({ chain }) {
  const text = words().audit;
  const broken = chain.faults_total > 0;
  return html`<div class=${`note ${broken ? "bad" : "good"}`}>
    <p>${broken ? text.broken(number(chain.faults_total)) : text.chain(number(chain.records))} ${!chain.complete && text.incomplete} ${chain.open_intents > 0 && text.open(number(chain.open_intents))}</p>
    <p class="hint"><code>${chain.head}</code></p>
  </div>`;
}

function Row({ record }) {
  const all = words();
  const address = addressOfId(record.subject);
  return html`<tr>
    <td data-label=${all.when}>${dateTime(record.time)}</td>
    <td data-label=${all.type}><code>${record.type}</code> <span class="hint">${all.audit.phases[record.phase] ?? record.phase}</span></td>
    <td data-label=${all.subject}>${address ? html`<a href=${address}><code>${record.subject}</code></a>` : html`<code>${record.subject}</code>`}</td>
    <td data-label=${all.by}>${record.by} ${!record.by_verified && html`<span class="hint">(${all.audit.unverified})</span>`}</td>
    <td data-label=${all.why}>${record.why}</td>
    <td data-label=${all.audit.details}><details><summary>#${record.sequence}</summary><pre>${JSON.stringify(record.details, null, 2)}</pre></details></td>
  </tr>`;
}
