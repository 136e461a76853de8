// Page of one live session: connects the events of its stream with the elements that show them.
import { ChunkList } from "./chunk_list.js";
import { QualityChart } from "./quality_chart.js";
import { connectActions, connectHeader, connectWebcam } from "./page_parts.js";
import { Problem, SessionClient } from "./session_client.js";
import { ModelLoader } from "./model_loader.js";
import {
  $, decibels, dollars, ms, number, overlayWords, seconds, showFrames, showProblem, showRejection, showRows, size, stateWords,
} from "./text.js";
import { Webcam } from "./webcam.js";
import { t, translatePage } from "./words.js";

translatePage();
const JOINTS_SHOWN_S = 2;

const id = location.pathname.split("/").filter(Boolean).pop();
const client = new SessionClient(id);
const chunks = new ChunkList(client);
const chart = new QualityChart($("curve"));
const webcam = new Webcam(client, $("webcam-video"));
export const scene = await openScene();
const modelLoader = scene && new ModelLoader(client, {
  maxSplats: scene.maxSplats,
  fail: showProblem,
  async take(bytes) {
    await scene.setSplat(bytes);
    render();
  },
});

// Current state of the session.
const current = { state: "", frames: {}, figures: {}, ack: null, cost: {}, frameAgeS: null, joints: [], attempt: null };

// Without WebGL the page still shows the figures.
async function openScene() {
  try {
    const { SceneView } = await import("./scene.js");
    return new SceneView($("canvas"));
  } catch {
    $("overlay").textContent = t("This browser has no WebGL 2, so the splat cannot be drawn. The figures are still live.");
    return null;
  }
}

function render() {
  const { state, frames, figures, reason } = current;
  document.title = `${stateWords(state)} – ${id.slice(0, 12)}`;
  $("state").textContent = stateWords(state, reason);
  $("state").className = `state ${state}`;
  const live = state && !["stopped", "failed"].includes(state);
  $("stop").disabled = !live || state === "stopping";
  $("reset").disabled = $("stop").disabled;
  $("webcam").disabled = !webcam.running && ($("stop").disabled || !client.connected);
  $("download").disabled = !figures.version;
  showFrames(frames);
  $("psnr").textContent = decibels(figures.psnr_db);
  $("psnr-train").textContent = decibels(figures.train_psnr_db);
  $("splats").textContent = figures.splats == null ? "–" : number(figures.splats);
  const rate = jointsHz();
  showRows([
    [t("Queue depth"), live && current.ack ? number(current.ack.queue_depth) : null],
    [t("Frame age when processed"), current.frameAgeS == null ? null : seconds(current.frameAgeS)],
    [t("Joint angles"), live && rate ? `${number(rate.toFixed(rate < 10 ? 1 : 0))} Hz` : null],
    [t("Frame to nearest joints"), ms(figures.joints_gap_ms)],
    [t("Clock offset of the sender"), ms(figures.clock_offset_ms)],
    [t("Optimisation"), figures.steps == null ? null : t("{0} steps", number(figures.steps)) + (figures.step_ms ? t(", {0} ms each", figures.step_ms.toFixed(0)) : "")],
    [t("Held-out frames"), figures.held_out_frames == null ? null : number(figures.held_out_frames)],
    [t("PSNR against the true scene"), figures.truth_psnr_db == null ? null : decibels(figures.truth_psnr_db)],
    [t("Model"), figures.ply_bytes ? size(figures.ply_bytes) : null],
    [t("Worker's attempt"), current.attempt ? number(current.attempt) : null],
    [t("Cost"), current.cost.actual_usd == null ? null
      : dollars(current.cost.actual_usd) + (current.cost.max_usd == null ? "" : ` ${t("of at most {0}", dollars(current.cost.max_usd))}`)],
  ]);
  if (!scene) return;
  $("overlay").textContent = scene.splats ? "" : overlayWords(state, frames.accepted);
  $("tags").textContent = scene.splats ? t("{0} splats shown", number(scene.splats)) : "";
}

// Samples per second, computed from their numbers: the stream sends only the newest samples.
function jointsHz() {
  const [first, last] = [current.joints[0], current.joints.at(-1)];
  const rate = last && (last[0] - first[0]) / (last[1] - first[1]);
  return rate > 0 && Number.isFinite(rate) ? rate : null;
}

function takeFigures(figures, frames) {
  current.figures = figures;
  chart.add(frames.accepted, figures.psnr_db, figures.train_psnr_db);
  if (!scene) return;
  scene.cameras.show(figures.cameras, figures.world_from_camera);
  scene.invalidate();
  if (figures.version) modelLoader.offer(figures.version, figures.splats);
}

client.addEventListener("session", ({ detail: session }) => {
  $("key").hidden = true;
  $("problem").hidden = true;
  $("workload").textContent = session.workload.replaceAll("_", " ");
  Object.assign(current, {
    state: session.state, frames: session.frames, cost: session.cost, reason: session.reason,
    frameAgeS: session.frame_age_s ?? current.frameAgeS, attempt: session.job?.attempt,
  });
  scene?.cameras.setLens(session.params);
  takeFigures(session.figures ?? {}, session.frames);
  if (session.error) showProblem(new Problem({ ...session.error, detail: session.error.message ?? session.error.detail }));
  chunks.path = session.links.artifacts;
  // The stream reports every chunk; the other files of an ended session are in its manifest.
  if (session.finished_at) chunks.load().catch(showProblem);
  render();
});

