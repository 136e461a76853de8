// Live sessions as a grid of their newest frames, and a form that opens one. A session's own page is /sessions/{id}.
import { html, useEffect, useMemo, useSignal } from "../../vendor/preact.js";
import { addressOf, call, get, may } from "../../api.js";
import * as feed from "../../feed.js";
import { number, relative, usd } from "../../format.js";
import { Commands } from "../../parts/commands.js";
import { Loaded, useLoaded } from "../../parts/loaded.js";
import { ParamsForm } from "../../parts/params/fields.js";
import { fieldsOf, paramsOf } from "../../parts/params/form.js";
import { refusedFields } from "../../parts/params/refusals.js";
import { Problem } from "../../parts/problem.js";
import { StateLabel } from "../../parts/state_label.js";
import { spoken } from "../../preferences.js";
import { base, setQuery } from "../../router.js";
import { common } from "../../words.js";
import { words } from "./words.js";

const STATES = { running: ["opening", "ready", "running", "stopping"], ended: ["stopped", "failed"], all: [] };
const REFRESH_MS = 2000;
const MOST = 48;

export default function Live({ query }) {
  const text = words();
  const filter = query.get("show") in STATES ? query.get("show") : "running";
  const sessions = useLoaded((signal) => get("/v1/sessions", { state: STATES[filter], limit: MOST }, signal), [filter]);
  const workloads = useLoaded((signal) => get("/v1/workloads", { lang: spoken.value }, signal), [spoken.value]);
  useEffect(() => {
    // Progress of sessions is not in the tenant's stream of durable events: their counts are read again.
    let changed = false;
    const end = feed.subscribe((event) => (changed ||= event.type === "gap" || event.type.startsWith("session.")));
    let rounds = 0;
    const timer = setInterval(() => {
      rounds += 1;
      if (document.hidden || (!changed && rounds % 3)) return;
      changed = false;
      sessions.poll();
    }, REFRESH_MS);
    return () => {
      end();
      clearInterval(timer);
    };
  }, []);
  const titles = Object.fromEntries((workloads.value?.data ?? []).map(({ name, title }) => [name, title]));
  return html`
    <div class="page-head"><div><h1>${text.title}</h1><p class="quiet">${text.intro}</p></div></div>
    ${may("write") ? workloads.value && html`<${OpenForm} workloads=${workloads.value.data} wanted=${query.get("workload")} />` : html`<div class="note"><p>${text.readOnly}</p></div>`}
    <div class="row" role="group" aria-label=${text.filter}>
      ${Object.keys(STATES).map(
        (name) => html`<button key=${name} type="button" aria-pressed=${name === filter} onClick=${() => setQuery({ show: name === "running" ? null : name })}>${text.filters[name]}</button>`,
      )}
    </div>
    <p></p>
    <${Loaded} of=${sessions}>
      ${({ data }) =>
        data.length
          ? html`<div class="grid">${data.map((session) => html`<${SessionCard} key=${session.id} session=${session} title=${titles[session.workload] ?? session.workload} />`)}</div>`
          : html`<div class="empty"><h2>${text.none[filter]}</h2><p>${text.noneHint}</p></div>`}
    <//>
    <p></p>
    <${Commands} cli="saccade sessions" path="/v1/sessions" />
  `;
}

function SessionCard({ session, title }) {
  const text = words();
  const address = `${base}sessions/${session.id}`;
  const { sent = 0, accepted = 0 } = session.frames ?? {};
  return html`
    <article class="card">
      <a href=${address}><${NewestFrame} session=${session} /></a>
      <div class="row between"><h2>${title}</h2><${StateLabel} state=${session.state} /></div>
      <p class="hint number">${text.frames(number(accepted), number(sent))}</p>
      <p class="hint">${text.opened(relative(session.created_at))}${session.frame_age_s === null || session.frame_age_s === undefined ? "" : ` · ${text.last(relative(new Date(Date.now() - session.frame_age_s * 1000).toISOString()))}`}</p>
      ${session.error && html`<p class="hint">${session.error.message ?? session.error.detail}</p>`}
      <a class="button" href=${address}>${text.show}</a>
    </article>
  `;
}

