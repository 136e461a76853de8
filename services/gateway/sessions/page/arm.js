// 3D model of the arm: the URDF's tree of joints, drawn as capsules between them.
import { CapsuleGeometry, CylinderGeometry, Euler, Group, Mesh, MeshStandardMaterial, Quaternion, Vector3 }
  from "./vendor/splat_viewer.js";

const UP = new Vector3(0, 1, 0);
const LINK_RADIUS_M = 0.0105;
const JOINT_RADIUS_M = 0.017;
const JOINT_LENGTH_M = 0.034;

export class Arm extends Group {
  // `joints`: [{name, parent, child, xyz_m, rpy_rad, axis}] with the origins of a URDF; a fixed joint has no axis.
  constructor(joints) {
    super();
    this.printed = new MeshStandardMaterial({ color: 0xf0a020, roughness: 0.55, metalness: 0.05 });
    this.motor = new MeshStandardMaterial({ color: 0x4a5261, roughness: 0.5, metalness: 0.15 });
    this.tip = new MeshStandardMaterial({ color: 0x4db8ff, roughness: 0.4 });
    this.revolutes = new Map();
    this.links = new Map();
    const children = new Set(joints.map((joint) => joint.child));
    const root = joints.map((joint) => joint.parent).find((link) => !children.has(link));
    this.links.set(root, new Group());
    this.add(this.links.get(root));
    // The list may contain a joint before its parent.
    for (let waiting = [...joints]; waiting.length; ) {
      const ready = waiting.filter((joint) => this.links.has(joint.parent));
      if (!ready.length) throw new Error("the arm's joints form no tree");
      ready.forEach((joint) => this.#attach(joint));
      waiting = waiting.filter((joint) => !ready.includes(joint));
    }
    for (const link of this.links.keys()) this.#draw(link, joints);
    this.links.get(root).add(base(this.motor));
  }

  #attach({ name, parent, child, xyz_m: place, rpy_rad: [roll, pitch, yaw], axis }) {
    const origin = new Group();
    origin.position.fromArray(place);
    origin.quaternion.setFromEuler(new Euler(roll, pitch, yaw, "ZYX"));
    const link = new Group();
    link.name = child;
    origin.add(link);
    this.links.get(parent).add(origin);
    this.links.set(child, link);
    if (axis) this.revolutes.set(name, { link, axis: new Vector3().fromArray(axis).normalize() });
  }

  #draw(name, joints) {
    const link = this.links.get(name);
    const out = joints.filter((joint) => joint.parent === name);
    const into = joints.find((joint) => joint.child === name);
    for (const joint of out) link.add(capsule(new Vector3().fromArray(joint.xyz_m), this.printed));
    const revolute = into && this.revolutes.get(into.name);
    if (!revolute) return;
    const motor = new Mesh(new CylinderGeometry(JOINT_RADIUS_M, JOINT_RADIUS_M, JOINT_LENGTH_M, 28), this.motor);
    motor.quaternion.setFromUnitVectors(UP, revolute.axis);
    link.add(motor);
    if (out.length) return;
    // A jaw has no child: draw it to where the frame between the tips is at angle zero.
    const fixed = joints.find((joint) => joint.parent === into.parent && !joint.axis);
    if (!fixed) return;
    this.updateMatrixWorld(true);
    const reach = this.links.get(fixed.child).getWorldPosition(new Vector3());
    link.add(capsule(link.worldToLocal(reach), this.tip));
  }

  // Set joints by name to `positions` (rad); return whether any of them belongs to the arm.
  pose(names, positions) {
    let known = false;
    names.forEach((name, index) => {
      const revolute = this.revolutes.get(name);
      if (!revolute) return;
      revolute.link.quaternion.setFromAxisAngle(revolute.axis, positions[index]);
      known = true;
    });
    return known;
  }

  // Position of a link in metres, in the frame of the base.
  place(link) {
    this.updateWorldMatrix(true, true);
    return this.worldToLocal(this.links.get(link).getWorldPosition(new Vector3())).toArray();
  }
}

// The base on the table; the origin of the URDF's base frame is on the table.
function base(material) {
  const mesh = new Mesh(new CylinderGeometry(0.042, 0.05, 0.022, 40), material);
  mesh.quaternion.setFromUnitVectors(UP, new Vector3(0, 0, 1));
  mesh.position.set(0.015, 0, 0.011);
  return mesh;
}

function capsule(to, material) {
  const length = to.length();
  const mesh = new Mesh(new CapsuleGeometry(LINK_RADIUS_M, length, 6, 16), material);
  mesh.visible = length > 1e-3;
  mesh.position.copy(to).multiplyScalar(0.5);
  if (mesh.visible) mesh.quaternion.copy(new Quaternion().setFromUnitVectors(UP, to.clone().normalize()));
  return mesh;
}
