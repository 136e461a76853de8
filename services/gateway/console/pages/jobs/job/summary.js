// What an event says, in a few words, and what a job waits for. Values only; the words are in words.js.

/** Return the parts of a line about an event: texts and numbers of the event, in the order in which they are read. */
export function summaryOf({ type, data }) {
  const attempt = data.attempt ? `#${data.attempt}` : "";
  switch (type) {
    case "job.submitted": return [data.workload, `v${data.workload_version}`];
    case "job.queued": return [String(data.position)];
    case "job.starting": return [attempt, data.device];
    case "job.waiting_for_gpu": return [attempt, data.device, data.next_device ? `→ ${data.next_device}` : ""];
    case "job.started": return [attempt, data.device, data.worker];
    case "job.artifact_ready": return [data.artifact?.name ?? ""];
    case "job.stage_completed": return [data.stage, `${data.duration_s} s`];
    case "job.interrupted":
    case "job.failed": return [attempt, data.failure, data.error?.message ?? ""];
    case "job.retrying": return [attempt, data.after, `+${data.delay_s} s`];
    case "job.cancel_requested": return [data.by];
    case "job.succeeded": return [attempt, `${data.duration_s} s`];
    case "job.scratch_removed": return [String(data.files)];
    default: return [attempt];
  }
}

/**
 * Return what happens next to a job: {what, at, device, seconds, count}; `what` is a name in words.js, `at` a time.
 *
 * `events` are the job's own so far, the oldest first; only the newest of a kind are read.
 */
export function nextStep(job, events) {
  const newest = (type) => events.findLast((event) => event.type === type && event.subject === job.id)?.data;
  switch (job.state) {
    case "submitted": return { what: "queue" };
    case "queued": return { what: "start", count: newest("job.queued")?.position };
    case "starting": return { what: "worker", device: newest("job.starting")?.device };
    case "waiting_for_gpu": {
      const wait = newest("job.waiting_for_gpu");
      if (wait?.next_device) return { what: "rung", device: wait.next_device, at: wait.next_at };
      return { what: "gpu", device: wait?.device, at: newest("job.submitted")?.deadline };
    }
    case "running": return { what: "run", at: newest("job.retrying")?.deadline ?? newest("job.submitted")?.deadline };
    case "interrupted": return { what: "decide" };
    case "retrying": return { what: "retry", at: newest("job.retrying")?.not_before };
    case "succeeded": return job.retention?.kept_until ? { what: "kept", at: job.retention.kept_until } : { what: "done" };
    case "failed": return job.retention?.kept_until ? { what: "retryUntil", at: job.retention.kept_until } : { what: "restart" };
    default: return { what: "ended" };
  }
}

/** Return the files that the job had after an event, from the events up to it: the newest of each name. */
export function filesUpTo(events, index, jobId) {
  const found = new Map();
  for (let each = 0; each <= index && each < events.length; each += 1) {
    const { type, subject, data } = events[each];
    if (type === "job.artifact_ready" && subject === jobId && data.artifact) found.set(data.artifact.name, data.artifact);
  }
  return [...found.values()];
}

/** Return the position of a cursor in the stream, to compare cursors of one epoch. */
export const positionOf = (cursor) => Number(/(\d+)$/.exec(cursor ?? "")?.[1] ?? 0);

/** Return the index of the event that a point names: a cursor exactly, else the last one before it; -1 for none. */
export function indexOfPoint(events, point, times_ms, now_ms) {
  if (!point) return events.length - 1;
  const exact = events.findLastIndex((event) => event.cursor === point);
  if (exact >= 0) return exact;
  if (/^[\w]+\.\d+$/.test(point)) return events.findLastIndex((event) => positionOf(event.cursor) <= positionOf(point));
  const ago = /^(\d+)s?$/.exec(point);
  const time = ago ? now_ms - Number(ago[1]) * 1000 : Date.parse(point);
  return Number.isNaN(time) ? -1 : events.findLastIndex((_, index) => times_ms[index] <= time);
}
