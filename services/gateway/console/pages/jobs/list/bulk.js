// Acts on many jobs: those that are marked, one request each.
import { html, useSignal } from "../../../vendor/preact.js";
import { call, may } from "../../../api.js";
import { number } from "../../../format.js";
import { Dialog } from "../../../parts/dialog.js";
import { words } from "./words.js";

const ENDED = new Set(["succeeded", "failed", "cancelled"]);
const FITS = {
  cancel: (job) => !ENDED.has(job.state) && !job.pipeline,
  retry: (job) => (job.state === "failed" || job.state === "cancelled") && !job.pipeline,
};

export function Bulk({ rows, selected, reload }) {
  const text = words();
  const asked = useSignal(null);
  const done = useSignal(null);
  const jobs = rows.filter(({ id }) => selected.value.has(id));
  if (!may("write") || (jobs.length === 0 && !done.value)) return null;
  const fitting = (action) => jobs.filter(FITS[action]);
  const run = async (action) => {
    const ids = fitting(action).map(({ id }) => id);
    done.value = { action, count: 0, of: ids.length, failed: [] };
    for (const id of ids) {
      const error = await call("POST", `/v1/jobs/${id}/${action}`).then(() => null, (problem) => problem);
      const failed = error ? [...done.value.failed, `${id}: ${error.message}`] : done.value.failed;
      done.value = { ...done.value, count: done.value.count + 1, failed };
    }
    selected.value = new Set();
    reload();
  };
  return html`
    <div class="bulk">
      <div class="row">
        <b>${text.marked(number(jobs.length))}</b>
        ${["cancel", "retry"].map((action) => html`<button type="button" key=${action} class=${action === "cancel" ? "danger" : ""} disabled=${fitting(action).length === 0} onClick=${() => (asked.value = action)}>${text.acts[action](number(fitting(action).length))}</button>`)}
        ${jobs.length > 0 && html`<button type="button" class="plain" onClick=${() => (selected.value = new Set())}>${text.unmark}</button>`}
      </div>
      ${done.value && html`<div role="status"><progress max=${done.value.of} value=${done.value.count} aria-label=${text.columns.progress}></progress>
        <p class="hint">${text.doneOf(number(done.value.count), number(done.value.of), number(done.value.failed.length))}</p>
        ${done.value.failed.slice(0, 5).map((line) => html`<p class="hint" key=${line}>${line}</p>`)}</div>`}
    </div>
    ${asked.value && html`<${Dialog} title=${text.acts[asked.value](number(fitting(asked.value).length))} confirm=${text.confirm} danger=${asked.value === "cancel"} onClose=${(yes) => {
      const action = asked.value;
      asked.value = null;
      if (yes) void run(action);
    }}><p>${text.warnings[asked.value]}</p><//>`}
  `;
}
