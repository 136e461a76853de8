"""How far the whole job is, from how far its current stage is, and when it will be done. Pure; time is given."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from contracts.workload import Stage

#: The estimate follows the speed of the last so many seconds, so that work skipped by a checkpoint, and a slow
#: first stage, are soon forgotten.
_WINDOW_S: Final = 30.0
#: Below this span the speed is noise.
_SPAN_S: Final = 1.0
#: Before this much is done, what is left is a guess: opening files is not the speed of reading them.
_SETTLED: Final = 0.08
_SAMPLE_S: Final = 0.25
_MESSAGE_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the work was at one moment."""

    stage: str
    fraction: float
    stage_fraction: float
    message: str
    #: Seconds left when this was said, and when that was (monotonic clock, seconds).
    eta_s: float | None
    at_s: float

    def eta_at(self, now_s: float) -> float | None:
        """Give the seconds left at a later moment, when nothing was said since."""
        return None if self.eta_s is None else max(0.0, self.eta_s - (now_s - self.at_s))


class ProgressMeter:
    """Adds up the stages' shares. The whole never goes back, whatever order a job says things in."""

    def __init__(self, stages: Sequence[Stage], now_s: float) -> None:
        """Take the stages of a spec; their shares count relative to their sum."""
        total = sum(stage.share for stage in stages)
        self._share: dict[str, tuple[float, float]] = {}
        before = 0.0
        for stage in stages:
            self._share[stage.name] = (before / total, stage.share / total)
            before += stage.share
        self._samples: deque[tuple[float, float]] = deque([(now_s, 0.0)])
        self.newest = Progress(stages[0].name, 0.0, 0.0, "", None, now_s)

    def enter(self, stage: str, now_s: float) -> Progress:
        """Begin a stage.

        Raises:
            ValueError: the spec has no such stage.
        """
        if stage not in self._share:
            raise ValueError(f"the spec has no stage {stage!r}")
        return self._say(stage, 0.0, "", now_s)

    def set(self, stage_fraction: float, message: str, now_s: float) -> Progress:
        """Say how far the current stage is (0..1; values outside, and what is no number, are brought inside)."""
        return self._say(self.newest.stage, min(1.0, max(0.0, stage_fraction)), message, now_s)

    def _say(self, stage: str, stage_fraction: float, message: str, now_s: float) -> Progress:
        before, share = self._share[stage]
        fraction = min(1.0, max(self.newest.fraction, before + share * stage_fraction))
        if now_s - self._samples[-1][0] >= _SAMPLE_S:
            self._samples.append((now_s, fraction))
        while len(self._samples) > 2 and now_s - self._samples[0][0] > _WINDOW_S:
            self._samples.popleft()
        self.newest = Progress(
            stage, fraction, stage_fraction, message[:_MESSAGE_CHARS], self._eta(fraction, now_s), now_s
        )
        return self.newest

    def _eta(self, fraction: float, now_s: float) -> float | None:
        first_s, first = self._samples[0]
        if now_s - first_s < _SPAN_S or fraction <= first or fraction < _SETTLED:
            return None
        return round((1.0 - fraction) * (now_s - first_s) / (fraction - first), 1)
