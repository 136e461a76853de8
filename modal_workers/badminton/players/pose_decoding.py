"""Input and output of a YOLO pose network: the square picture, and persons from the numbers that come out.

One decoding for all backends. Two layouts are understood: [n, 300, 57] (box, confidence, class, 17 keypoints; the
network has already chosen among overlapping boxes) and [n, 56, cells] (centre, size, confidence, 17 keypoints; it has
not).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.players.persons import KEYPOINTS, Floats, Persons, Picture

MIN_CONFIDENCE: Final = 0.2
#: Boxes that share more of their union show one person; partners in doubles overlap by up to about this much.
MAX_OVERLAP: Final = 0.7
_GREY: Final = 114
_KEYPOINT_VALUES: Final = 3 * len(KEYPOINTS)
#: Values of one person in each layout.
CHOSEN_VALUES: Final = 6 + _KEYPOINT_VALUES
CELL_VALUES: Final = 5 + _KEYPOINT_VALUES


@dataclass(frozen=True)
class PlacedPicture:
    """Place of a picture in the network's square: scale, and offset in pixels of the square."""

    scale: float
    left_px: float
    top_px: float

    def to_picture(self, points: NDArray[Any]) -> Floats:
        """Return the picture's pixels, (0, 0) the centre of the first one, for places (…, 2) in the square."""
        offset = np.array([self.left_px, self.top_px])
        return np.asarray((points - offset) / self.scale - 0.5, np.float32)


def letterbox(picture: Picture, side_px: int) -> tuple[Picture, PlacedPicture]:
    """Return a picture scaled into the middle of a grey square."""
    height, width = picture.shape[:2]
    scale = side_px / max(height, width)
    new_width, new_height = max(round(width * scale), 1), max(round(height * scale), 1)
    shrinks = scale < 1
    small = cv2.resize(picture, (new_width, new_height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    left, top = (side_px - new_width) // 2, (side_px - new_height) // 2
    square = np.full((side_px, side_px, 3), _GREY, np.uint8)
    square[top : top + new_height, left : left + new_width] = small
    return square, PlacedPicture(scale, left, top)


def network_input(squares: list[Picture]) -> Floats:
    """Return the network's input [n, 3, side, side] for BGR squares: RGB, 0 to 1."""
    batch = np.stack(squares)[..., ::-1].transpose(0, 3, 1, 2)
    return np.ascontiguousarray(batch, np.float32) / np.float32(255)


def is_pose_output(shape: tuple[int, ...]) -> bool:
    """Return whether an output has one of the two layouts."""
    return len(shape) == 3 and (shape[2] == CHOSEN_VALUES or shape[1] == CELL_VALUES)


def decode(output: NDArray[np.float32], placement: PlacedPicture, *, min_confidence: float = MIN_CONFIDENCE) -> Persons:
    """Return the persons in the output for one picture, [300, 57] or [56, cells]."""
    if output.shape[1] == CHOSEN_VALUES:
        rows = output[(output[:, 4] >= min_confidence) & (np.round(output[:, 5]) == 0)]
        boxes, confidence, keypoints = rows[:, :4], rows[:, 4], rows[:, 6:]
    else:
        rows = output.T[output[4] >= min_confidence]
        half = rows[:, 2:4] / 2
        boxes = np.concatenate([rows[:, :2] - half, rows[:, :2] + half], axis=1)
        kept = without_overlaps(boxes, rows[:, 4])
        boxes, confidence, keypoints = boxes[kept], rows[kept, 4], rows[kept, 5:]
    joints = keypoints.reshape(-1, len(KEYPOINTS), 3)
    return Persons(
        placement.to_picture(boxes.reshape(-1, 2, 2)).reshape(-1, 4),
        np.asarray(confidence, np.float32),
        np.concatenate([placement.to_picture(joints[..., :2]), joints[..., 2:].astype(np.float32)], axis=2),
    )


def without_overlaps(
    boxes: NDArray[Any], confidence: NDArray[Any], *, max_overlap: float = MAX_OVERLAP
) -> NDArray[np.int64]:
    """Return the boxes to keep, most confident first: each suppresses those it overlaps (non-maximum suppression)."""
    left = np.argsort(-confidence, kind="stable")
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(int(best))
        low = np.maximum(boxes[best, :2], boxes[left, :2])
        high = np.minimum(boxes[best, 2:], boxes[left, 2:])
        common = np.maximum(high - low, 0).prod(axis=1)
        left = left[common <= max_overlap * (area[best] + area[left] - common)]
    return np.array(kept, np.int64)
