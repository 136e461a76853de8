"""Probability that a rally begins and ends where it says, from what was seen of it.

A logistic model of a few facts, fitted on simulated matches by bench/badminton_rally_confidence.py, which prints the
weights below. "Right" is that exactly one rally was played there and both of its limits are within 0.3 s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.rallies.ending import Ending
from modal_workers.badminton.rallies.rally import Hit

Floats = NDArray[np.float64]

#: Names of the facts, in order.
FACTS: Final = (
    "unseen_share",
    "first_hit_doubt",
    "last_hit_doubt",
    "worst_hit_doubt",
    "ends_at_net",
    "ends_in_air",
    "end_not_seen",
    "place_error_m",
    "unseen_before_end_s",
    "short_last_flight",
    "single_hit",
)
_MOST_ERROR_M: Final = 2.0
_MOST_UNSEEN_S: Final = 0.5
_SHORT_FLIGHT_S: Final = 0.5


def rally_facts(hits: Sequence[Hit], ending: Ending, seen_s: Floats, frame_count: int) -> Floats:
    """Return the facts [11] of a rally, each from 0 (sure) to about 1.

    ``seen_s``: the times within it at which the shuttle was tracked, of its ``frame_count`` frames.
    """
    doubts = np.array([1 - hit.confidence for hit in hits])
    last_seen_s = float(seen_s[-1]) if len(seen_s) else hits[0].time_s
    known_place = ending.kind in ("floor", "net")
    error_m = min(ending.error_m, _MOST_ERROR_M) if known_place and math.isfinite(ending.error_m) else _MOST_ERROR_M
    return np.array(
        [
            1 - len(seen_s) / max(frame_count, 1),
            doubts[0],
            doubts[-1],
            doubts.max(),
            ending.kind == "net",
            ending.kind == "in_air",
            ending.kind == "not_seen",
            error_m / _MOST_ERROR_M,
            min(max(ending.time_s - last_seen_s, 0.0), _MOST_UNSEEN_S) / _MOST_UNSEEN_S,
            ending.time_s - hits[-1].time_s < _SHORT_FLIGHT_S,
            len(hits) == 1,
        ],
        np.float64,
    )
