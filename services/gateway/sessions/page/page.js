// The page of one live session: what is said by its stream goes to what is seen.
import { Chunks } from "./chunk_list.js";
import { Curve } from "./quality_chart.js";
import { Problem, SessionLink } from "./session_client.js";
import { SplatFeed } from "./model_loader.js";
import {
  $, decibels, dollars, ms, number, overlayWords, seconds, showFrames, showProblem, showRefusal, showRows, size, stateWords, sure,
} from "./text.js";
import { Webcam } from "./webcam.js";

const JOINTS_SHOWN_S = 2;

const id = location.pathname.split("/").filter(Boolean).pop();
const link = new SessionLink(id);
const chunks = new Chunks(link);
const curve = new Curve($("curve"));
const webcam = new Webcam(link, $("webcam-video"));
export const stage = await openStage();
const feed = stage && new SplatFeed(link, {
  maxSplats: stage.maxSplats,
  fail: showProblem,
  async take(bytes) {
    await stage.setSplat(bytes);
    shown();
  },
});

// What is known of the session.
const known = { state: "", frames: {}, figures: {}, ack: null, cost: {}, frameAgeS: null, joints: [], attempt: null };

// A browser that cannot draw shows the figures all the same.
async function openStage() {
  try {
    const { Stage } = await import("./scene.js");
    return new Stage($("canvas"));
  } catch {
    $("overlay").textContent = "This browser has no WebGL 2, which draws the splat. The figures are live all the same.";
    return null;
  }
}

function shown() {
  const { state, frames, figures, reason } = known;
  document.title = `${stateWords(state)} – ${id.slice(0, 12)}`;
  $("state").textContent = stateWords(state, reason);
  $("state").className = `state ${state}`;
  const live = state && !["stopped", "failed"].includes(state);
  $("stop").disabled = !live || state === "stopping";
  $("reset").disabled = $("stop").disabled;
  $("webcam").disabled = !webcam.running && ($("stop").disabled || !link.connected);
  $("download").disabled = !figures.version;
  showFrames(frames);
  $("psnr").textContent = decibels(figures.psnr_db);
  $("psnr-train").textContent = decibels(figures.train_psnr_db);
  $("splats").textContent = figures.splats == null ? "–" : number(figures.splats);
  const rate = jointsHz();
  showRows([
    ["Queue depth", live && known.ack ? number(known.ack.queue_depth) : null],
    ["Frame age when worked on", known.frameAgeS == null ? null : seconds(known.frameAgeS)],
    ["Joint angles", live && rate ? `${rate.toFixed(rate < 10 ? 1 : 0)} Hz` : null],
    ["Frame to nearest joints", ms(figures.joints_gap_ms)],
    ["Clock offset of the sender", ms(figures.clock_offset_ms)],
    ["Optimisation", figures.steps == null ? null : `${number(figures.steps)} steps${figures.step_ms ? `, ${figures.step_ms.toFixed(0)} ms each` : ""}`],
    ["Held-out frames", figures.held_out_frames == null ? null : number(figures.held_out_frames)],
    ["PSNR against the true scene", figures.truth_psnr_db == null ? null : decibels(figures.truth_psnr_db)],
    ["Model", figures.ply_bytes ? size(figures.ply_bytes) : null],
    ["Worker's attempt", known.attempt ? number(known.attempt) : null],
    ["Cost", known.cost.actual_usd == null ? null
      : dollars(known.cost.actual_usd) + (known.cost.max_usd == null ? "" : ` of at most ${dollars(known.cost.max_usd)}`)],
  ]);
  if (!stage) return;
  $("overlay").textContent = stage.splats ? "" : overlayWords(state, frames.accepted);
  $("tags").textContent = stage.splats ? `${number(stage.splats)} splats on show` : "";
}

// Samples a second, by their numbers: the stream leaves out what is older than the newest.
function jointsHz() {
  const [first, last] = [known.joints[0], known.joints.at(-1)];
  const rate = last && (last[0] - first[0]) / (last[1] - first[1]);
  return rate > 0 && Number.isFinite(rate) ? rate : null;
}

function takeFigures(figures, frames) {
  known.figures = figures;
  curve.add(frames.accepted, figures.psnr_db, figures.train_psnr_db);
  if (!stage) return;
  stage.cameras.show(figures.cameras, figures.world_from_camera);
  stage.invalidate();
  if (figures.version) feed.offer(figures.version, figures.splats);
}

link.addEventListener("session", ({ detail: session }) => {
  $("key").hidden = true;
  $("problem").hidden = true;
  $("workload").textContent = session.workload.replaceAll("_", " ");
  Object.assign(known, {
    state: session.state, frames: session.frames, cost: session.cost, reason: session.reason,
    frameAgeS: session.frame_age_s ?? known.frameAgeS, attempt: session.job?.attempt,
  });
  stage?.cameras.aim(session.params);
  takeFigures(session.figures ?? {}, session.frames);
  if (session.error) showProblem(new Problem({ ...session.error, detail: session.error.message ?? session.error.detail }));
  chunks.path = session.links.artifacts;
  // Chunks are told of by the stream, from the first; what else there is at the end stands in the manifest.
  if (session.finished_at) chunks.load().catch(showProblem);
  shown();
});

