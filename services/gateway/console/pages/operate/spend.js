// Spend of the tenant in the present day and month, and its limits.
import { html, useSignal } from "../../vendor/preact.js";
import { call, get, may } from "../../api.js";
import { duration, number, percent, usd } from "../../format.js";
import { Commands } from "../../parts/commands.js";
import { Loaded, useLoaded } from "../../parts/loaded.js";
import { Problem } from "../../parts/problem.js";
import { setQuery } from "../../router.js";
import { words } from "./words.js";

const GROUPS = ["day", "workload", "device", "tenant"];

export function Spend({ query }) {
  const text = words().spend;
  const budget = useLoaded((signal) => get("/v1/budgets", {}, signal), []);
  return html`
    <p class="quiet">${text.intro}</p>
    <${Loaded} of=${budget}>
      ${(value) => html`
        <div class="grid">
          <${Period} title=${text.day} period=${value.day} />
          <${Period} title=${text.month} period=${value.month} />
        </div>
        <p></p>
        <${Limits} budget=${value} onSaved=${budget.set} />
      `}
    <//>
    <${SpendReport} query=${query} />
    <${Commands} cli="saccade budget" path="/v1/budgets" />
  `;
}

function Period({ title, period }) {
  const text = words().spend;
  const used = period.spent_usd + period.reserved_usd;
  return html`
    <section class="card">
      <h2>${title}</h2>
      ${period.limit_usd !== null && html`<progress max=${period.limit_usd} value=${used} aria-label=${percent(used / period.limit_usd)} />`}
      <dl class="rows number">
        <dt>${text.spent}</dt><dd>${usd(period.spent_usd)}</dd>
        <dt>${text.reserved}</dt><dd>${usd(period.reserved_usd)}</dd>
        <dt>${text.limit}</dt><dd>${period.limit_usd === null ? text.noLimit : usd(period.limit_usd)}</dd>
        ${period.remaining_usd !== null && html`<dt>${text.remaining}</dt><dd>${usd(period.remaining_usd)}</dd>`}
      </dl>
    </section>
  `;
}

function Limits({ budget, onSaved }) {
  const text = words().spend;
  const error = useSignal(null);
  const saved = useSignal(false);
  const send = async (work) => {
    error.value = null;
    saved.value = false;
    try {
      onSaved(await work());
      saved.value = true;
    } catch (problem) {
      error.value = problem;
    }
  };
  const save = (event) => {
    event.preventDefault();
    const fields = event.target.elements;
    // A budget is replaced as a whole: the share that was set stays.
    const body = budget.set_at ? { warn_share: budget.warn_share } : {};
    if (fields.daily.value) body.daily_usd = Number(fields.daily.value);
    if (fields.monthly.value) body.monthly_usd = Number(fields.monthly.value);
    send(() => call("PUT", "/v1/budgets", { body }));
  };
  const remove = () =>
    send(async () => {
      await call("DELETE", "/v1/budgets");
      return get("/v1/budgets");
    });
  const amount = (name, label, value) => html`<label class="field"><span>${label}</span><input name=${name} type="number" min="0" step="0.01" defaultValue=${value ?? ""} placeholder=${text.noLimit} disabled=${!may("write")} /></label>`;
  const { daily_usd: daily, monthly_usd: monthly } = budget.operator;
  return html`
    <form class="card" onSubmit=${save}>
      <h2>${text.set}</h2>
      <div class="grid">${amount("daily", text.daily, budget.daily_usd)} ${amount("monthly", text.monthly, budget.monthly_usd)}</div>
      ${(daily !== null || monthly !== null) && html`<p class="hint">${text.operator}: ${daily === null ? text.noLimit : usd(daily)} / ${monthly === null ? text.noLimit : usd(monthly)}</p>`}
      ${error.value && html`<${Problem} error=${error.value} />`}
      <div class="row">
        <button class="primary" disabled=${!may("write")}>${text.save}</button>
        <button type="button" disabled=${!may("write") || (budget.daily_usd === null && budget.monthly_usd === null)} onClick=${remove}>${text.remove}</button>
        ${saved.value && html`<span role="status" class="quiet">${text.saved}</span>`}
      </div>
    </form>
  `;
}

function SpendReport({ query }) {
  const text = words().spend;
  const by = GROUPS.includes(query.get("by")) ? query.get("by") : "day";
  const period = { since: query.get("since") ?? undefined, until: query.get("until") ?? undefined };
  const report = useLoaded((signal) => get("/v1/spend", period, signal), [period.since, period.until]);
  const date = (name, label) => html`<label class="chip">${label} <input type="date" value=${query.get(name) ?? ""} onChange=${(event) => setQuery({ [name]: event.target.value })} /></label>`;
  return html`
    <section class="card">
      <div class="row between">
        <h2>${text.report}</h2>
        <div class="row" role="group" aria-label=${text.groupBy}>
          ${GROUPS.map((name) => html`<button key=${name} type="button" aria-pressed=${name === by} onClick=${() => setQuery({ by: name === "day" ? null : name })}>${text.groups[name]}</button>`)}
        </div>
      </div>
      <div class="row">${date("since", text.from)} ${date("until", text.to)}</div>
      <p></p>
      <${Loaded} of=${report}>${(value) => (value.data.length ? html`<${SpendTable} rows=${grouped(value.data, by)} by=${by} />` : html`<p class="quiet">${text.nothing}</p>`)}<//>
      <${Commands} cli=${`saccade budget spent${by === "day" ? "" : ` --by ${by}`}`} path="/v1/spend" />
    </section>
  `;
}

function SpendTable({ rows, by }) {
  const text = words().spend;
  const most = Math.max(...rows.map((row) => row.usd));
  return html`<div class="scroll"><table class="cards">
    <thead><tr><th>${text.groups[by]}</th><th class="number">${text.attempts}</th><th class="number">${text.time}</th><th class="number">${text.estimated}</th><th class="number">${text.spent}</th><th></th></tr></thead>
    <tbody>
      ${rows.map(
        (row) => html`<tr key=${row.name}>
          <td data-label=${text.groups[by]}>${row.name}</td>
          <td class="number" data-label=${text.attempts}>${number(row.attempts)}</td>
          <td class="number" data-label=${text.time}>${duration(row.seconds)}</td>
          <td class="number" data-label=${text.estimated}>${usd(row.estimated_usd)}</td>
          <td class="number" data-label=${text.spent}>${usd(row.usd)}</td>
          <td><meter aria-label=${text.spent} min="0" max=${most || 1} value=${row.usd}></meter></td>
        </tr>`,
      )}
    </tbody>
  </table></div>`;
}

/** Return the sums of rows with the same value of a field, in the order of the rows. */
export function grouped(rows, by) {
  const sums = new Map();
  for (const row of rows) {
    const sum = sums.get(row[by]) ?? { name: row[by], attempts: 0, seconds: 0, usd: 0, estimated_usd: 0 };
    for (const name of ["attempts", "seconds", "usd", "estimated_usd"]) sum[name] += row[name];
    sums.set(row[by], sum);
  }
  return [...sums.values()];
}
