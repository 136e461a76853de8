// New events of the tenant, from one stream for all tabs of a browser.
//
// The tab that holds the lock reads the stream and passes each event to the others. Browsers allow six connections to
// one origin; a stream in each tab would use them up. When that tab closes, the lock goes to another, which resumes
// after the last event that it has received; what comes twice on the way is dropped by its cursor. A tab that the browser
// freezes gives the lock back; from one that no longer answers, whatever the reason, the tab that is looked at takes it.
import { effect, signal } from "./vendor/preact.js";
import { Client } from "./vendor/saccade.js";
import { session } from "./api.js";
import { copied } from "./parts/copied.js";
import { base } from "./router.js";

/** Events that a tab keeps; older ones are read from the server again. */
export const RING = 20_000;
/** Name of the lock and of the channel: servers under other paths of the same origin have their own. */
const SHARED = `saccade-events ${base}`;
const LONGEST_PAUSE_MS = 10_000;
/** How often a tab that is looked at asks a silent leader whether it is still there, and how long it waits for that. */
export const patience = { silent_ms: 20_000, answer_ms: 5_000, look_ms: 5_000 };

/** "idle" (nobody has asked for events yet), "connecting", "open", "lost" or "refused". */
export const state = signal("idle");
/** Cursor after the newest event; null before the first. */
export const cursor = signal(null);

const listeners = new Set();
const recent = [];
let channel = null;
let tenant = null;
let leading = null;
let beganMs = 0;
let position = null;

/** Call `listener` with each new event until the returned function is called; the stream opens with the first one. */
export function subscribe(listener) {
  listeners.add(listener);
  start();
  return () => listeners.delete(listener);
}

/** Return the events that this tab has received, the oldest first, at most `RING`. */
export const received = () => recent;

let started = false;

function start() {
  if (started) return;
  started = true;
  // Browsers have no locks on pages without TLS, loopback excepted: there each tab reads a stream of its own.
  if (navigator.locks) {
    channel = new BroadcastChannel(SHARED);
    channel.onmessage = ({ data }) => data.tenant === tenant && tenant !== null && hear(data);
    document.addEventListener("freeze", () => term?.abort());
    document.addEventListener("resume", () => leading && !leading.signal.aborted && contend(leading.signal));
    void watchLeader();
  }
  effect(() => attend(session.value === "none" ? null : (session.value?.tenant ?? null)));
}

/** Read the events of a tenant from now on; null: nobody is logged in, nothing is read. */
function attend(wanted) {
  if (wanted === tenant) return;
  leading?.abort();
  tenant = wanted;
  recent.length = 0;
  position = null;
  cursor.value = null;
  state.value = wanted === null ? "idle" : "connecting";
  if (wanted === null) return;
  beganMs = heardMs = Date.now();
  const { signal: ended } = (leading = new AbortController());
  channel?.postMessage({ tenant, hello: true });
  if (navigator.locks) contend(ended);
  else void read(ended);
}

const read = (ended) => readForAll(ended).catch((error) => ended.aborted || console.error(error));

/** This tab's waiting for the lock, and its reading while it has it; aborted where either ends. */
let term = null;

/** Read as soon as the lock is free, or, with `steal`, at once in place of the tab that has it. */
function contend(ended, steal = false) {
  term?.abort();
  const own = (term = new AbortController());
  const stop = () => own.abort();
  ended.addEventListener("abort", stop, { once: true });
  const over = new Promise((resolve) => own.signal.addEventListener("abort", resolve, { once: true }));
  // The lock is free as soon as the term is over: a frozen tab gets no further.
  navigator.locks.request(SHARED, steal ? { steal } : { signal: own.signal }, () => Promise.race([read(own.signal), over])).catch((error) => {
    const isTaken = !own.signal.aborted;
    own.abort();
    if (error.name !== "AbortError") console.error(error);
    else if (isTaken && !ended.aborted) contend(ended);
  }).finally(() => ended.removeEventListener("abort", stop));
}

let heardMs = 0;

/** Take the lock from a tab that has it and says nothing, as one that hangs. */
async function watchLeader() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, patience.look_ms));
    if (isLeader || tenant === null || document.hidden || Date.now() - heardMs < patience.silent_ms) continue;
    const before = heardMs;
    channel.postMessage({ tenant, hello: true });
    await new Promise((resolve) => setTimeout(resolve, patience.answer_ms));
    if (heardMs === before && !isLeader && leading && !leading.signal.aborted) contend(leading.signal, true);
  }
}

