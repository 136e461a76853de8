"""Makes batches of joint samples and keeps each until it is known to have arrived; every sample is counted once."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from saccade_robot.clock import Offset
from saccade_robot.ring import Ring
from saccade_robot.units import Scale

#: (captured_at_s, positions) as the control thread offers them.
Sample = tuple[float, tuple[Any, ...]]

#: Most samples and roughly most bytes of one batch: the gateway reads 256 KiB and 1000 samples.
_SAMPLES: Final = 500
_BYTES: Final = 160 * 1024
_BYTES_A_NUMBER: Final = 24


@dataclass(frozen=True)
class JointBatchFormat:
    """What all batches of a robot say alike, and how its values become radians."""

    source: str
    names: tuple[str, ...]
    unit: str
    scales: tuple[Scale, ...] | None = None

    @property
    def most(self) -> int:
        """Tell how many samples go into a batch at most."""
        numbers = len(self.names) * (2 if self.scales else 1) + 2
        return max(1, min(_SAMPLES, _BYTES // (numbers * _BYTES_A_NUMBER)))

    def sample(self, sequence: int, captured_at_s: float, positions: Sequence[Any]) -> list[Any] | None:
        """Give a sample as it travels, with the robot's own values behind the radians; None when it cannot be sent."""
        try:
            values = [float(value) for value in positions]
        except (TypeError, ValueError):
            return None
        if len(values) != len(self.names) or not all(map(math.isfinite, values)):
            return None
        if self.scales is None:
            return [sequence, captured_at_s, values]
        rad = [value * scale.rad_per_unit + scale.zero_rad for value, scale in zip(values, self.scales, strict=True)]
        return [sequence, captured_at_s, rad, values]


@dataclass(frozen=True)
class Batch:
    """One message."""

    body: bytes
    samples: int


class Outbox:
    """The samples that wait, that are on their way, and that are to be sent again."""

    def __init__(self, ring: Ring[Sample], form: JointBatchFormat, offset: Callable[[], Offset | None]) -> None:
        """Take samples from ``ring``; each batch tells the clock's ``offset`` at its time."""
        self._ring = ring
        self._form = form
        self._offset = offset
        self._under_way: deque[tuple[int, Batch]] = deque()
        self._again: deque[Batch] = deque()
        self._sent = 0
        self._refused = 0

    @property
    def sent(self) -> int:
        """Count samples that are known to have arrived."""
        return self._sent

    @property
    def dropped(self) -> int:
        """Count samples that the ring dropped, that cannot be sent, or that the server refused."""
        return self._ring.lost + self._refused

    @property
    def unconfirmed(self) -> int:
        """Count samples that have left and may have arrived."""
        return sum(batch.samples for _, batch in self._under_way) + sum(batch.samples for batch in self._again)

    @property
    def waiting(self) -> bool:
        """Tell whether there is something to send."""
        return bool(self._again) or self._ring.waiting > 0

    @property
    def under_way(self) -> int:
        """Count batches that are on their way."""
        return len(self._under_way)

    def next(self) -> Batch | None:
        """Give the next batch to send, first what did not arrive."""
        if self._again:
            return self._again.popleft()
        while taken := self._ring.take(self._form.most):
            samples = [self._form.sample(sequence, *sample) for sequence, sample in taken]
            valid = [sample for sample in samples if sample is not None]
            self._refused += len(samples) - len(valid)
            if valid:
                return Batch(self._body(valid), len(valid))
        return None

    def _body(self, samples: list[list[Any]]) -> bytes:
        body: dict[str, Any] = {
            "source": self._form.source,
            "names": self._form.names,
            "unit": self._form.unit,
            "samples": samples,
            "offered": self._ring.offered,
            "dropped": self._ring.dropped + self._refused,
        }
        if (offset := self._offset()) is not None:
            body["clock"] = {"offset_s": offset.offset_s, "error_s": offset.error_s}
        return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()

    def left(self, batch: Batch, mark: int) -> None:
        """Keep a batch that has left until ``mark`` is confirmed."""
        self._under_way.append((mark, batch))

    def confirm(self, mark: int) -> None:
        """Count everything that left up to ``mark`` as arrived."""
        while self._under_way and self._under_way[0][0] <= mark:
            self._sent += self._under_way.popleft()[1].samples

    def arrived(self, batch: Batch) -> None:
        """Count a batch whose arrival was answered for at once."""
        self._sent += batch.samples

    def put_back(self, batch: Batch) -> None:
        """Send a batch again that did not leave."""
        self._again.appendleft(batch)

    def refuse(self, batch: Batch) -> None:
        """Give a batch up that the server will never take."""
        self._refused += batch.samples

    def take_back(self) -> None:
        """Send again what may not have arrived; whoever has it knows it by its number."""
        self._again.extendleft(batch for _, batch in reversed(self._under_way))
        self._under_way.clear()
