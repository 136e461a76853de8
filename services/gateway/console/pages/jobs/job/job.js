// One job: its state and result as of now or of any event, its timeline, its log and what can be done with it.
import { html, useEffect, useMemo, useRef, useSignal } from "../../../vendor/preact.js";
import { get } from "../../../api.js";
import { Commands } from "../../../parts/commands.js";
import { useLoaded } from "../../../parts/loaded.js";
import { Problem } from "../../../parts/problem.js";
import { Waiting } from "../../../parts/waiting.js";
import { spoken } from "../../../preferences.js";
import { setQuery } from "../../../router.js";
import { common } from "../../../words.js";
import { Actions } from "./actions.js";
import { Timeline } from "./chart.js";
import { Changes } from "./changes.js";
import { Compare } from "./compare.js";
import { FollowUps } from "./follow_ups.js";
import { Facts, firstName, Head, Stages } from "./head.js";
import { followJob } from "./history.js";
import { EventDetails, Log } from "./log.js";
import { Result } from "./result.js";
import { Slider } from "./slider.js";
import { filesUpTo, indexOfPoint } from "./summary.js";
import { foldTimeline } from "./timeline.js";
import { words } from "./words.js";

const ENDED = new Set(["succeeded", "failed", "cancelled"]);
/** How often the end of an unfinished timeline moves. */
const TICK_MS = 1000;
/** With very many events the timeline is folded less often. */
const SLOW_TICK_MS = 10_000;
const MANY_EVENTS = 5000;

export function JobPage({ jobId, query }) {
  const followed = useMemo(() => followJob(jobId), [jobId]);
  useEffect(() => followed.close, [followed]);
  const job = followed.job.value;
  if (!job && followed.error.value) {
    return html`<h1>${words().job}</h1><${Problem} error=${followed.error.value} retry=${followed.read} />`;
  }
  if (!job) return html`<${Waiting} />`;
  return html`<${Shown} followed=${followed} now=${job} query=${query} />`;
}

/** `now` is the job as it is; with `at` in the address the page shows it as it was. */
function Shown({ followed, now, query }) {
  const text = words();
  const history = followed.history.value;
  const at = query.get("at");
  const past = usePast(now.id, at);
  const declared = useDeclaration(now);
  const titles = titlesOf(now, declared);
  const ended = ENDED.has(now.state);
  const clock = useClock(!ended, history.events.length > MANY_EVENTS ? SLOW_TICK_MS : TICK_MS);
  const changed = history.changed.value;
  const fold = useMemo(() => foldTimeline(history.events, { own: now.id, now_ms: clock }), [history, changed, clock]);
  const selected = at ? indexOfPoint(history.events, at, fold.times_ms, clock) : null;
  const last = selected ?? history.events.length - 1;
  // While another point is read, what is shown is of the one before.
  const job = !at ? now : past.error ? null : past.value?.job;
  const reading = at !== null && past.value?.at !== at && !past.error;
  const events = useMemo(() => history.events.slice(0, last + 1), [history, changed, last]);
  const files = useFiles(now, history, changed, last, at);
  const mark = query.get("mark");
  const marked = mark ? indexOfPoint(history.events, mark, fold.times_ms, clock) : null;
  const setMark = () => setQuery({ mark: history.events[Math.max(0, last)].cursor });
  const select = (index) => setQuery({ at: index === null ? null : history.events[index]?.cursor });
  return html`
    ${job
      ? html`<${Head} job=${job} events=${events} progress=${at ? null : history.progress.value} past=${at !== null} />`
      : html`<div class="page-head"><h1>${firstName(now)}</h1></div>`}
    ${followed.error.value && html`<${Problem} error=${followed.error.value} retry=${followed.read} />`}
    ${!at && html`<${Actions} job=${now} read=${followed.read} />`}
    ${at && html`<${AsOf} at=${at} reading=${reading} past=${past} />`}
    ${job?.error && html`<div class="note bad" role="group"><p><b>${job.error.message}</b></p>${job.error.hint && html`<p class="hint">${job.error.hint}</p>`}<p class="hint"><code>${job.error.code}</code></p></div>`}
    ${job && (query.get("with")
      ? html`<${Compare} job=${job} other=${query.get("with")} files=${files} />`
      : html`<${Result} job=${job} files=${files} chosen=${query.get("file")} start_s=${secondsOf(query.get("t"))} />
        <${FollowUps} job=${job} declared=${declared?.follow_ups ?? []} />`)}
    <section class="card" aria-labelledby="timeline-title">
      <h2 id="timeline-title">${text.timeline}</h2>
      ${history.events.length > 0
        ? html`<${Timeline} fold=${fold} titles=${titles} selected=${selected} marked=${marked} onSelect=${select} zoom=${zoomOf(query)} />
          <${Slider} count=${history.events.length} selected=${selected} event=${selected === null ? null : history.events[selected]} onSelect=${select} onMark=${setMark} />`
        : html`<p class="quiet" role="status">${history.complete.value ? text.noHistory : common().loading}</p>`}
      ${history.error.value && html`<${Problem} error=${history.error.value} retry=${followed.read} />`}
    </section>
    ${mark && html`<${Changes} jobId=${now.id} mark=${mark} at=${at && (history.events[selected]?.cursor ?? at)} newest=${now.cursor} />`}
    ${job && html`<${Stages} job=${job} titles=${titles} />`}
    <section class="card" aria-labelledby="log-title">
      <h2 id="log-title">${text.log}</h2>
      <${Log} jobId=${now.id} events=${history.events} last=${last} selected=${selected} changed=${changed} />
      ${selected !== null && history.events[selected] && html`<${EventDetails} event=${history.events[selected]} />`}
    </section>
    ${job && html`<${Facts} job=${job} />`}
    <${Commands} cli=${`saccade job ${now.id}${at ? ` --at ${at}` : ""}`} path=${`/v1/jobs/${now.id}${at ? `?at=${encodeURIComponent(at)}` : ""}`} />
  `;
}

