"""Selection of calibration views, rejection of outliers, and a check of the result on two halves of the views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contracts.errors import SaccadeError
from modal_workers.live_splat.calibration.hand_eye import MIN_VIEWS, HandEye
from modal_workers.live_splat.kinematics import SO101
from modal_workers.live_splat.rigid_transform import inverse_poses, rotation_vectors

Floats = NDArray[np.float64]
#: Function that calibrates with a subset of the views, by number.
Solve = Callable[[Sequence[int]], HandEye]

#: Poses of the arm that differ by less are redundant.
MIN_SEPARATION_RAD: Final = 0.04
#: Residuals below this are noise.
_OUTLIER_MM: Final = 2.0
#: At most this share of the views is removed as outliers, and only if the rest then agrees twice as well: with noise
#: alone, removing a fifth reduces the residual by a quarter.
_OUTLIER_SHARE: Final = 0.2
_OUTLIER_GAIN: Final = 0.5
_HALVES_MM: Final = 5.0
_HALVES_DEG: Final = 1.0


@dataclass(frozen=True)
class HandEyeCalibration:
    """A hand-eye transform, the views behind it, and the disagreement of two halves of them as an error estimate."""

    hand_eye: HandEye
    kept: tuple[int, ...]
    #: Number and residual in mm of each view that was left out.
    left_out: tuple[tuple[int, float], ...]
    halves_mm: float | None
    halves_deg: float | None
    concerns: tuple[str, ...]

    @property
    def trusted(self) -> bool:
        """Whether nothing speaks against the result."""
        return not self.concerns


def farthest_first(positions_rad: Floats, apart_rad: float = MIN_SEPARATION_RAD) -> list[int]:
    """Order positions [V, J] so that each is farthest from those before; drop those near one of them.

    Only joints that move the camera count; the first position comes first.
    """
    columns = [SO101.joint_names.index(name) for name in SO101.tip_joint_names]
    arm = np.asarray(positions_rad, np.float64)[:, columns]
    if not len(arm):
        return []
    order = [0]
    far = np.linalg.norm(arm - arm[0], axis=1)
    while far.max() >= apart_rad:
        order.append(int(np.argmax(far)))
        far = np.minimum(far, np.linalg.norm(arm - arm[order[-1]], axis=1))
    return order


def calibrate(solve: Solve, count: int) -> HandEyeCalibration:
    """Calibrate with ``count`` views, again without outliers, and once with each half of the rest.

    Raises:
        SaccadeError: INVALID_PARAMETER, the views do not determine a transform.
    """
    kept, found = list(range(count)), solve(range(count))
    left_out: list[tuple[int, float]] = []
    most = int(count * _OUTLIER_SHARE)
    while further := _without_outliers(solve, kept, found, most - len(left_out)):
        kept, found = further[0], further[1]
        left_out += further[2]
    apart = _halves(solve, kept)
    concerns = list(found.warnings)
    if apart is None:
        concerns.append(f"{len(kept)} views are too few to check them against each other: take 15 or more.")
    elif apart[0] > _HALVES_MM or apart[1] > _HALVES_DEG:
        concerns.append(
            f"Two halves of the views disagree by {apart[0]:.1f} mm and {apart[1]:.1f} degrees: take more, from more "
            "sides, with the arm at rest."
        )
    if len(left_out) >= max(2, most):
        concerns.append(f"{len(left_out)} of {count} views were far off and left out; more may be wrong.")
    millimetres, degrees = apart or (None, None)
    return HandEyeCalibration(found, tuple(kept), tuple(left_out), millimetres, degrees, tuple(concerns))


def _without_outliers(
    solve: Solve, kept: Sequence[int], found: HandEye, most: int
) -> tuple[list[int], HandEye, list[tuple[int, float]]] | None:
    """Remove the worst view repeatedly until the rest agrees twice as well; None if it never does."""
    rest, now = list(kept), found
    left_out: list[tuple[int, float]] = []
    while len(left_out) < most and len(rest) > MIN_VIEWS and now.residual_mm > _OUTLIER_MM:
        worst = int(np.argmax(now.view_residual_mm))
        left_out.append((rest.pop(worst), now.view_residual_mm[worst]))
        try:
            now = solve(rest)
        except SaccadeError:  # without it the arm rotates about one axis only
            return None
        if now.residual_mm < _OUTLIER_GAIN * found.residual_mm:
            return rest, now, left_out
    return None


def _halves(solve: Solve, kept: Sequence[int]) -> tuple[float, float] | None:
    """Compare the results of odd and even views: mm and degrees; None if a half does not determine one."""
    if len(kept) < 2 * MIN_VIEWS:
        return None
    try:
        first, second = (solve(kept[start::2]).gripper_from_camera for start in (0, 1))
    except SaccadeError:
        return None
    apart = inverse_poses(first) @ second
    turned = rotation_vectors(apart[:3, :3])
    return 1e3 * float(np.linalg.norm(apart[:3, 3])), float(np.rad2deg(np.linalg.norm(turned)))
