/**
 * Saccade client for browsers and Node 18 or newer: uploads, jobs, artifacts and events.
 *
 * One module, no dependencies. Calls reject with a SaccadeError; an event stream continues over any disconnect, each
 * event once and in order.
 */

/** @type {boolean} A browser allows six connections to an origin (HTTP/1.1); Node has no such limit. */
const IN_NODE = typeof process !== "undefined" && Boolean(process.versions?.node);

const MIB = 1024 * 1024;
/** Larger files are uploaded in parts, so that a broken connection costs one part, not the file. */
const MULTIPART_FROM_BYTES = 64 * MIB;
/** Limit of a single PUT (contracts/limits.py, SINGLE_PUT_BYTES). */
const SINGLE_PUT_BYTES = 1024 * MIB;
/** A browser can hash a file only in memory as a whole. */
const HASHED_WHOLE_BYTES = 64 * MIB;
const PARTS_SIGNED_AT_ONCE = 50;
const PARTS_SENT_AT_ONCE = 3;

const MAX_ATTEMPTS = 4;
const UNAVAILABLE = new Set([408, 429, 500, 502, 503, 504]);
/** A crashed service is back within this time: its supervisor waits up to 5 s, then the service starts. */
const COMES_BACK_MS = 12_000;
const REQUEST_MS = 30_000;
/** An upload of which nothing was sent for so long is stuck; the bucket may take as long to store what it has. */
const STUCK_MS = 60_000;
const LONGEST_PAUSE_MS = 5_000;
/** Three heartbeats (contracts/limits.py, SSE_HEARTBEAT_S): a stream that is silent for longer is broken. */
const SILENCE_MS = 45_000;

/** Longest reconnection time that a stream can ask for. */
const MAX_RETRY_MS = 60_000;
/** Most characters that an unfinished event may have. The server's events are at most 1 MiB (contracts/limits.py). */
const MAX_EVENT_CHARS = 16 * MIB;

/** Number of the newest events of a stream whose repetitions are dropped. */
const REMEMBERED_IDS = 4096;

const EVENTS = "/v1/events";
const RULES = "/v1/rules";
const JOB_PLANS = "/v1/job-plans";
const ENDS = new Set(["job.succeeded", "job.failed", "job.cancelled", "session.stopped", "session.failed"]);
const REOPENS = new Set(["job.retrying"]);

/** Error of a call: a stable code, a message and a hint. */
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
    /** HTTP status; 0 without an answer. */
    this.status = status;
    this.retryable = retryable;
    this.requestId = requestId;
    /** The problem+json answer, if there was one. */
    this.problem = problem;
  }
}

/** Client of one server; every method rejects with a SaccadeError. */
export class Client {
  #http;
  #tickets;
  #multiplexer;
  #silenceMs;
  #feeds = new Set();

