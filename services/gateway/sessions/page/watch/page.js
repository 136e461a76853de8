// Page of one live session that describes video: camera, words as they come, alerts, questions, delay.
import { connectActions, connectHeader, connectWebcam } from "../page_parts.js";
import { Problem, SessionClient, addressOf, nowS } from "../session_client.js";
import { $, dollars, ms, number, seconds, showFrames, showProblem, showRejection, showRows, stateWords } from "../text.js";
import { Webcam } from "../webcam.js";
import { t, translatePage } from "../words.js";
import { AlertList, WordList, spanOf } from "./word_list.js";

translatePage();

// Frames whose acknowledgement is awaited are remembered up to this number.
const AWAITED = 200;

const id = location.pathname.split("/").filter(Boolean).pop();
const client = new SessionClient(id, { acks: "1" });
const webcam = new Webcam(client, $("webcam-video"), { labels: [t("Use the camera"), t("Stop the camera")] });
const words = new WordList({ list: $("words"), count: $("word-count"), none: $("no-words"), older: $("older") });
const alerts = new AlertList({ list: $("alerts"), none: $("no-alerts"), panel: $("alert-panel") });

// Current state of the session, and of this page's frames.
const current = { state: "", frames: {}, cost: {}, chunk: 0, text: null, writing: false, ackMs: null, depth: null, unshown: 0, refused: "" };
const sentAtS = new Map();
let catchingUp = true;

function render() {
  const { state, frames, reason, text } = current;
  document.title = `${stateWords(state)} – ${id.slice(0, 12)}`;
  $("state").textContent = stateWords(state, reason);
  $("state").className = `state ${state}`;
  const live = state && !["stopped", "failed"].includes(state);
  const accepts = live && state !== "stopping";
  $("stop").disabled = $("reset").disabled = !accepts;
  $("webcam").disabled = !webcam.running && (!accepts || !client.connected);
  $("ask-now").disabled = !accepts || !client.connected;
  $("cancel").disabled = !accepts || !current.writing;
  $("overlay").hidden = webcam.running;
  showFrames(frames);
  const latency = text?.latency;
  $("delay").textContent = latency ? ms(latency.total_ms) : "–";
  $("ack-delay").textContent = current.ackMs == null ? "–" : ms(current.ackMs);
  $("skipped").textContent = number(current.unshown);
  showRows([
    [t("Frames under way"), live && current.depth != null ? number(current.depth) : null],
    [t("Refused at the door"), current.refused || null],
    [t("Waiting for the model"), latency ? ms(latency.queue_ms) : null],
    [t("Reading the frames"), latency ? ms(latency.prefill_ms) : null],
    [t("First word"), latency ? ms(latency.first_token_ms) : null],
    [t("Writing"), latency ? ms(latency.decode_ms) : null],
    [t("Tokens"), text?.tokens == null ? null : number(text.tokens)],
    [t("Model"), text?.model ?? null],
    [t("Frame age when processed"), current.frameAgeS == null ? null : seconds(current.frameAgeS)],
    [t("Questions waiting"), words.waiting.size ? number(words.waiting.size) : null],
    [t("Cost"), current.cost.actual_usd == null ? null
      : dollars(current.cost.actual_usd) + (current.cost.max_usd == null ? "" : ` ${t("of at most {0}", dollars(current.cost.max_usd))}`)],
  ]);
}

// The words over the camera: those of the newest chunk, while and after they are written.
function showLive(text, note, writing) {
  current.writing = writing;
  $("caption").hidden = !text && !note;
  $("caption").classList.toggle("writing", writing);
  $("live-words").textContent = text;
  $("live-note").textContent = note;
}

client.addEventListener("session", ({ detail: session }) => {
  $("key").hidden = true;
  $("problem").hidden = true;
  $("workload").textContent = session.workload.replaceAll("_", " ");
  Object.assign(current, {
    state: session.state, frames: session.frames, cost: session.cost, reason: session.reason, frameAgeS: session.frame_age_s,
  });
  if (session.error) showProblem(new Problem({ ...session.error, detail: session.error.message ?? session.error.detail }));
  $("files").href = addressOf(session.links.artifacts);
  $("files").hidden = !session.finished_at;
  render();
});

