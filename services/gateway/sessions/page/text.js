// Texts and formatted values of the page.
export const $ = (id) => document.getElementById(id);

export const number = (value) => Number(value).toLocaleString("en");
export const decibels = (value) => (value == null ? "–" : `${value.toFixed(1)} dB`);

export const ms = (value) =>
  value == null ? null : `${value.toFixed(Math.abs(value) < 10 ? 1 : 0).replace("-", "−")} ms`;

export function size(bytes) {
  const units = ["bytes", "KiB", "MiB", "GiB"];
  let power = 0;
  for (; bytes >= 1024 && power < units.length - 1; power++) bytes /= 1024;
  return `${power && bytes < 100 ? bytes.toFixed(1) : Math.round(bytes)} ${units[power]}`;
}

export function seconds(value) {
  if (value == null) return "–";
  if (Math.abs(value) < 1) return `${Math.round(value * 1000)} ms`;
  return value < 60 ? `${value.toFixed(1)} s` : `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
}

export function dollars(value) {
  return value ? `$${value < 0.01 ? value.toFixed(4) : value.toFixed(2)}` : "$0";
}

const STATES = {
  opening: "waiting for a worker",
  ready: "ready for frames",
  running: "running",
  stopping: "stopping",
  stopped: "stopped",
  failed: "failed",
};
const REASONS = {
  asked: "as requested",
  idle: "no frames arrived",
  length: "its maximum length was reached",
  cost_cap: "it reached its cost cap",
};
export const stateWords = (state, reason) => `${STATES[state] ?? state}${reason ? `: ${REASONS[reason] ?? reason}` : ""}`;

// Text over the 3D view while there is no model.
export function overlayWords(state, accepted) {
  if (state === "opening") return "A worker is being started …";
  if (state === "ready") return "The worker is ready. The model starts with the first frames and joint angles.";
  if (state === "running") return accepted ? "The first splats are being computed …" : "Waiting for the first usable frame …";
  if (state === "stopping") return "The session is stopping; there is no model yet.";
  return "The session has ended without a model.";
}

// Update the stacked bar and the counts of frames.
export function showFrames(frames) {
  const parts = ["accepted", "dropped", "rejected", "waiting"];
  for (const name of ["sent", ...parts]) $(name).textContent = number(frames[name] ?? 0);
  for (const part of $("shares").children) part.style.flexGrow = frames[part.className] ?? 0;
  showReasons(frames.reasons ?? {}, frames.last_rejection);
}

const reasonWords = (reason) => REJECTION_REASONS[reason] ?? reason?.replaceAll("_", " ") ?? "no reason given";

// Show why frames were not accepted: how many for each reason, and what was wrong with the last rejected one.
function showReasons(reasons, last) {
  const counts = Object.entries(reasons).map(([reason, count]) => `${number(count)} × ${reasonWords(reason)}`);
  const detail = last ? ` Last rejected: frame ${last.seq} of ${last.source}: ${last.detail ?? reasonWords(last.reason)}` : "";
  $("reasons").hidden = !counts.length;
  $("reasons").textContent = `Not accepted: ${counts.join("; ")}.${detail}`;
}

const REJECTION_REASONS = {
  superseded: "a newer frame was processed first",
  repeated: "its number was sent before",
  late: "its number was too old",
  frame_empty: "it was empty",
  frame_too_large: "it was too large",
  frame_unreadable: "it was not a readable picture",
  frame_size_changed: "its size differed from the frames before",
  joints_invalid: "the joint angles were invalid",
  session_ended: "the session had ended",
};

// Show the reason of the newest frame that was not accepted.
export function showRejection(acks) {
  const last = acks.findLast((ack) => ack.status !== "accepted");
  if (!last) return;
  $("rejection").hidden = false;
  $("rejection").textContent = `Last ${last.status}: frame ${last.seq} of ${last.source}, ${reasonWords(last.reason)}.`;
}

// Show rows of names and values; unknown values are left out.
export function showRows(rows) {
  $("rows").replaceChildren(
    ...rows.filter(([, value]) => value != null).map(([name, value]) => {
      const row = document.createElement("div");
      row.append(document.createElement("dt"), document.createElement("dd"));
      row.firstChild.textContent = name;
      row.lastChild.textContent = value;
      return row;
    }),
  );
}

export function showProblem(problem) {
  $("problem").hidden = false;
  const [message, hint] = $("problem").querySelectorAll("p");
  message.textContent = problem.message;
  hint.textContent = problem.hint ?? "";
}

// Ask for confirmation of an action that cannot be undone.
export function confirmAction(title, text, action) {
  const dialog = $("confirm");
  $("confirm-title").textContent = title;
  $("confirm-text").textContent = text;
  $("confirm-yes").textContent = action;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
}
