"""Hand-eye calibration: the pose of the camera on the gripper, from poses of the arm and views of the camera.

Two ways: frames with a known target (`calibrate_with_pictures`), or camera poses from structure from motion, of
unknown scale and frame (`calibrate_with_poses`). Both start with a closed form of AX = XB (Park and Martin, "Robot
sensor calibration: solving AX = XB on the Euclidean group", 1994) and end with non-linear least squares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.live_splat.calibration.least_squares import least_squares
from modal_workers.live_splat.calibration.target import CalibrationTarget, TargetView
from modal_workers.live_splat.kinematics import SO101, KinematicChain
from modal_workers.live_splat.rigid_transform import (
    inverse_poses,
    pose_from_vector,
    rotation_spread_deg,
    rotation_vectors,
)

Floats = NDArray[np.float64]

#: Fewer views do not average the noise.
MIN_VIEWS: Final = 5
_SPREAD_REFUSED_DEG: Final = 3.0
_SPREAD_WARNED_DEG: Final = 6.0
_CORNER_PX: Final = 0.3  # accuracy of a corner, one standard deviation
_OFFSET_RAD: Final = float(np.deg2rad(3.0))  # prior of a joint's offset, one standard deviation
_LEVER_M: Final = 0.25  # weight of a radian: about the camera's distance from the scene
_SCALE_CONDITION: Final = 1e3


@dataclass(frozen=True)
class HandEye:
    """The camera's pose on the gripper, and its residuals.

    ``world_from_target`` [4, 4] is the target's pose, or the similarity (with scale) from the model's frame. Residuals
    are root mean squares: ``residual_px`` of the corners (None without images), ``residual_mm`` and ``residual_deg``
    between the camera's pose from the images and from the arm, ``view_residual_mm`` of each view.
    """

    gripper_from_camera: Floats
    world_from_target: Floats
    joint_offsets_rad: dict[str, float]
    residual_px: float | None
    residual_mm: float
    residual_deg: float
    view_residual_mm: tuple[float, ...]
    views: int
    rotation_spread_deg: float
    scale: float = 1.0
    warnings: tuple[str, ...] = field(default=())


def calibrate_with_pictures(
    positions_rad: ArrayLike,
    pictures: Sequence[NDArray[np.uint8]],
    target: CalibrationTarget,
    camera_matrix: Floats,
    distortion: ArrayLike = (),
    *,
    chain: KinematicChain = SO101,
    refine_joints: bool = True,
) -> HandEye:
    """Return the calibration from images (RGB) of a target; images without the target are skipped.

    All else as in ``calibrate_with_target``.

    Raises:
        SaccadeError: INVALID_PARAMETER, too few images show the target, or as ``calibrate_with_target``.
    """
    positions = np.asarray(positions_rad, np.float64)
    if len(positions) != len(pictures):
        raise _refused(
            f"There are {len(pictures)} pictures and {len(positions)} joint positions.", "Give one for each."
        )
    views = [target.find(picture) for picture in pictures]
    kept = [(index, view) for index, view in enumerate(views) if view is not None]
    if len(kept) < MIN_VIEWS:
        raise _refused(
            f"{len(kept)} of {len(pictures)} pictures show the target; {MIN_VIEWS} are needed.",
            "Check the number of its corners, and that all of a chessboard is in the picture, in focus and evenly lit.",
        )
    seen = positions[[index for index, _ in kept]]
    chosen = [view for _, view in kept]
    return calibrate_with_target(seen, chosen, camera_matrix, distortion, chain=chain, refine_joints=refine_joints)


def calibrate_with_target(
    positions_rad: ArrayLike,
    views: Sequence[TargetView],
    camera_matrix: Floats,
    distortion: ArrayLike = (),
    *,
    chain: KinematicChain = SO101,
    refine_joints: bool = True,
) -> HandEye:
    """Return the calibration from views of one target that does not move.

    ``positions_rad`` [V, J] are the joints at each view, columns as in ``chain.joint_names``; ``camera_matrix`` [3, 3]
    and ``distortion`` as in OpenCV. ``refine_joints`` also estimates the offsets of the joints' zeros, except of the
    first joint (it rotates world and target together) and of the last one (it rotates gripper and camera together):
    these cannot be observed.

    Raises:
        SaccadeError: INVALID_PARAMETER, the views are too few or do not see the target, or the arm rotated about one
            axis only.
    """
    positions = _positions(positions_rad, len(views), chain)
    lens = np.asarray(distortion, np.float64)
    camera_from_target = np.stack([view.camera_from_target(camera_matrix, lens) for view in views])
    grippers = chain.tips(positions)
    spread = _require_two_axes(grippers)
    camera, _ = _closed_form(grippers, camera_from_target, scale_known=True)
    target = _mean_pose(grippers @ camera @ camera_from_target)
    columns = [chain.joint_names.index(name) for name in chain.tip_joint_names[1:-1]] if refine_joints else []
    corners = np.concatenate([view.corners_px for view in views])

    tips = _tips_by_offsets(chain, positions, columns)

    def split(change: Floats) -> tuple[Floats, Floats, Floats]:
        to_camera, to_target = camera @ pose_from_vector(change[:6]), target @ pose_from_vector(change[6:12])
        return to_camera, to_target, tips(tuple(change[12:].tolist()))

    def residuals(change: Floats) -> Floats:
        to_camera, to_target, to_gripper = split(change)
        poses = inverse_poses(to_gripper @ to_camera) @ to_target
        points = [view.points_m @ pose[:3, :3].T + pose[:3, 3] for view, pose in zip(views, poses, strict=True)]
        pixels = cv2.projectPoints(np.concatenate(points), np.zeros(3), np.zeros(3), camera_matrix, lens)[0][:, 0]
        return np.concatenate([(pixels - corners).ravel() / _CORNER_PX, change[12:] / _OFFSET_RAD])

    change = least_squares(residuals, np.zeros(12 + len(columns)))
    to_camera, to_target, to_gripper = split(change)
    error_px = residuals(change)[: corners.size].reshape(-1, 2) * _CORNER_PX
    pose = _pose_difference(to_gripper @ to_camera, to_target @ inverse_poses(camera_from_target))
    return _with_warnings(
        HandEye(
            gripper_from_camera=to_camera,
            world_from_target=to_target,
            joint_offsets_rad={chain.joint_names[c]: float(v) for c, v in zip(columns, change[12:], strict=True)},
            residual_px=float(np.sqrt((error_px**2).sum(1).mean())),
            rotation_spread_deg=spread,
            residual_mm=pose.mm,
            residual_deg=pose.deg,
            view_residual_mm=pose.view_mm,
            views=len(views),
        )
    )


def _tips_by_offsets(
    chain: KinematicChain, positions: Floats, columns: list[int]
) -> Callable[[tuple[float, ...]], Floats]:
    """Return the gripper's poses [V, 4, 4] as a function of the offsets of some joints.

    The last ones are kept: derivatives by the other unknowns leave the joints where they are.
    """

    @lru_cache(maxsize=2)
    def tips(offsets_rad: tuple[float, ...]) -> Floats:
        moved = positions.copy()
        moved[:, columns] += offsets_rad
        return chain.tips(moved)

    return tips


def calibrate_with_poses(
    positions_rad: ArrayLike, camera_from_model: ArrayLike, *, chain: KinematicChain = SO101
) -> HandEye:
    """Return the calibration from camera poses [V, 4, 4] of structure from motion.

    The model may have any frame and scale: the similarity ``world_from_target`` from it to the robot's base, and its
    ``scale`` in metres per unit, are estimated too. ``positions_rad`` [V, J] as in ``calibrate_with_target``.

    Raises:
        SaccadeError: INVALID_PARAMETER, the poses are too few or not rigid, the arm rotated about one axis only, or the
            motion does not determine the scale.
    """
    model = np.asarray(camera_from_model, np.float64)
    if model.ndim != 3 or model.shape[1:] != (4, 4) or not _rigid(model):
        raise _refused("Each camera pose must be a rigid 4x4 matrix.", "Give camera_from_model as rotation and shift.")
    grippers = chain.tips(_positions(positions_rad, len(model), chain))
    spread = _require_two_axes(grippers)
    camera, scale = _closed_form(grippers, model, scale_known=False)
    model_from_camera = inverse_poses(model)
    in_metres = model_from_camera.copy()
    in_metres[:, :3, 3] *= scale
    world = _mean_pose(grippers @ camera @ inverse_poses(in_metres))

    def split(change: Floats) -> tuple[Floats, Floats, Floats]:
        seen = model_from_camera.copy()
        seen[:, :3, 3] *= scale * np.exp(change[12])
        to_world = world @ pose_from_vector(change[6:12])
        return camera @ pose_from_vector(change[:6]), to_world, to_world @ seen

    def residuals(change: Floats) -> Floats:
        to_camera, _, seen = split(change)
        apart = inverse_poses(seen) @ grippers @ to_camera
        return np.concatenate([apart[:, :3, 3].ravel(), _LEVER_M * rotation_vectors(apart[:, :3, :3]).ravel()])

    change = least_squares(residuals, np.zeros(13))
    to_camera, to_world, seen = split(change)
    metres = scale * float(np.exp(change[12]))
    pose = _pose_difference(grippers @ to_camera, seen)
    similarity = to_world @ np.diag([metres, metres, metres, 1.0])
    return _with_warnings(
        HandEye(
            gripper_from_camera=to_camera,
            world_from_target=similarity,
            joint_offsets_rad={},
            residual_px=None,
            rotation_spread_deg=spread,
            scale=metres,
            residual_mm=pose.mm,
            residual_deg=pose.deg,
            view_residual_mm=pose.view_mm,
            views=len(model),
        )
    )


def _closed_form(grippers: Floats, camera_from_model: Floats, *, scale_known: bool) -> tuple[Floats, float]:
    """Solve AX = XB over all pairs of views: the rotation first, then translation and scale together."""
    first, second = np.triu_indices(len(grippers), 1)
    a = inverse_poses(grippers[first]) @ grippers[second]
    b = camera_from_model[first] @ inverse_poses(camera_from_model[second])
    left, _, right = np.linalg.svd(rotation_vectors(a[:, :3, :3]).T @ rotation_vectors(b[:, :3, :3]))
    rotation = left @ np.diag([1.0, 1.0, np.linalg.det(left @ right)]) @ right
    turned = b[:, :3, 3] @ rotation.T
    rows = (a[:, :3, :3] - np.eye(3)).reshape(-1, 3)
    if scale_known:
        shift = np.linalg.lstsq(rows, (turned - a[:, :3, 3]).ravel(), rcond=None)[0]
        scale = 1.0
    else:
        size = float(np.sqrt((turned**2).mean()))
        if size < 1e-12:
            raise _no_scale()
        system = np.column_stack([rows, -turned.ravel() / size])
        values = np.linalg.svd(system, compute_uv=False)
        if values[-1] * _SCALE_CONDITION < values[0]:
            raise _no_scale()
        solution = np.linalg.lstsq(system, -a[:, :3, 3].ravel(), rcond=None)[0]
        shift, scale = solution[:3], float(solution[3]) / size
        if scale <= 0:
            raise _no_scale()
    camera = np.eye(4)
    camera[:3, :3], camera[:3, 3] = rotation, shift
    return camera, scale


def _mean_pose(poses: Floats) -> Floats:
    left, _, right = np.linalg.svd(poses[:, :3, :3].mean(0))
    mean = np.eye(4)
    mean[:3, :3] = left @ np.diag([1.0, 1.0, np.linalg.det(left @ right)]) @ right
    mean[:3, 3] = poses[:, :3, 3].mean(0)
    return mean


def _positions(positions_rad: ArrayLike, count: int, chain: KinematicChain) -> Floats:
    positions = np.asarray(positions_rad, np.float64)
    if positions.ndim != 2 or positions.shape != (count, len(chain.joint_names)):
        width = len(chain.joint_names)
        raise _refused(
            f"{count} views need joint positions of shape ({count}, {width}).", "Give one row for each view."
        )
    if not np.isfinite(positions).all():
        raise _refused("A joint position is not a finite number.", "Leave out the views without joint positions.")
    if count < MIN_VIEWS:
        raise _refused(f"{count} views are too few; {MIN_VIEWS} are needed.", "15 to 30 from all sides work well.")
    return positions


def _require_two_axes(grippers: Floats) -> float:
    """Return the rotation spread across the main axis; raise if the pose of the camera is not determined."""
    first, second = np.triu_indices(len(grippers), 1)
    relative = inverse_poses(grippers[first])[:, :3, :3] @ grippers[second, :3, :3]
    main, other = rotation_spread_deg(rotation_vectors(relative))
    if main < _SPREAD_REFUSED_DEG:
        raise _refused(
            f"The gripper turned by only {main:.1f} degrees.",
            "Take views with the wrist bent, rolled and panned, each by 20 degrees or more.",
        )
    if other < _SPREAD_REFUSED_DEG:
        raise _refused(
            f"The gripper turned about one axis only ({main:.1f} degrees about it, {other:.1f} about any other), which "
            "does not determine the position of the camera along that axis.",
            "Take views with the wrist rolled as well as bent.",
        )
    return other


class _PoseDifference(NamedTuple):
    mm: float
    deg: float
    view_mm: tuple[float, ...]


def _pose_difference(from_arm: Floats, from_images: Floats) -> _PoseDifference:
    """Compare the camera's poses from the arm with those from the images: root mean squares."""
    apart = inverse_poses(from_images) @ from_arm
    far_mm = 1e3 * np.linalg.norm(apart[:, :3, 3], axis=1)
    turned_deg = np.rad2deg(np.linalg.norm(rotation_vectors(apart[:, :3, :3]), axis=1))
    return _PoseDifference(
        float(np.sqrt((far_mm**2).mean())), float(np.sqrt((turned_deg**2).mean())), tuple(far_mm.tolist())
    )


