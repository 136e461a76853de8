"""Persons without a model: what moves in front of a still camera's background, grouped by the size that persons have.

No skeletons, and no notion of what a person looks like: it finds what differs from the empty hall.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.homography import CourtView
from modal_workers.badminton.players.background import Background, Mask
from modal_workers.badminton.players.body_sizes import BodySizes
from modal_workers.badminton.players.persons import KEYPOINTS, Persons, Picture

Box = tuple[int, int, int, int]
#: Left, top, right, bottom edges; the middle between left and right is that of the legs.
PersonBox = tuple[float, float, float, float]

#: Width at which pictures are compared: a far player is 45 px tall.
ANALYSIS_WIDTH_PX: Final = 640
#: Of the height expected at its place: a person's box is at least this high, and covers this share of its square.
_LEAST_HEIGHT: Final = 0.45
_LEAST_AREA: Final = 0.05
#: Smallest blob that may be a part of a person.
_LEAST_BLOB_PX: Final = 6
#: As shares of a person's height: a blob of this height is somebody, and of this one with legs; the parts of one person
#: are not farther apart, make this height with feet, touch, and lie within this height (a jump).
_WHOLE: Final = 0.6
_COMPLETE: Final = 0.8
_REACH: Final = 0.12
_FEET: Final = (0.8, 1.1)
_TOUCHING: Final = 0.05
_TALLEST: Final = 1.3
#: A blob wider than this share of its height may be two persons beside each other: each at least so wide, and between
#: them a column with less than this share of the pixels of each one's fullest.
_WIDEST: Final = 0.6
_NARROWEST: Final = 0.16
_NARROW: Final = 0.6
#: Share of a person's pixels on either side that may be an arm with the racket.
_LIMBS: Final = 0.04
#: Share of a person's pixels at the bottom that may be no foot.
_TIP: Final = 0.005
_NO_POINTS: Final = np.full((1, len(KEYPOINTS), 3), np.nan, np.float32)


class MotionPoseBackend:
    """Detector of persons by background subtraction."""

    name = "motion"
    has_skeletons = False

    def __init__(
        self,
        samples: Sequence[Picture] = (),
        *,
        court: CourtView | None = None,
        court_size_px: tuple[int, int] | None = None,
    ) -> None:
        """Learn the background.

        ``samples``: 15 to 30 pictures from all over the stretch of this camera; without any, the first pictures given
        to ``detect`` are taken, and who stands in them is found only after moving away. ``court``: its view in pictures
        of ``court_size_px`` (width, height; left out: the size of the pictures), from which the size of a person at
        each place is known.
        """
        self._court, self._court_size_px = court, court_size_px
        self._background: Background | None = None
        self._sizes: BodySizes | None = None
        if len(samples):
            self._background = Background([reduced(sample) for sample in samples])

    def restart(self) -> None:
        """Forget background and court: the camera has changed."""
        self._background = self._sizes = self._court = None

    def detect(self, pictures: Sequence[Picture]) -> list[Persons]:
        """Return the persons in each picture."""
        return [self._persons(picture, pictures) for picture in pictures]

    def _persons(self, picture: Picture, batch: Sequence[Picture]) -> Persons:
        small = reduced(picture)
        if self._background is None:
            self._background = Background([reduced(sample) for sample in batch])
        if self._sizes is None:
            height, width = small.shape[:2]
            own = (picture.shape[1], picture.shape[0])
            self._sizes = BodySizes(self._court, self._court_size_px or own, (width, height))
        mask = cleaned(self._background.foreground(small))
        found = list(persons_in(mask, self._sizes))
        scale = np.array([picture.shape[1] / small.shape[1], picture.shape[0] / small.shape[0]] * 2)
        boxes = np.array([box for box, _ in found], np.float64).reshape(-1, 4)
        # From the edges of pixels to centres, where (0, 0) is the first one's.
        boxes = boxes * scale - 0.5
        return Persons(
            boxes.astype(np.float32),
            np.array([confidence for _, confidence in found], np.float32),
            np.repeat(_NO_POINTS, len(found), axis=0),
        )


def reduced(picture: Picture) -> Picture:
    """Return a picture at the size at which pictures are compared."""
    width = picture.shape[1]
    long_side = max(picture.shape[:2])
    if long_side <= ANALYSIS_WIDTH_PX:
        return picture
    scale = ANALYSIS_WIDTH_PX / long_side
    size = round(width * scale), round(picture.shape[0] * scale)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def cleaned(mask: Mask) -> Mask:
    """Return a mask without single pixels, and with the parts of a body joined."""
    opened = cv2.medianBlur(mask, 3)
    return np.asarray(cv2.morphologyEx(opened, cv2.MORPH_CLOSE, np.ones((5, 3), np.uint8)), np.uint8)


def persons_in(mask: Mask, sizes: BodySizes) -> list[tuple[PersonBox, float]]:
    """Return boxes (left, top, right, bottom edges) of persons in a mask, with confidences, nearest first."""
    _, found_labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    labels = np.asarray(found_labels, np.int32)
    blobs = stats[1:]
    numbers = np.flatnonzero(blobs[:, cv2.CC_STAT_AREA] >= _LEAST_BLOB_PX)
    boxes = np.stack(
        [
            blobs[:, cv2.CC_STAT_LEFT],
            blobs[:, cv2.CC_STAT_TOP],
            blobs[:, cv2.CC_STAT_LEFT] + blobs[:, cv2.CC_STAT_WIDTH],
            blobs[:, cv2.CC_STAT_TOP] + blobs[:, cv2.CC_STAT_HEIGHT],
        ],
        axis=1,
    )
    areas = blobs[:, cv2.CC_STAT_AREA]
    # The largest blob of a person first; its smaller parts join it.
    left = sorted(numbers.tolist(), key=lambda number: -int(areas[number]))
    found: list[tuple[PersonBox, float]] = []
    while left:
        seed, left = left[0], left[1:]
        parts = _parts(seed, left, boxes, sizes)
        left = [number for number in left if number not in parts]
        group = boxes[[seed, *parts]]
        box = (*group[:, :2].min(axis=0).tolist(), *group[:, 2:].max(axis=0).tolist())
        of_group = np.zeros(len(stats), bool)
        of_group[[seed + 1, *(part + 1 for part in parts)]] = True
        for part in _separated(box, labels, of_group, sizes):
            person = _as_person(part, labels, of_group, sizes)
            if person is not None:
                found.append(person)
    return sorted(found, key=lambda person: -person[0][3])


def _parts(seed: int, others: Sequence[int], boxes: NDArray[np.int32], sizes: BodySizes) -> list[int]:
    """Return the blobs that lie within a person whose largest part is the seed."""
    left, top, right, bottom = boxes[seed].tolist()
    centre = (left + right) / 2
    height = sizes.height_px(centre, bottom)
    if not height:
        return []
    found = []
    for other in others:
        a, b, c, d = boxes[other].tolist()
        beside = max(a - right, left - c)
        if beside > 0 and d - b > _WHOLE * sizes.height_px((a + c) / 2, d):
            continue  # somebody else
        # Parts above the seed as far as a head is. Behind the net's mesh legs are in pieces: parts below somebody
        # without legs are feet where the whole is as tall as a person there. Else they are the racket of somebody who
        # bends down, a shadow, or floor that the background remembers wrongly.
        low = max(d, bottom)
        expected = max(sizes.height_px(centre, low), 1.0)
        tall = (low - min(b, top)) / expected
        touching = d < bottom + _TOUCHING * height
        pieces = bottom - top < _COMPLETE * expected and sizes.behind_net(centre, low)
        if beside < _REACH * height and tall < _TALLEST and (touching or (pieces and _FEET[0] < tall < _FEET[1])):
            found.append(other)
    return found


def _separated(box: Box, labels: NDArray[np.int32], of_group: NDArray[np.bool_], sizes: BodySizes) -> list[Box]:
    """Return the boxes of the persons that one group of blobs shows: beside, or behind each other."""
    left, top, right, bottom = box
    height = sizes.height_px((left + right) / 2, bottom)
    if not height or not sizes.known:
        return [box]
    if right - left > _WIDEST * height:
        beside = _beside(box, of_group[labels[top:bottom, left:right]], height, sizes)
        if beside:
            return [part for half in beside for part in _separated(half, labels, of_group, sizes)]
    if bottom - top > _TALLEST * height * 1.1:
        # The one in front stands at the bottom; of the one behind, only the upper part is seen.
        front_top = int(bottom - height)
        behind = _tight(of_group[labels[top:front_top, left:right]])
        hidden = (left + behind[0], top, left + behind[2], front_top)
        foot = sizes.foot_below_head((hidden[0] + hidden[2]) / 2, top)
        if foot is not None and foot < bottom:
            return [(left, front_top, right, bottom), (hidden[0], top, hidden[2], max(round(foot), front_top))]
    return [box]


def _beside(box: Box, inside: NDArray[np.bool_], height: float, sizes: BodySizes) -> list[Box]:
    """Return the boxes left and right of the narrowest place, if each is as tall as a person; else none."""
    left, top, _, _ = box
    columns = np.convolve(inside.sum(axis=0), np.ones(3) / 3, mode="same")
    margin = max(int(_NARROWEST * height), 1)
    if len(columns) <= 2 * margin:
        return []
    cut = margin + int(columns[margin : len(columns) - margin].argmin())
    if columns[cut] > _NARROW * min(columns[:cut].max(), columns[cut:].max()):
        return []
    found = []
    for start, part in ((0, inside[:, :cut]), (cut, inside[:, cut:])):
        a, b, c, d = _tight(part)
        half = left + start + a, top + b, left + start + c, top + d
        if half[3] - half[1] < _WHOLE * sizes.height_px((half[0] + half[2]) / 2, half[3]):
            return []
        found.append(half)
    return found


def _tight(inside: NDArray[np.bool_]) -> Box:
    """Return the box around what is set: left, top, right, bottom edges; the whole where nothing is."""
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        return 0, 0, inside.shape[1], inside.shape[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _as_person(
    box: Box, labels: NDArray[np.int32], of_group: NDArray[np.bool_], sizes: BodySizes
) -> tuple[PersonBox, float] | None:
    left, top, right, bottom = box
    height = sizes.height_px((left + right) / 2, bottom)
    if not height or bottom - top < _LEAST_HEIGHT * height:
        return None
    inside = of_group[labels[top:bottom, left:right]]
    columns = inside.sum(axis=0)
    area = float(columns.sum())
    share = area / (height * height)
    if share < _LEAST_AREA:
        return None
    # An arm with a racket moves the middle of the box away from the feet, and so does a trunk that leans.
    course = np.cumsum(columns)
    half_width = (np.searchsorted(course, (1 - _LIMBS) * area) + 1 - np.searchsorted(course, _LIMBS * area)) / 2
    legs = inside[len(inside) // 2 :].sum(axis=0)
    if not legs.any():
        legs = columns
    middle = left + 0.5 + float(np.average(np.arange(len(legs)), weights=legs))
    # The handle of a racket that hangs down is as thin as a line.
    lowest = np.cumsum(inside.sum(axis=1)[::-1])
    bottom -= int(np.searchsorted(lowest, _TIP * area))
    # Full confidence is that of a whole figure: a sixth of the square over its height.
    whole = min(share / 0.16, 1.0) * min((bottom - top) / (0.8 * height), 1.0)
    return (middle - half_width, top, middle + half_width, bottom), 0.2 + 0.7 * whole
