"""Outbox of joint samples: batches, kept until they are confirmed; every sample is counted once."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from saccade_robot.clock import Offset, now_s
from saccade_robot.ring import Ring
from saccade_robot.units import Scale

#: (captured_at_s, positions) as the control thread offers them.
Sample = tuple[float, tuple[Any, ...]]

#: Most samples, and about how many bytes, of one batch: the gateway reads 256 KiB and 1000 samples.
_SAMPLES: Final = 500
_BYTES: Final = 160 * 1024
_BYTES_A_NUMBER: Final = 24


@dataclass(frozen=True)
class JointBatchFormat:
    """Fields that all batches of a robot share, and the conversion of its values to radians."""

    source: str
    names: tuple[str, ...]
    unit: str
    scales: tuple[Scale, ...] | None = None

    @property
    def max_samples(self) -> int:
        """Maximum number of samples in a batch."""
        numbers = len(self.names) * (2 if self.scales else 1) + 2
        return max(1, min(_SAMPLES, _BYTES // (numbers * _BYTES_A_NUMBER)))

    def sample(self, sequence: int, captured_at_s: float, positions: Sequence[Any]) -> list[Any] | None:
        """Return a sample as it is sent, with the native values after the radians; None if it is invalid."""
        try:
            values = [float(value) for value in positions]
        except (TypeError, ValueError):
            return None
        if len(values) != len(self.names) or not all(map(math.isfinite, (captured_at_s, *values))):
            return None
        if self.scales is None:
            return [sequence, captured_at_s, values]
        rad = [value * scale.rad_per_unit + scale.zero_rad for value, scale in zip(values, self.scales, strict=True)]
        return [sequence, captured_at_s, rad, values]


@dataclass(frozen=True)
class Batch:
    """A message of joint samples."""

    body: bytes
    samples: int


class Outbox:
    """Queue of samples: waiting, in flight, and to be sent again."""

    def __init__(self, ring: Ring[Sample], form: JointBatchFormat, offset: Callable[[], Offset | None]) -> None:
        """Take samples from ``ring``; each batch carries the clock's present ``offset``."""
        self._ring = ring
        self._form = form
        self._offset = offset
        #: Numbers begin at the clock, in microseconds. A number that comes again means that a sample was sent again;
        #: samples after the robot's next ``connect``, or of the next program, have numbers of their own.
        self._first_number = int(now_s() * 1e6)
        self._in_flight: deque[tuple[int, Batch]] = deque()
        self._resend: deque[Batch] = deque()
        self._sent = 0
        self._refused = 0

    @property
    def sent(self) -> int:
        """Number of samples that have arrived."""
        return self._sent

    @property
    def dropped(self) -> int:
        """Number of samples that the ring dropped, that are invalid, or that the server refused."""
        return self._ring.lost + self._refused

    @property
    def unconfirmed(self) -> int:
        """Number of samples that were sent and may have arrived."""
        # Copies: the sender's thread changes both meanwhile.
        in_flight = sum(batch.samples for _, batch in tuple(self._in_flight))
        return in_flight + sum(batch.samples for batch in tuple(self._resend))

    @property
    def waiting(self) -> bool:
        """Whether there is something to send."""
        return bool(self._resend) or self._ring.waiting > 0

    @property
    def in_flight(self) -> int:
        """Number of batches in flight."""
        return len(self._in_flight)

    def next(self) -> Batch | None:
        """Return the next batch to send, first those to be sent again; None if there is none."""
        if self._resend:
            return self._resend.popleft()
        while taken := self._ring.take(self._form.max_samples):
            samples = [self._form.sample(self._first_number + index, *sample) for index, sample in taken]
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

    def sent_as(self, batch: Batch, number: int) -> None:
        """Keep a sent batch until its message ``number`` is confirmed."""
        self._in_flight.append((number, batch))

    def confirm(self, number: int) -> None:
        """Count all batches up to message ``number`` as arrived."""
        while self._in_flight and self._in_flight[0][0] <= number:
            self._sent += self._in_flight.popleft()[1].samples

    def arrived(self, batch: Batch) -> None:
        """Count a batch as arrived at once."""
        self._sent += batch.samples

    def put_back(self, batch: Batch) -> None:
        """Queue a batch that was not sent."""
        self._resend.appendleft(batch)

    def refuse(self, batch: Batch) -> None:
        """Drop a batch that the server refused."""
        self._refused += batch.samples

    def requeue_in_flight(self) -> None:
        """Queue all batches in flight to be sent again; readers know them by their numbers."""
        self._resend.extendleft(batch for _, batch in reversed(self._in_flight))
        self._in_flight.clear()
