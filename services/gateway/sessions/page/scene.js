// What is seen: the splat, the arm and the cameras, in the frame of the robot's base (metres, z up).
// It is drawn only when something has changed, and without a GPU less often, so that a worker on the same machine is
// not held up by whoever looks at it.
import {
  Color, DirectionalLight, GridHelper, Group, HemisphereLight, Matrix4, OrbitControls, PackedSplats, PerspectiveCamera,
  Quaternion, Scene, SparkRenderer, Spherical, SplatMesh, Vector3, WebGLRenderer,
} from "./vendor/splat_viewer.js";
import { Arm } from "./arm.js";
import { Cameras } from "./cameras.js";

// Over the arm's shoulder: a splat is sharp from where its cameras looked.
const HOME = { eye: [-0.34, -0.36, 0.5], target: [0.24, 0, 0.04] };
const SOFTWARE = /swiftshader|llvmpipe|software|basic render/i;
// Without a GPU a picture of 10,000 splats at 800 × 500 pixels takes about a third of a second on one core.
const SOFTWARE_SCALE = 0.6;
const SOFTWARE_SPLATS = 12_000;
const SPLATS = 50_000;
const SOFTWARE_SHARE = 0.35;
const FIELD_DEG = 45;
const Z_UP = new Quaternion().setFromUnitVectors(new Vector3(0, 0, 1), new Vector3(0, 1, 0));

