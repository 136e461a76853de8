"""Lens calibration from views of a flat target: focal length, principal point and distortion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.live_splat.calibration.target import TargetView

Floats = NDArray[np.float64]

#: Fewer views do not separate the focal length from the distance.
MIN_LENS_VIEWS: Final = 5
_FOCAL_WARNED: Final = 0.01
_FOCAL_REFUSED: Final = 0.2
_RESIDUAL_WARNED_PX: Final = 1.0
#: Free unknowns, distortion terms and flags: square pixels without distortion, with two radial terms, all.
_SQUARE: Final = cv2.CALIB_FIX_ASPECT_RATIO | cv2.CALIB_USE_INTRINSIC_GUESS
_NO_TANGENT: Final = cv2.CALIB_ZERO_TANGENT_DIST | cv2.CALIB_FIX_K3
_MODELS: Final = (
    (3, 0, _SQUARE | _NO_TANGENT | cv2.CALIB_FIX_K1 | cv2.CALIB_FIX_K2),
    (5, 4, _SQUARE | _NO_TANGENT),  # k1 k2 0 0: OpenCV does not accept two terms
    (8, 4, cv2.CALIB_USE_INTRINSIC_GUESS | cv2.CALIB_FIX_K3),
)


@dataclass(frozen=True)
class LensCalibration:
    """A pinhole camera with distortion, as in OpenCV: the centre of the first pixel is at (0, 0).

    ``residual_px`` is the root mean square of the corners; ``focal_error_px`` one standard deviation.
    """

    width_px: int
    height_px: int
    camera_matrix: Floats
    distortion: tuple[float, ...] = ()
    residual_px: float | None = None
    focal_error_px: float | None = None
    views: int = 0
    warnings: tuple[str, ...] = field(default=())


def calibrate_lens(views: Sequence[TargetView], width_px: int, height_px: int) -> LensCalibration:
    """Estimate the lens with as many terms as the views support (Bayesian information criterion).

    Source: Zhang, "A flexible new technique for camera calibration", 2000.

    Raises:
        SaccadeError: INVALID_PARAMETER, the views are too few, or all from one direction.
    """
    if len(views) < MIN_LENS_VIEWS:
        raise _refused(f"{len(views)} views are too few to find the lens; {MIN_LENS_VIEWS} are needed.")
    points = [view.points_m.astype(np.float32) for view in views]
    corners = [view.corners_px.astype(np.float32) for view in views]
    start = _start(views, width_px, height_px)
    count = 2 * sum(len(view_corners) for view_corners in corners)
    best: tuple[float, LensCalibration] | None = None
    for free, terms, flags in _MODELS:
        try:
            residual_px, raw, bent, _, _, deviations, _, _ = cv2.calibrateCameraExtended(
                points, corners, (width_px, height_px), start.copy(), np.zeros(5), flags=flags
            )
        except cv2.error as error:
            raise _refused("No lens model fits the views of the target.") from error
        matrix = np.asarray(raw, np.float64)
        score = count * float(np.log(residual_px**2 / 2 + 1e-12)) + free * float(np.log(count))
        lens = LensCalibration(
            width_px,
            height_px,
            matrix,
            tuple(float(value) for value in np.asarray(bent).ravel()[:terms]),
            float(residual_px),
            float(np.asarray(deviations).ravel()[0]),
            len(views),
        )
        if np.isfinite(matrix).all() and (best is None or score < best[0]):
            best = score, lens
    if best is None or _uncertainty(best[1]) > _FOCAL_REFUSED:
        raise _refused("The views do not determine the focal length.")
    return _with_warnings(best[1])


def _start(views: Sequence[TargetView], width_px: int, height_px: int) -> Floats:
    """Return an initial matrix; if the closed form fails (all views from straight above), 70 degrees across."""
    points = [view.points_m.astype(np.float32) for view in views]
    corners = [view.corners_px.astype(np.float32) for view in views]
    guess = np.asarray(cv2.initCameraMatrix2D(points, corners, (width_px, height_px), 1.0), np.float64)
    if not (np.isfinite(guess).all() and 0.2 * width_px < guess[0, 0] < 10 * width_px):
        guess = np.diag([0.714 * width_px, 0.714 * width_px, 1.0])
    guess[:2, 2] = (width_px - 1) / 2, (height_px - 1) / 2
    return guess


def _uncertainty(lens: LensCalibration) -> float:
    return (lens.focal_error_px or 0.0) / float(lens.camera_matrix[0, 0])


def _with_warnings(lens: LensCalibration) -> LensCalibration:
    warnings = []
    if _uncertainty(lens) > _FOCAL_WARNED:
        warnings.append(
            f"The focal length is uncertain by {100 * _uncertainty(lens):.1f} %: take views that see the target tilted."
        )
    if lens.residual_px is not None and lens.residual_px > _RESIDUAL_WARNED_PX:
        warnings.append(f"The corners of the target are {lens.residual_px:.1f} px off: is the target flat?")
    return replace(lens, warnings=tuple(warnings))


def _refused(message: str) -> SaccadeError:
    hint = "Take 15 to 30 views that see the target tilted, from near and far, in all corners of the picture."
    return SaccadeError(ErrorCode.INVALID_PARAMETER, message, hint=hint)
