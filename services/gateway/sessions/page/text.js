// Texts and formatted values of the page.
import { language, t } from "./words.js";

export const $ = (id) => document.getElementById(id);

export const number = (value) => Number(value).toLocaleString(language);
const fixed = (value, digits) => Number(value).toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
export const decibels = (value) => (value == null ? "–" : `${fixed(value, 1)} dB`);

export const ms = (value) =>
  value == null ? null : `${fixed(value, Math.abs(value) < 10 ? 1 : 0).replace("-", "−")} ms`;

export function size(bytes) {
  const units = [t("bytes"), "KiB", "MiB", "GiB"];
  let power = 0;
  for (; bytes >= 1024 && power < units.length - 1; power++) bytes /= 1024;
  return `${power && bytes < 100 ? fixed(bytes, 1) : number(Math.round(bytes))} ${units[power]}`;
}

export function seconds(value) {
  if (value == null) return "–";
  if (Math.abs(value) < 1) return `${Math.round(value * 1000)} ms`;
  return value < 60 ? `${fixed(value, 1)} s` : `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
}

export function dollars(value) {
  const digits = !value ? 0 : value < 0.01 ? 4 : 2;
  return (value || 0).toLocaleString(language, { style: "currency", currency: "USD", currencyDisplay: "narrowSymbol", minimumFractionDigits: digits, maximumFractionDigits: digits });
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
export const stateWords = (state, reason) => `${t(STATES[state] ?? state)}${reason ? `: ${t(REASONS[reason] ?? reason)}` : ""}`;

// Text over the 3D view while there is no model.
export function overlayWords(state, accepted) {
  if (state === "opening") return t("A worker is being started …");
  if (state === "ready") return t("The worker is ready. The model starts with the first frames and joint angles.");
  if (state === "running") return accepted ? t("The first splats are being computed …") : t("Waiting for the first usable frame …");
  if (state === "stopping") return t("The session is stopping; there is no model yet.");
  return t("The session has ended without a model.");
}

// Update the stacked bar and the counts of frames.
export function showFrames(frames) {
  const parts = ["accepted", "dropped", "rejected", "waiting"];
  for (const name of ["sent", ...parts]) $(name).textContent = number(frames[name] ?? 0);
  for (const part of $("shares").children) part.style.flexGrow = frames[part.className] ?? 0;
  showReasons(frames.reasons ?? {}, frames.last_rejection);
}

const reasonWords = (reason) => reason ? t(REJECTION_REASONS[reason] ?? reason.replaceAll("_", " ")) : t("no reason given");

// Show why frames were not accepted: how many for each reason, and what was wrong with the last rejected one.
function showReasons(reasons, last) {
  const counts = Object.entries(reasons).map(([reason, count]) => `${number(count)} × ${reasonWords(reason)}`);
  const detail = last ? ` ${t("Last rejected: frame {0} of {1}: {2}", last.seq, last.source, last.detail ?? reasonWords(last.reason))}` : "";
  $("reasons").hidden = !counts.length;
  $("reasons").textContent = `${t("Not accepted: {0}.", counts.join("; "))}${detail}`;
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
  $("rejection").textContent = t("Last {0}: frame {1} of {2}, {3}.", t(last.status), last.seq, last.source, reasonWords(last.reason));
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
