// Sending again what was not delivered: counted first, then sent one after another, with progress.
import { html, useRef, useSignal } from "../../vendor/preact.js";
import { call, get, may } from "../../api.js";
import { number } from "../../format.js";
import { Commands } from "../../parts/commands.js";
import { Dialog } from "../../parts/dialog.js";
import { Problem } from "../../parts/problem.js";
import { words } from "./words.js";

const HOUR_S = 3_600;
const PERIODS_S = { hour: HOUR_S, day: 24 * HOUR_S, week: 7 * 24 * HOUR_S, month: 30 * 24 * HOUR_S };
const MOST = 1_000;

export function RedeliverAll({ endpoint, onDone }) {
  const text = words();
  const plan = useSignal(null);
  const period = useSignal("day");
  const progress = useSignal(null);
  const error = useSignal(null);
  const path = `/v1/webhooks/${endpoint.id}`;
  /** Number of the newest count: the answer to an older one, or after the dialog was closed, is dropped. */
  const asked = useRef(0);
  const count = async (chosen) => {
    const own = (asked.current += 1);
    period.value = chosen;
    plan.value = { ids: null };
    error.value = null;
    try {
      const ids = await failedSince(`${path}/deliveries`, PERIODS_S[chosen]);
      if (own === asked.current) plan.value = { ids };
    } catch (problem) {
      if (own !== asked.current) return;
      plan.value = null;
      error.value = problem;
    }
  };
  const close = async (yes) => {
    asked.current += 1;
    const { ids } = plan.value;
    plan.value = null;
    if (!yes) return;
    try {
      for (const [index, id] of ids.entries()) {
        progress.value = [index, ids.length];
        await call("POST", `${path}/redeliver`, { body: { delivery_id: id } });
      }
    } catch (problem) {
      error.value = problem;
    }
    progress.value = null;
    onDone();
  };
  const reason = !may("write") ? text.needsWrite : !endpoint.enabled ? text.enableFirst : null;
  return html`
    <div class="row">
      ${progress.value && html`<label class="hint">${text.sendingOf(number(progress.value[0]), number(progress.value[1]))} <progress value=${progress.value[0]} max=${progress.value[1]}></progress></label>`}
      <button type="button" data-do="redeliver-all" disabled=${reason !== null || progress.value !== null} title=${reason ?? undefined} onClick=${() => count(period.value)}>${text.againAll}</button>
      ${error.value && html`<${Problem} error=${error.value} />`}
      ${plan.value && html`<${Dialog} title=${text.againAll} confirm=${text.sendCount(plan.value.ids ? number(plan.value.ids.length) : "…")} disabled=${!plan.value.ids?.length} onClose=${close}>
        <label class="field"><span>${text.failedSince}</span>
          <select value=${period.value} onChange=${(event) => count(event.target.value)}>${Object.keys(PERIODS_S).map((name) => html`<option key=${name} value=${name}>${text.periods[name]}</option>`)}</select></label>
        <p>${plan.value.ids === null ? text.counting : plan.value.ids.length >= MOST ? text.planMost(number(MOST)) : text.plan(number(plan.value.ids.length))}</p>
        <p class="hint">${text.planHint}</p>
        <${Commands} cli=${`saccade webhooks redeliver ${endpoint.id} --since ${PERIODS_S[period.value]}s`} method="POST" path=${`${path}/redeliver`} body=${{ since: String(PERIODS_S[period.value]) }} />
      <//>`}
    </div>
  `;
}

/** Return the ids of the deliveries that have finally failed, or were cancelled, in the last so many seconds. */
async function failedSince(path, seconds) {
  const since = Date.now() - seconds * 1000;
  const found = [];
  for (const state of ["failed", "cancelled"]) {
    let cursor;
    do {
      const page = await get(path, { state, limit: 100, cursor });
      found.push(...page.data.filter(({ updated_at: at }) => Date.parse(at) >= since).map(({ id }) => id));
      cursor = page.next_cursor;
    } while (cursor && found.length < MOST);
  }
  return found.slice(0, MOST);
}