  /**
   * @param {object} options
   * @param {string} options.url address of the server, `https://saccade.example`
   * @param {string} [options.apiKey] `<id>.<secret>`; not needed by an embedded server, and never put into a public page
   * @param {(resource: string) => string | Promise<string>} [options.ticket] for a page without a key: returns a ticket
   *   for an event stream from your own server; called again when the ticket has expired
   * @param {boolean} [options.multiplex] all jobs' events over one connection; by default in browsers only
   * @param {number} [options.silenceMs] a stream that is silent for longer is reconnected
   * @param {typeof fetch} [options.fetch]
   */
  constructor({ url, apiKey, ticket, multiplex = !IN_NODE, silenceMs = SILENCE_MS, fetch = globalThis.fetch }) {
    this.#http = new Http(url, apiKey, fetch);
    this.#tickets = ticket && new Tickets(ticket);
    this.#silenceMs = silenceMs;
    // Catching up on one of many jobs reads the job, which a ticket does not permit.
    this.#multiplexer =
      multiplex && !ticket ? new Multiplexer((path, options) => this.#stream(path, options), this.#http) : null;
  }

  /** The server's address. */
  get url() {
    return this.#http.url;
  }

  /** Close all event streams. */
  close() {
    for (const feed of this.#feeds) feed.close();
    this.#multiplexer?.close();
  }

  /** Call any route of the API, and return the JSON object of the answer. */
  async call(method, path, { query, body, idempotencyKey, timeoutMs, signal } = {}) {
    return this.#http.call(method, path, { query, body, idempotencyKey, timeoutMs, signal });
  }

  /** Return the server's health report; a degraded server answers 200 too. A proxy's answer in its place is an error. */
  async health() {
    const report = await this.#http.call("GET", "/health");
    const { status, service, checks } = report ?? {};
    if (["ok", "degraded"].includes(status) && service && checks && typeof checks === "object") return report;
    const hint = "Check that the address is that of a Saccade server.";
    throw new SaccadeError("unexpected_answer", "The answer is no health report.", { hint });
  }

  /** List the server's workloads with their schemas. */
  async workloads() {
    return (await this.#http.call("GET", "/v1/workloads")).data;
  }

  /** Read the budget: its limits, and what is spent, reserved and left in the present day and month (UTC). */
  async budget() {
    return this.#http.call("GET", "/v1/budgets");
  }

  /**
   * Replace the whole budget.
   *
   * @param {object} limits
   * @param {number} [limits.daily_usd] most that workers may cost in a day (UTC)
   * @param {number} [limits.monthly_usd]
   * @param {number} [limits.warn_share]
   */
  async setBudget(limits) {
    return this.#http.call("PUT", "/v1/budgets", { body: limits });
  }

  /** Remove the budget; the operator's limits still hold. */
  async removeBudget() {
    await this.#http.call("DELETE", "/v1/budgets");
  }

  /**
   * Upload a file: with one PUT, or in parts if the file is large or `multipart` is set.
   *
   * @param {Blob | File | ArrayBuffer | ArrayBufferView | string | URL} file in Node also a path, whose file is streamed
   * @param {object} [options]
   * @param {string} [options.filename]
   * @param {string} [options.contentType]
   * @param {(doneBytes: number, totalBytes: number) => void} [options.onProgress]
   * @param {boolean} [options.multipart]
   * @param {(upload: object) => void} [options.onCreated] called with the new upload; its id can resume it
   * @param {string} [options.resume] id of an interrupted upload in parts of the same file
   * @param {Record<string, string>} [options.metadata] rules match on it
   * @param {string} [options.fromJob] id of the job whose result the file is
   * @param {AbortSignal} [options.signal]
   */
  async upload(file, options = {}) {
    const source = await FileSource.of(file, options);
    try {
      return await new FileUpload(this.#http, source, options).run();
    } finally {
      await source.close();
    }
  }

  /**
   * Submit a job; it is stored when this resolves, and only once however often the request was sent.
   *
   * @param {object} wanted
   * @param {string} wanted.workload
   * @param {Record<string, any>} [wanted.inputs] by input name: an upload, its id, or a list of them
   * @param {object} [wanted.params]
   * @param {number} [wanted.priority]
   * @param {number} [wanted.maxCostUsd]
   * @param {string} [wanted.gpu]
   * @param {Record<string, string>} [wanted.metadata]
   * @param {string} [wanted.webhookUrl]
   * @param {string} [wanted.retryOf] id of an earlier job that this one repeats with other parameters
   * @param {string} [wanted.idempotencyKey] the same key and body return the same job
   * @param {AbortSignal} [wanted.signal]
   */
  async submit({ idempotencyKey, signal, ...wanted }) {
    const fields = await this.#http.call("POST", "/v1/jobs", { body: jobBody(wanted), idempotencyKey, signal });
    return new Job(this, fields, { cursor: fields.cursor, at: Date.now() });
  }

  /**
   * Validate a job as `submit` does, with the same errors, and estimate its cost; nothing is stored.
   *
   * @param {object} wanted as `submit` takes it; with `partial`, inputs may be left out, and neither budget nor quotas
   *   are a reason to refuse
   */
  async check({ partial = false, signal, ...wanted }) {
    const query = { dry_run: true, partial: partial || undefined };
    return this.#http.call("POST", "/v1/jobs", { body: jobBody(wanted), query, signal });
  }

  /**
   * Read a job; with `waitS` the server answers when it has ended or after so many seconds, with `at` (a cursor, a time
   * or seconds ago) the job as it was then.
   */
  async job(jobId, { waitS = 0, at, signal } = {}) {
    const headers = waitS ? { Prefer: `wait=${waitS}` } : {};
    const timeoutMs = REQUEST_MS + waitS * 1000;
    const query = { at: timeText(at) };
    return new Job(this, await this.#http.call("GET", jobPath(jobId), { query, headers, timeoutMs, signal }));
  }

  /** Return what changed of a job between two points of the history, with the events and the cost in between. */
  async jobChanges(jobId, since, { until, signal } = {}) {
    const query = { since: timeText(since), until: timeText(until) };
    return this.#http.call("GET", `${jobPath(jobId)}/changes`, { query, signal });
  }

  /**
   * Iterate over jobs, newest first, page by page. `onIncomplete` is told what the list lacks while the server starts;
   * without it such a list is refused.
   */
  async *jobs({ at, pageSize, signal, onIncomplete, ...chosen } = {}) {
    const query = { ...jobQuery(chosen), at: timeText(at), limit: pageSize, incomplete: onIncomplete ? true : undefined };
    do {
      const page = await this.#http.call("GET", "/v1/jobs", { query, signal });
      if (page.incomplete) onIncomplete?.(page.incomplete);
      for (const fields of page.data) yield new Job(this, fields);
      query.cursor = page.next_cursor;
    } while (query.cursor);
  }

  /**
   * Read one page of the list of jobs as the API returns it: `data`, `next_cursor`, of a search `searched_to`, and
   * `incomplete`, what it lacks while the server starts, if `incomplete: true` allows that.
   *
   * @param {object} [search] as `jobs` takes it, and the `cursor` of the previous page
   */
  async jobPage({ at, pageSize, cursor, incomplete, signal, ...chosen } = {}) {
    const query = { ...jobQuery(chosen), at: timeText(at), limit: pageSize, cursor, incomplete };
    return this.#http.call("GET", "/v1/jobs", { query, signal });
  }

  /** Count jobs by state and workload, with the filters of `jobs`. */
  async countJobs({ signal, ...chosen } = {}) {
    return this.#http.call("GET", "/v1/jobs/counts", { query: jobQuery(chosen), signal });
  }

  /**
   * Return what an act on all jobs that match would be on: `count`, `by_state`, `by_workload` and a `sample`.
   *
   * @param {"cancel" | "retry"} action
   * @param {object} [search] filters as `jobs` takes them
   */
  async checkJobPlan(action, { signal, ...chosen } = {}) {
    const body = { action, filter: planFilter(chosen), dry_run: true };
    return this.#http.call("POST", JOB_PLANS, { body, signal });
  }

  /**
   * Cancel or retry all jobs that match, if they are as many as expected; read the plan again to follow it.
   *
   * @param {"cancel" | "retry"} action
   * @param {number} expectedCount the count that `checkJobPlan` returned
   * @param {object} [search] filters as `jobs` takes them, and `why`
   */
  async createJobPlan(action, expectedCount, { why, idempotencyKey, signal, ...chosen } = {}) {
    const body = defined({ action, filter: planFilter(chosen), expected_count: expectedCount, why });
    return this.#http.call("POST", JOB_PLANS, { body, idempotencyKey, signal });
  }

  /** Read how far an act on many jobs is; `jobs({ plan: id })` are its jobs. */
  async jobPlan(planId, { signal } = {}) {
    return this.#http.call("GET", `${JOB_PLANS}/${encodeURIComponent(planId)}`, { signal });
  }

  /** List the newest acts on many jobs. */
  async jobPlans({ signal } = {}) {
    return (await this.#http.call("GET", JOB_PLANS, { signal })).data;
  }

  /** Request the cancellation of a job. */
  async cancel(jobId) {
    return new Job(this, await this.#http.call("POST", `${jobPath(jobId)}/cancel`));
  }

  /** Start another attempt of a failed or cancelled job. */
  async retry(jobId) {
    return new Job(this, await this.#http.call("POST", `${jobPath(jobId)}/retry`));
  }

  /**
   * Create a rule: each upload that is completed from now on and matches starts a job, or joins a group that does.
   *
   * @param {object} rule as POST /v1/rules takes it: `name`, `workload`, `match`, `group`, `params`, …
   * @param {object} [options]
   * @param {string} [options.idempotencyKey] the same key and rule are one rule
   * @param {AbortSignal} [options.signal]
   */
  async createRule(rule, { idempotencyKey, signal } = {}) {
    return this.#http.call("POST", RULES, { body: rule, idempotencyKey, signal });
  }

  /** Show what a rule would have done with past uploads (of those since a time, the newest); nothing is stored. */
  async tryRule(rule, { since, limit, signal } = {}) {
    const query = { dry_run: true, since: timeText(since), limit };
    return this.#http.call("POST", RULES, { body: rule, query, signal });
  }

  /** Read a rule. */
  async rule(ruleId, { signal } = {}) {
    return this.#http.call("GET", rulePath(ruleId), { signal });
  }

  /** Iterate over rules, newest first, page by page. */
  async *rules({ pageSize, signal } = {}) {
    const query = { limit: pageSize };
    do {
      const page = await this.#http.call("GET", RULES, { query, signal });
      yield* page.data;
      query.cursor = page.next_cursor;
    } while (query.cursor);
  }

  /** Replace fields of a rule: `{ enabled: false }` switches it off. */
  async changeRule(ruleId, changes, { signal } = {}) {
    return this.#http.call("PATCH", rulePath(ruleId), { body: changes, signal });
  }

  /** Delete a rule; its jobs stay. */
  async deleteRule(ruleId, { signal } = {}) {
    await this.#http.call("DELETE", rulePath(ruleId), { signal });
  }

  /**
   * Ask about the live video of a session; it is stored once, however often the request was sent.
   *
   * With `waitS` (60 at most) wait for the answer, which otherwise comes as the `session.text` with its `prompt_id`.
   */
  async prompt(sessionId, text, { answerSchema, waitS = 0, idempotencyKey, signal } = {}) {
    const body = defined({ text, answer_schema: answerSchema });
    const headers = waitS ? { Prefer: `wait=${waitS}` } : {};
    const timeoutMs = REQUEST_MS + waitS * 1000;
    const options = { body, headers, timeoutMs, idempotencyKey, signal };
    return this.#http.call("POST", `${sessionPath(sessionId)}/prompt`, options);
  }

  /** Request the end of the text that a session generates; it goes on with its next chunk. */
  async cancelText(sessionId) {
    return this.#http.call("POST", `${sessionPath(sessionId)}/cancel`);
  }

  /** Iterate over the texts, alerts and questions of a session so far, oldest first, page by page. */
  async *texts(sessionId, { pageSize, signal } = {}) {
    const query = { limit: pageSize };
    do {
      const page = await this.#http.call("GET", `${sessionPath(sessionId)}/texts`, { query, signal });
      yield* page.data;
      query.cursor = page.next_cursor;
    } while (query.cursor);
  }

  /**
   * List a job's artifacts: its manifest when `complete`, else the files written so far. With `presign`, each file but
   * HTML pages has an address in the bucket, which needs no key for an hour.
   */
  async artifacts(jobId, { presign, signal } = {}) {
    return this.#http.call("GET", `${jobPath(jobId)}/artifacts`, { query: { presign: presign || undefined }, signal });
  }

  /** Fetch an artifact as a `Response` to read or stream; the API key is not sent to the bucket. */
  async artifact(jobId, name, { signal } = {}) {
    const path = `${jobPath(jobId)}/artifacts/${name.split("/").map(encodeURIComponent).join("/")}`;
    return this.#http.file(path, signal);
  }

  /** Return an address that opens an artifact without an API key, for an hour or `expiresInS`, and when it expires. */
  async artifactLink(jobId, name, { expiresInS, signal } = {}) {
    const path = `${jobPath(jobId)}/artifacts/${name.split("/").map(encodeURIComponent).join("/")}/link`;
    const made = await this.#http.call("POST", path, { body: defined({ expires_in_s: expiresInS }), signal });
    return { ...made, url: `${this.url}${made.url}` };
  }

  /**
   * Create a ticket for an EventSource or for a page without a key: pass `ticket` to the page, or open `url`.
   *
   * @param {string} [resource] path of one event stream
   */
  async ticket(resource = EVENTS) {
    return this.#http.call("POST", "/v1/tickets", { body: { resource } });
  }

  /**
   * Follow events, each once, over any disconnect: `for await (const event of client.events(…))`.
   *
   * A job's or session's stream holds its whole history (or all after `cursor`) and ends with it. The tenant's stream
   * starts now, at `since` or after `cursor`, and does not end. A `gap` event reports events that were lost to
   * retention; in a job's stream a `snapshot` of its state follows.
   *
   * @param {object} [options]
   * @param {string} [options.jobId]
   * @param {string} [options.sessionId]
   * @param {string[]} [options.types] `job.succeeded`, `job.*`
   * @param {string | string[]} [options.subject] one or more ids: only their events; the stream does not end
   * @param {string | number | Date} [options.since] a cursor, a time, or seconds before now
   * @param {string} [options.cursor] cursor of the last known event
   * @param {boolean} [options.follow] false: end behind the events until now
   * @param {AbortSignal} [options.signal]
   */
  events({ jobId, sessionId, types = [], subject, since, cursor, follow = true, signal, submitted } = {}) {
    const open = (inner) => {
      if (jobId && this.#multiplexer && follow) return this.#multiplexer.job(jobId, { cursor, submitted, signal: inner });
      if (jobId || sessionId) {
        // Types are filtered here, not by the server: the event that ends the stream must be seen.
        const path = jobId ? `${jobPath(jobId)}/events` : `${sessionPath(sessionId)}/events`;
        return this.#stream(path, { cursor, follow, signal: inner });
      }
      const now = follow && !subject && (since ?? null) === null && !cursor;
      if (this.#multiplexer && now) return this.#multiplexer.all({ signal: inner });
      const query = { types: types.join(",") || undefined, subject };
      return this.#stream(EVENTS, { query, cursor, since, follow, signal: inner });
    };
    const matches = (event) => STREAM_ITEMS.has(event.type) || matchesTypes(types, event.type);
    return new EventFeed(open, matches, signal, this.#feeds);
  }

  #stream(path, options) {
    return new ResumedStream(this.#http, path, { silenceMs: this.#silenceMs, tickets: this.#tickets, ...options });
  }
}

/** A job as it was when it was read, with the operations on it. */
export class Job {
  #client;
  #submitted;

  constructor(client, fields, submitted) {
    this.#client = client;
    this.#submitted = submitted;
    Object.assign(this, fields);
  }

  /** Whether the job is in a final state. */
  get ended() {
    return ["succeeded", "failed", "cancelled"].includes(this.state);
  }

  /** Follow the job from its first event (or after `cursor`) to its last. */
  events({ types, cursor, signal } = {}) {
    return this.#client.events({ jobId: this.id, types, cursor, signal, submitted: this.#submitted });
  }

  /** Read the job again; `waitS` waits up to so many seconds for its end. */
  async refresh(options) {
    return this.#client.job(this.id, options);
  }

  /** Request the job's cancellation. */
  async cancel() {
    return this.#client.cancel(this.id);
  }

  /** Start another attempt of the failed or cancelled job. */
  async retry() {
    return this.#client.retry(this.id);
  }

  /** List the job's artifacts. */
  async artifacts(options) {
    return this.#client.artifacts(this.id, options);
  }

  /** Fetch an artifact as a `Response`. */
  async artifact(name, options) {
    return this.#client.artifact(this.id, name, options);
  }
}

/** Events for one `for await`; pass `cursor` to a later call to resume after the last event. */
export class EventFeed {
  #open;
  #matches;
  #signal;
  #feeds;
  #controller = new AbortController();
  #begun = false;
  #cursor = null;

  constructor(open, shown, signal, feeds) {
    this.#open = open;
    this.#matches = shown;
    this.#signal = signal;
    this.#feeds = feeds;
  }

  /** Cursor of the newest durable event that was returned. */
  get cursor() {
    return this.#cursor;
  }

  /** End the feed; callable from anywhere. */
  close() {
    this.#controller.abort();
  }

  async *[Symbol.asyncIterator]() {
    if (this.#begun) throw new TypeError("These events are already being read: call events() again.");
    this.#begun = true;
    this.#signal?.throwIfAborted();
    const stop = () => this.#controller.abort();
    this.#signal?.addEventListener("abort", stop);
    this.#feeds.add(this);
    try {
      if (this.#controller.signal.aborted) return;
      for await (const event of this.#open(this.#controller.signal)) {
        if (event.cursor) this.#cursor = event.cursor;
        if (this.#matches(event)) yield event;
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

const STREAM_ITEMS = new Set(["gap", "snapshot"]);

/**
 * Incremental parser of an event stream (HTML Living Standard, 9.2.5 and 9.2.6); an unfinished last block is dropped.
 *
 * The work is proportional to the bytes, however they are cut: a line's beginning is stored, not searched again.
 */
export class BlockParser {
  // A byte order mark is skipped below, so that a stream given as text is treated alike.
  #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  #lastEventId;
  #retryMs = null;
  /** Beginning of a line whose end has not been received. */
  #line = "";
  #firstLine = true;
  /** The last character was a carriage return; a line feed after it belongs to the same line end. */
  #afterReturn = false;
  #event = "";
  #id = null;
  #data = [];
  #dataChars = 0;
  #live = false;
  #emptyComments = 0;

  /** @param {string} [lastEventId] where the stream resumes */
  constructor(lastEventId = "") {
    this.#lastEventId = lastEventId;
  }

  /** Where to resume; a block sets it at its end, also if it has no data. */
  get lastEventId() {
    return this.#lastEventId;
  }

  /** Reconnection time, at most one minute; a line sets it immediately. null: the stream has set none. */
  get retryMs() {
    return this.#retryMs;
  }

  /** Whether the history has ended, as a comment of the server says. */
  get live() {
    return this.#live;
  }

  /** Comments without text: one begins a stream, others come only when it is live. */
  get emptyComments() {
    return this.#emptyComments;
  }

  /** Whether a line or an event has begun and is not complete. */
  get unfinished() {
    return this.#line !== "" || this.#event !== "" || this.#id !== null || this.#data.length > 0;
  }

  /** Parse some bytes (or text) and return the events that they complete. */
  push(chunk) {
    let text = typeof chunk === "string" ? chunk : this.#decoder.decode(chunk, { stream: true });
    if (text === "") return [];
    if (this.#afterReturn && text.startsWith("\n")) text = text.slice(1);
    this.#afterReturn = text.endsWith("\r");
    const lines = text.split(/\r\n|\n|\r/);
    lines[0] = this.#line + lines[0];
    this.#line = lines.pop();
    const blocks = [];
    for (const line of lines) {
      const block = this.#take(line);
      if (block) blocks.push(block);
    }
    this.#checkSize();
    return blocks;
  }

  /** Apply a line; return the event that it completes. */
  #take(line) {
    if (this.#firstLine) {
      this.#firstLine = false;
      if (line.startsWith("\uFEFF")) line = line.slice(1);
    }
    if (line === "") return this.#endBlock();
    const colon = line.indexOf(":"); // of a comment the name is empty
    const name = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    if (name === "") {
      this.#live ||= value === "live";
      if (value === "") this.#emptyComments += 1;
    } else if (name === "data") {
      this.#data.push(value);
      this.#dataChars += value.length + 1;
      this.#checkSize();
    } else if (name === "event") this.#event = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "retry" && /^[0-9]+$/.test(value)) this.#retryMs = Math.min(Number(value), MAX_RETRY_MS);
    return null;
  }

  #endBlock() {
    if (this.#id !== null) this.#lastEventId = this.#id;
    const { length } = this.#data;
    const [id, data, lastEventId, live] = [this.#id, this.#data, this.#lastEventId, this.#live];
    const fields = { event: this.#event || "message", id, data, lastEventId, live };
    this.#event = "";
    this.#id = null;
    this.#data = [];
    this.#dataChars = 0;
    return length ? fields : null;
  }

  #checkSize() {
    if (this.#line.length + this.#dataChars <= MAX_EVENT_CHARS) return;
    throw new SaccadeError("event_too_large", `The stream has an event of more than ${MAX_EVENT_CHARS / MIB} MiB.`, {
      hint: "Check that the address is a Saccade server's, and that no proxy in front of it changes the stream.",
    });
  }
}

/** The connection broke, or a proxy answered instead of the server: retried. */
class BrokenConnection extends Error {
  constructor(cause, problem = null) {
    super(String(cause?.message ?? cause), { cause });
    this.problem = problem;
  }
}

/** Event stream over any number of connections: resumes by cursor and drops duplicates. */
class ResumedStream {
  #http;
  #path;
  #query;
  #since;
  #signal;
  #silenceMs;
  #tickets;
  #patient;
  #follow;
  #began = Date.now();
  #position = null;
  #known = new KnownIds();
  #resumeCursor;
  #lastType = "";
  #ended = false;
  #answered = false;
  #clean = false;
  #retryMs = 0;

  constructor(http, path, { query = {}, cursor, since, signal, silenceMs, tickets, patient = false, follow = true }) {
    this.#http = http;
    this.#path = path;
    this.#query = query;
    this.#resumeCursor = cursor ?? null;
    this.#position = cursor ? positionOf(cursor) : null;
    this.#since = since;
    this.#signal = signal;
    this.#silenceMs = silenceMs;
    this.#tickets = tickets;
    this.#patient = patient;
    this.#follow = follow;
  }

  /** Yield every event once and in order, over as many connections as it takes. */
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
        failures += 1; // of connections without an event, for the backoff
      } catch (error) {
        if (this.#signal?.aborted || !(error instanceof BrokenConnection)) throw error;
        // The final event has come; it needs no confirmation.
        if (ending) return;
        failures += 1;
        if (this.#shouldGiveUp(failures)) throw error.problem ?? unreachable(this.#http.url, error);
      }
      if (this.#ended || (this.#clean && ending)) return;
      if (this.#clean && this.#path !== EVENTS && ENDS.has(this.#lastType)) {
        ending = true; // one more request confirms that nothing follows
        continue;
      }
      // After a regular close the server's reconnection time applies at least, after an error the backoff.
      const backoff = Math.min(LONGEST_PAUSE_MS, 100 * 2 ** failures) * (0.5 + Math.random() / 2);
      await pause(this.#clean ? Math.max(this.#retryMs, backoff) : backoff, this.#signal);
    }
  }

  /** Whether the server has answered this stream. */
  get answered() {
    return this.#answered;
  }

  /** Whether to stop retrying; never for a stream that was open before and is followed. */
  #shouldGiveUp(failures) {
    if ((this.#answered && this.#follow) || this.#patient || failures < MAX_ATTEMPTS) return false;
    // A server that never answered is not running; one that answered comes back.
    return !this.#http.reached || Date.now() - this.#began > COMES_BACK_MS;
  }

  async *#connection() {
    const controller = new AbortController();
    const stop = () => controller.abort(this.#signal.reason);
    this.#signal?.throwIfAborted();
    this.#signal?.addEventListener("abort", stop);
    let timer;
    const timed = async (promise) => {
      timer = setTimeout(() => controller.abort(new BrokenConnection("the stream is silent")), this.#silenceMs);
      try {
        return await promise;
      } catch (error) {
        if (this.#signal?.aborted || error instanceof SaccadeError) throw error;
        throw error instanceof BrokenConnection ? error : new BrokenConnection(error);
      } finally {
        clearTimeout(timer);
      }
    };
    try {
      const response = await timed(this.#request(controller.signal));
      if (response.status === 204) {
        this.#ended = true;
        return;
      }
      this.#answered = true;
      const reader = response.body.getReader();
      const parser = new BlockParser(this.#resumeCursor ?? "");
      for (;;) {
        const { done, value } = await timed(reader.read());
        if (done) break;
        const blocks = parser.push(value);
        if (parser.retryMs !== null) this.#retryMs = parser.retryMs;
        for (const block of blocks) {
          const event = this.#follow || !block.live ? this.#accept(block) : null;
          if (event) yield event;
        }
        this.#moveCursor(parser.lastEventId);
        if (!this.#follow && this.#isOver(parser)) return;
      }
      this.#clean = !parser.unfinished;
    } finally {
      this.#signal?.removeEventListener("abort", stop);
      controller.abort();
    }
  }

  /** Whether all of the history has come. Silence does not tell: a long one can have no event that is wanted. */
  #isOver(parser) {
    if (!parser.live && parser.emptyComments > 1) {
      const hint = "Update the server, or follow the events.";
      throw new SaccadeError("unexpected_answer", "The server does not say where the past events end.", { hint });
    }
    this.#ended = parser.live;
    return this.#ended;
  }

  async #request(signal) {
    const query = { ...this.#query, last_event_id: this.#resumeCursor ?? undefined };
    if (!this.#resumeCursor) query.since = this.#sinceParameter();
    for (let asked = 0; ; asked += 1) {
      if (this.#tickets) query.ticket = await this.#tickets.of(this.#path);
      // The cursor is a query parameter: some proxies drop unknown headers, and browsers send a preflight for them.
      const response = await this.#http.open(this.#path, query, signal);
      if (response.status === 204) return response;
      const type = response.headers.get("content-type") ?? "text/event-stream";
      if (response.ok && type.startsWith("text/event-stream")) return response;
      const problem = await problemOf(response);
      if (response.status === 401 && this.#tickets && asked === 0) this.#tickets.forget(this.#path);
      else if (response.ok || UNAVAILABLE.has(response.status)) throw new BrokenConnection(problem, problem);
      else throw problem;
    }
  }

  /** Return `since` of a reconnection without a cursor yet, so that it leaves no gap. */
  #sinceParameter() {
    const since = this.#since;
    const elapsed = (Date.now() - this.#began) / 1000;
    if (since instanceof Date) return since.toISOString();
    if (since === undefined || since === null) {
      return this.#answered && this.#path === EVENTS ? String(Math.ceil(elapsed) + 1) : undefined;
    }
    const seconds = /^(\d+)s?$/.exec(String(since));
    return seconds ? String(Number(seconds[1]) + Math.ceil(elapsed)) : String(since);
  }

  /** Return the event of a block; null for a duplicate. */
  #accept(block) {
    let envelope;
    try {
      envelope = JSON.parse(block.data.join("\n"));
    } catch (error) {
      throw new BrokenConnection(error);
    }
    if (block.event === "gap") this.#position = null;
    if (block.id) {
      const position = positionOf(block.id);
      if (isBefore(position, this.#position)) return null;
      this.#position = position;
      this.#resumeCursor = block.id;
      this.#lastType = block.event;
    }
    const event = eventOf(block.event, block.id || null, envelope);
    return event.cursor && this.#known.repeats(event.id) ? null : event;
  }

  /** Resume after the stream's last event id, which blocks without data set too; an empty one resets it. */
  #moveCursor(lastEventId) {
    if (lastEventId === "") {
      this.#resumeCursor = null;
    } else if (lastEventId !== this.#resumeCursor && !isBefore(positionOf(lastEventId), this.#position)) {
      this.#resumeCursor = lastEventId;
      this.#position = positionOf(lastEventId);
    }
  }
}

/** Ids of the newest events of a stream: one that was restored from a backup repeats events under other cursors. */
class KnownIds {
  #ids = new Set();

  /** Return whether an event came before, and remember it. */
  repeats(id) {
    if (!id) return false;
    if (this.#ids.has(id)) return true;
    this.#ids.add(id);
    if (this.#ids.size > REMEMBERED_IDS) this.#ids.delete(this.#ids.values().next().value);
    return false;
  }
}

/**
 * Multiplexer of all jobs of a page over one stream of the tenant: a browser allows six connections to an origin.
 *
 * A job's earlier events come from the buffer of recent events, or from a short stream of the job's own, two at a time.
 * Meanwhile live events of the job are held. There is no gap, because the job is read (`GET /v1/jobs/{id}`, which
 * reflects all earlier events) after its route exists.
 */
class Multiplexer {
  #open;
  #http;
  #routes = new Map();
  #listeners = new Set();
  #recent = [];
  /** All events after this position are in `recent`; null if unknown. */
  #floor = null;
  #starting = null;
  #shared = null;
  #controller = null;
  #idle;
  #catchUps = new Semaphore(2);

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

  /** Follow all new events of the tenant. */
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
      this.#closeIfIdle();
    }
  }

  close() {
    clearTimeout(this.#idle);
    this.#stop(null);
  }

  /** Start the shared stream if needed: from a known cursor, from the job's, or (for the tenant) from now. */
  #start(cursor, jobId) {
    this.#starting ??= (async () => {
      const from = cursor ?? (jobId && (await this.#http.call("GET", jobPath(jobId))).cursor);
      this.#floor = from ? positionOf(from) : null;
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
      const position = positionOf(event.cursor);
      this.#floor ??= { epoch: position.epoch, sequence: position.sequence - 1 };
      this.#recent.push(event);
      if (this.#recent.length > RECENT_EVENTS) this.#floor = positionOf(this.#recent.shift().cursor);
    }
    for (const route of this.#routes.get(event.subject) ?? []) route.offer(event);
    for (const route of this.#listeners) route.offer(event, false);
  }

  /** Read the events that a route lacks from the job's own stream, up to where the shared stream continues. */
  #catchUp(jobId, route) {
    this.#catchUps.run(async () => {
      const { signal } = route;
      if (signal.aborted) return;
      try {
        const job = new Job(null, await this.#http.call("GET", jobPath(jobId), { signal }));
        const upTo = positionOf(job.cursor);
        let whole = !job.ended && isBefore(upTo, route.position);
        if (!whole) {
          const options = { cursor: route.cursor, signal, patient: this.#shared?.answered };
          for await (const event of this.#open(`${jobPath(jobId)}/events`, options)) {
            route.take(event);
            // An ended job's stream is read to its end: a retry may follow.
            whole = !job.ended && Boolean(event.cursor) && isBefore(upTo, route.position);
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
    const position = positionOf(cursor);
    return this.#floor !== null && position.epoch === this.#floor.epoch && this.#floor.sequence <= position.sequence;
  }

  #recentOf(jobId, cursor) {
    const after = positionOf(cursor);
    return this.#recent.filter((event) => event.subject === jobId && !isBefore(positionOf(event.cursor), after));
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
    this.#closeIfIdle();
  }

  /** Close the shared stream after it has been unused for a while. */
  #closeIfIdle() {
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

/** Number of the tenant's newest events that are buffered, for jobs that are followed soon after their submission. */
const RECENT_EVENTS = 1000;
const RECENT_MS = 60_000;
const IDLE_MS = 2_000;

/** Queue of one reader of one job: all state events, and only the newest progress event. */
class Route {
  #ready = [];
  #held = [];
  #holds = 0;
  #controller = new AbortController();
  #failure = null;
  #wake = () => {};
  #stop;
  #given;
  #known = new KnownIds();
  position = null;
  cursor;
  ended = false;

  constructor(cursor, signal) {
    this.cursor = cursor;
    this.position = cursor ? positionOf(cursor) : null;
    this.hold();
    this.#given = signal;
    this.#stop = () => this.close();
    signal.addEventListener("abort", this.#stop);
  }

  /** Aborted when the route is closed. */
  get signal() {
    return this.#controller.signal;
  }

  /** Hold live events until the history has been read. */
  hold() {
    this.#holds += 1;
  }

  /** Add a live event. */
  offer(event, ends = true) {
    if (this.#holds) {
      if (!event.cursor) this.#held = this.#held.filter((held) => held.cursor);
      this.#held.push(event);
      return;
    }
    this.take(event);
    if (ends && this.ended) this.close();
  }

  /** Queue an event, unless it is a duplicate. */
  take(event) {
    if (event.type === "gap") this.position = null;
    if (event.cursor) {
      const position = positionOf(event.cursor);
      if (isBefore(position, this.position)) return;
      this.position = position;
      this.cursor = event.cursor;
      if (ENDS.has(event.type)) this.ended = true;
      else if (REOPENS.has(event.type)) this.ended = false;
      if (this.#known.repeats(event.id)) return;
    } else if (!STREAM_ITEMS.has(event.type)) {
      const stale = (queued) => !queued.cursor && queued.type === event.type && queued.subject === event.subject;
      const older = this.#ready.findIndex(stale);
      if (older >= 0) this.#ready.splice(older, 1);
    }
    this.#ready.push(event);
    this.#wake();
  }

  /** The history has been read: queue these events and the held ones; close after them if `all`. */
  release(events, all = false) {
    for (const event of events) this.take(event);
    this.#holds -= 1;
    if (this.#holds > 0) return; // another gap came meanwhile
    const held = this.#held;
    this.#held = [];
    for (const event of held) this.take(event);
    if (all || this.ended) this.close();
  }

  fail(error) {
    if (!this.signal.aborted) this.#failure = error;
    this.close();
  }

  /** Close the route; queued events are still returned. */
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

/** Limit of concurrent work. */
class Semaphore {
  #free;
  #waiting = [];

  constructor(count) {
    this.#free = count;
  }

  async run(work) {
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

/** Cache of tickets, for a page without a key. */
class Tickets {
  #ask;
  #cache = new Map();

  constructor(ask) {
    this.#ask = ask;
  }

  async of(resource) {
    if (!this.#cache.has(resource)) this.#cache.set(resource, await this.#asked(resource));
    return this.#cache.get(resource);
  }

  async #asked(resource) {
    try {
      return await this.#ask(resource);
    } catch (cause) {
      if (cause instanceof SaccadeError && !cause.retryable) throw cause;
      const hint = "Check the function `ticket` of the Client, and the server that it asks.";
      const problem = new SaccadeError("ticket_refused", `No ticket: ${cause?.message ?? cause}`, { hint, retryable: true, cause });
      throw new BrokenConnection(cause, problem);
    }
  }

  forget(resource) {
    this.#cache.delete(resource);
  }
}

/** Requests to one server, with retries: reads are repeated freely, POSTs carry an idempotency key. */
class Http {
  #key;
  #fetch;
  /** Whether the server has ever answered. */
  reached = false;

  constructor(url, apiKey, fetch) {
    const given = new URL(url);
    if (!["http:", "https:"].includes(given.protocol)) throw new TypeError(`${url} is not an http(s) address`);
    this.url = given.href.replace(/[?#].*$/, "").replace(/\/+$/, "");
    this.#key = apiKey;
    this.#fetch = (...request) => fetch(...request);
  }

  address(path, query = {}) {
    const pairs = Object.entries(defined(query)).flatMap(([name, value]) =>
      (Array.isArray(value) ? value : [value]).map((item) => [name, String(item)]),
    );
    return `${this.url}${path}${pairs.length ? `?${new URLSearchParams(pairs)}` : ""}`;
  }

  /** Open an event stream, without retries. */
  async open(path, query, signal) {
    const headers = this.#headers({ Accept: "text/event-stream" });
    const response = await this.#fetch(this.address(path, query), { headers, signal, cache: "no-store" });
    this.reached = true;
    return response;
  }

  /** Call the API and return the JSON object of the answer. */
  async call(method, path, { query, body, headers = {}, idempotencyKey, timeoutMs, signal } = {}) {
    const sent = { ...headers };
    if (body !== undefined) sent["Content-Type"] = "application/json";
    if (method === "POST") sent["Idempotency-Key"] = idempotencyKey ?? randomKey();
    const { response, text } = await this.#send(method, this.address(path, query), {
      headers: sent,
      body: body === undefined ? undefined : JSON.stringify(body),
      timeoutMs,
      signal,
    });
    if (!response.ok) throw problemFrom(response, text);
    try {
      return text ? JSON.parse(text) : {};
    } catch (cause) {
      const message = `The server answered ${response.status} with something that is not JSON.`;
      throw new SaccadeError("unexpected_answer", message, { status: response.status, cause });
    }
  }

  /** Follow the redirect to an artifact's presigned URL. */
  async file(path, signal) {
    // A browser hides redirects, but drops the API key when it follows one to another origin.
    const redirect = IN_NODE ? "manual" : "follow";
    const { response: first } = await this.#send("GET", this.address(path), { redirect, signal, streamed: true });
    const location = IN_NODE && first.status >= 300 && first.status < 400 ? first.headers.get("location") : null;
    const response = location ? await this.#fetchFile(this.#located(location), signal) : first;
    if (!response.ok) throw await problemOf(response);
    return response;
  }

  /** Return the URL of a `Location`; the path that the server is below may be unknown to it, or to this client. */
  #located(location) {
    const start = /^\/(?!\/)/.test(location) ? location.indexOf("/v1/") : -1;
    return new URL(start < 0 ? location : this.address(location.slice(start)), this.url);
  }

  async #fetchFile(address, signal) {
    try {
      return await this.#fetch(address, { signal });
    } catch (error) {
      signal?.throwIfAborted();
      throw unreachable(address.origin, error);
    }
  }

  /**
   * Send a request, with retries, and return the response with its text; a file's is `streamed` by the caller, for as
   * long as its `signal` allows. The text takes at most as long as the answer: a connection can also break or hang in it.
   */
  async #send(method, address, options) {
    const { headers = {}, body, timeoutMs = REQUEST_MS, signal, redirect, streamed = false } = options;
    const end = Date.now() + COMES_BACK_MS;
    for (let wait = 400; ; wait = Math.min(2 * wait, 2000)) {
      const last = Date.now() + wait > end;
      const { signal: linked, restart, unlink } = limitedSignal(signal, timeoutMs);
      let keepsSignal = false;
      try {
        const request = { method, headers: this.#headers(headers), body, redirect, signal: linked, cache: "no-store" };
        const response = await this.#fetch(address, request);
        this.reached = true;
        restart();
        const away = UNAVAILABLE.has(response.status) && response.status !== 500;
        keepsSignal = streamed && response.ok;
        if (!away || last) return { response, text: streamed ? "" : await response.text() };
        const after = Number(response.headers.get("retry-after"));
        if (after > 0) wait = Math.min(after * 1000, Math.max(end - Date.now(), 0));
      } catch (error) {
        signal?.throwIfAborted();
        // A server that never answered is not running; one that answered comes back.
        if (last || !this.reached) throw unreachable(this.url, error);
      } finally {
        unlink(keepsSignal);
      }
      await pause(wait, signal);
    }
  }

  #headers(more) {
    return this.#key ? { ...more, Authorization: `Bearer ${this.#key}` } : more;
  }
}

/** Upload of one file. */
class FileUpload {
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

  async #create(multipart) {
    const source = this.#source;
    const body = defined({
      filename: source.name,
      content_type: source.type,
      size_bytes: source.size,
      sha256: await source.sha256(),
      multipart: multipart || undefined,
      metadata: this.#options.metadata,
      from_job: this.#options.fromJob,
    });
    const upload = await this.#http.call("POST", "/v1/uploads", { body, signal: this.#options.signal });
    this.#options.onCreated?.(upload);
    return upload;
  }

  async #sendWhole() {
    const upload = await this.#create(false);
    const { signal } = this.#options;
    const renew = () => this.#http.call("GET", `/v1/uploads/${upload.id}`, { signal });
    await this.#put(upload, renew, 0, this.#source.size, 0);
    return upload;
  }

  async #sendParts() {
    const { resume, signal } = this.#options;
    const upload = resume ? await this.#http.call("GET", `/v1/uploads/${resume}`, { signal }) : await this.#create(true);
    const same = upload.size_bytes === this.#source.size;
    if (same && upload.state === "completed") return upload;
    if (!same || upload.state !== "created" || !upload.part_size_bytes) {
      const message = `${upload.id} is not an open upload in parts of ${this.#source.size} bytes.`;
      throw new SaccadeError("upload_not_resumable", message, { hint: "Upload the file again, without resume." });
    }
    const partBytes = upload.part_size_bytes;
    const arrived = new Set((upload.parts ?? []).map((part) => part.part_number));
    const sizeOf = (number) => Math.min(partBytes, this.#source.size - (number - 1) * partBytes);
    for (const number of arrived) this.#reportProgress(number, sizeOf(number));
    const numbers = Array.from({ length: Math.max(1, Math.ceil(this.#source.size / partBytes)) }, (_, i) => i + 1);
    const missing = numbers.filter((number) => !arrived.has(number));
    for (let first = 0; first < missing.length; first += PARTS_SIGNED_AT_ONCE) {
      const sign = async (part_numbers) =>
        (await this.#http.call("POST", `/v1/uploads/${upload.id}/parts`, { body: { part_numbers }, signal })).parts;
      const semaphore = new Semaphore(PARTS_SENT_AT_ONCE);
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
      const parts = signed.map((part) => semaphore.run(() => send(part)));
      const refused = (await Promise.allSettled(parts)).find((result) => result.status === "rejected");
      if (refused) throw refused.reason;
    }
    return upload;
  }

  /** PUT a range of the file to its presigned URL; retry when the connection breaks or the URL has expired. */
  async #put(target, renew, start, size, number) {
    const { signal } = this.#options;
    let renewed = false;
    for (let attempt = 1; ; attempt += 1) {
      signal?.throwIfAborted();
      let status = 0;
      let cause;
      try {
        const body = await this.#source.range(start, size);
        status = await put(target.url, target.headers ?? {}, body, (sent) => this.#reportProgress(number, sent), signal);
      } catch (error) {
        signal?.throwIfAborted();
        cause = error;
      }
      if (status >= 200 && status < 300) return this.#reportProgress(number, size);
      if (status === 403 && !renewed) {
        renewed = true;
        target = await renew();
        continue;
      }
      if (status && status < 500) {
        const more = { status, hint: "Start the upload again." };
        throw new SaccadeError("upload_refused", `The bucket refused the upload (${status}).`, more);
      }
      if (attempt >= MAX_ATTEMPTS) {
        const more = { status, cause, retryable: true, hint: "Nothing was lost: upload it again in a few seconds." };
        throw new SaccadeError("storage_unavailable", "The upload was interrupted.", more);
      }
      await pause(150 * 2 ** attempt, signal);
    }
  }

  #reportProgress(number, sentBytes) {
    this.#sent.set(number, sentBytes);
    let done = 0;
    for (const bytes of this.#sent.values()) done += bytes;
    this.#options.onProgress?.(done, this.#source.size);
  }
}

/** Source of an upload's bytes: memory, a Blob, or in Node a file that is read while it is sent. */
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

  /** Return a range of the file as a request body. */
  async range(start, size) {
    return this.#blob.slice(start, start + size);
  }

  /** Return the SHA-256; undefined for large files and on insecure pages, which have no WebCrypto. */
  async sha256() {
    const subtle = globalThis.crypto?.subtle;
    if (!subtle || this.size > HASHED_WHOLE_BYTES) return undefined;
    return hex(new Uint8Array(await subtle.digest("SHA-256", await this.#blob.arrayBuffer())));
  }

  async close() {}
}

class PathSource {
  static async open(path, filename, contentType) {
    if (!IN_NODE) throw new TypeError("A page cannot open a path: pass a File or a Blob.");
    const [{ open }, { basename }, { fileURLToPath }] = await Promise.all([
      importNode("fs/promises"),
      importNode("path"),
      importNode("url"),
    ]);
    const filePath = path instanceof URL ? fileURLToPath(path) : path;
    const handle = await open(filePath);
    const name = filename ?? basename(filePath);
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
      if (bytesRead === 0) throw new Error("the file has been truncated");
      yield buffer.subarray(0, bytesRead);
      at += bytesRead;
    }
  }

  async sha256() {
    const { createHash } = await importNode("crypto");
    const hash = createHash("sha256");
    for await (const chunk of this.#chunks(0, this.size)) hash.update(chunk);
    return hash.digest("hex");
  }

  async close() {
    await this.#handle.close();
  }
}

/** PUT a body and return the status; `onSent` is called with the bytes sent so far. */
async function put(url, headers, body, onSent, signal) {
  if (IN_NODE) return putFromNode(url, headers, body, onSent, signal);
  if (typeof XMLHttpRequest === "undefined") {
    return (await fetch(url, { method: "PUT", headers, body, signal })).status;
  }
  // Only XMLHttpRequest reports upload progress in a page.
  signal?.throwIfAborted(); // while the body was read
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    let timer = setTimeout(stop, STUCK_MS);
    const moved = () => {
      clearTimeout(timer);
      timer = setTimeout(stop, STUCK_MS);
    };
    request.open("PUT", url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => {
      moved();
      onSent(event.loaded);
    };
    request.onload = () => resolve(request.status);
    request.onerror = request.onabort = request.ontimeout = () => reject(new Error("the connection broke"));
    request.onloadend = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", stop);
    };
    signal?.addEventListener("abort", stop);
    request.send(body);
  });
}

/** PUT with Node's HTTP client: fetch sends a stream without Content-Length, which S3 refuses. */
async function putFromNode(url, headers, body, onSent, signal) {
  const target = new URL(url);
  const { request } = await (target.protocol === "https:" ? importNode("https") : importNode("http"));
  const chunks = body instanceof Blob ? body.stream() : body.chunks();
  const length = { "Content-Length": String(body.size) };
  return new Promise((resolve, reject) => {
    const sending = request(target, { method: "PUT", headers: { ...headers, ...length }, signal }, (response) => {
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

/** Return the error of an answer whose body has not been read. */
async function problemOf(response) {
  return problemFrom(response, await response.text().catch(() => ""));
}

/** Return the error of a problem+json answer, or of a proxy's answer in another form. */
function problemFrom(response, text) {
  let problem;
  try {
    problem = JSON.parse(text);
  } catch {
    problem = null;
  }
  if (typeof problem !== "object" || problem === null) problem = {};
  const message = problem.detail ?? problem.title ?? `The server answered ${response.status}.`;
  return new SaccadeError(problem.code ?? "unexpected_answer", message, {
    hint: problem.hint ?? "",
    status: response.status,
    retryable: problem.retryable ?? UNAVAILABLE.has(response.status),
    requestId: problem.request_id ?? response.headers.get("x-request-id") ?? "",
    problem,
  });
}

function unreachable(url, cause) {
  const more = { hint: "Check that the server runs and that the address is right.", retryable: true, cause };
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

/** Parse a cursor `<epoch>.<sequence>`; another text becomes an epoch of its own. */
function positionOf(cursor) {
  const dot = cursor.indexOf(".");
  return { epoch: dot < 0 ? cursor : cursor.slice(0, dot), sequence: Number(cursor.slice(dot + 1)) };
}

/** Whether a position is at or before another of the same epoch. */
function isBefore(position, other) {
  return other !== null && position.epoch === other.epoch && position.sequence <= other.sequence;
}

function matchesTypes(types, type) {
  return types.length === 0 || types.includes(type) || types.includes(`${type.split(".")[0]}.*`);
}

/** Return the filters of a list of jobs as the API takes them. */
function jobQuery({ state, workload, rule, pipeline, plan, text, since, until }) {
  return { state, workload, rule, pipeline, plan, q: text, since: timeText(since), until: timeText(until) };
}

/** Return the filter of an act on many jobs: `state` is a list there. */
function planFilter(chosen) {
  const query = defined(jobQuery(chosen));
  return query.state ? { ...query, state: [query.state].flat() } : query;
}

/** Return the body of a job as the API takes it. */
function jobBody({ workload, inputs = {}, params = {}, ...more }) {
  return defined({
    workload,
    inputs: Object.fromEntries(Object.entries(inputs).map(([name, value]) => [name, idsOf(value)])),
    params,
    priority: more.priority,
    max_cost_usd: more.maxCostUsd,
    gpu: more.gpu,
    metadata: more.metadata,
    webhook_url: more.webhookUrl,
    retry_of: more.retryOf,
  });
}

function idsOf(value) {
  if (Array.isArray(value)) return value.map(idsOf);
  return value?.id ?? value;
}

/** Import one of Node's modules; the comments keep it out of browser bundles. */
function importNode(name) {
  return import(/* webpackIgnore: true */ /* @vite-ignore */ `node:${name}`);
}

function jobPath(jobId) {
  return `/v1/jobs/${encodeURIComponent(jobId)}`;
}

function rulePath(ruleId) {
  return `${RULES}/${encodeURIComponent(ruleId)}`;
}

function sessionPath(sessionId) {
  return `/v1/sessions/${encodeURIComponent(sessionId)}`;
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

/** Node 18 has no global crypto; the key must be unique, not secret. */
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

/**
 * Return a signal that also aborts after a timeout (Node 18 has no AbortSignal.any). `restart` begins the timeout again;
 * `unlink` ends it, and the effect of the given signal too unless that is kept.
 */
function limitedSignal(signal, timeoutMs) {
  const controller = new AbortController();
  const stop = () => controller.abort(signal.reason);
  if (signal?.aborted) stop();
  signal?.addEventListener("abort", stop);
  const abort = () => controller.abort(new Error("no answer in time"));
  let timer = setTimeout(abort, timeoutMs);
  const restart = () => {
    clearTimeout(timer);
    timer = setTimeout(abort, timeoutMs);
  };
  const unlink = (keepsSignal) => {
    clearTimeout(timer);
    if (!keepsSignal) signal?.removeEventListener("abort", stop);
  };
  return { signal: controller.signal, restart, unlink };
}
