// What the job would cost and where it would run, asked from the server while the form is filled in.
import { html, useEffect, useSignal } from "../../../vendor/preact.js";
import { call } from "../../../api.js";
import { duration, usd } from "../../../format.js";
import { refusedFields } from "../../../parts/params/refusals.js";
import { Problem } from "../../../parts/problem.js";
import { words } from "./words.js";

const PAUSE_MS = 350;
const PER_HOUR_S = 3600;

/**
 * Return {check, error, asking} of a dry run of a job's body, asked a moment after the last change.
 *
 * With `complete` the answer is what a submission would answer; else inputs may be missing. `error` of a refusal has the
 * fields in question in `problem.errors`.
 */
export function usePrice(body, complete) {
  const state = useSignal({ check: null, error: null, asking: false });
  const again = useSignal(0);
  const asked = body && JSON.stringify([body, complete]);
  useEffect(() => {
    if (!asked) {
      state.value = { check: null, error: null, asking: false };
      return undefined;
    }
    const controller = new AbortController();
    const { workload } = body;
    state.value = { ...state.value, check: state.value.check?.workload === workload ? state.value.check : null, asking: true };
    const timer = setTimeout(async () => {
      const query = { dry_run: true, partial: complete ? undefined : true };
      try {
        const check = await call("POST", "/v1/jobs", { query, body, signal: controller.signal });
        if (!controller.signal.aborted) state.value = { check: { ...check, complete }, error: null, asking: false };
      } catch (error) {
        if (!controller.signal.aborted) state.value = { check: null, error, asking: false };
      }
    }, PAUSE_MS);
    return () => {
      clearTimeout(timer);
      controller.abort();
    };
  }, [asked, again.value]);
  return { ...state.value, retry: () => (again.value += 1) };
}

/**
 * The price; before the first answer the workload's own estimate, and it says so.
 *
 * `children`, the button, stand beside it, above all that an answer can add or take away: nothing moves it from under
 * the pointer.
 */
export function Price({ workload, price, children }) {
  const text = words();
  const { check, asking } = price;
  const estimate = check?.estimate ?? workload.estimate;
  const basis = estimate.basis === "history" ? text.byHistory(estimate.runs ?? null) : text.byDeclaration;
  const label = !check ? (asking ? text.byDefaultsYet : text.byDefaults) : check.complete ? text.forThisJob : text.forTheseParameters;
  return html`
    <section class="price" aria-label=${text.price} aria-busy=${String(asking)}>
      <div class="decide">
        <div><h2>${text.price}</h2><p class="amount number">${estimate.usd === 0 ? text.noCharge : text.about(usd(estimate.usd))}</p></div>
        ${children}
      </div>
      <p class="hint" role="status">${label} ${text.takesAbout(duration(estimate.seconds), deviceName(estimate.device, text))} ${basis}</p>
    </section>
  `;
}

/** Warnings, stages and devices, or what is wrong with the job. */
export function PriceDetails({ workload, price }) {
  const text = words();
  const { check, error, retry } = price;
  return html`
    <section class="price" aria-label=${text.priceDetails}>
      ${check && html`<${Details} check=${check} titles=${Object.fromEntries(workload.stages.map(({ name, title }) => [name, title]))} />`}
      ${error && (refusedFields(error) ? html`<p class="note bad" role="alert">${text.refusedFields}</p>` : html`<${Problem} error=${error} title=${text.refused} retry=${error.retryable || error.status === 0 ? retry : undefined} />`)}
    </section>
  `;
}

function Details({ check, titles }) {
  const text = words();
  const warnings = check.warnings?.filter(({ code }) => code !== "inputs_missing") ?? [];
  return html`
    ${warnings.map(({ code, message }) => html`<p key=${code} class="note fair">${message}</p>`)}
    ${check.budget && html`<p class="hint">${text.budget(usd(check.budget.reserved_usd), check.budget.day_remaining_usd === null ? null : usd(check.budget.day_remaining_usd))}</p>`}
    <details>
      <summary>${text.stagesAndDevices}</summary>
      ${check.devices?.length > 0 &&
      html`<h3>${text.devices}</h3>
        <ol class="ladder">${check.devices.map(({ device, usd_per_s: rate }) => html`<li key=${device}>${deviceName(device, text)} <span class="hint">${rate ? text.perHour(usd(rate * PER_HOUR_S)) : text.free}</span></li>`)}</ol>
        ${check.devices.length > 1 && html`<p class="hint">${text.ladder}</p>`}`}
      ${check.stages?.length > 0 &&
      html`<h3>${text.stages}</h3>
        <ol class="stages">${check.stages.map(({ name, title, share, needed, shards }) => html`<li key=${name} class=${needed ? "" : "quiet"}>${titles[name] ?? title} <span class="hint">${needed ? text.share(share, shards) : text.notNeeded}</span></li>`)}</ol>`}
      <p class="hint">${text.deadline(duration(check.deadline_s), check.max_attempts)}</p>
    </details>
  `;
}

const deviceName = (device, text) => (device === "cpu" ? text.cpu : device);
