"""Shuttle candidates without a learned model: small bright things that move.

A pixel counts by how much brighter it is than in the pictures before and after and than the background; the background
is the median of nine pictures of the last seconds. All of it in 8 bits: a picture of 1280 x 720 takes a few ms.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.shuttle.median_background import MedianBackground
from modal_workers.badminton.shuttle.shuttle_track import Picture, ShuttleCandidates

Floats = NDArray[np.float64]

#: Times between compared pictures: a fast shuttle is elsewhere after the first, a slow one after the second.
_SHORT_S: Final = 1 / 30
_LONG_S: Final = 0.1
#: A candidate is brighter by this many standard deviations of the noise, and by this many grey levels.
_NOISE_FACTOR: Final = 4.0
_LEAST_CONTRAST: Final = 8
#: Sizes in a picture 720 pixels high.
_LEAST_AREA_PX: Final = 3
_LARGEST_AREA_PX: Final = 700
_LONGEST_SIDE_PX: Final = 90
_MOST_CANDIDATES: Final = 12


class ClassicalShuttleBackend:
    """Detector by differences of pictures. Holds few pictures, whatever the length of the video."""

    def __init__(self, rate_hz: float) -> None:
        """``rate_hz`` is the rate of the pictures that will be given."""
        self._rate_hz = max(rate_hz, 1.0)
        self._short = max(1, round(_SHORT_S * self._rate_hz))
        self._long = max(self._short + 1, round(_LONG_S * self._rate_hz))
        self.restart()

    @property
    def name(self) -> str:
        """Name of the backend."""
        return "classical"

    def restart(self) -> None:
        """Forget the pictures so far: the camera has changed."""
        # The last pictures: grey, and in colour those whose candidates are still to come.
        self._grey: deque[Picture] = deque(maxlen=2 * self._long + 1)
        self._colour: deque[Picture] = deque(maxlen=self._long + 1)
        self._count = 0
        self._background = MedianBackground(self._rate_hz)

    def detect(self, pictures: Sequence[Picture]) -> list[ShuttleCandidates]:
        """Return the candidates of the pictures for which enough later ones have come."""
        found: list[ShuttleCandidates] = []
        for picture in pictures:
            grey = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)
            self._background.add(grey)
            self._grey.append(grey)
            self._colour.append(picture)
            self._count += 1
            if self._count > self._long:
                found.append(self._candidates(self._long))
        return found

    def flush(self) -> list[ShuttleCandidates]:
        """Return the candidates of the last pictures, which have few or no later ones."""
        missing = min(self._count, self._long)
        found = [self._candidates(later) for later in range(missing - 1, -1, -1)]
        self.restart()
        return found

    def _candidates(self, later: int) -> ShuttleCandidates:
        """Return the candidates of the picture that has ``later`` pictures after it."""
        index = len(self._grey) - 1 - later
        grey = self._grey[index]
        contrast: Any = None
        for distance in (self._short, self._long):
            others = [index + step for step in (-distance, distance) if 0 <= index + step < len(self._grey)]
            differences = [cv2.subtract(grey, self._grey[other]) for other in others]
            if differences:
                least = differences[0] if len(differences) == 1 else cv2.min(*differences)
                contrast = least if contrast is None else cv2.max(contrast, least)
        if contrast is None:
            return _NO_CANDIDATES
        if self._background.picture is not None:
            contrast = cv2.min(contrast, cv2.subtract(grey, self._background.picture))
        return self._blobs(cv2.blur(contrast, (3, 3)), self._colour[len(self._colour) - 1 - later])

    def _blobs(self, contrast: Any, picture: Picture) -> ShuttleCandidates:
        """Return the small bright spots of a picture of contrasts."""
        scale = contrast.shape[0] / 720
        # The mean of nine pixels has a third of their noise; half, as video noise is not independent.
        least = max(_LEAST_CONTRAST, _NOISE_FACTOR * self._background.noise * 0.5)
        mask = cv2.threshold(contrast, least, 255, cv2.THRESH_BINARY)[1]
        # Labelling components takes ten times as long as following the contours of a few spots.
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        longest = _LONGEST_SIDE_PX * scale
        boxes = [box for box in map(cv2.boundingRect, contours) if max(box[2], box[3]) <= longest]
        if not boxes:
            return _NO_CANDIDATES
        sums = np.array([_moments(contrast, mask, box) for box in boxes])
        sums = sums[(sums[:, 4] >= _LEAST_AREA_PX) & (sums[:, 4] <= _LARGEST_AREA_PX * scale**2)]
        if not len(sums):
            return _NO_CANDIDATES
        order = np.argsort(-sums[:, 0] * sums[:, 3])[:_MOST_CANDIDATES]
        sums = sums[order]
        position = sums[:, 1:3]
        column, line = position.round().astype(int).T
        colour = picture[line, column].astype(float)
        white = colour.min(1) / np.maximum(colour.max(1), 1.0)
        score = _score(sums[:, 3] / max(least, 1.0), sums[:, 4] / scale**2, white)
        return ShuttleCandidates(position.astype(np.float32), score.astype(np.float32))


_NO_CANDIDATES: Final = ShuttleCandidates(np.zeros((0, 2), np.float32), np.zeros(0, np.float32))


def _moments(contrast: Any, mask: Any, box: Sequence[int]) -> Floats:
    """Return sum, centre (x, y), peak and area of the contrast of the spot in a box."""
    left, top, width, height = box
    region = (slice(top, top + height), slice(left, left + width))
    weight = np.where(mask[region], contrast[region], 0).astype(float)
    total = weight.sum()
    x = weight.sum(0) @ np.arange(left, left + width) / total
    y = weight.sum(1) @ np.arange(top, top + height) / total
    return np.array([total, x, y, weight.max(), np.count_nonzero(weight)])


def _score(contrast: Floats, area: Floats, white: Floats) -> Floats:
    """Return the probability that a spot is the shuttle; bench/badminton_shuttle.py measures it."""
    logit = -2.0 + 1.0 * np.log(contrast) + 3.0 * (white - 0.7) - 0.5 * np.abs(np.log(area / 25.0))
    return np.asarray(1 / (1 + np.exp(-logit)))
