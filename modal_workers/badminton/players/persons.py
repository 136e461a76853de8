"""Persons in pictures, as a pose backend returns them and as the detection stage stores them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Floats = NDArray[np.float32]

#: COCO's order of keypoints.
KEYPOINTS: Final = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)


@dataclass(frozen=True)
class Persons:
    """Persons in one picture, in pixels of that picture.

    Shapes: ``boxes_px`` [n, 4] (left, top, right, bottom), ``confidence`` [n], ``keypoints_px`` [n, 17, 3] (x, y,
    confidence), NaN where the backend finds no skeletons.
    """

    boxes_px: Floats
    confidence: Floats
    keypoints_px: Floats

    def __len__(self) -> int:
        return len(self.confidence)


class PoseBackend(Protocol):
    """Detector of persons in consecutive pictures of one camera."""

    @property
    def name(self) -> str:
        """Name of the backend and its model, for the result: ``motion``, ``ultralytics yolo26n-pose``."""

    @property
    def has_skeletons(self) -> bool:
        """Whether it returns keypoints."""

    def restart(self) -> None:
        """Forget the pictures so far: the camera has changed."""

    def detect(self, pictures: Sequence[Picture]) -> list[Persons]:
        """Return the persons in each picture (BGR [h, w, 3], upright), in order; pictures follow those before."""


@dataclass(frozen=True)
class PersonLog:
    """Persons of all frames of a video, frame after frame, in pixels of the upright full-size picture.

    Shapes: ``frame_offsets`` [frames + 1]: the persons of frame i are rows ``frame_offsets[i]`` to
    ``frame_offsets[i + 1]``; ``boxes_px`` [rows, 4], ``confidence`` [rows], ``keypoints_px`` [rows, 17, 3],
    ``appearance`` [rows, k] (normalised colour histogram of the shirt).
    """

    frame_offsets: NDArray[np.int64]
    boxes_px: Floats
    confidence: Floats
    keypoints_px: Floats
    appearance: Floats

    def rows(self, frame: int) -> slice:
        """Return the rows of a frame."""
        return slice(int(self.frame_offsets[frame]), int(self.frame_offsets[frame + 1]))
