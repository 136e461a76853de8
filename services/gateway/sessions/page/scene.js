// 3D view: the splat, the arm and the cameras in the frame of the robot's base (metres, z up).
// It is drawn only when something has changed, and less often without a GPU, so that a worker on the same computer
// keeps most of the processor.
import {
  Color, DirectionalLight, GridHelper, Group, HemisphereLight, Matrix4, OrbitControls, PackedSplats, PerspectiveCamera,
  Quaternion, Scene, SparkRenderer, Spherical, SplatMesh, Vector3, WebGLRenderer,
} from "./vendor/splat_viewer.js";
import { Arm } from "./arm.js";
import { Cameras } from "./cameras.js";

// Behind the arm, on the side of its camera: a splat is sharp from where it was seen.
const HOME = { eye: [-0.34, -0.36, 0.5], target: [0.24, 0, 0.04] };
const SOFTWARE = /swiftshader|llvmpipe|software|basic render/i;
// Without a GPU, drawing 10,000 splats at 800 × 500 pixels takes about a third of a second on one core.
const SOFTWARE_SCALE = 0.6;
const SOFTWARE_SPLATS = 12_000;
const SPLATS = 50_000;
const SOFTWARE_CPU_SHARE = 0.35;
const FIELD_OF_VIEW_DEG = 45;
const Z_UP = new Quaternion().setFromUnitVectors(new Vector3(0, 0, 1), new Vector3(0, 1, 0));

export class SceneView {
  constructor(canvas) {
    this.canvas = canvas;
    this.renderer = new WebGLRenderer({ canvas, antialias: false, powerPreference: "high-performance" });
    const gl = this.renderer.getContext();
    const info = gl.getExtension("WEBGL_debug_renderer_info");
    this.software = SOFTWARE.test(info ? gl.getParameter(info.UNMASKED_RENDERER_WEBGL) : "");
    this.maxSplats = this.software ? SOFTWARE_SPLATS : SPLATS;
    this.scene = new Scene();
    this.camera = new PerspectiveCamera(FIELD_OF_VIEW_DEG, 1, 0.005, 50);
    this.camera.up.set(0, 0, 1);
    this.controls = new OrbitControls(this.camera, canvas);
    this.controls.minDistance = 0.03;
    this.controls.maxDistance = 8;
    this.spark = new SparkRenderer({ renderer: this.renderer, enableLod: false, onDirty: () => this.invalidate() });
    this.splat = null;
    this.splats = 0;
    this.resets = 0;
    this.arm = null;
    this.body = new Group();
    this.cameras = new Cameras();
    const sun = new DirectionalLight(0xffffff, 1.6);
    sun.position.set(0.6, -0.8, 1.4);
    this.scene.add(this.spark, this.body, this.cameras, new HemisphereLight(0xffffff, 0x8a8f98, 1.6), sun);
    this.userMoved = false;
    this.framed = false;
    this.moving = false;
    this.pausedUntilMs = 0;
    this.drawRequested = this.scheduled = false;
    this.controls.addEventListener("change", () => this.invalidate());
    this.controls.addEventListener("start", () => {
      this.userMoved = this.moving = true;
      this.#hideArmAndCameras(false);
    });
    this.controls.addEventListener("end", () => { this.moving = false; });
    new ResizeObserver(() => this.#resize()).observe(canvas);
    this.home();
    this.#resize();
  }

  colours({ background, grid, axis, past, newest }) {
    this.scene.background = new Color(background);
    this.grid?.removeFromParent();
    const shown = this.grid ? this.grid.visible : true;
    this.grid = new GridHelper(1.2, 12, axis, grid);
    this.grid.rotation.x = Math.PI / 2;
    // Slightly below the table, so that the grid does not cut through its splats.
    this.grid.position.z = -0.004;
    this.grid.visible = shown;
    this.scene.add(this.grid);
    this.cameras.colour(past, newest);
    this.invalidate();
  }

  setChain(joints) {
    this.arm = new Arm(joints);
    this.body.add(this.arm);
    this.invalidate();
  }

  pose(names, positions) {
    if (this.arm?.pose(names, positions)) this.invalidate();
  }

  show(layer, visible) {
    const found = { splat: this.splat, arm: this.arm, cameras: this.cameras.lines, grid: this.grid }[layer];
    if (layer === "splat") this.splatHidden = !visible;
    if (found) found.visible = visible;
    this.invalidate();
  }

  // Show a new version of the model; the old one stays visible until the new one is ready.
  async setSplat(bytes) {
    const centre = this.framed ? null : medianPosition(bytes);
    const splats = new PackedSplats({ fileBytes: bytes, fileName: "live.ply" });
    const { resets } = this;
    await splats.initialized;
    if (resets !== this.resets) return splats.dispose();
    if (this.splat) {
      const old = this.splat.packedSplats;
      this.splat.packedSplats = this.splat.splats = splats;
      this.splat.updateGenerator();
      setTimeout(() => old.dispose(), 2000);
    } else {
      this.splat = new SplatMesh({ packedSplats: splats });
      this.splat.visible = !this.splatHidden;
      this.scene.add(this.splat);
    }
    this.splats = splats.numSplats;
    if (centre && this.splats >= 200) {
      this.framed = true;
      if (!this.userMoved) this.#centreOn(centre);
    }
    this.invalidate();
  }

  forgetSplat() {
    this.resets += 1;
    this.splat?.removeFromParent();
    this.splat?.dispose();
    this.splat = null;
    this.splats = 0;
    this.framed = false;
    this.cameras.forget();
    this.invalidate();
  }

  home() {
    this.#hideArmAndCameras(false);
    this.camera.position.fromArray(HOME.eye);
    this.controls.target.fromArray(HOME.target);
    this.controls.update();
    this.invalidate();
  }

  above() {
    this.#hideArmAndCameras(false);
    const { target } = this.controls;
    this.camera.position.set(target.x - 1e-3, target.y, target.z + 0.75);
    this.controls.update();
    this.invalidate();
  }

  // View from the pose of the newest picture.
  fromCamera() {
    if (!this.cameras.pose) return false;
    const pose = new Matrix4().set(...this.cameras.pose);
    this.camera.position.setFromMatrixPosition(pose);
    this.controls.target.set(0, 0, 0.25).applyMatrix4(pose);
    this.#hideArmAndCameras(true);
    this.controls.update();
    this.invalidate();
    return true;
  }

  // Orbit around the target by angles in radians; a zoom factor below 1 moves closer.
  orbit(azimuth, polar, zoom = 1) {
    const { target, minDistance, maxDistance } = this.controls;
    const offset = this.camera.position.clone().sub(target).applyQuaternion(Z_UP);
    const place = new Spherical().setFromVector3(offset);
    place.theta += azimuth;
    place.phi = Math.min(Math.PI - 0.02, Math.max(0.02, place.phi + polar));
    place.radius = Math.min(maxDistance, Math.max(minDistance, place.radius * zoom));
    offset.setFromSpherical(place).applyQuaternion(Z_UP.clone().invert());
    this.camera.position.copy(target).add(offset);
    this.userMoved = true;
    this.#hideArmAndCameras(false);
    this.controls.update();
    this.invalidate();
  }

  // Position of a world point (metres) on the canvas, in CSS pixels from its upper left corner.
  project(place) {
    this.camera.updateMatrixWorld();
    const { x, y } = new Vector3().fromArray(place).project(this.camera);
    return [((x + 1) / 2) * this.canvas.clientWidth, ((1 - y) / 2) * this.canvas.clientHeight];
  }

  invalidate() {
    this.drawRequested = true;
    if (this.scheduled) return;
    this.scheduled = true;
    const pauseMs = this.moving ? 0 : this.pausedUntilMs - performance.now();
    const draw = () => requestAnimationFrame(() => this.#draw());
    if (pauseMs > 0) setTimeout(draw, pauseMs);
    else draw();
  }

  async #draw() {
    this.drawRequested = false;
    const startMs = performance.now();
    this.renderer.render(this.scene, this.camera);
    if (this.software) {
      // Pause in proportion to the drawing time, to leave the processor to others.
      await this.#drawn();
      const now = performance.now();
      this.pausedUntilMs = now + (now - startMs) * (1 / SOFTWARE_CPU_SHARE - 1);
    }
    this.scheduled = false;
    if (this.drawRequested) this.invalidate();
  }

  async #drawn() {
    const gl = this.renderer.getContext();
    const fence = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
    gl.flush();
    while (!gl.isContextLost() && gl.getSyncParameter(fence, gl.SYNC_STATUS) !== gl.SIGNALED) {
      await new Promise((resume) => setTimeout(resume, 5));
    }
    gl.deleteSync(fence);
  }

