"""Places of the middle between a player's feet over time, smoothed along the axes of the camera's view.

Across its view a camera sees a step of the feet to the centimetre: there a smoother follows it. Along the view of a low
camera the same pixels are a tenth of a metre and more, and the feet's height is a guess: there the motion is smoothed
over a longer time. Along the court's axes both would be done half, above all where the camera stands in a corner.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.players.floor_points import FloorPoints
from modal_workers.badminton.players.foot_lift import StandingPlaces
from modal_workers.badminton.players.trajectory_smoothing import Trajectory, smooth_trajectory

Floats = NDArray[np.float64]

#: Spectral density of the acceleration of the middle between the feet across and along the view: best places in
#: simulated matches (seeds 981, 983, 1100 and 1103). A step moves the middle as no body moves.
_ACCELERATION_M2_S3: Final = (108.0, 6.0)


@dataclass(frozen=True, eq=False)
class DetectedFeet:
    """Places [N, 2] of the middle between one player's feet and their covariances [N, 2, 2]; NaN where not seen."""

    position_m: Floats
    covariance_m2: Floats


def detected_feet(
    points: FloorPoints, index: NDArray[np.int64], standing: StandingPlaces, frame_count: int
) -> DetectedFeet:
    """Return the places of one player in N frames: ``index`` are the player's points, ``standing`` their places."""
    position, covariance = np.full((frame_count, 2), np.nan), np.full((frame_count, 2, 2), np.nan)
    frames, rise = points.frame[index], points.rise_m[index].astype(np.float64)
    position[frames] = standing.position_m
    of_lift = standing.lift_variance_m2[:, None, None] * rise[:, :, None] * rise[:, None, :]
    covariance[frames] = points.detection_covariance_m2[index] + of_lift
    return DetectedFeet(position, covariance)


def smooth_feet(feet: DetectedFeet, view_from_court: Floats, times_s: Floats, segment: NDArray[np.int64]) -> Trajectory:
    """Return the smoothed motion; ``view_from_court`` [N, 2, 2] are the turns to the axes across and along the view.

    Its velocities are those of steps: longer in sum than the player's way.
    """
    back = view_from_court.transpose(0, 2, 1)
    turned = (view_from_court @ feet.position_m[..., None])[..., 0]
    variance = (view_from_court @ feet.covariance_m2 @ back)[:, (0, 1), (0, 1)]
    motion = smooth_trajectory(turned, variance, times_s, segment, acceleration_m2_s3=_ACCELERATION_M2_S3)
    position_m, velocity_m_s = (
        (back @ values[..., None])[..., 0] for values in (motion.position_m, motion.velocity_m_s)
    )
    return replace(motion, position_m=position_m, velocity_m_s=velocity_m_s)