function AsOf({ at, reading, past }) {
  const text = words();
  return html`
    <div class="note fair row between" aria-busy=${String(reading)}>
      <p><b>${text.asOf}</b> <code>${at}</code></p>
      <button type="button" onClick=${() => setQuery({ at: null })}>${text.now}</button>
    </div>
    ${past.error && html`<${Problem} error=${past.error} retry=${past.reload} />`}
  `;
}

/** The job as it was at a point, with the point: {job, at}. A slider asks for many: only the one where it rests for a moment is read. */
function usePast(jobId, at) {
  const known = useRef(new Map());
  return useLoaded(
    async (signal) => {
      if (!at) return undefined;
      if (known.current.has(at)) return { job: known.current.get(at), at };
      await new Promise((resolve) => setTimeout(resolve, 60));
      if (signal.aborted) return undefined;
      const job = await get(`/v1/jobs/${jobId}`, { at }, signal);
      if (known.current.size > 100) known.current.clear();
      known.current.set(at, job);
      return { job, at };
    },
    [jobId, at],
  );
}

/** Files as of the shown event; where the history does not name them any more, what the server lists. */
function useFiles(now, history, changed, last, at) {
  const named = useMemo(() => filesUpTo(history.events, last, now.id), [history, changed, last]);
  const empty = named.length === 0 && !at && history.complete.value && ENDED.has(now.state);
  const listed = useLoaded(
    async (signal) => (empty ? ((await get(`/v1/jobs/${now.id}/artifacts`, undefined, signal)).artifacts ?? []) : []),
    [now.id, empty],
  );
  return named.length ? named : (listed.value ?? []);
}

function useClock(running, tick_ms) {
  const clock = useSignal(Date.now());
  useEffect(() => {
    if (!running) return undefined;
    const timer = setInterval(() => document.hidden || (clock.value = Date.now()), tick_ms);
    return () => clearInterval(timer);
  }, [running, tick_ms]);
  return clock.value;
}

const workloads = new Map();

/** What the server declares of the job's workload, in the reader's language; undefined until it is known. */
function useDeclaration(job) {
  const lang = spoken.value;
  useLoaded(async () => workloads.has(lang) || workloads.set(lang, (await get("/v1/workloads", { lang })).data), [lang]);
  return workloads.get(lang)?.find(({ name }) => name === job.workload);
}

/** Titles of stages are the server's; without them a stage has its name. */
function titlesOf(job, known) {
  return Object.fromEntries([...job.stages, ...(known?.stages ?? [])].map(({ name, title }) => [name, title ?? name]));
}

function secondsOf(text) {
  const seconds = Number(text);
  return text === null || Number.isNaN(seconds) ? null : Math.max(0, seconds);
}

function zoomOf(query) {
  const found = /^(\d+)-(\d+)$/.exec(query.get("zoom") ?? "");
  return found && Number(found[2]) > Number(found[1]) ? { from: Number(found[1]), to: Number(found[2]) } : null;
}
