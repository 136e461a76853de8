// All jobs: filters in the address, rows that change as events come, and acts on many of them.
import { html, signal, useEffect, useMemo } from "../../../vendor/preact.js";
import { get, may } from "../../../api.js";
import * as feed from "../../../feed.js";
import { number } from "../../../format.js";
import { Commands } from "../../../parts/commands.js";
import { Problem } from "../../../parts/problem.js";
import { Waiting } from "../../../parts/waiting.js";
import { href } from "../../../router.js";
import { common } from "../../../words.js";
import { AllMatching, PlanProgress } from "./all_matching.js";
import { Bulk } from "./bulk.js";
import { Filters } from "./filter_form.js";
import { commandOf, filtersOf, queryOf } from "./filters.js";
import { caughtUp, isLater, isNewJob, joined, patched, readAgain } from "./live_rows.js";
import { Rows } from "./rows.js";
import { words } from "./words.js";

const PAGE = 50;
/** Rows that one request reads where many are read again (contracts/limits.py, PAGE_MAX). */
const PAGE_MOST = 200;
/** Rows in the document; beyond them a narrower filter finds more than scrolling does. */
const MOST_ROWS = 1000;
const COUNT_MS = 2000;
const READ_MS = 300;

export function JobsPage({ query }) {
  const text = words();
  const filters = filtersOf(query);
  const key = JSON.stringify(filters);
  const list = useMemo(() => makeList(filters), [key]);
  useEffect(() => list.start(), [list]);
  const { rows, error, loading } = list;
  const names = Object.keys(filters).filter((name) => filters[name].length);
  return html`
    <div class="page-head"><div><h1>${text.title}</h1><p class="quiet">${text.intro}</p></div>
      ${may("write") && html`<a class="button" href=${href()}>${text.newJob}</a>`}</div>
    <${Filters} filters=${filters} counts=${list.counts.value} />
    ${filters.plan && html`<${PlanProgress} key=${filters.plan} id=${filters.plan} onEnd=${list.reload} />`}
    ${error.value && html`<${Problem} error=${error.value} retry=${list.reload} />`}
    ${list.missing.value > 0 && html`<p class="row" role="status">${text.incomplete(number(list.missing.value))} <button type="button" onClick=${list.reload}>${text.readAgain}</button></p>`}
    ${list.fresh.value > 0 && html`<p><button type="button" onClick=${list.reload}>${text.fresh(number(list.fresh.value))}</button></p>`}
    ${rows.value === null
      ? !error.value && html`<${Waiting} />`
      : rows.value.length === 0 && !list.next.value
        ? html`<div class="empty"><p>${names.length ? text.noneMatch : text.none}</p><p>${names.length ? html`<a href=${href("jobs")}>${text.removeFilters}</a>` : html`<a class="button" href=${href()}>${text.newJob}</a>`}</p></div>`
        : html`<${Rows} rows=${rows.value} selected=${list.selected} />`}
    <p class="row">
      ${list.next.value && rows.value?.length < MOST_ROWS && html`<button type="button" disabled=${loading.value} onClick=${list.more}>${common().more}</button>`}
      ${rows.value?.length > 0 && html`<span class="hint">${text.shown(number(rows.value.length), list.counts.value ? number(totalOf(filters, list.counts.value)) : null)}</span>`}
      ${list.searchedTo.value && html`<span class="hint">${text.searchedTo(list.searchedTo.value)}</span>`}
      ${rows.value?.length >= MOST_ROWS && html`<span class="hint">${text.narrower}</span>`}
    </p>
    ${rows.value && !filters.at && html`<${Bulk} rows=${rows.value} selected=${list.selected} reload=${list.reload} />`}
    ${rows.value?.length > 0 && !filters.at && html`<${AllMatching} key=${key} filters=${filters} />`}
    <${Commands} cli=${commandOf(filters)} path=${pathOf(filters)} />
  `;
}

function pathOf(filters) {
  const pairs = Object.entries(queryOf(filters)).flatMap(([name, value]) => [].concat(value).map((each) => [name, each]));
  return pairs.length ? `/v1/jobs?${new URLSearchParams(pairs)}` : "/v1/jobs";
}

/** Number of jobs that the filters match, from the counts by state. */
export const totalOf = (filters, counts) =>
  filters.state.length ? filters.state.reduce((sum, state) => sum + (counts.by_state[state] ?? 0), 0) : counts.count;

