// Client of a session: reads it, follows its stream with reconnects, and sends messages and frames.
import { t } from "./words.js";

const INITIAL_BACKOFF_MS = 400;
const MAX_BACKOFF_MS = 8000;
const PING_EVERY_MS = 5000;
const PINGS_KEPT = 12;
// A stream without messages for twice this time is closed and reopened.
const SILENCE_MS = 3 * PING_EVERY_MS;
// Answers that a page handles itself: "ack" and "resume" with `acks`.
const PASSED_ON = new Set(["ack", "resume", "prompt_accepted", "going_away"]);
const ENDED = new Set(["stopped", "failed"]);

/** Public path of the server, with a slash at both ends: this file is `session-page/<version>/session_client.js` there. */
const BASE = new URL("../../", import.meta.url).pathname;

/** Return an address of this server for a path of the API, which begins with a slash. */
export const addressOf = (path) => BASE + path.slice(1);

export class Problem extends Error {
  constructor({ code = "unknown", detail = "", title = "", hint = "", status = 0 }) {
    super(detail || title || t("Something went wrong."));
    Object.assign(this, { code, hint, status });
  }
}

// Unix seconds of a clock that does not jump while the page is open.
export const nowS = () => (performance.timeOrigin + performance.now()) / 1000;

// Events: "session" (the object), "event" ({event, past}: a CloudEvent, and whether it is older than the page),
// "caught_up" (all past events were dispatched), "joints", "open", "closed" ({again_ms}), "problem" (a Problem),
// "key" (the server requires an API key).
export class SessionClient extends EventTarget {
  #key = null;
  #socket = null;
  #cursor = null;
  #attempts = 0;
  #run = 0;
  #timer = null;
  #pings = [];
  #lastMessageMs = 0;
  #ended = false;
  #past = true;
  #caughtUp = false;

  // `query` is added to the stream's address: which messages the page wants besides the events.
  constructor(id, query = { joints: "1" }) {
    super();
    this.id = id;
    this.query = query;
    this.path = `/v1/sessions/${id}`;
    this.pinging = setInterval(() => this.#ping(), PING_EVERY_MS);
    addEventListener("online", () => this.#reconnectNow());
    document.addEventListener("visibilitychange", () => document.hidden || this.#reconnectNow());
  }

  // The key is kept in this object only: not in the page's URL, nor in any storage.
  useKey(key) {
    this.#key = key || null;
    this.#attempts = 0;
    this.start();
  }

  get keyed() {
    return this.#key !== null;
  }

  get connected() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  // Server's clock minus this page's in seconds, from the fastest answer; null before the first one.
  get clockOffsetS() {
    return this.#pings.length ? this.#pings.reduce((a, b) => (b.tripS < a.tripS ? b : a)).offsetS : null;
  }

  async fetch(path, options = {}) {
    const headers = { ...options.headers, ...(this.#key ? { Authorization: `Bearer ${this.#key}` } : {}) };
    try {
      return await fetch(addressOf(path), { cache: "no-store", ...options, headers });
    } catch {
      const hint = t("Is it running, and is this computer connected to its network? The page tries again automatically.");
      throw new Problem({ code: "unreachable", detail: t("The server does not answer."), hint });
    }
  }

  async json(path, options) {
    const response = await this.fetch(path, options);
    if (!response.ok) throw await problemOf(response);
    return response.json();
  }

  // Read the session, then follow it; a repeated call starts over.
  async start() {
    const run = ++this.#run;
    clearTimeout(this.#timer);
    this.#disconnect();
    try {
      const session = await this.json(this.path);
      if (run !== this.#run) return;
      this.#emit("session", session);
      this.#ended = ENDED.has(session.state);
      // The past events of an ended session are dispatched too, once.
      if (this.#ended && this.#caughtUp) this.#emit("closed", { again_ms: null });
      else await this.#connect(run);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (run !== this.#run) return;
      if (error.status === 401) this.#emit("key", error);
      else this.#emit("problem", error);
      if (!error.status || error.status >= 429) this.#reconnectLater();
    }
  }

  send(message) {
    if (!this.connected) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  // Send a picture unless the previous one is still being sent; return whether it was sent.
  sendFrame(header, picture) {
    if (!this.connected || this.#socket.bufferedAmount > 0) return false;
    const text = new TextEncoder().encode(JSON.stringify(header));
    const length = new DataView(new ArrayBuffer(4));
    length.setUint32(0, text.length);
    this.#socket.send(new Blob([length.buffer, text, picture]));
    return true;
  }

  async #connect(run) {
    const query = new URLSearchParams(this.query);
    if (this.#cursor) query.set("after", this.#cursor);
    this.#past = !this.#cursor;
    this.#caughtUp = false;
    if (this.#key) {
      const body = JSON.stringify({ resource: `${this.path}/stream` });
      const headers = { "Content-Type": "application/json" };
      query.set("ticket", (await this.json("/v1/tickets", { method: "POST", body, headers })).ticket);
    }
    if (run !== this.#run) return;
    const url = new URL(addressOf(`${this.path}/stream?${query}`), location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = (this.#socket = new WebSocket(url));
    socket.onopen = () => {
      this.#attempts = 0;
      this.#lastMessageMs = performance.now();
      this.#pings = [];
      this.#ping();
      setTimeout(() => this.#ping(), 300);
      this.#emit("open");
    };
    socket.onmessage = ({ data }) => socket === this.#socket && this.#onMessage(data);
    socket.onclose = () => socket === this.#socket && this.#reconnectLater();
  }

  #onMessage(text) {
    this.#lastMessageMs = performance.now();
    const message = JSON.parse(text);
    if (message.specversion) {
      if (["session.stopped", "session.failed"].includes(message.type)) this.#ended = true;
      this.#emit("event", { event: message, past: this.#past && !this.#caughtUp });
    } else if (message.type === "joints") this.#emit("joints", message);
    else if (message.type === "cursor") {
      this.#cursor = message.cursor;
      if (!this.#caughtUp) this.#emit("caught_up");
      this.#caughtUp = true;
    } else if (message.type === "gap") this.#past = true;
    else if (message.type === "error") this.#emit("problem", new Problem(message));
    else if (PASSED_ON.has(message.type)) this.#emit(message.type, message);
    else if (message.type === "clock_pong") {
      const now = nowS();
      this.#pings.push({ offsetS: message.time_s - (message.sent_at_s + now) / 2, tripS: now - message.sent_at_s });
      this.#pings.splice(0, this.#pings.length - PINGS_KEPT);
    }
  }

  #ping() {
    if (!this.connected) return;
    if (performance.now() - this.#lastMessageMs > 2 * SILENCE_MS) this.#reconnectLater();
    else this.send({ type: "clock_ping", sent_at_s: nowS() });
  }

  #reconnectLater() {
    this.#disconnect();
    if (this.#ended) {
      // Read the final state: the last messages may not have arrived.
      this.json(this.path).then((session) => this.#emit("session", session), () => {});
      this.#emit("closed", { again_ms: null });
      return;
    }
    const wait = Math.min(MAX_BACKOFF_MS, INITIAL_BACKOFF_MS * 2 ** this.#attempts++) * (0.7 + 0.6 * Math.random());
    this.#emit("closed", { again_ms: wait });
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.start(), wait);
  }

  #reconnectNow() {
    if (this.#attempts && !this.connected && !this.#ended) this.start();
  }

  #disconnect() {
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #emit(type, detail = null) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

export async function problemOf(response) {
  try {
    return new Problem({ ...(await response.json()), status: response.status });
  } catch {
    return new Problem({ detail: t("The server answered {0}.", response.status), status: response.status });
  }
}