const takes = {
  "session.ready": (data) => Object.assign(known, { attempt: data.attempt, state: known.state === "opening" ? "ready" : known.state }),
  "session.started": () => { if (known.state !== "stopping") known.state = "running"; },
  "session.stop_requested": () => {
    known.state = "stopping";
    if (webcam.running) webcam.stop();
  },
  "session.reset_requested": (_, past) => {
    curve.clear();
    if (past) return; // the model that is there came after it
    stage?.forgetSplat();
    feed?.forget();
    known.figures = {};
  },
  "session.frame_acked": (data) => {
    known.frames = data.totals;
    known.ack = data.acks.at(-1) ?? known.ack;
    showRefusal(data.acks);
  },
  "session.progressed": (data) => {
    Object.assign(known, { frames: data.totals, frameAgeS: data.frame_age_s ?? known.frameAgeS });
    known.cost = { ...known.cost, actual_usd: Math.max(known.cost.actual_usd ?? 0, data.cost_usd) };
    takeFigures(data.figures, data.totals);
  },
  "session.chunk_exported": (data) => {
    chunks.add(data.artifact);
    curve.add(data.totals.accepted, data.figures.psnr_db, data.figures.train_psnr_db);
  },
  "session.stopped": (data) => {
    Object.assign(known, { state: "stopped", reason: data.reason, frames: data.totals });
    known.cost = { ...known.cost, actual_usd: data.cost_usd };
    feed?.refresh();
  },
  "session.failed": (data) => {
    known.state = "failed";
    known.cost = { ...known.cost, actual_usd: data.cost_usd };
    showProblem(new Problem({ ...data.error, detail: data.error.message ?? data.error.detail }));
  },
};
// While the page catches up, what is over is taken and not shown.
let behind = true;
link.addEventListener("event", ({ detail: { event, past } }) => {
  takes[event.type]?.(event.data, past);
  if (!behind) shown();
});
link.addEventListener("caught_up", () => {
  behind = false;
  shown();
});

link.addEventListener("joints", ({ detail: { names, unit, samples } }) => {
  const newest = samples.at(-1);
  known.joints = [...known.joints, ...samples].filter(([, at]) => at <= newest[1] && at > newest[1] - JOINTS_SHOWN_S);
  if (unit === "rad") stage?.pose(names, newest[2]);
});

const lamp = (kind, words) => {
  $("link").className = `link ${kind}`;
  $("link").lastElementChild.textContent = words;
};
link.addEventListener("open", () => lamp("open", "live"));
link.addEventListener("closed", ({ detail }) => {
  behind = true;
  if (detail.again_ms === null) lamp("", "session over");
  else lamp("lost", "connection lost, trying again");
  if (detail.again_ms === null && webcam.running) webcam.stop();
  shown();
});
link.addEventListener("problem", ({ detail }) => showProblem(detail));
link.addEventListener("key", ({ detail }) => {
  $("key").hidden = false;
  $("key-refused").textContent = link.keyed ? detail.message : "";
  $("key-value").focus();
  lamp("", "not connected");
});
$("key").addEventListener("submit", (event) => {
  event.preventDefault();
  link.useKey($("key-value").value.trim());
});
$("problem").querySelector("button").addEventListener("click", () => { $("problem").hidden = true; });

const DEEDS = {
  stop: ["Stop the session?", "The worker finishes what it has and leaves the whole model. A stopped session cannot go on.", "Stop"],
  reset: ["Forget the model and begin anew?", "All Gaussians and camera poses are thrown away. Chunks that were exported stay.", "Reset"],
};
for (const [deed, words] of Object.entries(DEEDS)) {
  $(deed).addEventListener("click", async () => {
    if (!(await sure(...words))) return;
    try {
      await link.json(`${link.path}/${deed}`, { method: "POST" });
    } catch (problem) {
      showProblem(problem);
    }
  });
}

$("download").addEventListener("click", async () => {
  try {
    const response = await link.fetch(`${link.path}/ply`);
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

$("webcam").addEventListener("click", async () => {
  if (webcam.running) return webcam.stop();
  try {
    await webcam.start();
    $("webcam").textContent = "Stop the webcam";
    $("webcam-video").hidden = false;
  } catch (problem) {
    $("webcam-told").textContent = `${problem.message} ${problem.hint ?? ""}`;
  }
});
webcam.onstop = () => {
  $("webcam").textContent = "Use the webcam";
  $("webcam-video").hidden = true;
  shown();
};
webcam.onframe = () => {
  $("webcam-told").textContent = `${number(webcam.sent)} sent${webcam.skipped ? `, ${number(webcam.skipped)} left out: the connection is too slow` : ""}.`;
};
$("webcam-rate").addEventListener("change", ({ target }) => { webcam.hz = Number(target.value); });

function watchStage() {
  const colours = () => {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(name).trim();
    stage.colours({ background: of("--stage"), grid: of("--stage-grid"), axis: of("--stage-axis"), past: of("--past"), newest: of("--newest") });
  };
  colours();
  $("canvas").addEventListener("webglcontextlost", () => {
    $("tags").textContent = "The browser has taken the graphics away: reload the page.";
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", colours);
  $("software").hidden = !stage.software;
  const views = { home: () => stage.home(), above: () => stage.above(), camera: () => stage.fromCamera() };
  for (const button of document.querySelectorAll("[data-view]")) button.addEventListener("click", views[button.dataset.view]);
  for (const box of document.querySelectorAll("[data-layer]")) {
    box.addEventListener("change", () => stage.show(box.dataset.layer, box.checked));
  }
  const turn = Math.PI / 24;
  const keys = {
    ArrowLeft: [-turn, 0], ArrowRight: [turn, 0], ArrowUp: [0, -turn], ArrowDown: [0, turn], "+": [0, 0, 0.88], "=": [0, 0, 0.88], "-": [0, 0, 1.14],
  };
  $("canvas").addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "0") stage.home();
    else if (keys[event.key]) stage.orbit(...keys[event.key]);
    else return;
    event.preventDefault();
  });
}

$("session-id").textContent = id;
if (stage) {
  watchStage();
  fetch(new URL("so101_chain.json", import.meta.url)).then((response) => response.json()).then((joints) => stage.setChain(joints));
}
link.start();