/** Handle what another tab has said. */
function hear({ hello, events, now, after }) {
  if (hello) {
    if (isLeader) answer();
    return;
  }
  heardMs = Date.now();
  for (const event of events ?? []) take(event);
  if (!now) return;
  state.value = now;
  if (after && !cursor.value) {
    cursor.value = after;
    position = positionOf(after);
  }
}

/** Tell tabs that have just opened how the stream is and where it stands. */
function answer() {
  flush();
  channel?.postMessage({ tenant, now: state.value, after: cursor.value });
}

let isLeader = false;

/** Read the stream until `ended`; returns only then, so that the lock is held until the tab closes. */
async function readForAll(ended) {
  isLeader = true;
  const stream = new Client({ url: location.origin + base, multiplex: false, fetch: watchedFetch(ended) });
  try {
    for (let wait_ms = 500; !ended.aborted; wait_ms = Math.min(2 * wait_ms, LONGEST_PAUSE_MS)) {
      try {
        // Without a cursor from where this tab began, not from now: an event of the time between must not be missed.
        const elapsed_s = Math.ceil((Date.now() - beganMs) / 1000) + 1;
        const from = cursor.value ? { cursor: cursor.value } : { since: elapsed_s };
        for await (const event of stream.events({ ...from, signal: ended })) {
          wait_ms = 500;
          pass(event);
        }
      } catch (error) {
        if (ended.aborted) return;
        if (error.status === 401) {
          session.value = "none";
          return;
        }
        if (error.status === 403 && error.code !== "unexpected_answer") {
          // This key reads no events, as an operator's of all tenants: no tab asks again.
          tell("refused", ended);
          await new Promise((resolve) => ended.addEventListener("abort", resolve, { once: true }));
          return;
        }
        // The next round says whether the server is back.
      }
      tell("lost", ended);
      await pause(wait_ms, ended);
    }
  } finally {
    isLeader = false;
    stream.close();
  }
}

/** What a server that tells events says first; one that is away, or a quota, only says when to come back. */
const OPENS = /^(: (live|reading)$|data:)/m;

/** Return a `fetch` that notes whether the stream is open: the client itself reconnects without a word. */
function watchedFetch(ended) {
  const noted = async (promise, stateOf) => {
    try {
      const value = await promise;
      const now = stateOf(value);
      if (now) tell(now, ended);
      return value;
    } catch (error) {
      tell("lost", ended);
      throw error;
    }
  };
  return async (...request) => {
    const response = await noted(fetch(...request), ({ ok, status }) => (ok || status === 403 ? null : "lost"));
    if (!response.ok) return response;
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    /** Text until the stream is open; null afterwards. */
    let head = "";
    const stateOf = ({ done, value }) => {
      if (done) return "lost";
      if (head !== null && OPENS.test((head += decoder.decode(value, { stream: true })))) head = null;
      return head === null ? "open" : null;
    };
    const body = { getReader: () => ({ read: () => noted(reader.read(), stateOf) }) };
    return { ok: true, status: response.status, headers: response.headers, body };
  };
}

const pause = (wait_ms, ended) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, wait_ms);
    ended.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });

const plain = ({ type, cursor: after, id, subject, time, data, envelope }) => ({ type, cursor: copied(after), id, subject, time, data, envelope });

const outgoing = [];
// The events of one piece of the stream go to the other tabs together. Timers would wait a second in a hidden tab.
const soon = new MessageChannel();
soon.port2.onmessage = flush;

function pass(event) {
  const copy = plain(event);
  take(copy);
  if (channel && outgoing.push(copy) === 1) soon.port1.postMessage(null);
}

function flush() {
  if (outgoing.length) channel.postMessage({ tenant, events: outgoing.splice(0) });
}

function tell(now, ended) {
  if (ended.aborted || state.value === now) return;
  state.value = now;
  answer();
}

function take(event) {
  if (event.type === "gap") position = null;
  if (event.cursor) {
    const at = positionOf(event.cursor);
    // From the stream of this tab and from the one that closed before.
    if (position && at.epoch === position.epoch && at.sequence <= position.sequence) return;
    position = at;
    cursor.value = event.cursor;
  }
  recent.push(event);
  // Cut rarely: a shift for each event would move 20,000 entries.
  if (recent.length > RING + RING / 10) recent.splice(0, recent.length - RING);
  for (const listener of listeners) listener(event);
}

function positionOf(text) {
  const dot = text.indexOf(".");
  return { epoch: text.slice(0, dot), sequence: Number(text.slice(dot + 1)) };
}
