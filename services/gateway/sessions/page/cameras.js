// Where the pictures were taken: a frustum for each camera, and the newest one in the colour of accent.
import { BufferGeometry, Float32BufferAttribute, Group, LineBasicMaterial, LineSegments } from "./vendor/splat_viewer.js";

const DEPTH_M = 0.018;
const NEWEST_DEPTH_M = 0.045;

// Half of a picture's width and height at distance 1 m, as the session's parameters tell of its camera.
function lensOf({ intrinsics, field_of_view_deg: field = 60 } = {}) {
  const across = Math.tan((field * Math.PI) / 360);
  if (!intrinsics) return { across, down: across * 0.75 };
  const { width_px: width, height_px: height, fx_px: fx, fy_px: fy } = intrinsics;
  return { across: width / (2 * fx), down: height / (2 * fy) };
}

const corners = ({ across, down }) => [[-across, -down], [across, -down], [across, down], [-across, down]];

// Lines of one frustum. `pose` is world_from_camera, 16 numbers row by row; x right, y down, z forward (OpenCV).
export function frustum(pose, depth, lens) {
  const at = (x, y, z) => [0, 4, 8].map((row) => pose[row] * x + pose[row + 1] * y + pose[row + 2] * z + pose[row + 3]);
  const eye = at(0, 0, 0);
  const far = corners(lens).map(([x, y]) => at(x * depth, y * depth, depth));
  const lines = [];
  far.forEach((corner, index) => lines.push(eye, corner, corner, far[(index + 1) % 4]));
  // The side that is up in the picture has a roof.
  const [left, right] = far;
  const peak = at(0, -lens.down * depth * 1.45, depth);
  lines.push(left, peak, peak, right);
  return lines;
}

export class Cameras extends Group {
  constructor() {
    super();
    this.lens = lensOf();
    this.past = new LineSegments(new BufferGeometry(), new LineBasicMaterial({ transparent: true, opacity: 0.45 }));
    this.newest = new LineSegments(new BufferGeometry(), new LineBasicMaterial());
    this.lines = new Group().add(this.past, this.newest);
    this.past.frustumCulled = this.newest.frustumCulled = false;
    this.add(this.lines);
    this.pose = null;
  }

  // Take the lens from the parameters of the session.
  aim(params) {
    this.lens = lensOf(params);
  }

  colour(past, newest) {
    this.past.material.color.set(past);
    this.newest.material.color.set(newest);
  }

  show(cameras, newest) {
    if (cameras) put(this.past, cameras.filter(whole).flatMap((pose) => frustum(pose, DEPTH_M, this.lens)));
    if (newest && whole(newest)) {
      this.pose = newest;
      put(this.newest, frustum(newest, NEWEST_DEPTH_M, this.lens));
    }
  }

  forget() {
    this.pose = null;
    put(this.past, []);
    put(this.newest, []);
  }
}

const whole = (pose) => Array.isArray(pose) && pose.length === 16 && pose.every(Number.isFinite);

function put(lines, points) {
  lines.geometry.dispose();
  lines.geometry = new BufferGeometry();
  lines.geometry.setAttribute("position", new Float32BufferAttribute(points.flat(), 3));
  lines.visible = points.length > 0;
}
