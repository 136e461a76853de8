"""Calibration of a gripper camera from a recording: selection of frames, intrinsics, hand-eye transform."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from cli.calibrate.recording import Recording
from cli.calibrate.sfm_poses import read_lens, read_poses
from cli.failure import Failure
from cli.progress_bar import ProgressCallback
from modal_workers.live_splat.calibration.hand_eye import (
    MIN_VIEWS,
    HandEye,
    calibrate_with_poses,
    calibrate_with_target,
)
from modal_workers.live_splat.calibration.lens import LensCalibration, calibrate_lens
from modal_workers.live_splat.calibration.target import CalibrationTarget, TargetView
from modal_workers.live_splat.calibration.view_selection import HandEyeCalibration, calibrate, farthest_first
from modal_workers.live_splat.spec import Intrinsics

Picture = NDArray[np.uint8]

#: Below this joint speed the arm stands still, for a camera.
_STILL_RAD_S: Final = 0.1
_STILL_MIN: Final = 15
_BATCH_FRAMES: Final = 120
#: The target is searched in at most so many frames.
_MAX_SEARCHED: Final = 600


@dataclass
class CalibrationResult:
    """A calibration, the frames it is made from, and notes for the user."""

    calibration: HandEyeCalibration
    lens: LensCalibration | None
    #: Names of the frames it is made from.
    frames: list[str]
    left_out: dict[str, float]
    looked_at: int
    notes: list[str] = field(default_factory=list)

    @property
    def doubts(self) -> tuple[str, ...]:
        """Reasons why the calibration may be wrong."""
        return (*self.calibration.concerns, *(self.lens.warnings if self.lens else ()))

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of a session."""
        found: dict[str, Any] = {"gripper_from_camera": numbers(self.calibration.hand_eye)}
        if self.lens is not None:
            found["intrinsics"] = intrinsics_of(self.lens).model_dump(mode="json")
        return found

    def as_json(self) -> dict[str, Any]:
        """Return all figures, for programs."""
        eye = self.calibration.hand_eye
        return {
            "trusted": not self.doubts,
            "doubts": list(self.doubts),
            "notes": self.notes,
            "params": self.parameters(),
            "views": eye.views,
            "looked_at": self.looked_at,
            "frames": self.frames,
            "left_out_mm": self.left_out,
            "residual_px": eye.residual_px,
            "residual_mm": eye.residual_mm,
            "residual_deg": eye.residual_deg,
            "halves_mm": self.calibration.halves_mm,
            "halves_deg": self.calibration.halves_deg,
            "lens_residual_px": self.lens.residual_px if self.lens else None,
            "focal_error_px": self.lens.focal_error_px if self.lens else None,
            "joint_offsets_rad": eye.joint_offsets_rad,
            "rotation_spread_deg": eye.rotation_spread_deg,
            "scale": eye.scale,
        }


def with_target(
    recording: Recording,
    target: CalibrationTarget,
    lens: LensCalibration | None,
    most: int,
    update: ProgressCallback,
    *,
    refine_joints: bool,
) -> CalibrationResult:
    """Calibrate from frames that show a target; the intrinsics too, unless they are given.

    Raises:
        Failure: there are no frames, or their sizes differ.
        SaccadeError: too few frames show the target, or the views are too similar.
    """
    order, notes = _order(recording)
    found, size, looked_at = _views(recording, target, order[:_MAX_SEARCHED], most, update)
    if len(found) < MIN_VIEWS:
        hint = (
            "Check the numbers of squares or corners, that the whole chessboard is visible, in focus and evenly lit, "
            "and that the arm's pose differs from frame to frame."
        )
        message = f"{len(found)} of {looked_at} frames with the arm in different poses show the target; "
        message += f"{MIN_VIEWS} are needed."
        raise Failure(message, code="target_not_found", hint=hint)
    chosen, views = list(found), list(found.values())
    lens = calibrate_lens(views, *size) if lens is None else _scaled(lens, *size)
    positions, matrix, bent = recording.positions_rad[chosen], lens.camera_matrix, lens.distortion

    def solve(numbers: Sequence[int]) -> HandEye:
        some = [views[number] for number in numbers]
        return calibrate_with_target(positions[list(numbers)], some, matrix, bent, refine_joints=refine_joints)

    calibration = calibrate(solve, len(chosen))
    return CalibrationResult(calibration, lens, *_named(recording, calibration, chosen), looked_at, notes)


