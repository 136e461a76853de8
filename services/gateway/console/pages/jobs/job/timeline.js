// Fold of a job's events into the rows of its timeline. No document: the same events always give the same rows.

/** Events after which no attempt runs, with the kind of span that they end. */
const ENDS = {
  "job.interrupted": "interrupted", "job.succeeded": "done", "job.failed": "failed", "job.cancelled": "cancelled",
};
const FINAL = new Set(["job.succeeded", "job.failed", "job.cancelled"]);
/** Shards of a stage that have a line each; more are drawn on one line. */
const SHARD_LINES = 6;

/**
 * Return the timeline of events, the oldest first: {begin_ms, end_ms, times_ms, lanes, cost, ended}.
 *
 * A lane is {key, kind, name, rung, rows, spans}; `kind` is "queue", "device" or "stage". A span is {from, to, kind,
 * row, index, attempt, open}: `index` is that of the event that ended it, or began it while it is `open`; `kind` is
 * "wait", "startup", "run", "done", "interrupted", "failed" or "cancelled". `cost` is [{time, usd}], the sum after
 * each settled attempt. `own` is the id of the job; events of other subjects are of its stages' jobs.
 */
export function foldTimeline(events, { own, now_ms }) {
  const times_ms = new Float64Array(events.length);
  const fold = new Fold(own, events.some((event) => event.subject !== own));
  let newest = 0;
  events.forEach((event, index) => {
    // Services' clocks differ by milliseconds: no event is drawn before the one that was stored before it.
    newest = Math.max(newest, Date.parse(event.time) || 0);
    times_ms[index] = newest;
    fold.take(event, newest, index);
  });
  const end_ms = fold.ended ? newest : Math.max(newest, now_ms);
  fold.close(end_ms, Math.max(0, events.length - 1));
  const begin_ms = times_ms[0] ?? now_ms;
  return { begin_ms, end_ms: Math.max(end_ms, begin_ms + 1), times_ms, lanes: fold.sorted(), cost: fold.cost, ended: fold.ended };
}

/** Return the name of a lane in the reader's language. */
export const laneName = (lane, titles, text) =>
  lane.kind === "queue" ? text.queue : lane.kind === "device" ? text.device(lane.name, lane.rung) : (titles[lane.name] ?? lane.name);

/**
 * Return what happened in a part of the time, {from, to}, in order of its beginning: [{from, lane, span}], with folded
 * gaps, {from, to, gap}, and sums of the cost, {from, usd}, between.
 */
export function stepsOf(fold, gaps, { from, to }) {
  const within = (step) => step.from <= to && (step.to ?? step.from) >= from;
  return [
    ...fold.lanes.flatMap((lane) => lane.spans.map((span) => ({ from: span.from, to: span.to, lane, span }))),
    ...gaps.map((gap) => ({ from: gap.from, to: gap.to, gap: true })),
    ...fold.cost.map(({ time, usd }) => ({ from: time, usd })),
  ].filter(within).sort((one, other) => one.from - other.from);
}

class Fold {
  constructor(own, pipeline) {
    this.own = own;
    this.pipeline = pipeline;
    this.lanes = new Map();
    this.jobs = new Map();
    this.cost = [];
    this.usd = 0;
    this.ended = false;
  }

  take(event, time, index) {
    const job = this.job(event);
    const { type, data } = event;
    if (type === "job.submitted") this.submitted(job, data, time);
    else if (type === "job.starting") this.starting(job, data, time, index);
    else if (type === "job.started") this.started(job, data, time, index);
    else if (type === "job.stage_completed" && !job.part && !this.pipeline) this.stageCompleted(job, data, time, index);
    else if (type === "job.retrying") job.waits = time;
    if (type in ENDS) this.attemptEnded(job, type, data, time, index);
    if (event.subject === this.own) this.ended = FINAL.has(type) || (this.ended && type !== "job.retrying");
  }

  job({ subject }) {
    let job = this.jobs.get(subject);
    if (!job) this.jobs.set(subject, (job = { own: subject === this.own, part: null, waits: null, run: null, stageFrom: null }));
    return job;
  }

  submitted(job, data, time) {
    job.waits = time;
    if (!job.own && data.part_of) job.part = { stage: data.part_of.stage, shard: data.part_of.shard, shards: data.part_of.shards };
  }

  starting(job, data, time, index) {
    this.endWait(job, time, index);
    job.run = { from: time, device: data.device, rung: data.rung ?? 0, attempt: data.attempt, started: null, index };
  }

  started(job, data, time, index) {
    if (!job.run) job.run = { from: time, device: data.device, rung: 0, attempt: data.attempt, started: null, index };
    const run = job.run;
    if (run.started === null && time > run.from) this.add(job, run, { from: run.from, to: time, kind: "startup", index });
    run.started = time;
    run.device = data.device ?? run.device;
    job.stageFrom = time;
  }