function NewestFrame({ session }) {
  const text = words();
  const shown = useSignal(null);
  const sent = session.frames?.sent ?? 0;
  useEffect(() => {
    if (!sent) return undefined;
    const controller = new AbortController();
    // By fetch: an <img> whose frame has expired would report an error in the console for each refresh.
    fetch(addressOf(`/v1/sessions/${session.id}/frame`), { signal: controller.signal, cache: "no-store" })
      .then((answer) => (answer.ok ? answer.blob() : null))
      .then((blob) => {
        const before = shown.value;
        shown.value = blob ? URL.createObjectURL(blob) : null;
        if (before) URL.revokeObjectURL(before);
      })
      .catch(() => {});
    return () => controller.abort();
  }, [sent]);
  useEffect(() => () => shown.value && URL.revokeObjectURL(shown.value), []);
  if (!shown.value) return html`<div class="thumbnail empty">${text.noFrame}</div>`;
  return html`<img class="thumbnail" src=${shown.value} alt=${text.picture(session.workload)} />`;
}

function OpenForm({ workloads, wanted }) {
  const text = words();
  const live = workloads.filter((workload) => workload.kind === "session");
  const name = useSignal((live.find((workload) => workload.name === wanted) ?? live.find((workload) => workload.available) ?? live[0])?.name);
  const error = useSignal(null);
  const busy = useSignal(false);
  const chosen = live.find((workload) => workload.name === name.value);
  const fields = useMemo(() => fieldsOf(chosen?.params_schema ?? {}), [chosen]);
  /** What is entered, by workload: each has a form of its own. */
  const entered = useSignal({});
  if (!chosen) return null;
  const entries = entered.value[chosen.name] ?? {};
  const { params, problems } = paramsOf(fields, entries);
  const wrong = Object.keys(problems).length > 0;
  const refusals = refusedFields(error.value);
  const enter = (changed) => {
    entered.value = { ...entered.value, [chosen.name]: changed };
    // What was refused was what stood there before.
    error.value = null;
  };
  const open = async (event) => {
    event.preventDefault();
    const { minutes, cost } = event.target.elements;
    error.value = null;
    busy.value = true;
    try {
      const body = { workload: chosen.name, params, max_length_s: Number(minutes.value) * 60 };
      if (cost.value) body.max_cost_usd = Number(cost.value);
      const session = await call("POST", "/v1/sessions", { body });
      location.assign(`${base}sessions/${session.id}`);
    } catch (problem) {
      error.value = problem;
      busy.value = false;
    }
  };
  const rung = chosen.compute?.prices?.[0];
  const isFree = chosen.estimate.usd === 0;
  return html`
    <form class="card" onSubmit=${open} aria-labelledby="open-title">
      <h2 id="open-title">${text.open}</h2>
      <div class="grid">
        <label class="field"><span>${text.workload}</span>
          <select value=${name.value} onChange=${(event) => (name.value = event.target.value)}>
            ${live.map((workload) => html`<option key=${workload.name} value=${workload.name}>${workload.title}</option>`)}
          </select>
        </label>
        <label class="field"><span>${text.minutes}</span><input name="minutes" type="number" min="1" max="240" value="30" required /></label>
        <label class="field"><span>${text.maximum}</span><input name="cost" type="number" min="0" step="0.01" placeholder=${text.noLimit} /></label>
      </div>
      <p class="hint">${chosen.description} ${isFree ? text.free : rung && text.perMinute(usd(rung.usd_per_s * 60), rung.device)}</p>
      <${ParamsForm} key=${chosen.name} fields=${fields} entries=${entries} onEntries=${enter}
        problems=${problems} refusals=${refusals ?? {}} />
      ${!chosen.available && html`<div class="note fair"><p>${text.unavailable(chosen.enable ?? "")}</p></div>`}
      ${error.value && html`<${Problem} error=${error.value} />`}
      <p></p>
      <button class="primary" disabled=${!chosen.available || busy.value || wrong}>${busy.value ? common().loading : text.create}</button>
    </form>
  `;
}