/** Return whether a page, which may hold no job, ends before a job. */
const isNewer = ({ data, searched_to }, job) => job && Date.parse(searched_to ?? data.at(-1)?.created_at) > Date.parse(job.created_at);

/** The list for some filters: signals, and how to read more. */
function makeList(filters) {
  const state = {
    rows: signal(null), error: signal(null), loading: signal(false), next: signal(null), fresh: signal(0), counts: signal(null),
    searchedTo: signal(null), missing: signal(0), selected: signal(new Set()), moved: false,
  };
  const { rows, error, loading, next, fresh, counts, searchedTo, missing } = state;
  const stop = new AbortController();
  const stale = new Set();
  /** Events since the newest reading began; null while none is under way. The answer to an older reading is dropped. */
  let during = null;
  let readings = 0;
  /** Whether events are missing since the newest reading of the first page began. */
  let lost = false;
  /**
   * Read the page at a cursor; without one, down to the oldest row that is shown, or the first page.
   *
   * After very many new jobs it ends above that row: what follows is read by `more`.
   */
  const read = async (cursor) => {
    const own = (readings += 1);
    const meanwhile = (during = []);
    const shown = cursor ? [] : (rows.value ?? []);
    const limit = shown.length > PAGE ? PAGE_MOST : PAGE;
    loading.value = true;
    if (!cursor) lost = false;
    try {
      let page = { data: [], next_cursor: cursor };
      do {
        const before = page.data;
        page = await get("/v1/jobs", { ...queryOf(filters), limit, cursor: page.next_cursor, incomplete: true }, stop.signal);
        if (own !== readings) return;
        page.data = joined(before, page.data);
      } while (page.next_cursor && page.data.length < Math.min(MOST_ROWS, shown.length + PAGE_MOST) && isNewer(page, shown.at(-1)));
      const data = caughtUp(page.data, meanwhile);
      for (const job of page.data) if (meanwhile.some((event) => readAgain(event) && isLater(event, job))) stale.add(job.id);
      rows.value = cursor ? joined(rows.value, data) : data;
      next.value = page.next_cursor;
      searchedTo.value = page.searched_to ?? null;
      missing.value = page.incomplete?.events_missing ?? 0;
      error.value = null;
      if (!cursor) fresh.value = meanwhile.filter((event) => isNewJob(event, filters) && !data.some(({ id }) => id === event.subject)).length;
    } catch (problem) {
      if (own !== readings) return;
      if (!stop.signal.aborted) error.value = problem;
    }
    during = null;
    loading.value = false;
  };
  const count = async () => {
    try {
      counts.value = await get("/v1/jobs/counts", { ...queryOf(filters, ["state", "at"]), incomplete: true }, stop.signal);
    } catch {
      // The list is complete without the numbers.
    }
  };
  const readStale = async () => {
    const ids = [...stale].slice(0, 20);
    for (const id of ids) stale.delete(id);
    for (const id of ids) {
      const job = await get(`/v1/jobs/${id}`, undefined, stop.signal).catch(() => null);
      if (job) rows.value = rows.value.map((row) => (row.id === id ? job : row));
    }
  };
  const take = (event) => {
    // Events are missing, and with them what changed the rows. A reading that is under way ends first: where gaps come
    // faster than answers, none would ever be shown.
    if (event.type === "gap") return void (lost = true);
    if (!event.type.startsWith("job.")) return;
    if (event.cursor) during?.push(event);
    if (rows.value === null) return;
    if (isNewJob(event, filters) && !rows.value.some(({ id }) => id === event.subject)) fresh.value += 1;
    const index = rows.value.findIndex(({ id }) => id === event.subject);
    if (index >= 0) {
      const row = patched(rows.value[index], event);
      if (row !== rows.value[index]) rows.value = rows.value.with(index, row);
      if (readAgain(event)) stale.add(event.subject);
    }
    if (event.cursor) state.moved = true;
  };
  const start = () => {
    void read();
    void count();
    if (filters.at) return () => stop.abort();
    const unsubscribe = feed.subscribe(take);
    const timers = [
      setInterval(() => {
        if (lost && during === null) void (read(), count());
        if (stale.size) void readStale();
      }, READ_MS),
      setInterval(() => {
        if (!state.moved || document.hidden) return;
        state.moved = false;
        void count();
      }, COUNT_MS),
    ];
    return () => {
      unsubscribe();
      timers.forEach(clearInterval);
      stop.abort();
    };
  };
  return { ...state, start, reload: () => (void read(), void count()), more: () => loading.value || read(next.value) };
}
