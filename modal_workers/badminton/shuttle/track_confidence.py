"""Confidence of each point of a track."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LinkedPoint:
    """A candidate of the path: its row in the log, its flight, and by how much it made the path more probable."""

    frame: int
    row: int
    flight: int
    gain: float


def frame_confidence(points: Sequence[LinkedPoint]) -> NDArray[np.float32]:
    """Return the probability that each point is the shuttle."""
    flights = np.array([point.flight for point in points], int)
    gains = np.array([point.gain for point in points])
    counts = np.bincount(flights) if len(flights) else np.zeros(0, int)
    means = np.bincount(flights, gains) / np.maximum(counts, 1) if len(flights) else np.zeros(0)
    logit = 0.5 * means[flights] + 0.1 * np.minimum(counts[flights], 20)
    return np.asarray(1 / (1 + np.exp(-logit)), np.float32)
