"""The shuttle's track in the picture, with its gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class ShuttleCandidates:
    """Places in one picture that may be the shuttle: ``position_px`` [n, 2], ``score`` [n] (0 to 1)."""

    position_px: Floats
    score: Floats


class ShuttleBackend(Protocol):
    """Detector of shuttle candidates in consecutive pictures of one camera."""

    @property
    def name(self) -> str:
        """Name of the backend and its model, for the result."""

    def restart(self) -> None:
        """Forget the pictures so far: the camera has changed."""

    def detect(self, pictures: Sequence[Picture]) -> list[ShuttleCandidates]:
        """Return candidates for the next pictures (BGR, upright). May lag: those of the last pictures come later."""

    def flush(self) -> list[ShuttleCandidates]:
        """Return the candidates of the pictures still missing, at the end of a segment."""


@dataclass(frozen=True)
class CandidateLog:
    """Candidates of all frames: those of frame i are rows ``frame_offsets[i]`` to ``frame_offsets[i + 1]``."""

    frame_offsets: NDArray[np.int64]
    position_px: Floats
    score: Floats

    def rows(self, frame: int) -> slice:
        """Return the rows of a frame."""
        return slice(int(self.frame_offsets[frame]), int(self.frame_offsets[frame + 1]))


@dataclass(frozen=True)
class ShuttleTrack:
    """Track over N frames: ``position_px`` [N, 2] and ``confidence`` [N]; NaN and 0 where the shuttle was not found."""

    position_px: Floats
    confidence: Floats

    @classmethod
    def none(cls, frame_count: int) -> ShuttleTrack:
        """Return a track in which the shuttle is nowhere."""
        return cls(np.full((frame_count, 2), np.nan, np.float32), np.zeros(frame_count, np.float32))
