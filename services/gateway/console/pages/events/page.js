// New events as they come, and those of the past: filtered, each with an address of its own.
import { html, useEffect, useMemo, useRef, useSignal } from "../../vendor/preact.js";
import { session } from "../../api.js";
import { clockTime, number } from "../../format.js";
import { Problem } from "../../parts/problem.js";
import { VirtualList } from "../../parts/virtual_list.js";
import { loadCss } from "../../parts/load_css.js";
import { useLoaded } from "../../parts/loaded.js";
import { go, href, setQuery } from "../../router.js";
import { Details } from "./details.js";
import { Filters, filterOf } from "./filters.js";
import { Range } from "./range.js";
import { readReference } from "./reference.js";
import { positionOf } from "./rows.js";
import { shortId, summary, tone } from "./summary.js";
import { Tail } from "./tail.js";
import { words } from "./words.js";

loadCss(import.meta.url);

const SAID_MS = 5_000;
/** Filter of types and subjects that lets everything pass. */
const EVERYTHING = "[[],[]]";

export default function Events({ query }) {
  const text = words();
  const tail = useMemo(() => new Tail(), []);
  const missing = useSignal(false);
  const reference = useLoaded(readReference, []).value;
  const filter = filterOf(query);
  const [cursor, id, since, until] = ["cursor", "id", "since", "until"].map((name) => query.get(name));
  const tenant = session.value.tenant;
  useEffect(() => tail.open(), []);
  useEffect(() => tail.filter(filter), [JSON.stringify(filter)]);
  const asked = JSON.stringify([filter.types, filter.subjects]);
  /** Filter with which the past in the list was read. */
  const readFor = useRef(EVERYTHING);
  /** Read the list that the address names; one that is live stays so, beside a row that is open. */
  const show = (staysLive = false) => {
    const around = (cursor || id) && !staysLive;
    readFor.current = around ? EVERYTHING : asked;
    if (around) void showAround(tail, { cursor, id }, missing);
    else if (since && until) void tail.showPeriod({ since, until, ...filter });
    else void tail.showLive({ since, ...filter });
  };
  useEffect(() => {
    // A row that is chosen in the list has an address too, and must not start the list again.
    if ((cursor || id) && (tail.rows.indexOf({ cursor, id }) >= 0 || tail.reading.value === "reading")) return;
    missing.value = false;
    if (cursor || id || since || !tail.live || tail.rows.all.length === 0) show();
  }, [cursor, id, since, until, tenant]);
  useEffect(() => {
    // What another filter left out is not in the list.
    if ([EVERYTHING, asked].includes(readFor.current)) return;
    tail.pause(false); // what a pause holds back is read again
    show(tail.live);
  }, [asked]);
  const showOlder = () => {
    readFor.current = asked;
    void tail.older(filter);
  };
  const { shown, origin } = (tail.version.value, tail.rows);
  const index = cursor || id ? tail.rows.indexOf({ cursor, id }) : -1;
  const choose = (next) => {
    const event = shown[Math.max(0, Math.min(shown.length - 1, next))];
    if (event) setQuery(event.cursor ? { cursor: event.cursor, id: null } : { id: event.id, cursor: null });
  };
  useKeys({ tail, index, choose, count: shown.length });
  const range = [query.get("from"), query.get("to")];
  const onRange = (end, at) => setQuery({ [end]: at });
  const row = (at) => html`<${Row} key=${shown[at].cursor ?? shown[at].id ?? at} event=${shown[at]} at=${at} chosen=${at === index} inRange=${isInRange(shown[at], range)} />`;
  const onClick = (event) => {
    const at = event.target.closest("[data-at]")?.dataset.at;
    if (at === undefined) return;
    const end = event.shiftKey && shown[at].cursor;
    if (end) setQuery(range[0] || !cursor ? { to: end, from: range[0] ?? end } : { from: cursor, to: end });
    else choose(Number(at));
  };
  return html`
    <div class="page-head">
      <div><h1>${text.title}</h1><p class="quiet">${text.intro}</p></div>
      <div class="row"><${PauseButton} tail=${tail} /></div>
    </div>
    <${Filters} query=${query} reference=${reference} />
    ${missing.value && html`<div class="note fair" role="alert"><p>${text.missing}</p></div>`}
    ${tail.reading.value?.message && html`<${Problem} error=${tail.reading.value} retry=${() => location.reload()} />`}
    ${!tail.live && html`<div class="note"><p>${text.past} <a href=${href("events")}>${text.backToLive}</a></p>${tail.more && html`<p class="hint">${text.tooMany(number(tail.rows.all.length))}</p>`}</div>`}
    <div class=${`event-split${index >= 0 ? " with-details" : ""}`}>
      <div>
        <div class="row between event-bar">
          <button type="button" disabled=${tail.reading.value === "reading"} onClick=${showOlder}>${text.older}</button>
          <span class="hint number">${tail.reading.value === "reading" ? text.reading : text.count(number(shown.length), number(tail.rows.all.length))}</span>
        </div>
        <div onClick=${onClick} hidden=${shown.length === 0}>
          <${VirtualList} count=${shown.length} rowHeight_px=${32} row=${row} tail=${tail.live && !tail.paused.value && index < 0} origin=${origin} shown=${index}
            label=${text.list} role="listbox" aria-activedescendant=${index >= 0 ? `event-${index}` : undefined} />
        </div>
        ${shown.length === 0 && tail.reading.value === null && html`<p class="empty">${tail.rows.all.length ? text.noneMatch : text.none}</p>`}
        <p class="hint">${text.keys}</p>
      </div>
      ${index >= 0 && html`<${Details} event=${shown[index]} reference=${reference} onFilter=${(change) => setQuery(change)} onRange=${onRange} onClose=${() => setQuery({ cursor: null, id: null })} />`}
    </div>
    <${Range} from=${range[0]} to=${range[1]} shown=${shown} filter=${filter} />
    <${Spoken} tail=${tail} />
  `;
}

