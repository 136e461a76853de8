/**
 * Saccade's client for browsers and Node 18 or newer: uploads, jobs, artifacts and events, over connections that break.
 *
 * One module, no dependencies. What leaves it is either an answer or a SaccadeError; an event stream goes on over any
 * disconnect, each event once, in order.
 */

/** @type {boolean} Node has sockets of its own; a browser allows six connections to an origin. */
const IN_NODE = typeof process !== "undefined" && Boolean(process.versions?.node);

const MIB = 1024 * 1024;
/** Above this an upload goes in parts, so that a broken connection costs one part, not the file. */
const MULTIPART_FROM_BYTES = 64 * MIB;
/** A single PUT ends here (contracts/limits.py, SINGLE_PUT_BYTES). */
const SINGLE_PUT_BYTES = 1024 * MIB;
/** A browser can only hash a file that it holds whole. */
const HASHED_WHOLE_BYTES = 64 * MIB;
const PARTS_SIGNED_AT_ONCE = 50;
const PARTS_SENT_AT_ONCE = 3;

const TRIES = 4;
const AWAY = new Set([408, 429, 500, 502, 503, 504]);
/** A service that died comes back within this: its supervisor pauses up to 5 s, and it takes some to start. */
const COMES_BACK_MS = 12_000;
const REQUEST_MS = 30_000;
const LONGEST_PAUSE_MS = 5_000;
/** Three heartbeats (contracts/limits.py, SSE_HEARTBEAT_S): a stream that is silent for longer is dead. */
const SILENCE_MS = 45_000;

const EVENTS = "/v1/events";
const ENDS = new Set(["job.succeeded", "job.failed", "job.cancelled", "session.stopped", "session.failed"]);
const REOPENS = new Set(["job.retrying"]);

/** What a call ends with when it is not an answer: a stable code, a sentence, and what to do. */
export class SaccadeError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{hint?: string, status?: number, retryable?: boolean, requestId?: string, problem?: object, cause?: unknown}} [more]
   */
  constructor(code, message, { hint = "", status = 0, retryable = false, requestId = "", problem, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "SaccadeError";
    this.code = code;
    this.hint = hint;
    /** 0 when there was no answer. */
    this.status = status;
    this.retryable = retryable;
    this.requestId = requestId;
    /** The whole problem+json answer, where there was one. */
    this.problem = problem;
  }
}

/** Talks to one server; every method rejects with a SaccadeError. */
export class Client {
  #http;
  #tickets;
  #multiplexer;
  #silenceMs;
  #feeds = new Set();