def with_poses(recording: Recording, poses_file: Path, lens: LensCalibration | None) -> CalibrationResult:
    """Calibrate from camera poses of structure from motion, matched to frames by name.

    Raises:
        Failure: the file has too few poses of these frames.
        SaccadeError: the poses are too similar.
    """
    poses = read_poses(poses_file)
    chosen = [index for index, name in enumerate(recording.names) if name in poses]
    if len(chosen) < MIN_VIEWS:
        message = f"{len(chosen)} frames have joints and a pose; {MIN_VIEWS} are needed."
        hint = f"Frames are named as {', '.join(recording.names[:2]) or 'in joints.json'}; --frames-to writes them."
        raise Failure(message, code="poses_invalid", hint=hint)
    model, positions = np.stack([poses[recording.names[index]] for index in chosen]), recording.positions_rad[chosen]

    def solve(numbers: Sequence[int]) -> HandEye:
        return calibrate_with_poses(positions[list(numbers)], model[list(numbers)])

    lens = lens if lens is not None else read_lens(poses_file)
    calibration = calibrate(solve, len(chosen))
    return CalibrationResult(
        calibration, lens, *_named(recording, calibration, chosen), len(chosen), list(recording.notes)
    )


def frames_apart(recording: Recording, most: int) -> list[int]:
    """Return the numbers of frames in which the arm's poses differ most, oldest first.

    Raises:
        Failure: there are none.
    """
    return sorted(_order(recording)[0][:most])


def read_intrinsics(path: Path) -> LensCalibration:
    """Load intrinsics from a JSON file, which may be a calibration written before.

    Raises:
        Failure: the file does not exist or has no intrinsics.
    """
    form = 'Example: {"width_px": 640, "height_px": 480, "fx_px": 458, "fy_px": 458, "cx_px": 320, "cy_px": 240}.'
    if not path.is_file():
        raise Failure(f"{path} does not exist.", code="no_such_file", hint=form)
    try:
        content = json.loads(path.read_text())
        given = Intrinsics.model_validate(content.get("intrinsics", content))
    except ValidationError as error:
        first = error.errors()[0]
        raise Failure(
            f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}.", code="intrinsics_invalid", hint=form
        ) from error
    except (ValueError, AttributeError) as error:
        raise Failure(f"{path} is not a JSON object.", code="intrinsics_invalid", hint=form) from error
    centre = (given.cx_px - 0.5, given.cy_px - 0.5)  # from pixel centres at halves to OpenCV's integers
    matrix = np.array([[given.fx_px, 0.0, centre[0]], [0.0, given.fy_px, centre[1]], [0.0, 0.0, 1.0]])
    return LensCalibration(given.width_px, given.height_px, matrix, given.distortion)


def intrinsics_of(lens: LensCalibration) -> Intrinsics:
    """Return a lens as a session's intrinsics, with pixel centres at halves."""
    matrix = lens.camera_matrix
    return Intrinsics(
        width_px=lens.width_px,
        height_px=lens.height_px,
        fx_px=round(float(matrix[0, 0]), 4),
        fy_px=round(float(matrix[1, 1]), 4),
        cx_px=round(float(matrix[0, 2]) + 0.5, 4),
        cy_px=round(float(matrix[1, 2]) + 0.5, 4),
        distortion=tuple(round(value, 8) for value in lens.distortion),
    )


