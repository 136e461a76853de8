// What an event says, in a few words: from its data, which may hold anybody's text.

const LONGEST = 160;

/** Return a short text about an event, without its type and its subject. */
export function summary({ type, data = {} }) {
  const text = special(type, data) ?? general(data);
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}

function special(type, data) {
  if (data.error?.message) return `${data.error.message} (${data.error.code})`;
  if (type === "job.progressed") return `${Math.floor(100 * (data.fraction ?? 0))} % ${data.message ?? data.stage ?? ""}`.trim();
  if (type === "job.artifact_ready") return String(data.artifact?.name ?? "");
  if (type === "job.stage_completed") return `${data.stage ?? ""} (${Number(data.duration_s ?? 0).toFixed(1)} s)`;
  if (type === "job.succeeded") return `${Number(data.duration_s ?? 0).toFixed(1)} s`;
  if (type === "upload.created") return String(data.filename ?? "");
  if (type === "job.submitted") return String(data.workload ?? "");
  if (type === "session.text") return String(data.text ?? "");
  return null;
}

function general(data) {
  const parts = [];
  for (const [name, value] of Object.entries(data)) {
    if (value === null || typeof value === "object" || value === "") continue;
    parts.push(`${name}: ${value}`);
    if (parts.length === 4) break;
  }
  return parts.join(", ");
}

/** "bad", "fair", "good" or "": how an event is marked. */
export function tone(type) {
  const verb = type.split(".")[1] ?? "";
  if (["failed", "exhausted", "disabled"].includes(verb)) return "bad";
  if (["interrupted", "retrying", "cancelled", "warned", "skipped", "alert"].includes(verb) || type === "gap") return "fair";
  return ["succeeded", "completed", "delivered"].includes(verb) ? "good" : "";
}

/** Shorten an id to its kind and its end, which differs where ids were made one after another. */
export const shortId = (id) => id.replace(/^([a-z]+_)[0-9a-f-]{20,}([0-9a-f]{8})$/, "$1…$2");
