// The page's side of a session: reading it, its stream over every disconnect, and what is sent to it.
const FIRST_WAIT_MS = 400;
const LONGEST_WAIT_MS = 8000;
const PING_EVERY_MS = 5000;
const PINGS_KEPT = 12;
// A stream that says nothing for this long is asked for a sign of life by the ping; after twice that it is given up.
const SILENCE_MS = 3 * PING_EVERY_MS;
const ENDED = new Set(["stopped", "failed"]);

export class Problem extends Error {
  constructor({ code = "unknown", detail = "", title = "", hint = "", status = 0 }) {
    super(detail || title || "Something went wrong.");
    Object.assign(this, { code, hint, status });
  }
}

// Unix seconds by a clock that does not jump while the page is open.
export const nowS = () => (performance.timeOrigin + performance.now()) / 1000;

// Tells its listeners: "session" (the object), "event" ({event, past}: a CloudEvent, and whether it was there before the
// page), "caught_up" (all that had happened was told), "joints", "open", "closed" ({again_ms}), "problem" (a Problem),
// "key" (the server wants an API key).
export class SessionLink extends EventTarget {
  #key = null;
  #socket = null;
  #cursor = null;
  #tries = 0;
  #run = 0;
  #timer = null;
  #pings = [];
  #heard = 0;
  #over = false;
  #past = true;
  #caughtUp = false;

  constructor(id) {
    super();
    this.id = id;
    this.path = `/v1/sessions/${id}`;
    this.pinging = setInterval(() => this.#ping(), PING_EVERY_MS);
    addEventListener("online", () => this.#hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.#hurry());
  }

  // Kept in this object only: not in the page's address, nor in any storage.
  useKey(key) {
    this.#key = key || null;
    this.#tries = 0;
    this.start();
  }

  get keyed() {
    return this.#key !== null;
  }

  get connected() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  // Server's clock minus this page's in seconds, from the answer that came back fastest; null until one has.
  get clockOffsetS() {
    return this.#pings.length ? this.#pings.reduce((a, b) => (b.tripS < a.tripS ? b : a)).offsetS : null;
  }

  async fetch(path, options = {}) {
    const headers = { ...options.headers, ...(this.#key ? { Authorization: `Bearer ${this.#key}` } : {}) };
    try {
      return await fetch(path, { cache: "no-store", ...options, headers });
    } catch {
      const hint = "Is it running, and is this machine still on its network? The page tries again by itself.";
      throw new Problem({ code: "unreachable", detail: "The server does not answer.", hint });
    }
  }

  async json(path, options) {
    const response = await this.fetch(path, options);
    if (!response.ok) throw await problemOf(response);
    return response.json();
  }

  // Read the session, then follow it; called again it begins anew.
  async start() {
    const run = ++this.#run;
    clearTimeout(this.#timer);
    this.#drop();
    try {
      const session = await this.json(this.path);
      if (run !== this.#run) return;
      this.#say("session", session);
      this.#over = ENDED.has(session.state);
      // The past of a session that has ended is told too, once.
      if (this.#over && this.#caughtUp) this.#say("closed", { again_ms: null });
      else await this.#open(run);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (run !== this.#run) return;
      if (error.status === 401) this.#say("key", error);
      else this.#say("problem", error);
      if (!error.status || error.status >= 429) this.#again();
    }
  }

  send(message) {
    if (!this.connected) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  // Send a picture unless the one before is still on its way: a newer one will come. Gives whether it was sent.
  sendFrame(header, picture) {
    if (!this.connected || this.#socket.bufferedAmount > 0) return false;
    const text = new TextEncoder().encode(JSON.stringify(header));
    const length = new DataView(new ArrayBuffer(4));
    length.setUint32(0, text.length);
    this.#socket.send(new Blob([length.buffer, text, picture]));
    return true;
  }

  async #open(run) {
    const query = new URLSearchParams({ joints: "1" });
    if (this.#cursor) query.set("after", this.#cursor);
    this.#past = !this.#cursor;
    this.#caughtUp = false;
    if (this.#key) {
      const body = JSON.stringify({ resource: `${this.path}/stream` });
      const headers = { "Content-Type": "application/json" };
      query.set("ticket", (await this.json("/v1/tickets", { method: "POST", body, headers })).ticket);
    }
    if (run !== this.#run) return;
    const place = new URL(`${this.path}/stream?${query}`, location.href);
    place.protocol = place.protocol === "https:" ? "wss:" : "ws:";
    const socket = (this.#socket = new WebSocket(place));
    socket.onopen = () => {
      this.#tries = 0;
      this.#heard = performance.now();
      this.#pings = [];
      this.#ping();
      setTimeout(() => this.#ping(), 300);
      this.#say("open");
    };
    socket.onmessage = ({ data }) => socket === this.#socket && this.#take(data);
    socket.onclose = () => socket === this.#socket && this.#again();
  }

  #take(text) {
    this.#heard = performance.now();
    const said = JSON.parse(text);
    if (said.specversion) {
      if (["session.stopped", "session.failed"].includes(said.type)) this.#over = true;
      this.#say("event", { event: said, past: this.#past && !this.#caughtUp });
    } else if (said.type === "joints") this.#say("joints", said);
    else if (said.type === "cursor") {
      this.#cursor = said.cursor;
      if (!this.#caughtUp) this.#say("caught_up");
      this.#caughtUp = true;
    } else if (said.type === "gap") this.#past = true;
    else if (said.type === "error") this.#say("problem", new Problem(said));
    else if (said.type === "clock_pong") {
      const now = nowS();
      this.#pings.push({ offsetS: said.time_s - (said.sent_at_s + now) / 2, tripS: now - said.sent_at_s });
      this.#pings.splice(0, this.#pings.length - PINGS_KEPT);
    }
  }

  #ping() {
    if (!this.connected) return;
    if (performance.now() - this.#heard > 2 * SILENCE_MS) this.#again();
    else this.send({ type: "clock_ping", sent_at_s: nowS() });
  }

  #again() {
    this.#drop();
    if (this.#over) {
      // What came in the last moment is in the session itself.
      this.json(this.path).then((session) => this.#say("session", session), () => {});
      this.#say("closed", { again_ms: null });
      return;
    }
    const wait = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.#tries++) * (0.7 + 0.6 * Math.random());
    this.#say("closed", { again_ms: wait });
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.start(), wait);
  }

  #hurry() {
    if (this.#tries && !this.connected && !this.#over) this.start();
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #say(type, detail = null) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

export async function problemOf(response) {
  try {
    return new Problem({ ...(await response.json()), status: response.status });
  } catch {
    return new Problem({ detail: `The server answered ${response.status}.`, status: response.status });
  }
}
