// State of a job in words, what it costs, what happens next; its stages and its facts.
import { html } from "../../../vendor/preact.js";
import { bytes, dateTime, duration, number, percent, relative, usd } from "../../../format.js";
import { StateLabel } from "../../../parts/state_label.js";
import { href } from "../../../router.js";
import { nextStep } from "./summary.js";
import { words } from "./words.js";

export const firstName = (job) => Object.values(job.inputs).flat()[0]?.filename || job.id;

/** `progress` is the newest report of the worker, which is not part of the history. */
export function Head({ job, events, progress, past }) {
  const text = words();
  const ended = ["succeeded", "failed", "cancelled"].includes(job.state);
  const reported = progress && !ended && progress.data.attempt === job.attempt ? progress.data : null;
  const share = Math.max(job.progress, reported?.fraction ?? 0);
  const cap = events.find(({ type, subject }) => type === "job.submitted" && subject === job.id)?.data.max_cost_usd;
  const end = ended ? job.finished_at : past ? (job.as_of?.time ?? null) : new Date().toISOString();
  return html`
    <div class="page-head">
      <div>
        <p class="hint"><a href=${href("jobs", { workload: job.workload })}>${job.workload}</a>${job.pipeline && html` · ${text.partOf} <a href=${href("jobs", job.pipeline)}>${job.pipeline}</a>`}</p>
        <h1>${firstName(job)}</h1>
        <p class="row">
          <span data-field="state" data-value=${job.state}><${StateLabel} state=${job.state} /></span>
          <${Next} job=${job} events=${events} past=${past} eta_s=${reported?.eta_s ?? null} />
        </p>
      </div>
      <dl class="figures">
        <div><dt>${text.cost}</dt><dd class="number" data-field="cost" data-value=${job.cost.actual_usd}>${usd(job.cost.actual_usd)} <span class="hint">${cap == null ? text.estimated(usd(job.cost.estimated_usd)) : text.ofCap(usd(cap))}</span></dd></div>
        <div><dt>${text.columns.duration}</dt><dd class="number">${job.started_at && end ? duration(Math.max(0, (Date.parse(end) - Date.parse(job.started_at)) / 1000)) : "–"}</dd></div>
        <div><dt>${text.attemptTitle}</dt><dd class="number" data-field="attempt" data-value=${job.attempt}>${number(job.attempt)}</dd></div>
        <div><dt>${text.submitted}</dt><dd><time datetime=${job.created_at} title=${dateTime(job.created_at)}>${relative(job.created_at)}</time></dd></div>
      </dl>
    </div>
    ${!ended && html`<div class="progress">
      <progress max="1" value=${share} aria-label=${text.progress} data-field="progress" data-value=${share}></progress>
      <p class="row between hint"><span data-field="stage" data-value=${reported?.stage ?? job.stage ?? ""}>${[reported?.stage ?? job.stage, reported?.message || job.message].filter(Boolean).join(" · ")}</span>
        <span class="number">${reported?.frame_count ? `${number(reported.frame)}/${number(reported.frame_count)} · ` : ""}${percent(share)}</span></p>
    </div>`}
  `;
}

function Next({ job, events, past, eta_s }) {
  const text = words();
  const next = nextStep(job, events);
  const parts = [text.next[next.what](next), next.at ? `${dateTime(next.at)} (${relative(next.at)})` : "", eta_s ? text.eta(duration(eta_s)) : ""];
  return html`<span class="quiet">${past ? text.then : ""} ${parts.filter(Boolean).join(" ")}</span>`;
}

/** Of a pipeline: its stages and their jobs as rows. */
export function Stages({ job, titles }) {
  const text = words();
  if (job.stages.length === 0) return null;
  return html`
    <section class="card" aria-labelledby="stages-title">
      <h2 id="stages-title">${text.stages}</h2>
      <div class="scroll"><table class="cards">
        <thead><tr><th>${text.columns.stage}</th><th>${text.columns.state}</th><th>${text.columns.progress}</th><th class="number">${text.columns.duration}</th><th class="number">${text.cost}</th><th>${text.columns.jobs}</th></tr></thead>
        <tbody>${job.stages.map((stage) => html`<tr key=${stage.name}>
          <td data-label=${text.columns.stage}><b>${titles[stage.name]}</b></td>
          <td data-label=${text.columns.state}>${text.stageStates[stage.state] ?? stage.state}</td>
          <td data-label=${text.columns.progress} class="number">${stage.shards ? percent(stage.fraction) : ""}</td>
          <td data-label=${text.columns.duration} class="number">${duration(stage.duration_s)}</td>
          <td data-label=${text.cost} class="number">${usd(stage.cost_usd)}</td>
          <td data-label=${text.columns.jobs}><span>${stage.jobs.slice(0, 30).map((each, index) => html`<a key=${each.id} href=${href("jobs", each.id)} title=${each.id}>${index + 1}</a> <${StateLabel} state=${each.state} /> `)}${stage.jobs.length > 30 ? "…" : ""}</span></td>
        </tr>`)}</tbody>
      </table></div>
    </section>
  `;
}

export function Facts({ job }) {
  const text = words();
  const inputs = Object.entries(job.inputs).flatMap(([name, files]) => files.map((file) => ({ name, file })));
  return html`
    <section class="card" aria-labelledby="facts-title">
      <h2 id="facts-title">${text.facts}</h2>
      <dl class="rows">
        <dt>${text.id}</dt><dd><code>${job.id}</code></dd>
        ${inputs.slice(0, 100).map(({ name, file }, index) => html`<dt key=${`n${index}`}>${name}</dt><dd key=${`f${index}`}>${file.filename || file.upload_id} <span class="hint">${file.size_bytes ? bytes(file.size_bytes) : ""} · <a href=${href("events", { subject: file.upload_id })}>${file.upload_id}</a></span></dd>`)}
        ${job.rule && html`<dt>${text.rule}</dt><dd><a href=${href("jobs", { rule: job.rule.rule_id })}>${job.rule.rule_id}</a></dd>`}
        ${job.gpu && html`<dt>GPU</dt><dd>${job.gpu}</dd>`}
        ${Object.entries(job.metadata).map(([name, value]) => html`<dt key=${`m${name}`}>${name}</dt><dd key=${`v${name}`}>${value}</dd>`)}
      </dl>
      <details class="commands"><summary>${text.params}</summary><pre>${JSON.stringify(job.params, null, 2).slice(0, 20_000)}</pre></details>
    </section>
  `;
}