export class Stage {
  constructor(canvas) {
    this.canvas = canvas;
    this.renderer = new WebGLRenderer({ canvas, antialias: false, powerPreference: "high-performance" });
    const gl = this.renderer.getContext();
    const told = gl.getExtension("WEBGL_debug_renderer_info");
    this.software = SOFTWARE.test(told ? gl.getParameter(told.UNMASKED_RENDERER_WEBGL) : "");
    this.maxSplats = this.software ? SOFTWARE_SPLATS : SPLATS;
    this.scene = new Scene();
    this.camera = new PerspectiveCamera(FIELD_DEG, 1, 0.005, 50);
    this.camera.up.set(0, 0, 1);
    this.controls = new OrbitControls(this.camera, canvas);
    this.controls.minDistance = 0.03;
    this.controls.maxDistance = 8;
    this.spark = new SparkRenderer({ renderer: this.renderer, enableLod: false, onDirty: () => this.invalidate() });
    this.splat = null;
    this.splats = 0;
    this.forgotten = 0;
    this.arm = null;
    this.body = new Group();
    this.cameras = new Cameras();
    const sun = new DirectionalLight(0xffffff, 1.6);
    sun.position.set(0.6, -0.8, 1.4);
    this.scene.add(this.spark, this.body, this.cameras, new HemisphereLight(0xffffff, 0x8a8f98, 1.6), sun);
    this.touched = false;
    this.framed = false;
    this.moving = false;
    this.restUntil = 0;
    this.wanted = this.scheduled = false;
    this.controls.addEventListener("change", () => this.invalidate());
    this.controls.addEventListener("start", () => {
      this.touched = this.moving = true;
      this.#through(false);
    });
    this.controls.addEventListener("end", () => { this.moving = false; });
    new ResizeObserver(() => this.#fit()).observe(canvas);
    this.home();
    this.#fit();
  }

  colours({ background, grid, axis, past, newest }) {
    this.scene.background = new Color(background);
    this.grid?.removeFromParent();
    const shown = this.grid ? this.grid.visible : true;
    this.grid = new GridHelper(1.2, 12, axis, grid);
    this.grid.rotation.x = Math.PI / 2;
    // A little lower than a table of splats, whose picture it would run through.
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

  // Take a new version of the model; the old one is seen until the new one is ready.
  async setSplat(bytes) {
    const centre = this.framed ? null : middle(bytes);
    const splats = new PackedSplats({ fileBytes: bytes, fileName: "live.ply" });
    const { forgotten } = this;
    await splats.initialized;
    if (forgotten !== this.forgotten) return splats.dispose();
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
      if (!this.touched) this.#look(centre);
    }
    this.invalidate();
  }

  forgetSplat() {
    this.forgotten += 1;
    this.splat?.removeFromParent();
    this.splat?.dispose();
    this.splat = null;
    this.splats = 0;
    this.framed = false;
    this.cameras.forget();
    this.invalidate();
  }

  home() {
    this.#through(false);
    this.camera.position.fromArray(HOME.eye);
    this.controls.target.fromArray(HOME.target);
    this.controls.update();
    this.invalidate();
  }

  above() {
    this.#through(false);
    const { target } = this.controls;
    this.camera.position.set(target.x - 1e-3, target.y, target.z + 0.75);
    this.controls.update();
    this.invalidate();
  }

  // Look as the newest picture was taken.
  fromCamera() {
    if (!this.cameras.pose) return false;
    const pose = new Matrix4().set(...this.cameras.pose);
    this.camera.position.setFromMatrixPosition(pose);
    this.controls.target.set(0, 0, 0.25).applyMatrix4(pose);
    this.#through(true);
    this.controls.update();
    this.invalidate();
    return true;
  }

  // Go round the target by angles in radians, and nearer by a factor below one.
  orbit(azimuth, polar, zoom = 1) {
    const { target, minDistance, maxDistance } = this.controls;
    const offset = this.camera.position.clone().sub(target).applyQuaternion(Z_UP);
    const place = new Spherical().setFromVector3(offset);
    place.theta += azimuth;
    place.phi = Math.min(Math.PI - 0.02, Math.max(0.02, place.phi + polar));
    place.radius = Math.min(maxDistance, Math.max(minDistance, place.radius * zoom));
    offset.setFromSpherical(place).applyQuaternion(Z_UP.clone().invert());
    this.camera.position.copy(target).add(offset);
    this.touched = true;
    this.#through(false);
    this.controls.update();
    this.invalidate();
  }

  // Where a place in the world (metres) is on the canvas, in CSS pixels from its left upper corner.
  project(place) {
    this.camera.updateMatrixWorld();
    const { x, y } = new Vector3().fromArray(place).project(this.camera);
    return [((x + 1) / 2) * this.canvas.clientWidth, ((1 - y) / 2) * this.canvas.clientHeight];
  }

  invalidate() {
    this.wanted = true;
    if (this.scheduled) return;
    this.scheduled = true;
    const rest = this.moving ? 0 : this.restUntil - performance.now();
    const draw = () => requestAnimationFrame(() => this.#draw());
    if (rest > 0) setTimeout(draw, rest);
    else draw();
  }

  async #draw() {
    this.wanted = false;
    const begun = performance.now();
    this.renderer.render(this.scene, this.camera);
    if (this.software) {
      // What drawing has cost tells for how long the processor is left to others.
      await this.#drawn();
      const now = performance.now();
      this.restUntil = now + (now - begun) * (1 / SOFTWARE_SHARE - 1);
    }
    this.scheduled = false;
    if (this.wanted) this.invalidate();
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

  // Who looks through one of the cameras sees neither them nor the arm that carries it.
  #through(camera) {
    this.cameras.visible = this.body.visible = !camera;
  }

  #look(centre) {
    const shift = new Vector3().fromArray(centre).sub(this.controls.target);
    this.controls.target.add(shift);
    this.camera.position.add(shift);
    this.controls.update();
  }

  #fit() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !height) return;
    this.renderer.setPixelRatio(this.software ? SOFTWARE_SCALE : Math.min(devicePixelRatio, 2));
    this.renderer.setSize(width, height, false);
    this.camera.aspect = width / height;
    // On an upright screen the scene keeps its width.
    const across = Math.tan((FIELD_DEG * Math.PI) / 360) / Math.min(1, this.camera.aspect);
    this.camera.fov = Math.min(80, (Math.atan(across) * 360) / Math.PI);
    this.camera.updateProjectionMatrix();
    this.invalidate();
  }
}

// The median place of a PLY's splats, metres; null where its header has no float x, y and z in front.
function middle(bytes) {
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
