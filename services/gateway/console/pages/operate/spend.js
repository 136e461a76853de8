// Spend of the tenant in the present day and month, and its limits.
import { html, useSignal } from "../../vendor/preact.js";
import { call, get, may } from "../../api.js";
import { percent, usd } from "../../format.js";
import { Commands } from "../../parts/commands.js";
import { Loaded, useLoaded } from "../../parts/loaded.js";
import { Problem } from "../../parts/problem.js";
import { words } from "./words.js";

export function Spend() {
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
    const body = {};
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