  // In the view from a camera, hide the cameras and the arm that carries it.
  #hideArmAndCameras(camera) {
    this.cameras.visible = this.body.visible = !camera;
  }

  #centreOn(centre) {
    const shift = new Vector3().fromArray(centre).sub(this.controls.target);
    this.controls.target.add(shift);
    this.camera.position.add(shift);
    this.controls.update();
  }

  #resize() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !height) return;
    this.renderer.setPixelRatio(this.software ? SOFTWARE_SCALE : Math.min(devicePixelRatio, 2));
    this.renderer.setSize(width, height, false);
    this.camera.aspect = width / height;
    // On a portrait screen the scene keeps its width.
    const halfWidth = Math.tan((FIELD_OF_VIEW_DEG * Math.PI) / 360) / Math.min(1, this.camera.aspect);
    this.camera.fov = Math.min(80, (Math.atan(halfWidth) * 360) / Math.PI);
    this.camera.updateProjectionMatrix();
    this.invalidate();
  }
}

// Median position of a PLY's splats, metres; null if its header does not start with float x, y and z.
function medianPosition(bytes) {
  const end = "end_header\n";
  const head = new TextDecoder("latin1").decode(bytes.slice(0, 8192));
  const at = head.indexOf(end);
  const count = Number(/element vertex (\d+)/.exec(head)?.[1] ?? 0);
  const names = [...head.slice(0, at).matchAll(/property float (\S+)/g)].map((found) => found[1]);
  const stride = names.length * 4;
  if (at < 0 || !count || bytes.byteLength < at + end.length + count * stride) return null;
  const view = new DataView(bytes, at + end.length);
  const step = Math.max(1, Math.floor(count / 2000));
  return ["x", "y", "z"].map((name) => {
    const values = [];
    for (let i = 0; i < count; i += step) values.push(view.getFloat32(i * stride + names.indexOf(name) * 4, true));
    return values.sort((a, b) => a - b)[values.length >> 1];
  });
}
