// What differs between two jobs, or between two points of one. No document.
import { positionOf } from "./summary.js";

const COMPARED = ["state", "params", "result", "metadata", "gpu", "attempt", "error"];

/** Return the fields that differ: [{name, one, two}] with texts; nested fields have paths such as "params.sectors". */
export function differences(one, two) {
  const first = new Map();
  const second = new Map();
  for (const [job, found] of [[one, first], [two, second]]) {
    for (const name of COMPARED) flatten(job[name], name, found);
    found.set("cost_usd", String(job.cost.actual_usd));
    found.set("duration_s", seconds(job));
    found.set("inputs", Object.values(job.inputs).flat().map(({ filename, upload_id: id }) => filename || id).join(", "));
  }
  return [...new Set([...first.keys(), ...second.keys()])]
    .filter((name) => first.get(name) !== second.get(name))
    .map((name) => ({ name, one: first.get(name) ?? "", two: second.get(name) ?? "" }));
}

/** Return a mark and the point that is shown, null for now, as {since, until}: the earlier one first. */
export function inOrder(mark, at) {
  const isLater = at !== null && positionOf(mark) > positionOf(at);
  return isLater ? { since: at, until: mark } : { since: mark, until: at };
}

/** Return changed fields of an answer as [{name, before, after}] with texts. */
export const rowsOf = (changed) =>
  changed.map(({ pointer, before, after }) => ({ name: pointer.slice(1).replaceAll("/", ".").replaceAll("~1", "/").replaceAll("~0", "~"), before: told(before), after: told(after) }));

const told = (value) => (value === null || value === undefined ? "–" : typeof value === "object" ? JSON.stringify(value).slice(0, 300) : String(value).slice(0, 300));

const seconds = ({ started_at: from, finished_at: to }) => (from && to ? ((Date.parse(to) - Date.parse(from)) / 1000).toFixed(1) : "");

function flatten(value, name, found, depth = 0) {
  if (value === null || value === undefined) return;
  if (typeof value === "object" && !Array.isArray(value) && depth < 4) {
    for (const [key, each] of Object.entries(value)) flatten(each, `${name}.${key}`, found, depth + 1);
  } else found.set(name, (typeof value === "object" ? JSON.stringify(value) : String(value)).slice(0, 300));
}
