"""The players' tracks: who was where in each frame, with evidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class PlayerTracks:
    """Tracks of P players over N frames; NaN where a player is not known.

    Shapes: ``position_m`` [P, N, 2]: point on the floor between the feet, smoothed by a model of motion over time;
    ``position_error_m`` [P, N]: its standard deviation; ``velocity_m_s`` [P, N, 2]: the cautious one of
    trajectory_smoothing.py, whose sum is the distance, of the body's centre where that is known; ``observed`` [P, N]:
    whether the player was detected in this frame (else the position is interpolated over a short gap, or NaN);
    ``boxes_px`` [P, N, 4]; ``keypoints_px`` [P, N, 17, 3] (x, y, confidence), smoothed; ``confidence`` [P, N] of the
    detection; ``identity_confidence`` [P, N]: probability that this is the same person as at the beginning.
    ``side`` [P, N]: -1 on the far half, 1 on the near half, 0 unknown. ``outlier_count`` [P]: detections rejected
    because no person moves like that. ``body_m`` [P, N, 2], ``body_error_m`` [P, N]: the body's centre over the floor,
    from hips and feet (body_centre.py); None where no skeletons were found: then the feet stand for it.
    """

    position_m: Floats
    position_error_m: Floats
    velocity_m_s: Floats
    observed: NDArray[np.bool_]
    boxes_px: Floats
    keypoints_px: Floats
    confidence: Floats
    identity_confidence: Floats
    side: NDArray[np.int8]
    outlier_count: NDArray[np.int64]
    body_m: Floats | None = None
    body_error_m: Floats | None = None

    @property
    def player_count(self) -> int:
        """Number of players."""
        return int(self.position_m.shape[0])
