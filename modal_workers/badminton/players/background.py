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
#: Colours this near to each other, in levels of 255, are the same place of the hall.
_SAME_COLOUR: Final = 14
#: A colour that is seen in a larger share of the samples is the hall's; with one that is not, people around it decide.
_SURE_SHARE: Final = 0.5
#: Nobody is near who is not within this width and height, at 640 px: a head may be all that is seen here of somebody.
_SOMEBODY_PX: Final = (21, 51)
#: Every so many pictures the background is adapted; seen so often, what does not change becomes part of it.
_ADAPTED_EVERY: Final = 8
_BECOMES_BACKGROUND: Final = 110
_UNCHANGED: Final = 14
#: Share of a picture that enters the background where it differs little from it: light changes slowly.
_ADAPTATION: Final = 0.06


class Background:
    """Most frequent colours with slow adaptation: who stands still for some time stays foreground.

    Only what does not change at all for about 30 s becomes background: a bag put down, or the hole that somebody leaves
    who stood in the samples.
    """

    def __init__(self, samples: Sequence[Picture]) -> None:
        """Take what is seen most often in pictures from all over the stretch of one camera."""
        self._mean = _most_frequent(samples)
        self._picture = self._mean.astype(np.uint8)
        self._candidate = self._picture.copy()
        self._unchanged = np.zeros(self._picture.shape[:2], np.uint8)
        self._count = 0
        self._threshold = _threshold(samples, self._picture)

    def foreground(self, picture: Picture) -> Mask:
        """Return where a picture shows something else than background or shadow (255), and learn from it."""
        picture = _in_light_of(self._picture, picture)
        difference = cv2.absdiff(picture, self._picture)
        largest = _largest_channel(difference)
        mask = np.asarray(cv2.threshold(largest, self._threshold, 255, cv2.THRESH_BINARY)[1], np.uint8)
        mask[self._shadow(picture)] = 0
        if self._count % _ADAPTED_EVERY == 0:
            self._adapt(picture, mask)
        self._count += 1
        return mask

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
        self._unchanged = np.asarray(np.minimum(self._unchanged, 254) + 1, np.uint8)
        self._unchanged[changed | away] = 0
        still = self._unchanged > _BECOMES_BACKGROUND
        if still.any():
            self._mean[still] = self._candidate[still]
            self._unchanged[still] = 0
        self._picture = np.asarray(cv2.convertScaleAbs(self._mean), np.uint8)


def _most_frequent(samples: Sequence[Picture]) -> NDArray[np.float32]:
    """Return the mean of the largest group of like colours at each pixel.

    In a low camera's picture players cover the middle of the court for most of the time. The median is then a colour of
    theirs; the hall is still seen more often than any one of their colours.
    """
    reference = np.asarray(np.median(np.stack(samples), axis=0), np.uint8)
    alike = [_in_light_of(reference, sample) for sample in samples]
    count = np.zeros(reference.shape[:2], np.uint8)
    found = np.asarray(reference, np.float32)
    for candidate in alike:
        here = np.zeros(count.shape, np.uint8)
        total = np.zeros(found.shape, np.float32)
        for other in alike:
            near = (_largest_channel(cv2.absdiff(candidate, other)) <= _SAME_COLOUR).astype(np.uint8)
            here = np.asarray(here + near, np.uint8)
            cv2.accumulate(other, total, near)
        more = here > count
        count[more] = here[more]
        found[more] = total[more] / here[more, None]
    unsure = count <= _SURE_SHARE * len(alike)
    if unsure.any():
        _look_again(found, unsure, alike)
    return found


def _look_again(found: NDArray[np.float32], unsure: NDArray[np.bool_], samples: Sequence[Picture]) -> None:
    """Decide the pixels that are ``unsure`` by those samples in which nobody is near: a shirt is of one colour, too.

    Where somebody always is, the floor around is continued.
    """
    rows, columns = np.nonzero(unsure)
    sure = (~unsure).astype(np.uint8)
    background = cv2.convertScaleAbs(found)
    values = np.stack([sample[rows, columns] for sample in samples]).astype(np.int16)
    free = np.empty(values.shape[:2], np.bool_)
    for number, sample in enumerate(samples):
        other = (_largest_channel(cv2.absdiff(sample, background)) > _LEAST_DIFFERENCE).astype(np.uint8)
        somebody = cv2.dilate(cv2.medianBlur(other * sure, 3), np.ones(_SOMEBODY_PX[::-1], np.uint8))
        free[number] = somebody[rows, columns] == 0
    best = np.zeros(len(rows), np.int64)
    for candidate, usable in zip(values, free, strict=True):
        near = free & (np.abs(values - candidate).max(axis=2) <= _SAME_COLOUR)
        here = near.sum(axis=0) * usable
        more = here > best
        best[more] = here[more]
        mean = (values * near[..., None]).sum(axis=0)[more] / here[more, None]
        found[rows[more], columns[more]] = mean
    hidden = np.zeros(unsure.shape, np.uint8)
    hidden[rows[best == 0], columns[best == 0]] = 1
    if hidden.any():
        filled = cv2.inpaint(cv2.convertScaleAbs(found), hidden, 3, cv2.INPAINT_TELEA)
        found[hidden > 0] = filled[hidden > 0]


def _in_light_of(background: Picture, picture: Picture) -> Picture:
    """Undo a change of the exposure: most of a picture is background."""
    ours, theirs = background[4::16, 4::16], picture[4::16, 4::16]
    bright = ours.min(axis=2) > 30
    if bright.sum() < 20:
        return picture
    gain = float(np.median(theirs[bright].sum(axis=1) / ours[bright].sum(axis=1, dtype=np.float32)))
    return picture if abs(gain - 1) < 0.004 else np.asarray(cv2.convertScaleAbs(picture, alpha=1 / gain), np.uint8)


def _largest_channel(picture: NDArray[Any]) -> Mask:
    blue, green, red = cv2.split(picture)
    return np.asarray(cv2.max(cv2.max(blue, green), red), np.uint8)


def _threshold(samples: Sequence[Picture], median: Picture) -> float:
    """Return the difference that noise does not reach."""
    noise = [float(np.median(np.abs(sample[::4, ::4].astype(np.int16) - median[::4, ::4]))) for sample in samples]
    return max(_LEAST_DIFFERENCE, _NOISE_FACTOR * 1.48 * float(np.median(noise)))
