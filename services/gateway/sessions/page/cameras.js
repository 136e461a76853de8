// Camera poses of the pictures: a frustum each, the newest one in the accent colour.
import { BufferGeometry, Float32BufferAttribute, Group, LineBasicMaterial, LineSegments } from "./vendor/splat_viewer.js";

const DEPTH_M = 0.018;
const NEWEST_DEPTH_M = 0.045;

// Half of a picture's width and height at distance 1 m, from the camera in the session's parameters.
function lensOf({ intrinsics, field_of_view_deg: field = 60 } = {}) {
  const halfWidth = Math.tan((field * Math.PI) / 360);
  if (!intrinsics) return { halfWidth, halfHeight: halfWidth * 0.75 };
  const { width_px: width, height_px: height, fx_px: fx, fy_px: fy } = intrinsics;
  return { halfWidth: width / (2 * fx), halfHeight: height / (2 * fy) };
}

const corners = ({ halfWidth, halfHeight }) => [[-halfWidth, -halfHeight], [halfWidth, -halfHeight], [halfWidth, halfHeight], [-halfWidth, halfHeight]];

// Line segments of one frustum. `pose` is world_from_camera, 16 numbers row by row; x right, y down, z forward (OpenCV).
export function frustum(pose, depth, lens) {
  const at = (x, y, z) => [0, 4, 8].map((row) => pose[row] * x + pose[row + 1] * y + pose[row + 2] * z + pose[row + 3]);
  const eye = at(0, 0, 0);
  const far = corners(lens).map(([x, y]) => at(x * depth, y * depth, depth));
  const lines = [];
  far.forEach((corner, index) => lines.push(eye, corner, corner, far[(index + 1) % 4]));
  // A roof marks the top side of the picture.
  const [left, right] = far;
  const peak = at(0, -lens.halfHeight * depth * 1.45, depth);
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

  // Set the lens from the parameters of the session.
  setLens(params) {
    this.lens = lensOf(params);
  }

  colour(past, newest) {
    this.past.material.color.set(past);
    this.newest.material.color.set(newest);
  }

  show(cameras, newest) {
    if (cameras) setPoints(this.past, cameras.filter(isPose).flatMap((pose) => frustum(pose, DEPTH_M, this.lens)));
    if (newest && isPose(newest)) {
      this.pose = newest;
      setPoints(this.newest, frustum(newest, NEWEST_DEPTH_M, this.lens));
    }
  }

  forget() {
    this.pose = null;
    setPoints(this.past, []);
    setPoints(this.newest, []);
  }
}

const isPose = (pose) => Array.isArray(pose) && pose.length === 16 && pose.every(Number.isFinite);

function setPoints(lines, points) {
  lines.geometry.dispose();
  lines.geometry = new BufferGeometry();
  lines.geometry.setAttribute("position", new Float32BufferAttribute(points.flat(), 3));
  lines.visible = points.length > 0;
}