const HANDLERS = {
  "session.ready": (data) => Object.assign(current, { attempt: data.attempt, state: current.state === "opening" ? "ready" : current.state }),
  "session.started": () => { if (current.state !== "stopping") current.state = "running"; },
  "session.stop_requested": () => {
    current.state = "stopping";
    if (webcam.running) webcam.stop();
  },
  "session.reset_requested": (_, past) => {
    chart.clear();
    if (past) return; // the stored model is newer than this reset
    scene?.forgetSplat();
    modelLoader?.forget();
    current.figures = {};
  },
  "session.frame_acked": (data) => {
    current.frames = data.totals;
    current.ack = data.acks.at(-1) ?? current.ack;
    showRejection(data.acks);
  },
  "session.progressed": (data) => {
    Object.assign(current, { frames: data.totals, frameAgeS: data.frame_age_s ?? current.frameAgeS });
    current.cost = { ...current.cost, actual_usd: Math.max(current.cost.actual_usd ?? 0, data.cost_usd) };
    takeFigures(data.figures, data.totals);
  },
  "session.chunk_exported": (data) => {
    chunks.add(data.artifact);
    chart.add(data.totals.accepted, data.figures.psnr_db, data.figures.train_psnr_db);
  },
  "session.stopped": (data) => {
    Object.assign(current, { state: "stopped", reason: data.reason, frames: data.totals });
    current.cost = { ...current.cost, actual_usd: data.cost_usd };
    modelLoader?.refresh();
  },
  "session.failed": (data) => {
    current.state = "failed";
    current.cost = { ...current.cost, actual_usd: data.cost_usd };
    showProblem(new Problem({ ...data.error, detail: data.error.message ?? data.error.detail }));
  },
};
// While the page catches up, past events are applied without rendering each one.
let catchingUp = true;
client.addEventListener("event", ({ detail: { event, past } }) => {
  HANDLERS[event.type]?.(event.data, past);
  if (!catchingUp) render();
});
client.addEventListener("caught_up", () => {
  catchingUp = false;
  render();
});

client.addEventListener("joints", ({ detail: { names, unit, samples } }) => {
  const newest = samples.at(-1);
  current.joints = [...current.joints, ...samples].filter(([, at]) => at <= newest[1] && at > newest[1] - JOINTS_SHOWN_S);
  if (unit === "rad") scene?.pose(names, newest[2]);
});

connectHeader(client, {
  ended() {
    catchingUp = true;
    render();
  },
  missing() { $("overlay").textContent = ""; },
});
client.addEventListener("closed", ({ detail }) => detail.again_ms === null && webcam.running && webcam.stop());
connectActions(client, {
  stop: [t("Stop the session?"), t("The worker processes its last frames and exports the complete model. A stopped session cannot be continued."), t("Stop")],
  reset: [t("Discard the model and start again?"), t("All Gaussians and camera poses are discarded. Exported chunks are kept."), t("Reset")],
});

$("download").addEventListener("click", async () => {
  try {
    const response = await client.fetch(`${client.path}/ply`);
    if (!response.ok) throw new Problem({ ...(await response.json()), status: response.status });
    const file = document.createElement("a");
    file.href = URL.createObjectURL(await response.blob());
    file.download = `${id}.ply`;
    file.click();
    setTimeout(() => URL.revokeObjectURL(file.href), 60_000);
  } catch (problem) {
    showProblem(problem);
  }
});

connectWebcam(webcam, render);

function connectScene() {
  const colours = () => {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(name).trim();
    scene.colours({ background: of("--stage"), grid: of("--stage-grid"), axis: of("--stage-axis"), past: of("--past"), newest: of("--newest") });
  };
  colours();
  $("canvas").addEventListener("webglcontextlost", () => {
    $("tags").textContent = t("The browser has lost the graphics context: reload the page.");
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", colours);
  $("software").hidden = !scene.software;
  const views = { home: () => scene.home(), above: () => scene.above(), camera: () => scene.fromCamera() };
  for (const button of document.querySelectorAll("[data-view]")) button.addEventListener("click", views[button.dataset.view]);
  for (const box of document.querySelectorAll("[data-layer]")) {
    box.addEventListener("change", () => scene.show(box.dataset.layer, box.checked));
  }
  const turn = Math.PI / 24;
  const keys = {
    ArrowLeft: [-turn, 0], ArrowRight: [turn, 0], ArrowUp: [0, -turn], ArrowDown: [0, turn], "+": [0, 0, 0.88], "=": [0, 0, 0.88], "-": [0, 0, 1.14],
  };
  $("canvas").addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "0") scene.home();
    else if (keys[event.key]) scene.orbit(...keys[event.key]);
    else return;
    event.preventDefault();
  });
}

if (scene) {
  connectScene();
  fetch(new URL("so101_chain.json", import.meta.url)).then((response) => response.json()).then((joints) => scene.setChain(joints));
}
client.start();
