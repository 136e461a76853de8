// Replays: list, plan, start with the count of the plan, follow, pause, resume, end.
import { html, useEffect, useSignal } from "../../vendor/preact.js";
import { call, get, may } from "../../api.js";
import { dateTime, duration, number, relative } from "../../format.js";
import { Commands, quoted } from "../../parts/commands.js";
import { Loaded, useLoaded } from "../../parts/loaded.js";
import { Problem } from "../../parts/problem.js";
import { go, href } from "../../router.js";
import { WhyDialog } from "./why_dialog.js";
import { words } from "./words.js";

const UNDER_WAY = new Set(["running", "paused", "starting"]);
const POLL_MS = 1000;

export function Replays({ id, query }) {
  return id ? html`<${OneReplay} id=${id} />` : html`<${ReplayList} query=${query} />`;
}

function ReplayList({ query }) {
  const all = words();
  const text = all.replays;
  const replays = useLoaded((signal) => get("/v1/replays", { limit: 50 }, signal), []);
  return html`
    <p class="quiet">${text.intro}</p>
    ${may("write") && html`<${PlanForm} query=${query} />`}
    <${Loaded} of=${replays}>
      ${({ data }) =>
        data.length === 0
          ? html`<div class="empty"><h2>${text.none}</h2></div>`
          : html`<div class="scroll"><table class="cards">
              <thead><tr><th>${all.when}</th><th>${text.into}</th><th>${all.state}</th><th class="number">${all.count}</th><th>${all.by}</th><th>${all.why}</th></tr></thead>
              <tbody>
                ${data.map(
                  (replay) => html`<tr key=${replay.id}>
                    <td data-label=${all.when}><a href=${href("operate", "replays", replay.id)}>${relative(replay.planned_at)}</a></td>
                    <td data-label=${text.into}><code>${replay.into}</code></td>
                    <td data-label=${all.state}>${text.states[replay.state] ?? replay.state}</td>
                    <td class="number" data-label=${all.count}>${number(replay.plan.count)}</td>
                    <td data-label=${all.by}>${replay.by}</td>
                    <td data-label=${all.why}>${replay.why}</td>
                  </tr>`,
                )}
              </tbody>
            </table></div>`}
    <//>
    <${Commands} cli="saccade replay ls" path="/v1/replays" />
  `;
}

function PlanForm({ query }) {
  const all = words();
  const text = all.replays;
  const error = useSignal(null);
  const plan = async (event) => {
    event.preventDefault();
    const fields = event.target.elements;
    const listed = (name) => fields[name].value.split(/[\s,]+/).filter(Boolean);
    const body = { into: fields.into.value.trim(), since: fields.since.value.trim(), speed: fields.speed.value, why: fields.why.value.trim() };
    if (fields.until.value.trim()) body.until = fields.until.value.trim();
    if (listed("types").length) body.types = listed("types");
    if (listed("subjects").length) body.subjects = listed("subjects");
    if (fields.rate.value) body.rate_per_s = Number(fields.rate.value);
    error.value = null;
    try {
      const replay = await call("POST", "/v1/replays", { body, timeoutMs: 60_000 });
      go(href("operate", "replays", replay.id));
    } catch (problem) {
      error.value = problem;
    }
  };
  const input = (name, label, more = {}) => html`<label class="field"><span>${label}</span><input name=${name} defaultValue=${query.get(name) ?? ""} spellcheck="false" ...${more} /></label>`;
  return html`
    <form class="card" onSubmit=${plan}>
      <h2>${text.plan}</h2>
      <div class="grid">
        ${input("into", text.into, { required: true, placeholder: text.intoHint })} ${input("since", text.since, { required: true, title: text.sinceHint, placeholder: "3600" })}
        ${input("until", text.until, { title: text.sinceHint })} ${input("types", text.types)} ${input("subjects", text.subjects)}
        ${input("rate", text.rate, { type: "number", min: "0.1", step: "any" })}
        <label class="field"><span>${text.speed}</span><select name="speed"><option>1x</option><option>4x</option><option>max</option></select></label>
        ${input("why", all.why)}
      </div>
      <p class="hint">${text.sinceHint}</p>
      ${error.value && html`<${Problem} error=${error.value} />`}
      <button class="primary">${text.planIt}</button>
    </form>
  `;
}