def _with_warnings(found: HandEye) -> HandEye:
    """Add warnings about an unreliable result."""
    warnings = []
    if found.rotation_spread_deg < _SPREAD_WARNED_DEG:
        warnings.append(
            f"The gripper turned mostly about one axis ({found.rotation_spread_deg:.1f} degrees about others): "
            "the position of the camera along it is uncertain. Take views with the wrist rolled as well as bent."
        )
    if found.residual_px is not None and found.residual_px > 2.0:
        warnings.append(
            f"The target's corners are {found.residual_px:.1f} px off: check the lens and the size of the target."
        )
    if found.residual_mm > 10.0 or found.residual_deg > 2.5:
        warnings.append(
            f"Arm and camera disagree by {found.residual_mm:.1f} mm and {found.residual_deg:.1f} degrees: check the "
            "calibration of the arm, and that each picture has the joints of the same moment."
        )
    worst, middle = max(found.view_residual_mm), float(np.median(found.view_residual_mm))
    if worst > 5.0 and worst > 5.0 * middle:
        which = found.view_residual_mm.index(worst)
        warnings.append(f"View {which} is {worst:.0f} mm off, the others {middle:.1f} mm: leave it out.")
    return replace(found, warnings=tuple(warnings))


def _rigid(poses: Floats) -> bool:
    if not np.isfinite(poses).all():
        return False
    gram = np.swapaxes(poses[:, :3, :3], 1, 2) @ poses[:, :3, :3]
    upright = np.abs(gram - np.eye(3)).max() < 1e-3 and (np.linalg.det(poses[:, :3, :3]) > 0).all()
    return bool(upright and np.abs(poses[:, 3] - [0, 0, 0, 1]).max() < 1e-6)


def _no_scale() -> SaccadeError:
    return _refused(
        "The motion does not determine the scale of the model.", "Move the gripper by 10 cm or more between views."
    )


def _refused(message: str, hint: str) -> SaccadeError:
    return SaccadeError(ErrorCode.INVALID_PARAMETER, message, hint=hint)
