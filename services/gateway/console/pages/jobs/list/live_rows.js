// Rows of the list of jobs, changed by events in place: no row moves under the pointer. No document.
import { positionOf } from "../job/summary.js";

const STATES = {
  "job.queued": "queued", "job.starting": "starting", "job.waiting_for_gpu": "waiting_for_gpu", "job.started": "running",
  "job.interrupted": "interrupted", "job.retrying": "retrying", "job.succeeded": "succeeded", "job.failed": "failed",
  "job.cancelled": "cancelled",
};
/** Events after which cost, files or the error have changed in ways that only the server adds up. */
const READ_AGAIN = new Set(["job.interrupted", "job.succeeded", "job.failed", "job.cancelled"]);
const ENDED = new Set(["succeeded", "failed", "cancelled"]);

/** Return a job as it is after an event of it; the same object where nothing changes. */
export function patched(job, { type, data, time }) {
  if (type === "job.progressed") {
    if (ENDED.has(job.state) || data.attempt !== job.attempt) return job;
    return { ...job, progress: Math.max(job.progress, data.fraction), stage: data.stage, message: data.message };
  }
  const state = STATES[type];
  if (!state) return type === "job.stage_completed" ? { ...job, stage: data.stage } : job;
  return {
    ...job, state,
    attempt: data.attempt ?? job.attempt,
    started_at: type === "job.started" ? (job.started_at ?? time) : job.started_at,
    finished_at: ENDED.has(state) ? time : null,
    progress: state === "succeeded" ? 1 : job.progress,
  };
}

/** Return whether the row is to be read from the server after an event. */
export const readAgain = ({ type }) => READ_AGAIN.has(type);

/** Return jobs that were read as they are after events that came meanwhile: an answer does not have the newest ones. */
export function caughtUp(jobs, events) {
  return jobs.map((job) => events.filter((event) => isLater(event, job)).reduce(patched, job));
}

/** Return whether an event is of a job and not yet in what was read of it. */
export const isLater = ({ subject, cursor }, job) => subject === job.id && positionOf(cursor) > positionOf(job.cursor);

const NEW = ["submitted", "queued", "starting", "running"];

/**
 * Return whether an event is of a new job that the list could show; jobs of pipelines' stages are not in it.
 *
 * Whether a text, a plan or a pipeline matches is not in the event.
 */
export function isNewJob({ type, data, time }, filters) {
  if (type !== "job.submitted" || data.part_of || ["q", "plan", "pipeline"].some((name) => filters[name])) return false;
  if (filters.state?.length && !NEW.some((state) => filters.state.includes(state))) return false;
  if (Date.parse(filters.until) <= Date.parse(time) || Date.parse(filters.since) > Date.parse(time)) return false;
  if (filters.rule && data.rule?.rule_id !== filters.rule) return false;
  return !filters.workload || filters.workload === data.workload;
}

/** Return two pages as one list, each job once. */
export function joined(rows, more) {
  const known = new Set(rows.map(({ id }) => id));
  return [...rows, ...more.filter(({ id }) => !known.has(id))];
}
