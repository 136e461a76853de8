"""Joint positions over time: samples, linearly interpolated."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import Final

from contracts.telemetry import JointBatch
from modal_workers.runtime.sessions.clock_offsets import ClockOffsets

#: Samples kept: twenty seconds at 200 Hz.
_KEPT: Final = 4000
#: Longest gap between two samples that is interpolated.
_MAX_GAP_S: Final = 0.25


@dataclass(frozen=True)
class JointState:
    """Joint positions at one moment, interpolated."""

    names: tuple[str, ...]
    #: Radians, in the order of the names.
    positions: tuple[float, ...]
    #: Time to the nearest sample, seconds.
    gap_s: float


class JointTrack:
    """Samples of one robot by its own clock; the offset is applied on reading."""

    def __init__(self, clocks: ClockOffsets) -> None:
        """Share the clock offsets with the frames."""
        self._clocks = clocks
        self._source = ""
        self._times: list[float] = []
        self._positions: list[tuple[float, ...]] = []
        self.names: tuple[str, ...] = ()
        self.samples = 0

    def add(self, batch: JointBatch, arrived_at_s: float) -> None:
        """Add a batch; another robot or other joints start a new track. Batches in native units are ignored."""
        if batch.unit != "rad":
            return
        if (batch.source, batch.names) != (self._source, self.names):
            self._source, self.names = batch.source, batch.names
            self._times, self._positions = [], []
        newest = batch.samples[-1].captured_at_s
        self._clocks.observe(
            f"joints {self._source}", captured_at_s=newest, arrived_at_s=arrived_at_s, stated=batch.clock
        )
        for sample in batch.samples:
            self._insert(sample.captured_at_s, sample.positions)
        self.samples += len(batch.samples)
        if len(self._times) > 2 * _KEPT:
            del self._times[:-_KEPT], self._positions[:-_KEPT]

    def covers(self, time_s: float) -> bool:
        """Return whether a sample at or after this moment (server's clock) has arrived, so that ``at`` is final."""
        return bool(self._times) and self._times[-1] >= time_s - self._offset_s

    def at(self, time_s: float) -> JointState | None:
        """Return the joints at a moment by the server's clock; None if no sample is near enough."""
        own_s = time_s - self._offset_s
        after = bisect.bisect_left(self._times, own_s)
        near = [index for index in (after - 1, after) if 0 <= index < len(self._times)]
        if not near:
            return None
        gap_s = min(abs(self._times[index] - own_s) for index in near)
        if len(near) == 1 or self._times[after] - self._times[after - 1] > _MAX_GAP_S:
            nearest = min(near, key=lambda index: abs(self._times[index] - own_s))
            return JointState(self.names, self._positions[nearest], gap_s) if gap_s <= _MAX_GAP_S else None
        before_s, after_s = self._times[after - 1], self._times[after]
        share = (own_s - before_s) / (after_s - before_s)
        pairs = zip(self._positions[after - 1], self._positions[after], strict=True)
        return JointState(self.names, tuple((1 - share) * old + share * new for old, new in pairs), gap_s)

    @property
    def _offset_s(self) -> float:
        return self._clocks.offset_s(f"joints {self._source}")

    def _insert(self, time_s: float, positions: tuple[float, ...]) -> None:
        """Insert a sample in order of time; it replaces one of the same time."""
        if not self._times or time_s > self._times[-1]:
            self._times.append(time_s)
            self._positions.append(positions)
            return
        index = bisect.bisect_left(self._times, time_s)
        if self._times[index] == time_s:
            self._positions[index] = positions
        else:
            self._times.insert(index, time_s)
            self._positions.insert(index, positions)