function OneReplay({ id }) {
  const all = words();
  const text = all.replays;
  const replay = useLoaded((signal) => get(`/v1/replays/${id}`, {}, signal), [id]);
  const asked = useSignal(null);
  const error = useSignal(null);
  const state = replay.value?.state;
  useEffect(() => {
    if (!UNDER_WAY.has(state)) return undefined;
    const timer = setInterval(() => document.hidden || replay.poll(), POLL_MS);
    return () => clearInterval(timer);
  }, [state]);
  const act = async (verb, body) => {
    error.value = null;
    try {
      replay.set(await call("POST", `/v1/replays/${id}/${verb}`, { body }));
    } catch (problem) {
      error.value = problem;
    }
  };
  const confirmed = (why) => {
    const verb = asked.value;
    asked.value = null;
    if (why !== null) act(verb, verb === "start" ? { expected_count: replay.value.plan.count, why } : { why });
  };
  return html`
    <p><a href=${href("operate", "replays")}>← ${text.back}</a></p>
    ${error.value && html`<${Problem} error=${error.value} />`}
    <${Loaded} of=${replay}>${(value) => html`<${Shown} replay=${value} ask=${(verb) => (asked.value = verb)} act=${act} />`}<//>
    ${asked.value && html`<${WhyDialog} title=${asked.value === "start" ? text.startTitle : text.cancel} confirm=${asked.value === "start" ? text.start(number(replay.value.plan.count)) : text.cancel} danger=${asked.value === "cancel"} onClose=${confirmed}>
      ${asked.value === "cancel" && html`<p>${text.confirmCancel}</p>`}
    <//>`}
    <${Commands} cli=${`saccade replay show ${quoted(id)}`} path=${`/v1/replays/${id}`} />
  `;
}

function Shown({ replay, ask, act }) {
  const all = words();
  const text = all.replays;
  const { plan, progress, state } = replay;
  const mine = may("write");
  return html`
    <section class="card">
      <div class="row between"><h2><code>${replay.into}</code></h2><span class="chip">${text.states[state] ?? state}</span></div>
      ${plan.warnings.length > 0 && html`<div class="note fair"><p><b>${text.warnings}</b></p>${plan.warnings.map((line) => html`<p key=${line}>${line}</p>`)}</div>`}
      ${replay.error && html`<div class="note bad" role="alert"><p>${replay.error.message ?? replay.error.detail}</p></div>`}
      ${progress && html`<progress max=${plan.count || 1} value=${plan.count - progress.remaining} aria-label=${text.progress(plan.count - progress.remaining, plan.count)} /><p class="hint number" role="status">${text.progress(number(plan.count - progress.remaining), number(plan.count))}</p>`}
      <dl class="rows">
        <dt>${text.since}</dt><dd>${replay.window.since_time ? dateTime(replay.window.since_time) : replay.window.after}</dd>
        <dt>${text.until}</dt><dd>${dateTime(replay.window.until_time)}</dd>
        <dt>${text.speed}</dt><dd>${replay.speed} · ${text.lasts(duration(plan.seconds))}${plan.takes === plan.count ? "" : ` · ${text.takes(number(plan.takes))}`}</dd>
        <dt>${text.counts}</dt><dd>${Object.entries(plan.by_type).map(([type, count]) => html`<span class="chip" key=${type}><code>${type}</code> ${number(count)}</span> `)}</dd>
        <dt>${all.by}</dt><dd>${replay.by} · ${replay.why}</dd>
      </dl>
      <p></p>
      <div class="row">
        ${state === "planned" && html`<button type="button" class="primary" disabled=${!mine || plan.count === 0} onClick=${() => ask("start")}>${text.start(number(plan.count))}</button>`}
        ${state === "running" && html`<button type="button" disabled=${!mine} onClick=${() => act("pause", {})}>${text.pause}</button>`}
        ${state === "paused" && html`<button type="button" class="primary" disabled=${!mine} onClick=${() => act("resume", {})}>${text.resume}</button>`}
        ${(UNDER_WAY.has(state) || state === "planned") && html`<button type="button" class="danger" disabled=${!mine} onClick=${() => ask("cancel")}>${text.cancel}</button>`}
      </div>
    </section>
    <${Events} title=${text.first} events=${plan.first} /> <${Events} title=${text.last} events=${plan.last} />
  `;
}

function Events({ title, events }) {
  if (events.length === 0) return null;
  return html`<section class="card"><h2>${title}</h2>
    ${events.map((event) => html`<p key=${event.id} class="hint"><a href=${href("events", { cursor: event.cursor })}>${dateTime(event.time)}</a> <code>${event.type}</code> <code>${event.subject}</code></p>`)}
  </section>`;
}