def numbers(eye: HandEye) -> list[float]:
    """Return the transform as 16 numbers, row by row, rounded so that its rotation stays valid."""
    return [round(float(value), 9) + 0.0 for value in eye.gripper_from_camera.ravel()]


def _order(recording: Recording) -> tuple[list[int], list[str]]:
    """Return frames ordered by how much each differs from those before, and notes; frames at rest if enough."""
    notes = list(recording.notes)
    if not recording.names:
        raise Failure(
            "The recording has no frame with joints.",
            code="recording_unreadable",
            hint="Stream pictures and joints together, the joints at 20 Hz or more.",
        )
    everything = np.arange(len(recording.names))
    if recording.speeds_rad_s is not None:
        still = everything[recording.speeds_rad_s < _STILL_RAD_S]
        order = [int(still[place]) for place in farthest_first(recording.positions_rad[still])]
        if len(order) >= _STILL_MIN:
            return order, notes
        notes.append(
            f"The arm stands still in only {len(order)} different poses, so frames in motion are used too. "
            "For a better result stop for a second in 15 poses or more."
        )
    return farthest_first(recording.positions_rad), notes


def _views(
    recording: Recording, target: CalibrationTarget, order: list[int], most: int, update: ProgressCallback
) -> tuple[dict[int, TargetView], tuple[int, int], int]:
    """Find the target frame by frame until there are enough views; return the views, the size, and the frames tried."""
    found: dict[int, TargetView] = {}
    size: tuple[int, int] | None = None
    looked_at = 0
    for first in range(0, len(order), _BATCH_FRAMES):
        some = order[first : first + _BATCH_FRAMES]
        pictures = recording.pictures(some)
        for index in some:
            picture = _decoded(pictures[index], recording.names[index])
            here = (picture.shape[1], picture.shape[0])
            if size is not None and here != size:
                message = (
                    f"Frame {recording.names[index]} is {here[0]} x {here[1]}; those before {size[0]} x {size[1]}."
                )
                raise Failure(message, code="frame_size_changed", hint="Calibrate with frames of one size.")
            size = here
            looked_at += 1
            view = target.find(picture)
            if view is not None:
                found[index] = view
            update(max(len(found) / most, looked_at / len(order)), f"{len(found)} views in {looked_at} frames")
            if len(found) >= most:
                return found, size, looked_at
    assert size is not None
    return found, size, looked_at


def _decoded(body: bytes, name: str) -> Picture:
    picture = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_GRAYSCALE) if body else None
    if picture is None:
        raise Failure(f"Frame {name} cannot be read.", code="frame_unreadable", hint="Use JPEG or PNG pictures.")
    return np.asarray(picture, np.uint8)


def _scaled(lens: LensCalibration, width_px: int, height_px: int) -> LensCalibration:
    """Return the intrinsics for pictures of another size.

    Raises:
        Failure: the aspect ratio differs.
    """
    across, down = width_px / lens.width_px, height_px / lens.height_px
    if abs(across / down - 1) > 0.02:
        message = f"Frames are {width_px} x {height_px}; the intrinsics are of {lens.width_px} x {lens.height_px}."
        raise Failure(message, code="frame_size_changed", hint="Use intrinsics for the camera's resolution.")
    matrix = lens.camera_matrix.copy()
    matrix[:2, 2] += 0.5
    matrix[0] *= across
    matrix[1] *= down
    matrix[:2, 2] -= 0.5
    return LensCalibration(width_px, height_px, matrix, lens.distortion)


def _named(
    recording: Recording, calibration: HandEyeCalibration, chosen: list[int]
) -> tuple[list[str], dict[str, float]]:
    """Return the names of the frames that were used, and those of outliers with their error in mm."""
    names = [recording.names[index] for index in chosen]
    left_out = {names[number]: off_mm for number, off_mm in calibration.left_out}
    return [names[number] for number in calibration.kept], left_out
