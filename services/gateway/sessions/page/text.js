// What the page says, in words and with units.
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
  asked: "as asked",
  idle: "no frames came any more",
  length: "its longest time was over",
  cost_cap: "it reached its cost cap",
};
export const stateWords = (state, reason) => `${STATES[state] ?? state}${reason ? `: ${REASONS[reason] ?? reason}` : ""}`;

// What stands over the stage while there is no model to see.
export function overlayWords(state, accepted) {
  if (state === "opening") return "A worker is being started …";
  if (state === "ready") return "The worker is ready. The model begins with the first frames and joint angles.";
  if (state === "running") return accepted ? "The first splats are on their way …" : "Waiting for the first frame that can be used …";
  if (state === "stopping") return "The session is stopping; it left no model yet.";
  return "The session has ended and left no model.";
}

// Fills the stacked bar and the counts of frames.
export function showFrames(frames) {
  const parts = ["accepted", "dropped", "rejected", "waiting"];
  for (const name of ["sent", ...parts]) $(name).textContent = number(frames[name] ?? 0);
  for (const part of $("shares").children) part.style.flexGrow = frames[part.className] ?? 0;
}

const REFUSALS = {
  superseded: "a newer one came first",
  repeated: "its number had been sent",
  late: "its number was too old",
  frame_empty: "it was empty",
  frame_too_large: "it was too large",
  frame_unreadable: "it was no readable picture",
  frame_size_changed: "its size was another",
  joints_invalid: "the joint angles were not usable",
  session_ended: "the session was over",
};

// Says why the newest frame that was not accepted was not.
export function showRefusal(acks) {
  const last = acks.findLast((ack) => ack.status !== "accepted");
  if (!last) return;
  $("refused").hidden = false;
  $("refused").textContent = `Last ${last.status}: frame ${last.seq} of ${last.source}, ${REFUSALS[last.reason] ?? last.reason?.replaceAll("_", " ") ?? "no reason told"}.`;
}

// Rows of names and values; what is not known is left out.
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
  const [what, hint] = $("problem").querySelectorAll("p");
  what.textContent = problem.message;
  hint.textContent = problem.hint ?? "";
}

// Asks before a deed that cannot be taken back.
export function sure(title, text, yes) {
  const dialog = $("sure");
  $("sure-title").textContent = title;
  $("sure-text").textContent = text;
  $("sure-yes").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
}