  /**
   * @param {object} options
   * @param {string} options.url where the server is, `https://saccade.example`
   * @param {string} [options.apiKey] `<id>.<secret>`; an embedded server needs none, and a public page must hold none
   * @param {(resource: string) => string | Promise<string>} [options.ticket] gives a ticket for an event stream, from
   *   your own server, to a page that holds no key; it is asked again when the ticket's time is over
   * @param {boolean} [options.multiplex] all jobs' events over one connection; as a rule in browsers only
   * @param {number} [options.silenceMs] a stream that is silent for longer is taken for dead
   * @param {typeof fetch} [options.fetch]
   */
  constructor({ url, apiKey, ticket, multiplex = !IN_NODE, silenceMs = SILENCE_MS, fetch = globalThis.fetch }) {
    this.#http = new Http(url, apiKey, fetch);
    this.#tickets = ticket && new Tickets(ticket);
    this.#silenceMs = silenceMs;
    // Catching up with one job of many reads the job, which a ticket does not open.
    this.#multiplexer =
      multiplex && !ticket ? new Multiplexer((path, options) => this.#stream(path, options), this.#http) : null;
  }

  /** Where the server is. */
  get url() {
    return this.#http.url;
  }

  /** End every event stream. */
  close() {
    for (const feed of this.#feeds) feed.close();
    this.#multiplexer?.close();
  }

  /** Give the server's health, be it good or bad. */
  async health() {
    return this.#http.call("GET", "/health", { acceptStatus: [503] });
  }

  /** List what the server can do. */
  async workloads() {
    return (await this.#http.call("GET", "/v1/workloads")).data;
  }

  /**
   * Upload a file and complete it: by one PUT, or in parts where it is large or `multipart` says so.
   *
   * @param {Blob | File | ArrayBuffer | ArrayBufferView | string | URL} file in Node also a path, which is streamed
   * @param {object} [options]
   * @param {string} [options.filename]
   * @param {string} [options.contentType]
   * @param {(doneBytes: number, totalBytes: number) => void} [options.onProgress]
   * @param {boolean} [options.multipart]
   * @param {(upload: object) => void} [options.onCreated] told the upload's id, by which it can be resumed
   * @param {string} [options.resume] id of an upload in parts of the same file that broke off
   * @param {AbortSignal} [options.signal]
   */
  async upload(file, options = {}) {
    const source = await FileSource.of(file, options);
    try {
      return await new Sending(this.#http, source, options).run();
    } finally {
      await source.close();
    }
  }

  /**
   * Submit a job; it is stored when this resolves, and once only, however often the request was tried.
   *
   * @param {object} wanted
   * @param {string} wanted.workload
   * @param {Record<string, any>} [wanted.inputs] name of an input: an upload, its id, or a list of them
   * @param {object} [wanted.params]
   * @param {number} [wanted.priority]
   * @param {number} [wanted.maxCostUsd]
   * @param {string} [wanted.gpu]
   * @param {Record<string, string>} [wanted.metadata]
   * @param {string} [wanted.webhookUrl]
   * @param {string} [wanted.idempotencyKey] the same key and body make the same job
   * @param {AbortSignal} [wanted.signal]
   */
  async submit({ workload, inputs = {}, params = {}, idempotencyKey, signal, ...more }) {
    const body = defined({
      workload,
      inputs: Object.fromEntries(Object.entries(inputs).map(([name, value]) => [name, idsOf(value)])),
      params,
      priority: more.priority,
      max_cost_usd: more.maxCostUsd,
      gpu: more.gpu,
      metadata: more.metadata,
      webhook_url: more.webhookUrl,
    });
    const fields = await this.#http.call("POST", "/v1/jobs", { body, idempotencyKey, signal });
    return new Job(this, fields, { cursor: fields.cursor, at: Date.now() });
  }

  /** Read a job; `waitS` lets the server answer only when it has ended, or after so many seconds. */
  async job(jobId, { waitS = 0, signal } = {}) {
    const headers = waitS ? { Prefer: `wait=${waitS}` } : {};
    const timeoutMs = REQUEST_MS + waitS * 1000;
    return new Job(this, await this.#http.call("GET", jobPath(jobId), { headers, timeoutMs, signal }));
  }

  /** Iterate over jobs, newest first, reading page after page. */
  async *jobs({ state, workload, since, until, pageSize, signal } = {}) {
    const query = { state, workload, since: timeText(since), until: timeText(until), limit: pageSize };
    do {
      const page = await this.#http.call("GET", "/v1/jobs", { query, signal });
      for (const fields of page.data) yield new Job(this, fields);
      query.cursor = page.next_cursor;
    } while (query.cursor);
  }

  /** Ask for a job's end. */
  async cancel(jobId) {
    return new Job(this, await this.#http.call("POST", `${jobPath(jobId)}/cancel`));
  }

  /** Give a failed or cancelled job another attempt. */
  async retry(jobId) {
    return new Job(this, await this.#http.call("POST", `${jobPath(jobId)}/retry`));
  }

  /** Read what a job left behind: its manifest when `complete`, else the files there are so far. */
  async artifacts(jobId) {
    return this.#http.call("GET", `${jobPath(jobId)}/artifacts`);
  }

  /** Fetch a file that a job left behind, as a `Response` to read or stream; the key does not follow to the bucket. */
  async artifact(jobId, name, { signal } = {}) {
    const path = `${jobPath(jobId)}/artifacts/${name.split("/").map(encodeURIComponent).join("/")}`;
    return this.#http.file(path, signal);
  }

  /**
   * Get a ticket for an EventSource or for a page that must not hold a key; give the page `ticket`, or open `url`.
   *
   * @param {string} [resource] path of one event stream
   */
  async ticket(resource = EVENTS) {
    return this.#http.call("POST", "/v1/tickets", { body: { resource } });
  }

  /**
   * Follow events, each once, over any disconnect: `for await (const event of client.events(…))`.
   *
   * A job's or session's stream has its whole history (or all after `cursor`) and ends with it; the tenant's starts
   * now, at `since` or after `cursor`, and has no end. A `gap` event says that some were lost to retention; a job's is
   * followed by a `snapshot` of its state.
   *
   * @param {object} [options]
   * @param {string} [options.jobId]
   * @param {string} [options.sessionId]
   * @param {string[]} [options.types] `job.succeeded`, `job.*`
   * @param {string | string[]} [options.subject] an id, or several: only their events, without an end
   * @param {string | number | Date} [options.since] a cursor, a time, or seconds before now
   * @param {string} [options.cursor] the last event that is known already
   * @param {AbortSignal} [options.signal]
   */
  events({ jobId, sessionId, types = [], subject, since, cursor, signal, submitted } = {}) {
    const open = (inner) => {
      if (jobId && this.#multiplexer) return this.#multiplexer.job(jobId, { cursor, submitted, signal: inner });
      if (jobId || sessionId) {
        // Read whole, whatever is shown of it: its end must be seen.
        const path = jobId ? `${jobPath(jobId)}/events` : `/v1/sessions/${encodeURIComponent(sessionId)}/events`;
        return this.#stream(path, { cursor, signal: inner });
      }
      const now = !subject && (since ?? null) === null && !cursor;
      if (this.#multiplexer && now) return this.#multiplexer.all({ signal: inner });
      const query = { types: types.join(",") || undefined, subject };
      return this.#stream(EVENTS, { query, cursor, since, signal: inner });
    };
    const shown = (event) => OF_THE_STREAM.has(event.type) || takes(types, event.type);
    return new EventFeed(open, shown, signal, this.#feeds);
  }

  #stream(path, options) {
    return new ResumedStream(this.#http, path, { silenceMs: this.#silenceMs, tickets: this.#tickets, ...options });
  }
}

/** A job as the API shows it, and what can be done with it. */
export class Job {
  #client;
  #submitted;

  constructor(client, fields, submitted) {
    this.#client = client;
    this.#submitted = submitted;
    Object.assign(this, fields);
  }

  /** Whether the job's life is over. */
  get ended() {
    return ["succeeded", "failed", "cancelled"].includes(this.state);
  }

  /** Follow the job from its first event (or after `cursor`) to its last. */
  events({ types, cursor, signal } = {}) {
    return this.#client.events({ jobId: this.id, types, cursor, signal, submitted: this.#submitted });
  }

  /** Read the job as it is now; `waitS` waits for its end for so long. */
  async refresh(options) {
    return this.#client.job(this.id, options);
  }

  /** Ask for the job's end. */
  async cancel() {
    return this.#client.cancel(this.id);
  }

  /** Give it another attempt, when it has failed or was cancelled. */
  async retry() {
    return this.#client.retry(this.id);
  }

  /** Read what it left behind. */
  async artifacts() {
    return this.#client.artifacts(this.id);
  }

  /** Fetch a file that it left behind, as a `Response`. */
  async artifact(name, options) {
    return this.#client.artifact(this.id, name, options);
  }
}

/** Events for one `for await`; `cursor` is where to go on another time. */
export class EventFeed {
  #open;
  #shown;
  #signal;
  #feeds;
  #controller = new AbortController();
  #begun = false;
  #cursor = null;

  constructor(open, shown, signal, feeds) {
    this.#open = open;
    this.#shown = shown;
    this.#signal = signal;
    this.#feeds = feeds;
  }

  /** The cursor of the newest durable event that was given out. */
  get cursor() {
    return this.#cursor;
  }

  /** End the feed, from anywhere. */
  close() {
    this.#controller.abort();
  }

  async *[Symbol.asyncIterator]() {
    if (this.#begun) throw new TypeError("These events are being read already: call events() again.");
    this.#begun = true;
    this.#signal?.throwIfAborted();
    const stop = () => this.#controller.abort();
    this.#signal?.addEventListener("abort", stop);
    this.#feeds.add(this);
    try {
      if (this.#controller.signal.aborted) return;
      for await (const event of this.#open(this.#controller.signal)) {
        if (event.cursor) this.#cursor = event.cursor;
        if (this.#shown(event)) yield event;
      }
      this.#signal?.throwIfAborted();
    } catch (error) {
      this.#signal?.throwIfAborted();
      if (!this.#controller.signal.aborted) throw error;
    } finally {
      this.#feeds.delete(this);
      this.#signal?.removeEventListener("abort", stop);
      this.#controller.abort();
    }
  }
}

const OF_THE_STREAM = new Set(["gap", "snapshot"]);

/** Parses server-sent events (HTML Living Standard, 9.2.6) as text comes; a cut-off last block is never given. */
export class BlockParser {
  #rest = "";
  #block = { event: "message", id: null, retryMs: null, data: [] };
  #filled = false;

  /** Whether something has come that no block is made of yet. */
  get unfinished() {
    return this.#filled || this.#rest !== "";
  }

  /** Take some text and give the blocks that it completes. */
  push(text) {
    let whole = this.#rest + text;
    // A line feed may follow and be part of the same line's end.
    const held = whole.endsWith("\r") ? "\r" : "";
    whole = held ? whole.slice(0, -1) : whole;
    const lines = whole.split(/\r\n|\n|\r/);
    this.#rest = lines.pop() + held;
    const blocks = [];
    for (const line of lines) {
      if (line === "") {
        if (this.#block.data.length || this.#block.retryMs !== null) blocks.push(this.#block);
        this.#block = { event: "message", id: null, retryMs: null, data: [] };
        this.#filled = false;
      } else if (!line.startsWith(":")) {
        this.#field(line);
      }
    }
    return blocks;
  }

  #field(line) {
    this.#filled = true;
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    if (name === "data") this.#block.data.push(value);
    else if (name === "event") this.#block.event = value;
    else if (name === "id" && !value.includes("\0")) this.#block.id = value;
    else if (name === "retry" && /^\d+$/.test(value)) this.#block.retryMs = Number(value);
  }
}

/** The connection broke, or something on the way answered for the server: worth another try. */
class Broken extends Error {
  constructor(cause, problem = null) {
    super(String(cause?.message ?? cause), { cause });
    this.problem = problem;
  }
}

/** One subscription that outlives its connections. */
class ResumedStream {
  #http;
  #path;
  #query;
  #since;
  #signal;
  #silenceMs;
  #tickets;
  #patient;
  #began = Date.now();
  #place = null;
  #known;
  #lastType = "";
  #over = false;
  #answered = false;
  #clean = false;
  #retryMs = 0;

  constructor(http, path, { query = {}, cursor, since, signal, silenceMs, tickets, patient = false }) {
    this.#http = http;
    this.#path = path;
    this.#query = query;
    this.#known = cursor ?? null;
    this.#place = cursor ? placeOf(cursor) : null;
    this.#since = since;
    this.#signal = signal;
    this.#silenceMs = silenceMs;
    this.#tickets = tickets;
    this.#patient = patient;
  }

  /** Every event once, in order, over as many connections as it takes. */
  async *[Symbol.asyncIterator]() {
    let failures = 0;
    let ending = false;
    for (;;) {
      this.#clean = false;
      try {
        for await (const event of this.#connection()) {
          failures = 0;
          ending = false;
          yield event;
        }
        if (!this.#clean) failures += 1;
      } catch (error) {
        if (this.#signal?.aborted || !(error instanceof Broken)) throw error;
        // The last event was here: that the server does not confirm it is no reason to wait for it.
        if (ending) return;
        failures += 1;
        if (this.#hopeless(failures)) throw error.problem ?? unreachable(this.#http.url, error);
      }
      if (this.#over || (this.#clean && ending)) return;
      if (this.#clean && this.#path !== EVENTS && ENDS.has(this.#lastType)) {
        ending = true; // the answer to the next request says whether that was all
        continue;
      }
      // A server that closes in order says when to come back; after a cut the first try is soon.
      const backoff = Math.min(LONGEST_PAUSE_MS, 100 * 2 ** failures);
      await pause((this.#clean ? Math.max(this.#retryMs, 100) : backoff) * (0.5 + Math.random() / 2), this.#signal);
    }
  }

  /** Whether the server has answered this stream. */
  get answered() {
    return this.#answered;
  }

  /** Whether to give up: never on a stream that once was there. */
  #hopeless(failures) {
    if (this.#answered || this.#patient || failures < TRIES) return false;
    // A server that never was there is not started; one that went away comes back.
    return !this.#http.reached || Date.now() - this.#began > COMES_BACK_MS;
  }

  async *#connection() {
    const controller = new AbortController();
    const stop = () => controller.abort(this.#signal.reason);
    this.#signal?.throwIfAborted();
    this.#signal?.addEventListener("abort", stop);
    let timer;
    const timed = async (promise) => {
      timer = setTimeout(() => controller.abort(new Broken("the stream is silent")), this.#silenceMs);
      try {
        return await promise;
      } catch (error) {
        if (this.#signal?.aborted || error instanceof SaccadeError) throw error;
        throw error instanceof Broken ? error : new Broken(error);
      } finally {
        clearTimeout(timer);
      }
    };
    try {
      const response = await timed(this.#request(controller.signal));
      if (response.status === 204) {
        this.#over = true;
        return;
      }
      this.#answered = true;
      const reader = response.body.getReader();
      const decoder = new TextDecoder();
      const parser = new BlockParser();
      for (;;) {
        const { done, value } = await timed(reader.read());
        if (done) break;
        for (const block of parser.push(decoder.decode(value, { stream: true }))) {
          if (block.retryMs !== null) this.#retryMs = block.retryMs;
          const event = block.data.length ? this.#accept(block) : null;
          if (event) yield event;
        }
      }
      this.#clean = !parser.unfinished;
    } finally {
      this.#signal?.removeEventListener("abort", stop);
      controller.abort();
    }
  }

  async #request(signal) {
    const query = { ...this.#query, last_event_id: this.#known ?? undefined };
    if (!this.#known) query.since = this.#from();
    for (let asked = 0; ; asked += 1) {
      if (this.#tickets) query.ticket = await this.#tickets.of(this.#path);
      // The cursor goes in the query: some proxies drop headers they do not know, and browsers ask before sending one.
      const response = await this.#http.open(this.#path, query, signal);
      if (response.status === 204) return response;
      const type = response.headers.get("content-type") ?? "text/event-stream";
      if (response.ok && type.startsWith("text/event-stream")) return response;
      const problem = await problemOf(response);
      if (response.status === 401 && this.#tickets && asked === 0) this.#tickets.forget(this.#path);
      else if (response.ok || AWAY.has(response.status)) throw new Broken(problem, problem);
      else throw problem;
    }
  }

  /** From when on, before any event has given a cursor: a connection that broke without one must not leave a hole. */
  #from() {
    const since = this.#since;
    const elapsed = (Date.now() - this.#began) / 1000;
    if (since instanceof Date) return since.toISOString();
    if (since === undefined || since === null) {
      return this.#answered && this.#path === EVENTS ? String(Math.ceil(elapsed) + 1) : undefined;
    }
    const seconds = /^(\d+)s?$/.exec(String(since));
    return seconds ? String(Number(seconds[1]) + Math.ceil(elapsed)) : String(since);
  }

  /** Make an event of a block, or null of one that came before. */
  #accept(block) {
    let envelope;
    try {
      envelope = JSON.parse(block.data.join("\n"));
    } catch (error) {
      throw new Broken(error);
    }
    if (block.event === "gap") this.#place = null;
    if (block.id !== null) {
      const place = placeOf(block.id);
      if (isBefore(place, this.#place)) return null;
      this.#place = place;
      this.#known = block.id;
      this.#lastType = block.event;
    }
    return eventOf(block.event, block.id, envelope);
  }
}

/**
 * All jobs of a page over one stream of the tenant, routed here: a browser allows six connections to an origin.
 *
 * A job's history from before the page followed it comes from the newest events, which are kept, or by a short
 * connection of its own, two at a time. While that runs the stream's events of the job wait; they follow without a gap
 * because the job is read (`GET /v1/jobs/{id}`, which knows all that was said before) after its route is there.
 */
class Multiplexer {
  #open;
  #http;
  #routes = new Map();
  #listeners = new Set();
  #recent = [];
  /** All events after this are in `recent`; null when that cannot be said. */
  #floor = null;
  #starting = null;
  #shared = null;
  #controller = null;
  #idle;
  #catchingUp = new Turnstile(2);

  constructor(open, http) {
    this.#open = open;
    this.#http = http;
  }

  /** Follow one job. */
  async *job(jobId, { cursor, submitted, signal }) {
    const route = new Route(cursor, signal);
    const fresh = submitted && !cursor && Date.now() - submitted.at < RECENT_MS ? submitted.cursor : null;
    try {
      await this.#start(fresh, jobId);
      this.#attach(jobId, route);
      if (fresh && this.#covers(fresh)) route.release(this.#recentOf(jobId, fresh));
      else this.#catchUp(jobId, route);
      yield* route.events();
    } finally {
      this.#detach(jobId, route);
    }
  }

  /** Follow everything, from now on. */
  async *all({ signal }) {
    const route = new Route(undefined, signal);
    try {
      await this.#start(null, null);
      clearTimeout(this.#idle);
      this.#listeners.add(route);
      route.release([]);
      yield* route.events();
    } finally {
      route.close();
      this.#listeners.delete(route);
      this.#rest();
    }
  }

  close() {
    clearTimeout(this.#idle);
    this.#stop(null);
  }

  /** See that the stream runs: from a cursor that is known, from the job's, or (for the tenant) from now. */
  #start(cursor, jobId) {
    this.#starting ??= (async () => {
      const from = cursor ?? (jobId && (await this.#http.call("GET", jobPath(jobId))).cursor);
      this.#floor = from ? placeOf(from) : null;
      this.#controller = new AbortController();
      this.#shared = this.#open(EVENTS, { cursor: from ?? undefined, signal: this.#controller.signal });
      this.#run(this.#shared, this.#controller);
    })().catch((error) => {
      this.#starting = null;
      throw error;
    });
    return this.#starting;
  }

  async #run(stream, controller) {
    try {
      for await (const event of stream) this.#dispatch(event);
    } catch (error) {
      if (this.#controller === controller) this.#stop(error);
    }
  }

  #dispatch(event) {
    if (event.type === "gap") {
      this.#recent = [];
      this.#floor = null;
      for (const route of this.#listeners) route.offer(event);
      for (const [jobId, routes] of this.#routes) {
        for (const route of routes) {
          route.hold();
          this.#catchUp(jobId, route);
        }
      }
      return;
    }
    if (event.cursor) {
      const place = placeOf(event.cursor);
      this.#floor ??= { epoch: place.epoch, sequence: place.sequence - 1 };
      this.#recent.push(event);
      if (this.#recent.length > RECENT_EVENTS) this.#floor = placeOf(this.#recent.shift().cursor);
    }
    for (const route of this.#routes.get(event.subject) ?? []) route.offer(event);
    for (const route of this.#listeners) route.offer(event, false);
  }

  /** Read what a job's route lacks by a stream of the job's own, up to where the shared one goes on. */
  #catchUp(jobId, route) {
    this.#catchingUp.pass(async () => {
      const { signal } = route;
      if (signal.aborted) return;
      try {
        const job = new Job(null, await this.#http.call("GET", jobPath(jobId), { signal }));
        const upTo = placeOf(job.cursor);
        let whole = !job.ended && isBefore(upTo, route.place);
        if (!whole) {
          const options = { cursor: route.cursor, signal, patient: this.#shared?.answered };
          for await (const event of this.#open(`${jobPath(jobId)}/events`, options)) {
            route.take(event);
            // The stream of a job that has ended is read to its own end: it may have been given another attempt.
            whole = !job.ended && Boolean(event.cursor) && isBefore(upTo, route.place);
            if (whole) break;
          }
        }
        route.release([], !whole);
      } catch (error) {
        route.fail(error);
      }
    });
  }

  #covers(cursor) {
    const place = placeOf(cursor);
    return this.#floor !== null && place.epoch === this.#floor.epoch && this.#floor.sequence <= place.sequence;
  }

  #recentOf(jobId, cursor) {
    const after = placeOf(cursor);
    return this.#recent.filter((event) => event.subject === jobId && !isBefore(placeOf(event.cursor), after));
  }

  #attach(jobId, route) {
    clearTimeout(this.#idle);
    if (!this.#routes.has(jobId)) this.#routes.set(jobId, new Set());
    this.#routes.get(jobId).add(route);
  }

  #detach(jobId, route) {
    route.close();
    const routes = this.#routes.get(jobId);
    routes?.delete(route);
    if (routes?.size === 0) this.#routes.delete(jobId);
    this.#rest();
  }

  /** Close the stream when nobody has wanted it for a while. */
  #rest() {
    if (this.#routes.size || this.#listeners.size) return;
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => this.#stop(null), IDLE_MS);
    this.#idle?.unref?.();
  }

  #stop(error) {
    this.#controller?.abort();
    this.#controller = this.#starting = this.#floor = null;
    this.#recent = [];
    for (const route of [...[...this.#routes.values()].flatMap((routes) => [...routes]), ...this.#listeners]) {
      if (error) route.fail(error);
      else route.close();
    }
  }
}

/** So many of the tenant's newest events are kept, for jobs that are followed a little after they were submitted. */
const RECENT_EVENTS = 1000;
const RECENT_MS = 60_000;
const IDLE_MS = 2_000;

/** What waits for one reader of one job: state events all, of its progress the newest. */
class Route {
  #ready = [];
  #held = [];
  #holds = 0;
  #controller = new AbortController();
  #failure = null;
  #wake = () => {};
  #stop;
  #given;
  place = null;
  cursor;
  over = false;

  constructor(cursor, signal) {
    this.cursor = cursor;
    this.place = cursor ? placeOf(cursor) : null;
    this.hold();
    this.#given = signal;
    this.#stop = () => this.close();
    signal.addEventListener("abort", this.#stop);
  }

  /** Aborted when the route is closed. */
  get signal() {
    return this.#controller.signal;
  }

  /** Let live events wait until history is there. */
  hold() {
    this.#holds += 1;
  }

  /** Take a live event. */
  offer(event, ends = true) {
    if (this.#holds) {
      if (!event.cursor) this.#held = this.#held.filter((one) => one.cursor);
      this.#held.push(event);
      return;
    }
    this.take(event);
    if (ends && this.over) this.close();
  }

  /** Take an event of history; one that came before is left out. */
  take(event) {
    if (event.type === "gap") this.place = null;
    if (event.cursor) {
      const place = placeOf(event.cursor);
      if (isBefore(place, this.place)) return;
      this.place = place;
      this.cursor = event.cursor;
      if (ENDS.has(event.type)) this.over = true;
      else if (REOPENS.has(event.type)) this.over = false;
    } else if (!OF_THE_STREAM.has(event.type)) {
      const stale = (one) => !one.cursor && one.type === event.type && one.subject === event.subject;
      const older = this.#ready.findIndex(stale);
      if (older >= 0) this.#ready.splice(older, 1);
    }
    this.#ready.push(event);
    this.#wake();
  }

  /** History is there: go on with these events and what waited, unless that was all. */
  release(events, all = false) {
    for (const event of events) this.take(event);
    this.#holds -= 1;
    if (this.#holds > 0) return; // another gap came meanwhile
    const held = this.#held;
    this.#held = [];
    for (const event of held) this.take(event);
    if (all || this.over) this.close();
  }

  fail(error) {
    if (!this.signal.aborted) this.#failure = error;
    this.close();
  }

  /** End it; what is ready is still given. */
  close() {
    this.#given.removeEventListener("abort", this.#stop);
    this.#controller.abort();
    this.#wake();
  }

  async *events() {
    for (;;) {
      while (this.#ready.length && !this.#given.aborted) yield this.#ready.shift();
      if (this.#failure) throw this.#failure;
      if (this.signal.aborted) return;
      await new Promise((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

/** Lets so many through at a time. */
class Turnstile {
  #free;
  #waiting = [];

  constructor(count) {
    this.#free = count;
  }

  async pass(work) {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise((resolve) => this.#waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free += 1;
    }
  }
}

/** Tickets of a page that holds no key. */
class Tickets {
  #ask;
  #known = new Map();

  constructor(ask) {
    this.#ask = ask;
  }

  async of(resource) {
    if (!this.#known.has(resource)) this.#known.set(resource, await this.#ask(resource));
    return this.#known.get(resource);
  }

  forget(resource) {
    this.#known.delete(resource);
  }
}

/** Requests to one server, tried again where that is safe: reads repeat freely, POSTs carry an idempotency key. */
class Http {
  #key;
  #fetch;
  /** Whether the server has ever answered. */
  reached = false;

  constructor(url, apiKey, fetch) {
    const given = new URL(url);
    if (!["http:", "https:"].includes(given.protocol)) throw new TypeError(`${url} is no http(s) address`);
    this.url = given.href.replace(/[?#].*$/, "").replace(/\/+$/, "");
    this.#key = apiKey;
    this.#fetch = (...request) => fetch(...request);
  }

  address(path, query = {}) {
    const pairs = Object.entries(defined(query)).flatMap(([name, value]) =>
      (Array.isArray(value) ? value : [value]).map((one) => [name, String(one)]),
    );
    return `${this.url}${path}${pairs.length ? `?${new URLSearchParams(pairs)}` : ""}`;
  }

  /** Open an event stream, once. */
  async open(path, query, signal) {
    const headers = this.#headers({ Accept: "text/event-stream" });
    return this.#fetch(this.address(path, query), { headers, signal, cache: "no-store" });
  }

  /** Call the API and give its JSON object. */
  async call(method, path, { query, body, headers = {}, idempotencyKey, acceptStatus = [], timeoutMs, signal } = {}) {
    const sent = { ...headers };
    if (body !== undefined) sent["Content-Type"] = "application/json";
    if (method === "POST") sent["Idempotency-Key"] = idempotencyKey ?? randomKey();
    const response = await this.#send(method, this.address(path, query), {
      headers: sent,
      body: body === undefined ? undefined : JSON.stringify(body),
      acceptStatus,
      timeoutMs,
      signal,
    });
    if (!response.ok && !acceptStatus.includes(response.status)) throw await problemOf(response);
    const text = await response.text();
    try {
      return text ? JSON.parse(text) : {};
    } catch (cause) {
      const message = `The server answered ${response.status} with something that is not JSON.`;
      throw new SaccadeError("unexpected_answer", message, { status: response.status, cause });
    }
  }

  /** Follow an artifact's presigned address. */
  async file(path, signal) {
    // A browser shows no redirect, but leaves the key behind when it follows one to another origin.
    const redirect = IN_NODE ? "manual" : "follow";
    const first = await this.#send("GET", this.address(path), { redirect, signal });
    const place = IN_NODE && first.status >= 300 && first.status < 400 ? first.headers.get("location") : null;
    const response = place ? await this.#fetch(new URL(place, this.url), { signal }) : first;
    if (!response.ok) throw await problemOf(response);
    return response;
  }

  async #send(method, address, { headers = {}, body, acceptStatus = [], timeoutMs = REQUEST_MS, signal, redirect }) {
    const end = Date.now() + COMES_BACK_MS;
    for (let wait = 400; ; wait = Math.min(2 * wait, 2000)) {
      const last = Date.now() + wait > end;
      const { signal: linked, unlink } = limitedSignal(signal, timeoutMs);
      try {
        const options = { method, headers: this.#headers(headers), body, redirect, signal: linked, cache: "no-store" };
        const response = await this.#fetch(address, options);
        this.reached = true;
        const away = AWAY.has(response.status) && response.status !== 500 && !acceptStatus.includes(response.status);
        if (!away || last) return response;
        const after = Number(response.headers.get("retry-after"));
        if (after > 0) wait = Math.min(after * 1000, Math.max(end - Date.now(), 0));
      } catch (error) {
        signal?.throwIfAborted();
        // A server that never was there is not started; one that went away comes back.
        if (last || !this.reached) throw unreachable(this.url, error);
      } finally {
        unlink();
      }
      await pause(wait, signal);
    }
  }

  #headers(more) {
    return this.#key ? { ...more, Authorization: `Bearer ${this.#key}` } : more;
  }
}

/** One file on its way up. */
class Sending {
  #http;
  #source;
  #options;
  #sent = new Map();

  constructor(http, source, options) {
    this.#http = http;
    this.#source = source;
    this.#options = options;
  }

  async run() {
    const { multipart, signal } = this.#options;
    const size = this.#source.size;
    const inParts = size > SINGLE_PUT_BYTES || (multipart ?? (Boolean(this.#options.resume) || size > MULTIPART_FROM_BYTES));
    const upload = inParts ? await this.#sendParts() : await this.#sendWhole();
    if (upload.state === "completed") return upload;
    return this.#http.call("POST", `/v1/uploads/${upload.id}/complete`, { timeoutMs: 300_000, signal });
  }

  async #announce(multipart) {
    const source = this.#source;
    const body = defined({
      filename: source.name,
      content_type: source.type,
      size_bytes: source.size,
      sha256: await source.sha256(),
      multipart: multipart || undefined,
    });
    const upload = await this.#http.call("POST", "/v1/uploads", { body, signal: this.#options.signal });
    this.#options.onCreated?.(upload);
    return upload;
  }

  async #sendWhole() {
    const upload = await this.#announce(false);
    const { signal } = this.#options;
    const renew = () => this.#http.call("GET", `/v1/uploads/${upload.id}`, { signal });
    await this.#put(upload, renew, 0, this.#source.size, 0);
    return upload;
  }

  async #sendParts() {
    const { resume, signal } = this.#options;
    const upload = resume ? await this.#http.call("GET", `/v1/uploads/${resume}`, { signal }) : await this.#announce(true);
    const same = upload.size_bytes === this.#source.size;
    if (same && upload.state === "completed") return upload;
    if (!same || upload.state !== "created" || !upload.part_size_bytes) {
      const message = `${upload.id} is no open upload in parts of ${this.#source.size} bytes.`;
      throw new SaccadeError("upload_not_resumable", message, { hint: "Upload the file anew, without resume." });
    }
    const partBytes = upload.part_size_bytes;
    const arrived = new Set((upload.parts ?? []).map((part) => part.part_number));
    const sizeOf = (number) => Math.min(partBytes, this.#source.size - (number - 1) * partBytes);
    for (const number of arrived) this.#tell(number, sizeOf(number));
    const numbers = Array.from({ length: Math.max(1, Math.ceil(this.#source.size / partBytes)) }, (_, i) => i + 1);
    const missing = numbers.filter((number) => !arrived.has(number));
    for (let first = 0; first < missing.length; first += PARTS_SIGNED_AT_ONCE) {
      const sign = async (part_numbers) =>
        (await this.#http.call("POST", `/v1/uploads/${upload.id}/parts`, { body: { part_numbers }, signal })).parts;
      const turnstile = new Turnstile(PARTS_SENT_AT_ONCE);
      let failed = false;
      const send = async (part) => {
        const number = part.part_number;
        if (failed) return;
        try {
          const renew = async () => (await sign([number]))[0];
          await this.#put(part, renew, (number - 1) * partBytes, sizeOf(number), number);
        } catch (error) {
          failed = true;
          throw error;
        }
      };
      const signed = await sign(missing.slice(first, first + PARTS_SIGNED_AT_ONCE));
      const parts = signed.map((part) => turnstile.pass(() => send(part)));
      const refused = (await Promise.allSettled(parts)).find((one) => one.status === "rejected");
      if (refused) throw refused.reason;
    }
    return upload;
  }

  /** PUT a range of the file to its presigned place, again when the connection breaks or the place's time is over. */
  async #put(place, renew, start, size, number) {
    const { signal } = this.#options;
    for (let tried = 1; ; tried += 1) {
      signal?.throwIfAborted();
      let status = 0;
      let cause;
      try {
        const body = await this.#source.range(start, size);
        status = await put(place.url, place.headers ?? {}, body, (sent) => this.#tell(number, sent), signal);
      } catch (error) {
        signal?.throwIfAborted();
        cause = error;
      }
      if (status >= 200 && status < 300) return this.#tell(number, size);
      if (status === 403 && tried === 1) {
        place = await renew();
        continue;
      }
      if (status && status < 500) {
        const more = { status, hint: "Start the upload again." };
        throw new SaccadeError("upload_refused", `The bucket refused the upload (${status}).`, more);
      }
      if (tried === TRIES) {
        const more = { status, cause, retryable: true, hint: "Nothing was lost: try again in a few seconds." };
        throw new SaccadeError("storage_unavailable", "The upload broke off.", more);
      }
      await pause(150 * 2 ** tried, signal);
    }
  }

  #tell(number, sentBytes) {
    this.#sent.set(number, sentBytes);
    let done = 0;
    for (const bytes of this.#sent.values()) done += bytes;
    this.#options.onProgress?.(done, this.#source.size);
  }
}

/** Where the bytes of an upload come from: memory, a Blob, or in Node a file that is read as it is sent. */
class FileSource {
  static async of(file, { filename, contentType }) {
    if (typeof file === "string" || file instanceof URL) return PathSource.open(file, filename, contentType);
    const blob = file instanceof Blob ? file : new Blob([file]);
    return new FileSource(blob, filename ?? file.name ?? "upload", contentType ?? file.type);
  }

  #blob;

  constructor(blob, name, type) {
    this.#blob = blob;
    this.size = blob.size;
    this.name = name;
    this.type = type || mediaTypeOf(name);
  }

  /** A body of some bytes of the file. */
  async range(start, size) {
    return this.#blob.slice(start, start + size);
  }

  /** Hash it, where that needs neither all of memory nor an insecure page's leave. */
  async sha256() {
    const subtle = globalThis.crypto?.subtle;
    if (!subtle || this.size > HASHED_WHOLE_BYTES) return undefined;
    return hex(new Uint8Array(await subtle.digest("SHA-256", await this.#blob.arrayBuffer())));
  }

  async close() {}
}

class PathSource {
  static async open(path, filename, contentType) {
    if (!IN_NODE) throw new TypeError("A page cannot open a path: give a File or a Blob.");
    const [{ open }, { basename }, { fileURLToPath }] = await Promise.all([
      ofNode("fs/promises"),
      ofNode("path"),
      ofNode("url"),
    ]);
    const place = path instanceof URL ? fileURLToPath(path) : path;
    const handle = await open(place);
    const name = filename ?? basename(place);
    return new PathSource(handle, (await handle.stat()).size, name, contentType ?? mediaTypeOf(name));
  }

  #handle;

  constructor(handle, size, name, type) {
    this.#handle = handle;
    this.size = size;
    this.name = name;
    this.type = type;
  }

  async range(start, size) {
    return { size, chunks: () => this.#chunks(start, size) };
  }

  async *#chunks(start, size) {
    for (let at = start; at < start + size; ) {
      const buffer = new Uint8Array(Math.min(MIB, start + size - at));
      const { bytesRead } = await this.#handle.read(buffer, 0, buffer.length, at);
      if (bytesRead === 0) throw new Error("the file has become shorter");
      yield buffer.subarray(0, bytesRead);
      at += bytesRead;
    }
  }

  async sha256() {
    const { createHash } = await ofNode("crypto");
    const hash = createHash("sha256");
    for await (const chunk of this.#chunks(0, this.size)) hash.update(chunk);
    return hash.digest("hex");
  }

  async close() {
    await this.#handle.close();
  }
}

/** PUT a body and give the status; `onSent` hears how much has gone. */
async function put(url, headers, body, onSent, signal) {
  if (IN_NODE) return putFromNode(url, headers, body, onSent, signal);
  if (typeof XMLHttpRequest === "undefined") {
    return (await fetch(url, { method: "PUT", headers, body, signal })).status;
  }
  // Only this old interface tells a page how much has gone.
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    request.open("PUT", url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => onSent(event.loaded);
    request.onload = () => resolve(request.status);
    request.onerror = request.onabort = request.ontimeout = () => reject(new Error("the connection broke"));
    request.onloadend = () => signal?.removeEventListener("abort", stop);
    signal?.addEventListener("abort", stop);
    request.send(body);
  });
}

/** PUT from Node by its own client: fetch would send a stream without its length, which S3 refuses. */
async function putFromNode(url, headers, body, onSent, signal) {
  const place = new URL(url);
  const { request } = await (place.protocol === "https:" ? ofNode("https") : ofNode("http"));
  const chunks = body instanceof Blob ? body.stream() : body.chunks();
  const length = { "Content-Length": String(body.size) };
  return new Promise((resolve, reject) => {
    const sending = request(place, { method: "PUT", headers: { ...headers, ...length }, signal }, (response) => {
      response.resume();
      response.on("end", () => resolve(response.statusCode));
      response.on("error", reject);
    });
    sending.setTimeout(REQUEST_MS * 10, () => sending.destroy(new Error("the bucket is silent")));
    sending.on("error", reject);
    (async () => {
      let sent = 0;
      for await (const chunk of chunks) {
        if (sending.destroyed || sending.writableEnded) return;
        if (!sending.write(chunk)) {
          await new Promise((go) => {
            sending.once("drain", go);
            sending.once("close", go);
          });
        }
        sent += chunk.length;
        onSent(sent);
      }
      sending.end();
    })().catch((error) => sending.destroy(error));
  });
}

/** Make an error of a problem+json answer, or of whatever a proxy sent instead. */
async function problemOf(response) {
  let problem;
  try {
    problem = JSON.parse(await response.text());
  } catch {
    problem = null;
  }
  if (typeof problem !== "object" || problem === null) problem = {};
  const message = problem.detail ?? problem.title ?? `The server answered ${response.status}.`;
  return new SaccadeError(problem.code ?? "unexpected_answer", message, {
    hint: problem.hint ?? "",
    status: response.status,
    retryable: problem.retryable ?? AWAY.has(response.status),
    requestId: problem.request_id ?? response.headers.get("x-request-id") ?? "",
    problem,
  });
}

function unreachable(url, cause) {
  const more = { hint: "See that it runs and that this address is right.", retryable: true, cause };
  return new SaccadeError("server_unreachable", `No answer from ${url}.`, more);
}

function eventOf(type, cursor, envelope) {
  const isEvent = typeof envelope?.data === "object" && envelope.data !== null && "specversion" in envelope;
  return Object.freeze({
    type,
    cursor,
    id: isEvent ? envelope.id : null,
    subject: isEvent ? envelope.subject : null,
    time: isEvent ? envelope.time : null,
    data: isEvent ? envelope.data : envelope,
    envelope,
  });
}

/** Read `<epoch>.<sequence>`; what is none has a place of its own, which nothing is before. */
function placeOf(cursor) {
  const dot = cursor.indexOf(".");
  return { epoch: dot < 0 ? cursor : cursor.slice(0, dot), sequence: Number(cursor.slice(dot + 1)) };
}

/** Whether a place is at or before another of the same epoch. */
function isBefore(place, other) {
  return other !== null && place.epoch === other.epoch && place.sequence <= other.sequence;
}

function takes(types, type) {
  return types.length === 0 || types.includes(type) || types.includes(`${type.split(".")[0]}.*`);
}

function idsOf(value) {
  if (Array.isArray(value)) return value.map(idsOf);
  return value?.id ?? value;
}

/** Import one of Node's modules, past bundlers that pack for browsers. */
function ofNode(name) {
  return import(/* webpackIgnore: true */ /* @vite-ignore */ `node:${name}`);
}

function jobPath(jobId) {
  return `/v1/jobs/${encodeURIComponent(jobId)}`;
}

function timeText(time) {
  return time instanceof Date ? time.toISOString() : time;
}

function defined(fields) {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined && value !== null));
}

function randomKey() {
  return hex(globalThis.crypto ? globalThis.crypto.getRandomValues(new Uint8Array(16)) : randomBytes());
}

/** Node 18 has no global crypto; the key has to be unlike others, not secret. */
function randomBytes() {
  return Uint8Array.from({ length: 16 }, () => Math.floor(Math.random() * 256));
}

function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const MEDIA_TYPES = {
  ...{ mp4: "video/mp4", m4v: "video/x-m4v", mov: "video/quicktime", webm: "video/webm", mkv: "video/x-matroska" },
  ...{ avi: "video/x-msvideo", mpg: "video/mpeg", mpeg: "video/mpeg", ts: "video/mp2t", "3gp": "video/3gpp" },
  ...{ jpg: "image/jpeg", jpeg: "image/jpeg", png: "image/png", webp: "image/webp", tif: "image/tiff" },
  ...{ tiff: "image/tiff", bmp: "image/bmp", gif: "image/gif", heic: "image/heic", avif: "image/avif" },
};

function mediaTypeOf(name) {
  return MEDIA_TYPES[name.split(".").pop().toLowerCase()] ?? "application/octet-stream";
}

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}

/** A signal and a time in one (AbortSignal.any is younger than Node 18). */
function limitedSignal(signal, timeoutMs) {
  const controller = new AbortController();
  const stop = () => controller.abort(signal.reason);
  if (signal?.aborted) stop();
  signal?.addEventListener("abort", stop);
  const timer = setTimeout(() => controller.abort(new Error("no answer in time")), timeoutMs);
  const unlink = () => {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
  };
  return { signal: controller.signal, unlink };
}
