"""Confidence of a track: which flights are a shuttle's, and which a limb's or a racket's.

Limbs swing on smooth paths too, but slowly, to and fro, close to a person, and look less like a shuttle. The weights
are those of a logistic regression on rendered matches of the simulator (bench/badminton_shuttle.py measures them).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Weights of a flight's features: log extent, straightness, share near persons, mean score, log speed; and constant.
_WEIGHTS: Final = np.array([1.2, 0.6, -1.4, 9.0, 0.5])
_CONSTANT: Final = -10.4
#: Where nothing says where persons are.
_NEAR_UNKNOWN: Final = 0.5
#: Flights less probable than this are left out.
LEAST_CONFIDENCE: Final = 0.4


@dataclass(frozen=True)
class LinkedPoint:
    """A candidate of the path: its row in the log, its flight, and by how much it made the path more probable."""

    frame: int
    row: int
    flight: int
    gain: float


def point_confidence(
    points: Sequence[LinkedPoint], position: Floats, score: Floats, time: Floats, near: NDArray[np.bool_] | None
) -> Floats:
    """Return the probability that each point is the shuttle.

    ``position`` [n, 2] in pixels of a picture 720 high, ``score`` [n], ``time`` [n] in frames of 30 Hz, ``near`` [n]:
    whether a point is close to a person.
    """
    confidence = np.zeros(len(points))
    flights = np.array([point.flight for point in points], int)
    for flight in np.unique(flights):
        mine = flights == flight
        way = float(np.hypot(*np.diff(position[mine], axis=0).T).sum())
        extent = float(np.hypot(*np.ptp(position[mine], axis=0)))
        direct = float(np.hypot(*(position[mine][-1] - position[mine][0]))) / max(way, 1.0)
        close = _NEAR_UNKNOWN if near is None else float(near[mine].mean())
        speed = way / max(float(np.ptp(time[mine])), 1.0)
        features = np.array([np.log1p(extent), direct, close, float(score[mine].mean()), np.log1p(speed)])
        confidence[mine] = 1 / (1 + np.exp(-(features @ _WEIGHTS + _CONSTANT)))
    return confidence