async function showAround(tail, wanted, missing) {
  const found = await tail.showAround(wanted);
  if (!found && tail.reading.value === null) missing.value = true;
  else if (found && !wanted.cursor && found.cursor) setQuery({ cursor: found.cursor, id: null });
}

function Row({ event, at, chosen, inRange }) {
  return html`
    <div class=${`event-row ${tone(event.type)}${inRange ? " in-range" : ""}`} role="option" id=${`event-${at}`} data-at=${at} aria-selected=${chosen}>
      <span class="number quiet">${event.time ? clockTime(event.time) : ""}</span>
      <code class="kind">${event.type}</code>
      <span class="about">${summary(event)}</span>
      <code class="quiet subject">${shortId(event.subject ?? "")}</code>
    </div>
  `;
}

function PauseButton({ tail }) {
  const text = words();
  const paused = tail.paused.value;
  return html`<button type="button" aria-pressed=${paused} onClick=${() => tail.pause(!paused)}>
    ${paused ? text.resume(number(tail.held.value)) : text.pause}
  </button>`;
}

/** Up and down choose a row, Enter opens the job of the chosen one, p pauses. */
function useKeys(now) {
  const current = useRef(now);
  current.current = now;
  useEffect(() => {
    const listen = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog, [contenteditable]")) return;
      const { tail, index, choose, count } = current.current;
      const moves = { ArrowDown: index < 0 ? count - 1 : index + 1, ArrowUp: index < 0 ? count - 1 : index - 1, Home: 0, End: count - 1 };
      const inList = event.target === document.body || event.target.closest("[role=listbox]");
      if (event.key === "p") tail.pause(!tail.paused.value);
      else if (event.key === "Escape" && index >= 0) setQuery({ cursor: null, id: null });
      else if (event.key in moves && inList) {
        event.preventDefault();
        choose(moves[event.key]);
      } else if (event.key === "Enter" && inList && index >= 0) openJob(tail.rows.shown[index]);
    };
    addEventListener("keydown", listen);
    return () => removeEventListener("keydown", listen);
  }, []);
}

function openJob({ subject, cursor }) {
  if (/^(job|stg)_/.test(subject ?? "")) go(href("jobs", subject, { at: cursor }));
}

function isInRange({ cursor }, [from, to]) {
  const [at, first, last] = [positionOf(cursor), positionOf(from), positionOf(to)];
  return Boolean(at && first && last && at.sequence >= first.sequence && at.sequence <= last.sequence);
}

/** Say politely, at most every five seconds, how many events have come: the list itself would never be silent. */
function Spoken({ tail }) {
  const said = useSignal("");
  useEffect(() => {
    let before = tail.rows.shown.length + tail.rows.origin;
    const timer = setInterval(() => {
      const now = tail.rows.shown.length + tail.rows.origin;
      if (!document.hidden && now !== before) said.value = words().arrived(Math.max(0, now - before));
      before = now;
    }, SAID_MS);
    return () => clearInterval(timer);
  }, []);
  return html`<p class="unseen" aria-live="polite">${said.value}</p>`;
}
