"""Who is sent to next: a lane a receiver, with its own queue, concurrency, rate and breaker. Pure; time is given.

A lane holds only the deliveries that are due first; the rest of a long queue stays in the view. Two pools bound the
attempts of all lanes together: receivers that are slow or fail share one of their own, so that they can never take the
place of those that answer at once.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from services.notifier.webhooks.deliveries.delivery import Delivery
from services.notifier.webhooks.sending.circuit_breaker import Breaker

#: Attempts at one receiver at a time.
CONCURRENCY: Final = 4
#: Deliveries of a lane in memory.
IN_MEMORY: Final = 1000
#: A receiver that takes longer than this on average is slow.
SLOW_MS: Final = 1000.0
#: Attempts at one time at all receivers that answer at once, and at all others.
FAST_POOL: Final = 256
SLOW_POOL: Final = 128

Key = tuple[str, int]


@dataclass(frozen=True, order=True)
class Waiting:
    """A delivery that waits in a lane: due when (seconds), which, and of which subject."""

    due_s: float
    sequence: int
    endpoint_id: str
    subject: str

    @classmethod
    def of(cls, delivery: Delivery) -> Waiting:
        """Read it from a delivery."""
        return cls(delivery.due.timestamp(), delivery.sequence, delivery.endpoint_id, delivery.event_subject)

    @property
    def key(self) -> Key:
        """Name the delivery."""
        return self.endpoint_id, self.sequence


class Lane:
    """The queue of one receiver: the deliveries due first, at most ``IN_MEMORY``, and what is on its way."""

    def __init__(self, name: str) -> None:
        """Begin with nothing in memory; what the view holds is loaded when it is asked for."""
        self.name = name
        self.breaker = Breaker()
        self.ordered = False
        self.rate_per_s: float | None = None
        #: There may be more in the view than in memory.
        self.more = True
        self.in_flight: dict[Key, str] = {}
        self._waiting: list[Waiting] = []
        self._known: dict[Key, Waiting] = {}
        self._next_by_rate = -math.inf
        self._latency_ms = 0.0

    @property
    def held(self) -> int:
        """Count what waits in memory."""
        return len(self._waiting)

    @property
    def slow(self) -> bool:
        """Tell whether the receiver is slow or fails."""
        return self._latency_ms > SLOW_MS or not self.breaker.closed

    def idle(self, now: float) -> bool:
        """Tell whether there is nothing to do and nothing to remember."""
        return not (self.more or self._waiting or self.in_flight or self.slow) and self.allowed_at() <= now

    def offer(self, delivery: Delivery) -> None:
        """Take a delivery that waits, in the place that its time gives it."""
        one = Waiting.of(delivery)
        self._drop(one.key)
        if one.key in self.in_flight or (self.more and (not self._waiting or one > self._waiting[-1])):
            return  # it is looked up again when its attempt has ended, or loaded with the rest
        insort(self._waiting, one)
        self._known[one.key] = one
        if len(self._waiting) > IN_MEMORY:
            del self._known[self._waiting.pop().key]
            self.more = True

    def load(self, deliveries: Sequence[Delivery], *, more: bool) -> None:
        """Replace what is in memory by what the view says is due first; ``more`` tells whether it holds still more."""
        self._waiting = sorted(Waiting.of(one) for one in deliveries if one.key not in self.in_flight)
        self._known = {one.key: one for one in self._waiting}
        self.more = more

    def clear(self) -> None:
        """Forget what is in memory: it is loaded again."""
        self._waiting, self._known, self.more = [], {}, True

    def renew(self) -> None:
        """Forget what is known of the receiver: it is another one now."""
        self.breaker, self._latency_ms, self._next_by_rate = Breaker(), 0.0, -math.inf
        self.clear()

    def allowed_at(self) -> float:
        """Give the time from which breaker and rate allow an attempt; infinite while a probe is out."""
        return max(self.breaker.allowed_at(), self._next_by_rate)

    def take(self, now: float) -> Waiting | None:
        """Take the delivery whose attempt is to be made now, if any."""
        if len(self.in_flight) >= CONCURRENCY or now < self.allowed_at():
            return None
        busy = set(self.in_flight.values()) if self.ordered else ()
        for index, one in enumerate(self._waiting):
            if one.due_s > now:
                return None
            if one.subject not in busy:
                del self._waiting[index], self._known[one.key]
                self._start(one, now)
                return one
        return None

    def wake_at(self, now: float) -> float:
        """Give the time at which something can be taken, as far as is known now; infinite when something must end."""
        if len(self.in_flight) >= CONCURRENCY:
            return math.inf
        if not self._waiting:
            return now if self.more else math.inf
        busy = set(self.in_flight.values()) if self.ordered else ()
        first = next((one for one in self._waiting if one.subject not in busy), None)
        return math.inf if first is None else max(first.due_s, self.allowed_at())

    def finish(self, key: Key, *, latency_ms: float | None) -> None:
        """Note that an attempt has ended; without a latency, nothing was sent."""
        self.in_flight.pop(key, None)
        if latency_ms is None:
            self.breaker.abandoned()
        else:
            self._latency_ms += 0.3 * (latency_ms - self._latency_ms)

    def _start(self, one: Waiting, now: float) -> None:
        self.in_flight[one.key] = one.subject
        self.breaker.started()
        if self.rate_per_s:
            # One second's worth may go at once after a pause.
            self._next_by_rate = max(self._next_by_rate, now - 1 + 1 / self.rate_per_s) + 1 / self.rate_per_s

    def _drop(self, key: Key) -> None:
        if one := self._known.pop(key, None):
            del self._waiting[bisect_left(self._waiting, one)]


class Lanes:
    """All lanes, and which of them has something to do when."""

    def __init__(self, fast: int = FAST_POOL, slow: int = SLOW_POOL) -> None:
        """Begin with none; the bounds are of attempts at one time."""
        self._lanes: dict[str, Lane] = {}
        self._free = {False: fast, True: slow}
        self._agenda: list[tuple[float, str]] = []
        self._woken: dict[str, float] = {}
        self._crowded: dict[bool, deque[str]] = {False: deque(), True: deque()}

    def get(self, name: str) -> Lane | None:
        """Give a lane that has something to remember."""
        return self._lanes.get(name)

    def lane(self, name: str) -> Lane:
        """Give a lane, which is made when it is not there."""
        if name not in self._lanes:
            self._lanes[name] = Lane(name)
        return self._lanes[name]

    def all(self) -> list[Lane]:
        """List them."""
        return list(self._lanes.values())

    def wake(self, name: str, at: float) -> None:
        """Have a lane looked at not later than a time."""
        if at < self._woken.get(name, math.inf):
            self._woken[name] = at
            heapq.heappush(self._agenda, (at, name))

    def next_at(self) -> float:
        """Give when a lane must be looked at next."""
        return self._agenda[0][0] if self._agenda else math.inf

    def due(self, now: float) -> Lane | None:
        """Give a lane that must be looked at, once."""
        while self._agenda and self._agenda[0][0] <= now:
            at, name = heapq.heappop(self._agenda)
            if self._woken.get(name) == at:
                del self._woken[name]
                return self.lane(name)
        return None

    def take(self, lane: Lane, now: float, load: Callable[[Lane], None]) -> tuple[Waiting, bool] | None:
        """Take the next delivery of a lane and a place in a pool; tell whether it is the slow one.

        A lane that finds its pool full is woken when a place is free; ``load`` fills a lane from the view.
        """
        if not lane.held and lane.more:
            load(lane)
        slow = lane.slow
        if not self._free[slow]:
            if lane.wake_at(now) <= now and lane.name not in self._crowded[slow]:
                self._crowded[slow].append(lane.name)
            return None
        if (one := lane.take(now)) is None:
            return None
        self._free[slow] -= 1
        return one, slow

    def release(self, *, slow: bool) -> None:
        """Give a place in a pool back."""
        self._free[slow] += 1

    def plan_look(self, lane: Lane, now: float) -> None:
        """Have a lane looked at when it can do something, and the one that has waited the longest for a free place."""
        if now < (at := lane.wake_at(now)) < math.inf:
            self.wake(lane.name, at)
        elif lane.idle(now):
            self._lanes.pop(lane.name, None)
        for slow, crowded in self._crowded.items():
            if crowded and self._free[slow]:
                self.wake(crowded.popleft(), now)
