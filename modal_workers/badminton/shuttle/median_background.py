"""Background of a still camera: the median of nine pictures of the last seconds, in 8 bits."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import cv2
import numpy as np

from modal_workers.badminton.shuttle.shuttle_track import Picture

#: Times between the pictures, at the beginning and later.
_FIRST_SAMPLES_S: Final = 0.15
_SAMPLES_S: Final = 0.5
_SAMPLE_COUNT: Final = 9
#: The median of fewer pictures still shows what moves.
_FEWEST_SAMPLES: Final = 3
#: Network for the median of nine values (N. Devillard, "Fast median search", 1998).
_MEDIAN_OF_NINE: Final = (
    (1, 2), (4, 5), (7, 8), (0, 1), (3, 4), (6, 7), (1, 2), (4, 5), (7, 8), (0, 3),
    (5, 8), (4, 7), (3, 6), (1, 4), (2, 5), (4, 7), (4, 2), (6, 4), (4, 2),
)  # fmt: skip


class MedianBackground:
    """Running median; holds nine pictures."""

    def __init__(self, rate_hz: float) -> None:
        """``rate_hz`` is the rate of the pictures that will be given."""
        self._rate_hz = rate_hz
        self._count = 0
        self._due_s = 0.0
        self._samples: deque[Picture] = deque(maxlen=_SAMPLE_COUNT)
        #: Standard deviation of the noise of two pictures, in grey levels.
        self.noise = 3.0
        #: The background; None until enough pictures have come.
        self.picture: Picture | None = None

    def add(self, picture: Picture) -> None:
        """Take the next picture; every k-th counts."""
        time_s = self._count / self._rate_hz
        self._count += 1
        if time_s < self._due_s:
            return
        self._due_s = time_s + (_SAMPLES_S if len(self._samples) == _SAMPLE_COUNT else _FIRST_SAMPLES_S)
        if self._samples:
            difference = cv2.absdiff(picture, self._samples[-1])[::8, ::8]
            # Median of the absolute difference of two pictures with equal noise.
            self.noise = max(1.0, float(np.median(difference)) / 0.954)
        self._samples.append(picture)
        if len(self._samples) >= _FEWEST_SAMPLES:
            self.picture = median_of_nine([self._samples[index % len(self._samples)] for index in range(_SAMPLE_COUNT)])


def median_of_nine(pictures: Sequence[Picture]) -> Picture:
    """Return the median of nine pictures."""
    values: list[Any] = list(pictures)
    for low, high in _MEDIAN_OF_NINE:
        values[low], values[high] = cv2.min(values[low], values[high]), cv2.max(values[low], values[high])
    return np.asarray(values[4], np.uint8)
