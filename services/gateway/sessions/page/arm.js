// The arm as it stands: a tree of joints as the URDF gives them, drawn as capsules between them.
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
    this.turns = new Map();
    this.links = new Map();
    const children = new Set(joints.map((joint) => joint.child));
    const root = joints.map((joint) => joint.parent).find((link) => !children.has(link));
    this.links.set(root, new Group());
    this.add(this.links.get(root));
    // A joint can stand before its parent's in the list.
    for (let waiting = [...joints]; waiting.length; ) {
      const ready = waiting.filter((joint) => this.links.has(joint.parent));
      if (!ready.length) throw new Error("the arm's joints form no tree");
      ready.forEach((joint) => this.#hang(joint));
      waiting = waiting.filter((joint) => !ready.includes(joint));
    }
    for (const link of this.links.keys()) this.#draw(link, joints);
    this.links.get(root).add(foot(this.motor));
  }

  #hang({ name, parent, child, xyz_m: place, rpy_rad: [roll, pitch, yaw], axis }) {
    const origin = new Group();
    origin.position.fromArray(place);
    origin.quaternion.setFromEuler(new Euler(roll, pitch, yaw, "ZYX"));
    const link = new Group();
    link.name = child;
    origin.add(link);
    this.links.get(parent).add(origin);
    this.links.set(child, link);
    if (axis) this.turns.set(name, { link, axis: new Vector3().fromArray(axis).normalize() });
  }

  #draw(name, joints) {
    const link = this.links.get(name);
    const out = joints.filter((joint) => joint.parent === name);
    const into = joints.find((joint) => joint.child === name);
    for (const joint of out) link.add(capsule(new Vector3().fromArray(joint.xyz_m), this.printed));
    const turning = into && this.turns.get(into.name);
    if (!turning) return;
    const motor = new Mesh(new CylinderGeometry(JOINT_RADIUS_M, JOINT_RADIUS_M, JOINT_LENGTH_M, 28), this.motor);
    motor.quaternion.setFromUnitVectors(UP, turning.axis);
    link.add(motor);
    if (out.length) return;
    // A jaw: nothing hangs from it, so it reaches for the frame between the tips as it does when it stands at zero.
    const fixed = joints.find((joint) => joint.parent === into.parent && !joint.axis);
    if (!fixed) return;
    this.updateMatrixWorld(true);
    const reach = this.links.get(fixed.child).getWorldPosition(new Vector3());
    link.add(capsule(link.worldToLocal(reach), this.tip));
  }

  // Turn joints to `positions` (rad) by their `names`; tells whether any of them is one of the arm's.
  pose(names, positions) {
    let known = false;
    names.forEach((name, index) => {
      const turn = this.turns.get(name);
      if (!turn) return;
      turn.link.quaternion.setFromAxisAngle(turn.axis, positions[index]);
      known = true;
    });
    return known;
  }

  // Where a link is, in metres in the frame of the base.
  place(link) {
    this.updateWorldMatrix(true, true);
    return this.worldToLocal(this.links.get(link).getWorldPosition(new Vector3())).toArray();
  }
}

// What stands on the table; the URDF's base has its origin on it.
function foot(material) {
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
