"""Forward kinematics and Jacobian of a robot from its URDF, in plain numpy.

The world is the frame of the description's root link: metres, z up. Conventions: https://wiki.ros.org/urdf/XML/joint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Final
from xml.etree import ElementTree

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.live_splat.rigid_transform import cross

Floats = NDArray[np.float64]

#: The frame between the tips of the jaws of the SO-101: x and y across, z along the gripper.
GRIPPER_LINK: Final = "gripper_frame_link"


@dataclass(frozen=True)
class Joint:
    """The joint between two links. Fixed joints have no axis and no limits."""

    name: str
    parent: str
    child: str
    origin_xyz_m: tuple[float, float, float]
    origin_rpy_rad: tuple[float, float, float]
    axis: tuple[float, float, float] | None
    lower_rad: float
    upper_rad: float

    @property
    def movable(self) -> bool:
        """Whether the joint rotates."""
        return self.axis is not None

    @cached_property
    def parent_from_zero(self) -> Floats:
        """The child's pose [4, 4] in the parent at joint position zero."""
        pose = np.eye(4)
        pose[:3, :3] = _rotation_of_rpy(self.origin_rpy_rad)
        pose[:3, 3] = self.origin_xyz_m
        return pose

    @cached_property
    def _turning(self) -> tuple[Floats, Floats]:
        """Factors of the sine and of one minus the cosine of the angle (Rodrigues)."""
        assert self.axis is not None
        x, y, z = self.axis
        turn = np.zeros((4, 4))
        turn[:3, :3] = [[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]]
        return self.parent_from_zero @ turn, self.parent_from_zero @ turn @ turn

    def turned(self, angle_rad: Floats) -> Floats:
        """Return the child's poses [..., 4, 4] in the parent at angles [...]."""
        sine, cosine = np.sin(angle_rad)[..., None, None], np.cos(angle_rad)[..., None, None]
        by_sine, by_cosine = self._turning
        return np.asarray(self.parent_from_zero + sine * by_sine + (1.0 - cosine) * by_cosine)


@dataclass(frozen=True)
class KinematicChain:
    """A robot's tree of links; its joints are ordered from the root outwards."""

    name: str
    root: str
    joints: tuple[Joint, ...]
    tip_link: str
    urdf_sha256: str

    @classmethod
    def load(cls, urdf_text: str, tip_link: str = GRIPPER_LINK) -> KinematicChain:
        """Load a robot from a URDF: its fixed, revolute and continuous joints. Meshes and masses are ignored.

        Raises:
            SaccadeError: INVALID_PARAMETER, the text is not a tree of such joints that ends at ``tip_link``.
        """
        robot = _parsed(urdf_text)
        unordered = [_joint(element) for element in robot.iterfind("joint")]
        children = {joint.child for joint in unordered}
        if len(children) != len(unordered) or len({joint.name for joint in unordered}) != len(unordered):
            raise _refused("a link has two parents, or two joints have one name")
        roots = {joint.parent for joint in unordered} - children
        if len(roots) != 1:
            raise _refused(f"it must have one root link and has {len(roots)}")
        root = roots.pop()
        reached, ordered = {root}, list[Joint]()
        while attachable := [joint for joint in unordered if joint.parent in reached and joint.child not in reached]:
            ordered += attachable
            reached |= {joint.child for joint in attachable}
        if len(ordered) != len(unordered):
            raise _refused("its joints form a loop")
        if tip_link not in reached:
            raise _refused(f"it has no link {tip_link}")
        digest = hashlib.sha256(urdf_text.encode()).hexdigest()
        return cls(robot.get("name", "robot"), root, tuple(ordered), tip_link, digest)

    @cached_property
    def joint_names(self) -> tuple[str, ...]:
        """Names of the rotating joints, from the root outwards: the columns of arrays of positions."""
        return tuple(joint.name for joint in self.joints if joint.movable)

    @cached_property
    def limits_rad(self) -> dict[str, tuple[float, float]]:
        """Lower and upper limit of each rotating joint."""
        return {joint.name: (joint.lower_rad, joint.upper_rad) for joint in self.joints if joint.movable}

    @cached_property
    def _to_tip(self) -> tuple[Joint, ...]:
        by_child = {joint.child: joint for joint in self.joints}
        path, link = list[Joint](), self.tip_link
        while link != self.root:
            path.append(by_child[link])
            link = by_child[link].parent
        return tuple(reversed(path))

    @cached_property
    def tip_joint_names(self) -> tuple[str, ...]:
        """Names of the joints that move the tip, from the root outwards."""
        return tuple(joint.name for joint in self._to_tip if joint.movable)

    def tip(self, positions: Mapping[str, float]) -> Floats:
        """Return ``world_from_gripper`` [4, 4] from the positions in rad of at least the joints that move the tip.

        Raises:
            SaccadeError: JOINTS_INVALID, a joint is missing or its position is not finite.
        """
        _checked(positions, self.tip_joint_names)
        return self.tips(np.array([positions.get(name, 0.0) for name in self.joint_names]))

    def tips(self, positions_rad: ArrayLike) -> Floats:
        """Return ``world_from_gripper`` [..., 4, 4] for positions [..., J], columns as in ``joint_names``."""
        return self._walk(self._array(positions_rad))[0]

    def jacobian(self, positions: Mapping[str, float]) -> Floats:
        """Return the Jacobian of the tip [6, J], columns as in ``joint_names``.

        Rows 0-2 are the velocity of the tip's origin in m/rad, rows 3-5 the angular velocity in rad/rad, both in the
        world's axes. Columns of joints that do not move the tip are zero.

        Raises:
            SaccadeError: JOINTS_INVALID, a joint is missing or its position is not finite.
        """
        _checked(positions, self.tip_joint_names)
        return self.jacobians(np.array([positions.get(name, 0.0) for name in self.joint_names]))

    def jacobians(self, positions_rad: ArrayLike) -> Floats:
        """Return ``jacobian`` [..., 6, J] for positions [..., J]."""
        positions = self._array(positions_rad)
        tip, frames = self._walk(positions)
        jacobian = np.zeros((*positions.shape[:-1], 6, len(self.joint_names)))
        for joint, frame in frames:
            column = self.joint_names.index(joint.name)
            axis = frame[..., :3, :3] @ np.asarray(joint.axis)
            jacobian[..., :3, column] = cross(axis, tip[..., :3, 3] - frame[..., :3, 3])
            jacobian[..., 3:, column] = axis
        return jacobian

    def _array(self, positions_rad: ArrayLike) -> Floats:
        positions = np.asarray(positions_rad, np.float64)
        if positions.ndim == 0 or positions.shape[-1] != len(self.joint_names):
            raise SaccadeError(ErrorCode.JOINTS_INVALID, f"{self.name} has {len(self.joint_names)} joints.")
        return positions

    def _walk(self, positions: Floats) -> tuple[Floats, list[tuple[Joint, Floats]]]:
        """Return the tips' poses, and the world frame of each joint on the way (a joint keeps its own axis)."""
        pose = np.broadcast_to(np.eye(4), (*positions.shape[:-1], 4, 4))
        frames = list[tuple[Joint, Floats]]()
        for joint in self._to_tip:
            if joint.movable:
                pose = pose @ joint.turned(positions[..., self.joint_names.index(joint.name)])
                frames.append((joint, pose))
            else:
                pose = pose @ joint.parent_from_zero
        return np.asarray(pose), frames


