"""Progress of a job and its remaining time, from the progress of its current stage. Pure; time is an argument."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from contracts.workload import Stage

#: Window of the speed estimate: work skipped by a checkpoint and a slow first stage soon drop out of it.
_WINDOW_S: Final = 30.0
#: Below this time span the speed is noise.
_MIN_SPAN_S: Final = 1.0
#: Fraction below which no remaining time is given: opening files says nothing of the speed of reading them.
_MIN_FRACTION: Final = 0.08
_SAMPLE_S: Final = 0.25
_MESSAGE_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class ProgressSnapshot:
    """Progress at one moment."""

    stage: str
    fraction: float
    stage_fraction: float
    message: str
    #: Estimated seconds left at ``at_s`` (monotonic clock, seconds).
    eta_s: float | None
    at_s: float
    #: Processed frames of a video, and all of them; None if the stage counts no frames.
    frame: int | None = None
    frame_count: int | None = None

    def eta_at(self, now_s: float) -> float | None:
        """Return the estimated seconds left at a later moment."""
        return None if self.eta_s is None else max(0.0, self.eta_s - (now_s - self.at_s))


class ProgressMeter:
    """Sum of the stages' shares; the total never decreases, whatever order a job reports in."""

    def __init__(self, stages: Sequence[Stage], now_s: float) -> None:
        """Use the stages of a spec; shares are relative to their sum."""
        total = sum(stage.share for stage in stages)
        self._share: dict[str, tuple[float, float]] = {}
        start = 0.0
        for stage in stages:
            self._share[stage.name] = (start / total, stage.share / total)
            start += stage.share
        self._samples: deque[tuple[float, float]] = deque([(now_s, 0.0)])
        self.newest = ProgressSnapshot(stages[0].name, 0.0, 0.0, "", None, now_s)

    def enter(self, stage: str, now_s: float) -> ProgressSnapshot:
        """Enter a stage and return the progress.

        Raises:
            ValueError: the spec has no such stage.
        """
        if stage not in self._share:
            raise ValueError(f"the spec has no stage {stage!r}")
        return self._update(stage, 0.0, "", now_s)

    def leave(self, now_s: float) -> ProgressSnapshot:
        """Complete the current stage, with its last message and frames, and return the progress."""
        newest = self.newest
        return self.set(1.0, newest.message, now_s, frame=newest.frame, frame_count=newest.frame_count)

    def set(
        self,
        stage_fraction: float,
        message: str,
        now_s: float,
        *,
        frame: int | None = None,
        frame_count: int | None = None,
    ) -> ProgressSnapshot:
        """Set the current stage's fraction, clamped to 0..1 (NaN too), and return the progress.

        Frames below 0 are clamped: an event with them would be refused, and with it the run's heartbeat.
        """
        frames = (_frames(frame), _frames(frame_count))
        return self._update(self.newest.stage, min(1.0, max(0.0, stage_fraction)), message, now_s, frames)

    def _update(
        self,
        stage: str,
        stage_fraction: float,
        message: str,
        now_s: float,
        frames: tuple[int | None, int | None] = (None, None),
    ) -> ProgressSnapshot:
        start, share = self._share[stage]
        fraction = min(1.0, max(self.newest.fraction, start + share * stage_fraction))
        if now_s - self._samples[-1][0] >= _SAMPLE_S:
            self._samples.append((now_s, fraction))
        while len(self._samples) > 2 and now_s - self._samples[0][0] > _WINDOW_S:
            self._samples.popleft()
        self.newest = ProgressSnapshot(
            stage,
            fraction,
            stage_fraction,
            message[:_MESSAGE_CHARS],
            self._remaining_s(fraction, now_s),
            now_s,
            *frames,
        )
        return self.newest

    def _remaining_s(self, fraction: float, now_s: float) -> float | None:
        first_s, first = self._samples[0]
        if now_s - first_s < _MIN_SPAN_S or fraction <= first or fraction < _MIN_FRACTION:
            return None
        return round((1.0 - fraction) * (now_s - first_s) / (fraction - first), 1)


def _frames(count: int | None) -> int | None:
    """Return a number of frames as an ``int`` of at least 0, also for an integer of NumPy."""
    return None if count is None else max(0, int(count))
