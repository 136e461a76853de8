"""Frames that are analysed: all of them up to 60 Hz, fewer of faster videos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Slow-motion modes of phones film at 120 or 240 Hz; more than this adds nothing to positions and costs in proportion.
MAX_RATE_HZ: Final = 60.0


@dataclass(frozen=True)
class FrameTimes:
    """Analysed frames: ``time_s`` [N] from the video's first frame, ``source_frame`` [N] their number in the video."""

    time_s: NDArray[np.float64]
    source_frame: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.time_s)

    @property
    def rate_hz(self) -> float:
        """Median rate of the analysed frames."""
        return float(1 / np.median(np.diff(self.time_s))) if len(self) > 1 else 0.0


class AnalysedFrames:
    """Selects frames as they are decoded; after the last one ``times`` holds them all."""

    def __init__(self) -> None:
        self._time_s: list[float] = []
        self._source: list[int] = []
        self._seen = 0
        self._due_s = 0.0
        #: Of the frame before; and the sum of the intervals, none counted as longer than one of the grid.
        self._last_s = 0.0
        self._sum_s = 0.0

    def admit(self, time_s: float) -> bool:
        """Count a decoded frame; return whether it is analysed."""
        number, self._seen = self._seen, self._seen + 1
        self._sum_s += min(1 / MAX_RATE_HZ, time_s - self._last_s)
        self._last_s = time_s
        # Half an interval of the video's own frames: jitter of a 60 Hz video drops none, and of faster ones the frames
        # nearest to the grid are taken, at even distances.
        tolerance_s = 0.5 * self._sum_s / max(number, 1)
        if self._time_s and time_s < self._due_s - tolerance_s:
            return False
        self._time_s.append(time_s)
        self._source.append(number)
        # The grid advances by whole steps, so that jitter does not accumulate; after a gap it starts anew.
        self._due_s = max(self._due_s, time_s - tolerance_s) + 1 / MAX_RATE_HZ
        return True

    @property
    def times(self) -> FrameTimes:
        """The frames selected so far."""
        return FrameTimes(np.array(self._time_s, np.float64), np.array(self._source, np.int64))
