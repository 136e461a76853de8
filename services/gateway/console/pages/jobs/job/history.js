// All events of one job: read once, then continued by the feed that all tabs share.
import { signal } from "../../../vendor/preact.js";
import { client, get } from "../../../api.js";
import * as feed from "../../../feed.js";
import { copied } from "../../../parts/copied.js";
import { positionOf } from "./summary.js";

/** Events that are kept; a job with more shows the first ones and says so. */
export const MOST_EVENTS = 50_000;
/** How often the page is drawn while old events are read, and while new ones come. */
const READING_PAINT_MS = 1500;
const LIVE_PAINT_MS = 200;
/** After so long the reading of old events lets the page answer its reader. */
const SLICE_MS = 25;
/** How often an unfinished pipeline is read for the events of its stages' jobs. */
const PIPELINE_MS = 3000;
const ENDED = new Set(["succeeded", "failed", "cancelled"]);

/** History of a job; `changed` is a number that grows with `events`, which is one array throughout. */
export class History {
  #ids = new Set();
  /** Cursor up to which no event is missing. The feed may have brought later ones already. */
  #completeTo = undefined;
  #trusted = false;
  #stop = new AbortController();
  #painted = performance.now();
  #timer = 0;
  #slice = 0;
  #members;

  /** @param {object} job the job as it was read first */
  constructor(job) {
    this.job = job;
    this.events = [];
    this.changed = signal(0);
    this.progress = signal(null);
    this.error = signal(null);
    this.complete = signal(false);
    this.#members = new Set([job.id]);
  }

  /** Ids of the job and, of a pipeline, of its stages' jobs. */
  get members() {
    return this.#members;
  }