const HANDLERS = {
  "session.ready": () => { if (current.state === "opening") current.state = "ready"; },
  "session.started": () => { if (current.state !== "stopping") current.state = "running"; },
  "session.stop_requested": () => {
    current.state = "stopping";
    if (webcam.running) webcam.stop();
  },
  "session.frame_acked": ({ data }) => {
    current.frames = data.totals;
    showRejection(data.acks);
  },
  "session.progressed": ({ data }) => {
    Object.assign(current, { frames: data.totals, frameAgeS: data.frame_age_s ?? current.frameAgeS });
    current.cost = { ...current.cost, actual_usd: Math.max(current.cost.actual_usd ?? 0, data.cost_usd) };
    const { figures } = data;
    if (!current.text && figures.message) showLive("", figures.message, false);
  },
  // The text of a chunk that is complete is newer than every delta of it.
  "session.text_delta": ({ data }) => {
    if (data.chunk > current.chunk) showLive(data.text, words.waiting.get(data.prompt_id) ?? "", true);
  },
  "session.text": ({ data, time }) => {
    words.add(time, data, !catchingUp);
    if (data.chunk <= current.chunk) return;
    Object.assign(current, { chunk: data.chunk, text: data, unshown: current.unshown + (data.dropped ?? 0) });
    showLive(data.error ? "" : data.text, data.error ? data.error.message : spanOf(data), false);
  },
  "session.alert": ({ data, time }) => alerts.add(time, data),
  "session.prompt_requested": ({ data }) => words.ask(data.prompt_id, data.text),
  "session.stopped": ({ data }) => {
    Object.assign(current, { state: "stopped", reason: data.reason, frames: data.totals });
    current.cost = { ...current.cost, actual_usd: data.cost_usd };
    $("files").hidden = false;
  },
  "session.failed": ({ data }) => {
    current.state = "failed";
    current.cost = { ...current.cost, actual_usd: data.cost_usd };
    showProblem(new Problem({ ...data.error, detail: data.error.message ?? data.error.detail }));
  },
};
client.addEventListener("event", ({ detail: { event } }) => {
  HANDLERS[event.type]?.(event);
  if (!catchingUp) render();
});
client.addEventListener("caught_up", () => {
  catchingUp = false;
  words.draw();
  render();
});

client.addEventListener("ack", ({ detail: ack }) => {
  const sent = sentAtS.get(ack.seq);
  sentAtS.delete(ack.seq);
  if (sent !== undefined) current.ackMs = 1000 * (nowS() - sent);
  current.depth = ack.queue_depth;
  if (ack.status !== "accepted") current.refused = ack.detail ?? ack.reason;
  render();
});
client.addEventListener("going_away", ({ detail: { reason, after_s: afterS } }) => {
  const why = { length: t("it reaches its maximum length"), cost_cap: t("it reaches its cost cap") }[reason];
  $("notice").hidden = !why;
  $("notice").textContent = why ? t("The session ends in {0}: {1}.", seconds(afterS), why) : "";
});
client.addEventListener("prompt_accepted", () => { $("asked").textContent = t("Asked: the answer comes with the next frames."); });

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("question").value.trim();
  if (!text || !client.send({ type: "prompt", text })) return;
  $("question").value = "";
  $("asked").textContent = t("Sending …");
});
$("cancel").addEventListener("click", () => client.send({ type: "cancel" }));

connectHeader(client, {
  ended() {
    catchingUp = true;
    if (webcam.running && ["stopped", "failed"].includes(current.state)) webcam.stop();
    sentAtS.clear();
    current.writing = false;
    render();
  },
  missing() { $("overlay").textContent = ""; },
});
client.addEventListener("problem", () => { $("asked").textContent = ""; });
connectActions(client, {
  stop: [t("Stop the session?"), t("The worker finishes its text and writes the transcript. A stopped session cannot be continued."), t("Stop")],
  reset: [t("Forget what was seen?"), t("The model starts again without its memory of earlier frames. Texts and alerts are kept."), t("Forget")],
});
connectWebcam(webcam, render);
webcam.hz = Number($("webcam-rate").value);
webcam.onsent = (seq) => {
  sentAtS.set(seq, nowS());
  if (sentAtS.size > AWAITED) sentAtS.delete(sentAtS.keys().next().value);
};
client.start();
