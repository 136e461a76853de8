"""The empty hall behind the players, learnt from a still camera, and what differs from it in a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.players.persons import Picture

Mask = NDArray[np.uint8]

#: Least difference of a colour from the background, in levels of 255; more where the picture is noisier.
_LEAST_DIFFERENCE: Final = 22
_NOISE_FACTOR: Final = 6.0
#: A shadow dims the floor to a brightness within these limits and leaves its colour.
_SHADOW_DARKEST: Final = 0.55
_SHADOW_COLOUR: Final = 10
#: Every so many pictures the background is adapted; seen so often, what does not change becomes part of it.
_ADAPTED_EVERY: Final = 8
_BECOMES_BACKGROUND: Final = 110
_UNCHANGED: Final = 14
#: Share of a picture that enters the background where it differs little from it: light changes slowly.
_ADAPTATION: Final = 0.06


class Background:
    """Median background with slow adaptation: who stands still for some time stays foreground.

    Only what does not change at all for about 30 s becomes background: a bag put down, or the hole that somebody leaves
    who stood in the samples.
    """

    def __init__(self, samples: Sequence[Picture]) -> None:
        """Take the median of pictures from all over the stretch of one camera."""
        self._mean = np.median(np.stack(samples), axis=0).astype(np.float32)
        self._picture = self._mean.astype(np.uint8)
        self._candidate = self._picture.copy()
        self._unchanged = np.zeros(self._picture.shape[:2], np.uint8)
        self._count = 0
        self._threshold = _threshold(samples, self._picture)

    def foreground(self, picture: Picture) -> Mask:
        """Return where a picture shows something else than background or shadow (255), and learn from it."""
        picture = self._same_light(picture)
        difference = cv2.absdiff(picture, self._picture)
        largest = _largest_channel(difference)
        mask = np.asarray(cv2.threshold(largest, self._threshold, 255, cv2.THRESH_BINARY)[1], np.uint8)
        mask[self._shadow(picture)] = 0
        if self._count % _ADAPTED_EVERY == 0:
            self._adapt(picture, mask)
        self._count += 1
        return mask

    def _same_light(self, picture: Picture) -> Picture:
        """Undo a change of the exposure: most of a picture is background."""
        ours, theirs = self._picture[4::16, 4::16], picture[4::16, 4::16]
        bright = ours.min(axis=2) > 30
        if bright.sum() < 20:
            return picture
        gain = float(np.median(theirs[bright].sum(axis=1) / ours[bright].sum(axis=1, dtype=np.float32)))
        return picture if abs(gain - 1) < 0.004 else np.asarray(cv2.convertScaleAbs(picture, alpha=1 / gain), np.uint8)

    def _shadow(self, picture: Picture) -> NDArray[np.bool_]:
        """Return where the background is seen darker, in its own colour."""
        grey, own = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.cvtColor(self._picture, cv2.COLOR_BGR2GRAY)
        ratio = cv2.divide(grey, own, scale=200)
        # What the background would look like, dimmed to the picture's brightness.
        dimmed = cv2.multiply(self._picture, cv2.merge([ratio, ratio, ratio]), scale=1 / 200)
        colour = _largest_channel(cv2.absdiff(dimmed, picture))
        return np.asarray((ratio >= 200 * _SHADOW_DARKEST) & (ratio <= 200) & (colour <= _SHADOW_COLOUR))

    def _adapt(self, picture: Picture, mask: Mask) -> None:
        away = cv2.dilate(mask, np.ones((7, 7), np.uint8)) == 0
        cv2.accumulateWeighted(picture, self._mean, _ADAPTATION, away.astype(np.uint8))
        changed = _largest_channel(cv2.absdiff(picture, self._candidate)) > _UNCHANGED
        cv2.copyTo(picture, changed.astype(np.uint8), self._candidate)
        self._unchanged = np.minimum(self._unchanged, 254) + np.uint8(1)
        self._unchanged[changed | away] = 0
        still = self._unchanged > _BECOMES_BACKGROUND
        if still.any():
            self._mean[still] = self._candidate[still]
            self._unchanged[still] = 0
        self._picture = cv2.convertScaleAbs(self._mean)


def _largest_channel(picture: NDArray[Any]) -> Mask:
    blue, green, red = cv2.split(picture)
    return np.asarray(cv2.max(cv2.max(blue, green), red), np.uint8)


def _threshold(samples: Sequence[Picture], median: Picture) -> float:
    """Return the difference that noise does not reach."""
    noise = [float(np.median(np.abs(sample[::4, ::4].astype(np.int16) - median[::4, ::4]))) for sample in samples]
    return max(_LEAST_DIFFERENCE, _NOISE_FACTOR * 1.48 * float(np.median(noise)))