  close() {
    this.#stop.abort();
    clearTimeout(this.#timer);
  }

  /** Take an event of the feed; return whether it is of this job. */
  take(event) {
    const part = event.type === "job.submitted" ? event.data.part_of : null;
    if (part?.job_id === this.job.id) this.#members.add(event.subject);
    if (!this.#members.has(event.subject)) return false;
    if (event.cursor) {
      this.#add(event);
      if (this.#trusted) this.#completeTo = event.cursor;
      this.#timer ||= setTimeout(() => this.#paint(), LIVE_PAINT_MS);
    } else if (event.type === "job.progressed" && event.subject === this.job.id) this.progress.value = event;
    return true;
  }

  /**
   * Trust that the feed brings every event from now on: it was open before the last reading began. Until then, and
   * again after it was lost, there may be a gap before the events that it has brought. It never brings those of a
   * pipeline's stages, whose jobs the stream of a tenant leaves out.
   */
  trust(trusted) {
    if (this.job.stages.length) return;
    if (trusted) this.#completeTo = this.events.at(-1)?.cursor ?? this.#completeTo;
    this.#trusted = trusted;
  }

  /** Read what is missing up to the newest event that an answer about the job contains. */
  async catchUp(job) {
    this.job = job;
    for (const stage of job.stages) for (const member of stage.jobs) this.#members.add(member.id);
    try {
      if (!this.#trusted || positionOf(this.#completeTo) < positionOf(job.cursor)) {
        await (job.stages.length ? this.#readChanges() : this.#readStream());
      }
      this.error.value = null;
      this.complete.value = true;
    } catch (error) {
      if (!this.#stop.signal.aborted) this.error.value = error;
    }
    this.#paint();
  }

  /** Events of the job alone: its stream, closed as soon as it has brought the newest one that is known. */
  async #readStream() {
    if (positionOf(this.#completeTo) >= positionOf(this.job.cursor) || this.events.length >= MOST_EVENTS) return;
    const signal = this.#stop.signal;
    for await (const event of client.events({ jobId: this.job.id, cursor: this.#completeTo, signal })) {
      if (event.type === "job.progressed") this.progress.value = event;
      else if (event.cursor && event.type.startsWith("job.")) {
        this.#add(event);
        this.#completeTo = event.cursor;
      }
      await this.#pause();
      if (positionOf(event.cursor) >= positionOf(this.job.cursor) || this.events.length >= MOST_EVENTS) break;
    }
  }

  /** Events of a pipeline and of its stages' jobs, a thousand at a time. */
  async #readChanges() {
    let since = this.#completeTo ?? new Date(Date.parse(this.job.created_at) - 1000).toISOString();
    for (let left = 1; left > 0 && this.events.length < MOST_EVENTS; ) {
      const page = await get(`/v1/jobs/${this.job.id}/changes`, { since }, this.#stop.signal);
      for (const { cursor, event } of page.events) {
        const { id, type, subject, time, data } = event;
        this.#members.add(subject);
        this.#add({ id, type, subject, time, data, cursor, envelope: event });
      }
      left = page.events.length ? page.events_left_out : 0;
      if (page.events.length) this.#completeTo = since = page.events.at(-1).cursor;
      await this.#pause();
    }
  }

  #add(event) {
    if (this.#ids.has(event.id) || this.events.length >= MOST_EVENTS) return;
    this.#ids.add(event.id);
    const kept = { id: event.id, type: event.type, subject: event.subject, time: event.time, data: event.data, cursor: copied(event.cursor) };
    const position = positionOf(event.cursor);
    let index = this.events.length;
    while (index > 0 && positionOf(this.events[index - 1].cursor) > position) index -= 1;
    if (index === this.events.length) this.events.push(kept);
    else this.events.splice(index, 0, kept);
  }

  /** Let the page answer its reader, and draw now and then, while very many old events are read. */
  async #pause() {
    const now = performance.now();
    if (now - this.#slice < SLICE_MS) return;
    if (now - this.#painted > READING_PAINT_MS) this.#paint();
    await new Promise((resolve) => setTimeout(resolve));
    this.#slice = performance.now();
  }

  #paint() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.changed.value += 1;
    this.#painted = performance.now();
  }
}

/** Follow a job: return {job, error, history, read, close} with signals `job`, `error` and `history`. */
export function followJob(jobId) {
  const job = signal(null);
  const error = signal(null);
  const history = signal(null);
  const stop = new AbortController();
  const once = async () => {
    try {
      const found = await get(`/v1/jobs/${jobId}`, undefined, stop.signal);
      if (!history.value) history.value = new History(found);
      job.value = found;
      error.value = null;
      await history.value.catchUp(found);
    } catch (problem) {
      if (!stop.signal.aborted) error.value = problem;
    }
    // Events come in bursts: one answer shows several of them.
    await new Promise((resolve) => setTimeout(resolve, 150));
  };
  let running = Promise.resolve();
  let waiting = null;
  /** Read the job once more, after a reading that has begun; the promise ends with it. */
  const read = () => {
    waiting ??= running.then(() => {
      waiting = null;
      return stop.signal.aborted ? undefined : (running = once());
    });
    return waiting;
  };
  const unsubscribe = feed.subscribe((event) => {
    if (event.type === "gap") {
      // Events are missing, perhaps of this job.
      history.value?.trust(false);
      return void settle();
    }
    // Before the first answer nobody knows the stages' jobs: the answer and the reading after it contain their events.
    if (history.value ? history.value.take(event) && event.cursor : event.subject === jobId) void read();
    return undefined;
  });
  let later = 0;
  const settle = async () => {
    await read();
    if (feed.state.peek() === "open" && !stop.signal.aborted) history.value?.trust(true);
  };
  let open = feed.state.peek() === "open";
  const unwatch = feed.state.subscribe((now) => {
    if ((now === "open") === open) return;
    open = now === "open";
    history.value?.trust(false);
    // What happened while the feed was not connected is read; the server answers the stream a moment later.
    clearTimeout(later);
    if (open) later = setTimeout(settle, 1500);
  });
  if (open) void settle();
  else void read();
  const poll = setInterval(() => {
    const now = job.peek();
    if (now?.stages.length && !ENDED.has(now.state) && !document.hidden) void read();
  }, PIPELINE_MS);
  const close = () => {
    clearInterval(poll);
    stop.abort();
    clearTimeout(later);
    unsubscribe();
    unwatch();
    history.value?.close();
  };
  return { job, error, history, read, close };
}
