"""Shots as far as one camera shows them: the ground between two hitters, and the time between their hits.

This is no speed of the shuttle. It flies in space, and one camera does not say how high: the figure divides the
distance between the places on the floor where the hitters stood by the time the shuttle took. It bounds nothing: the
path through space is longer, and both hitters reach towards the shuttle. It says nothing of a smash's speed at the
racket.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.analytics.motion import BAND
from modal_workers.badminton.rallies.rally import Hit

Floats = NDArray[np.float32]

#: Below this, it is not known well enough who hit.
MIN_CONFIDENCE: Final = 0.5
#: A shuttle in flight for longer was not seen being hit in between.
MAX_FLIGHT_S: Final = 3.0
MIN_FLIGHT_S: Final = 0.15
#: Standard deviation of a hit's time. Half of the times are within 4 ms, a tenth is wrong by more than 50 ms: with this
#: 93 % of the speeds in simulated matches are within their bands, with the errors of the places alone 82 %.
HIT_TIME_ERROR_S: Final = 0.03


@dataclass(frozen=True)
class GroundShot:
    """The shuttle's way from one hit to the next, on the ground plane."""

    rally: int
    from_player: int
    to_player: int
    start_s: float
    flight_s: float
    ground_m: float
    mean_ground_speed_between_hits_m_s: float
    error_m_s: float
    confidence: float


def measure_shots(rally: int, hits: Sequence[Hit], position_m: Floats, error_m: Floats) -> tuple[GroundShot, ...]:
    """Return the shots between consecutive hits whose hitters and their places are known.

    ``position_m`` [P, N, 2], ``error_m`` [P, N].
    """
    shots = []
    for hit, following in pairwise(hits):
        if hit.player is None or following.player is None or hit.player == following.player:
            continue
        flight_s = following.time_s - hit.time_s
        confidence = min(hit.player_confidence, following.player_confidence, hit.confidence, following.confidence)
        if confidence < MIN_CONFIDENCE or not MIN_FLIGHT_S <= flight_s <= MAX_FLIGHT_S:
            continue
        ends_m = position_m[[hit.player, following.player], [hit.frame, following.frame]]
        ground_m = float(np.hypot(*(ends_m[1] - ends_m[0])))
        if not np.isfinite(ground_m):
            continue
        end_errors_m = error_m[[hit.player, following.player], [hit.frame, following.frame]]
        from_times_m = ground_m / flight_s * HIT_TIME_ERROR_S * 2**0.5
        error_m_s = BAND * float(np.sqrt(np.nansum(end_errors_m**2) + from_times_m**2)) / flight_s
        shots.append(
            GroundShot(
                rally=rally,
                from_player=hit.player,
                to_player=following.player,
                start_s=hit.time_s,
                flight_s=flight_s,
                ground_m=ground_m,
                mean_ground_speed_between_hits_m_s=ground_m / flight_s,
                error_m_s=error_m_s,
                confidence=confidence,
            )
        )
    return tuple(shots)
