// What can be done with a job.
import { html, useEffect, useRef, useSignal } from "../../../vendor/preact.js";
import { call, get, may } from "../../../api.js";
import { dateTime } from "../../../format.js";
import { Dialog } from "../../../parts/dialog.js";
import { Problem } from "../../../parts/problem.js";
import { href, setQuery } from "../../../router.js";
import { common } from "../../../words.js";
import { firstName } from "./head.js";
import { words } from "./words.js";

export function Actions({ job, read }) {
  const text = words();
  const asked = useSignal(null);
  const error = useSignal(null);
  const busy = useSignal(false);
  const last = useRef("");
  const ended = ["succeeded", "failed", "cancelled"].includes(job.state);
  const mayWrite = may("write");
  const act = async (name) => {
    last.current = name;
    busy.value = true;
    error.value = null;
    try {
      await call("POST", `/v1/jobs/${job.id}/${name}`);
      read();
    } catch (problem) {
      error.value = problem;
    }
    busy.value = false;
  };
  useEffect(() => {
    error.value = null; // it was about the state before
  }, [job.state]);
  const reason = !mayWrite ? text.readOnly : job.pipeline ? text.inPipeline : null;
  return html`
    <div class="row actions">
      ${!ended && html`<button type="button" class="danger" disabled=${busy.value || reason !== null} onClick=${() => (asked.value = "cancel")}>${text.cancelJob}</button>`}
      ${(job.state === "failed" || job.state === "cancelled") && html`<button type="button" class="primary" disabled=${busy.value || reason !== null} onClick=${() => act("retry")}>${text.retryJob}</button>`}
      ${!job.pipeline && mayWrite && html`<a class="button" href=${href({ like: job.id })}>${text.again}</a>`}
      <${Partner} job=${job} />
      ${reason && html`<span class="hint">${reason}</span>`}
    </div>
    ${error.value && html`<${Problem} error=${error.value} retry=${() => act(last.current)} />`}
    ${asked.value && html`<${Dialog} title=${text.cancelTitle(firstName(job))} confirm=${text.cancelJob} danger onClose=${(yes) => {
      asked.value = null;
      if (yes) void act("cancel");
    }}><p>${text.cancelHint}</p><//>`}
  `;
}

/** Choice of another job of the workload to compare with, read when it is opened. */
function Partner({ job }) {
  const text = words();
  const others = useSignal(null);
  const error = useSignal(null);
  const open = async () => {
    error.value = null;
    try {
      const page = await get("/v1/jobs", { workload: job.workload, limit: 30 });
      others.value = page.data.filter(({ id }) => id !== job.id);
    } catch (problem) {
      error.value = problem;
    }
  };
  if (error.value) return html`<${Problem} error=${error.value} retry=${open} />`;
  if (others.value === null) return html`<button type="button" onClick=${open}>${text.compare}</button>`;
  if (others.value.length === 0) return html`<span class="hint">${text.noOther}</span>`;
  return html`
    <select aria-label=${text.compare} onChange=${(event) => event.target.value && setQuery({ with: event.target.value }, { replace: false })}>
      <option value="">${text.compare}</option>
      ${others.value.map((each) => html`<option key=${each.id} value=${each.id}>${firstName(each)} · ${common().states[each.state]} · ${dateTime(each.created_at)}</option>`)}
    </select>
  `;
}