def _parsed(urdf_text: str) -> ElementTree.Element:
    if "<!DOCTYPE" in urdf_text or "<!ENTITY" in urdf_text:
        raise _refused("it has a document type, which a URDF does not need")  # entity expansion can exhaust memory
    try:
        return ElementTree.fromstring(urdf_text)  # noqa: S314 - no entities can be declared, see above
    except ElementTree.ParseError as error:
        raise _refused(f"it is not XML: {error}") from error


def _joint(element: ElementTree.Element) -> Joint:
    name, kind = element.get("name", ""), element.get("type", "")
    ends = [element.find(tag) for tag in ("parent", "child")]
    parent, child = (end.get("link", "") if end is not None else "" for end in ends)
    if not (name and parent and child) or kind not in ("fixed", "revolute", "continuous"):
        raise _refused(f"joint {name or '?'} of type {kind or '?'} cannot be read")
    origin, axis, limit = element.find("origin"), element.find("axis"), element.find("limit")
    direction, lower, upper = None, -np.inf, np.inf
    if kind != "fixed":
        raw = np.array(_three(axis, "xyz", "1 0 0"))
        length = float(np.linalg.norm(raw))
        if length < 1e-9:
            raise _refused(f"joint {name} has no axis")
        direction = (float(raw[0] / length), float(raw[1] / length), float(raw[2] / length))
    if kind == "revolute":
        bounds = {} if limit is None else limit.attrib
        try:
            lower, upper = float(bounds.get("lower", 0.0)), float(bounds.get("upper", 0.0))
        except ValueError as error:
            raise _refused(f"the limits of joint {name} are not numbers") from error
    xyz, rpy = _three(origin, "xyz", "0 0 0"), _three(origin, "rpy", "0 0 0")
    return Joint(name, parent, child, xyz, rpy, direction, lower, upper)


def _three(element: ElementTree.Element | None, attribute: str, default: str) -> tuple[float, float, float]:
    text = default if element is None else element.get(attribute, default)
    try:
        x, y, z = (float(part) for part in text.split())
    except ValueError as error:
        raise _refused(f"{attribute}={text!r} is not three numbers") from error
    return x, y, z


def _rotation_of_rpy(rpy_rad: tuple[float, float, float]) -> Floats:
    """Roll about x, then pitch about y, then yaw about z, all of the fixed frame."""
    (sr, sp, sy), (cr, cp, cy) = np.sin(rpy_rad), np.cos(rpy_rad)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


def _checked(positions: Mapping[str, float], names: Sequence[str]) -> None:
    missing = [name for name in names if name not in positions]
    if missing:
        raise SaccadeError(ErrorCode.JOINTS_INVALID, f"Positions of these joints are missing: {', '.join(missing)}.")
    not_finite = [name for name in names if not np.isfinite(positions[name])]
    if not_finite:
        raise SaccadeError(
            ErrorCode.JOINTS_INVALID, f"Positions of these joints are not finite numbers: {', '.join(not_finite)}."
        )


def _refused(why: str) -> SaccadeError:
    return SaccadeError(ErrorCode.INVALID_PARAMETER, f"The robot's description (URDF) cannot be used: {why}.")


#: The SO-101 follower arm; its joints are named as LeRobot names its motors.
SO101: Final = KinematicChain.load(
    resources.files(__package__).joinpath("so101/so101_new_calib.urdf").read_text("utf-8")
)
SO101_JOINTS: Final = SO101.joint_names