  stageCompleted(job, data, time, index) {
    const from = Math.max(time - data.duration_s * 1000, job.stageFrom ?? 0);
    this.lane("stage", data.stage).spans.push({ from, to: time, kind: "done", row: 0, index, attempt: data.attempt, open: false });
    job.stageFrom = time;
  }

  attemptEnded(job, type, data, time, index) {
    const usd = data.cost?.usd ?? 0;
    // The cost of a pipeline is that of its stages' jobs.
    if (usd > 0 && !(this.pipeline && job.own)) this.cost.push({ time, usd: (this.usd += usd) });
    this.endWait(job, time, index);
    if (!job.run) return;
    const run = job.run;
    job.run = null;
    this.add(job, run, { from: run.started ?? run.from, to: time, kind: ENDS[type], index });
  }

  endWait(job, time, index, open = false) {
    if (job.waits !== null && time > job.waits) this.add(job, null, { from: job.waits, to: time, kind: "wait", index, open });
    job.waits = null;
  }

  /** Add a span to the lane of a stage, of a device or of the queue. */
  add(job, run, span) {
    const whole = { row: 0, open: false, attempt: run?.attempt ?? 0, ...span };
    if (job.part) {
      const lane = this.lane("stage", job.part.stage);
      if (job.part.shards <= SHARD_LINES) {
        lane.rows = Math.max(lane.rows, job.part.shards);
        whole.row = job.part.shard;
      }
      lane.spans.push(whole);
    } else if (!run) {
      this.lane("queue", "").spans.push(whole);
    } else if (!this.pipeline) {
      this.lane("device", run.device, run.rung).spans.push(whole);
    }
  }

  lane(kind, name, rung = 0) {
    const key = `${kind} ${name}`;
    let lane = this.lanes.get(key);
    if (!lane) this.lanes.set(key, (lane = { key, kind, name, rung, rows: 1, spans: [] }));
    return lane;
  }

  /** Draw what has not ended up to now. */
  close(end_ms, index) {
    for (const job of this.jobs.values()) {
      if (job.own && this.ended) continue;
      this.endWait(job, end_ms, index, true);
      const run = job.run;
      if (!run) continue;
      this.add(job, run, { from: run.started ?? run.from, to: end_ms, kind: run.started === null ? "startup" : "run", index: run.index, open: true });
    }
  }

  sorted() {
    const order = { queue: 0, device: 1, stage: 2 };
    const lanes = [...this.lanes.values()];
    for (const lane of lanes) lane.spans.sort((a, b) => a.from - b.from);
    // Stages stay in the order of their first spans, which is that of the workload.
    return lanes.sort((a, b) => order[a.kind] - order[b.kind] || (a.kind === "device" ? a.rung - b.rung : a.spans[0].from - b.spans[0].from));
  }
}

const SEVERITY = { wait: 0, startup: 1, done: 2, run: 3, cancelled: 4, interrupted: 5, failed: 6 };

/**
 * Return the rectangles of a lane on an axis: {x, width, row, kind, count, span, narrow}.
 *
 * Spans too narrow to be told apart are one rectangle with the gravest kind, so that their number is bounded by the
 * width and not by the events.
 */
export function rectangles(spans, axis, narrow_px = 3) {
  const found = [];
  const lastOfRow = new Map();
  for (const span of spans) {
    if (span.to < axis.from || span.from > axis.to) continue;
    const x = axis.x(Math.max(span.from, axis.from));
    const width = Math.max(1.5, axis.x(Math.min(span.to, axis.to)) - x);
    const narrow = width < narrow_px;
    const last = lastOfRow.get(span.row);
    if (last?.narrow && narrow && x <= last.x + last.width + 0.5) {
      last.width = Math.max(last.width, x + width - last.x);
      last.count += 1;
      if (SEVERITY[span.kind] > SEVERITY[last.kind]) Object.assign(last, { kind: span.kind, span });
      continue;
    }
    const rectangle = { x, width, row: span.row, kind: span.kind, count: 1, span, narrow };
    lastOfRow.set(span.row, rectangle);
    found.push(rectangle);
  }
  return found;
}

/** Return the positions of marks on an axis, at most one for each pixel: [{x, index, count}]. */
export function marks(times_ms, axis) {
  const found = [];
  for (let index = 0; index < times_ms.length; index += 1) {
    if (times_ms[index] < axis.from || times_ms[index] > axis.to) continue;
    const x = Math.round(axis.x(times_ms[index]));
    const last = found.at(-1);
    if (last?.x === x) last.count += 1;
    else found.push({ x, index, count: 1 });
  }
  return found;
}

/** Return the index of the last event at or before a time, 0 at least. */
export function indexAt(times_ms, time) {
  let low = 0;
  let high = times_ms.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times_ms[middle] <= time) low = middle + 1;
    else high = middle;
  }
  return Math.max(0, low - 1);
}
