// Acts on all jobs that match the filters, on this page or not: counted first, then a plan that the server carries out.
import { html, useSignal } from "../../../vendor/preact.js";
import { call, may } from "../../../api.js";
import { dateTime, number } from "../../../format.js";
import { Dialog } from "../../../parts/dialog.js";
import { usePlan } from "../../../parts/plan.js";
import { Problem } from "../../../parts/problem.js";
import { go, href } from "../../../router.js";
import { common } from "../../../words.js";
import { queryOf } from "./filters.js";
import { words } from "./words.js";

const PLANS = "/v1/job-plans";

/** Buttons to cancel or retry all that match; a plan's own filters are its jobs. */
export function AllMatching({ filters }) {
  const text = words();
  const trial = useSignal(null);
  const error = useSignal(null);
  const why = useSignal("");
  // Jobs of one pipeline are cancelled and retried by the pipeline.
  if (!may("write") || filters.pipeline) return null;
  const filter = queryOf(filters, ["at"]);
  const ask = async (action) => {
    error.value = null;
    try {
      trial.value = await call("POST", PLANS, { body: { action, filter, dry_run: true } });
    } catch (problem) {
      error.value = problem;
    }
  };
  const run = async ({ action, count }) => {
    try {
      const body = { action, filter, expected_count: count, ...(why.value.trim() ? { why: why.value.trim() } : {}) };
      const plan = await call("POST", PLANS, { body });
      go(href("jobs", { plan: plan.id }));
    } catch (problem) {
      error.value = problem;
    }
  };
  const asked = trial.value;
  return html`
    <div class="row all-matching">
      <span class="hint">${text.allMatching}</span>
      ${["cancel", "retry"].map((action) => html`<button type="button" key=${action} onClick=${() => ask(action)}>${text.askAll[action]}</button>`)}
    </div>
    ${error.value && html`<${Problem} error=${error.value} />`}
    ${asked && html`<${Dialog} title=${asked.count ? text.acts[asked.action](number(asked.count)) : text.noneFits} confirm=${text.confirm} danger=${asked.action === "cancel"} disabled=${asked.count === 0}
      onClose=${(yes) => {
        trial.value = null;
        if (yes) void run(asked);
      }}>
      <p>${text.warnings[asked.action]}</p>
      <p class="row">${Object.entries(asked.by_state).map(([state, count]) => html`<span class="chip" key=${state}>${common().states[state]} ${number(count)}</span>`)}</p>
      ${asked.count > 0 && html`<ul>${asked.sample.slice(0, 5).map((job) => html`<li key=${job.id} class="hint">${job.workload} · ${dateTime(job.created_at)} · <code>${job.id}</code></li>`)}</ul>
        <label class="field"><span>${text.why}</span><input value=${why.value} maxlength="500" onInput=${({ target }) => (why.value = target.value)} /></label>`}
    <//>`}
  `;
}

/** How far a plan is, read until it has ended. */
export function PlanProgress({ id, onEnd }) {
  const text = words();
  const plan = usePlan(`${PLANS}/${id}`, (wasRunning) => wasRunning && onEnd());
  if (plan.error) return html`<${Problem} error=${plan.error} retry=${plan.retry} />`;
  const found = plan.value;
  if (!found) return null;
  return html`
    <section class="note plan" aria-label=${text.chosen.plan}>
      <p><b>${text.acts[found.action](number(found.count))}</b> · ${text.planStates[found.state]} · <span class="hint">${found.by}: ${found.why}</span></p>
      <progress max=${found.count} value=${found.done + found.failed + found.skipped} aria-label=${text.columns.progress}></progress>
      <p class="hint">${text.planCounts(number(found.done), number(found.failed), number(found.skipped))}</p>
      ${[...found.failures, ...found.skips].slice(0, 10).map((item) => html`<p class="hint" key=${item.id}><a href=${href("jobs", item.id)}>${item.id}</a> ${item.message} <code>${item.code}</code></p>`)}
    </section>
  `;
}
