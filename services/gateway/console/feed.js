// New events of the tenant, from one stream for all tabs of a browser.
//
// The tab that holds the lock reads the stream and passes each event to the others. Browsers allow six connections to
// one origin; a stream in each tab would use them up. When that tab closes, the lock goes to another, which resumes
// after the last event that it has received.
import { signal } from "./vendor/preact.js";
import { client, session } from "./api.js";

/** Events that a tab keeps; older ones are read from the server again. */
export const RING = 20_000;
const PASSED = "saccade-events";

/** "idle", "connecting", "open" or "lost". */
export const state = signal("idle");
/** Cursor after the newest event; null before the first. */
export const cursor = signal(null);

const listeners = new Set();
const recent = [];
let channel = null;

/** Call `listener` with each new event until the returned function is called; the stream opens with the first one. */
export function subscribe(listener) {
  listeners.add(listener);
  start();
  return () => listeners.delete(listener);
}

/** Return the events that this tab has received, the oldest first, at most `RING`. */
export const received = () => recent;

function start() {
  if (channel) return;
  channel = new BroadcastChannel(PASSED);
  channel.onmessage = ({ data }) => {
    if (data.tenant !== tenant()) return;
    if (data.event) take(data.event);
    else tell(data.state);
  };
  state.value = "connecting";
  navigator.locks.request(PASSED, lead).catch((error) => console.error(error));
}

const tenant = () => session.value?.tenant ?? null;

/** Read the stream for all tabs; never returns, so that the lock is held until the tab closes. */
async function lead() {
  for (let wait = 500; ; wait = Math.min(2 * wait, 10_000)) {
    try {
      if (session.value === "none") throw new Error("no key");
      const events = client.events(cursor.value ? { cursor: cursor.value } : {});
      pass({ state: "open" });
      for await (const event of events) {
        wait = 500;
        pass({ event: plain(event) });
      }
    } catch {
      // The next round says whether the server is back.
    }
    pass({ state: "lost" });
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

const plain = ({ type, cursor: after, id, subject, time, data, envelope }) => ({ type, cursor: after, id, subject, time, data, envelope });

function pass(message) {
  channel.postMessage({ tenant: tenant(), ...message });
  if (message.event) take(message.event);
  else tell(message.state);
}

function tell(now) {
  state.value = now;
}

function take(event) {
  if (event.cursor) cursor.value = event.cursor;
  state.value = "open";
  recent.push(event);
  // Cut rarely: a shift for each event would move 20,000 entries.
  if (recent.length > RING + RING / 10) recent.splice(0, recent.length - RING);
  for (const listener of listeners) listener(event);
}
