"""Send queue: one lane per receiver, with its own concurrency, rate and breaker. Pure; the time is an argument.

A lane holds only the deliveries that are due first; the rest of a long queue stays in the projection. Pools bound the
attempts of all lanes together: receivers that are slow or fail share a pool of their own, so that they cannot use up
the attempts of those that answer quickly; and so do e-mails, which all go to one mail server. No tenant gets all of a
pool (slot_pool.py).
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple

from kit.slot_pool import SlotPool
from services.notifier.webhooks.deliveries.delivery import PlannedDelivery, TrackedDelivery
from services.notifier.webhooks.endpoints.endpoint import Endpoint
from services.notifier.webhooks.endpoints.quiet_hours import QuietHours
from services.notifier.webhooks.sending.circuit_breaker import CircuitBreaker
from services.notifier.webhooks.sending.rate_limit import RateLimit

#: Maximum concurrent attempts per receiver.
CONCURRENCY: Final = 4
#: Maximum deliveries of a lane in memory.
IN_MEMORY: Final = 1000
#: A receiver whose average latency is higher counts as slow.
SLOW_MS: Final = 1000.0
#: Maximum concurrent attempts of one tenant's fast receivers, of its slow or failing ones, and of its e-mails; all
#: tenants together have twice as many.
FAST_POOL: Final = 256
SLOW_POOL: Final = 128
EMAIL_POOL: Final = 4

Key = tuple[str, int]
#: Attempts that are bounded together.
Pool = Literal["fast", "slow", "email"]


class QueuedDelivery(NamedTuple):
    """A delivery queued in a lane; ``due_s`` is Unix time."""

    due_s: float
    sequence: int
    endpoint_id: str
    subject: str

    @classmethod
    def of(cls, delivery: TrackedDelivery) -> QueuedDelivery:
        """Return the queue entry of a delivery."""
        return cls(delivery.due.timestamp(), delivery.sequence, delivery.endpoint_id, delivery.event_subject)

    @property
    def key(self) -> Key:
        """Key of the delivery."""
        return self.endpoint_id, self.sequence


class Lane:
    """Queue of one receiver: the deliveries due first, at most ``IN_MEMORY``, and the attempts in flight."""

    def __init__(self, name: str) -> None:
        """Start empty; deliveries are loaded from the projection when needed."""
        self.name = name
        self.breaker = CircuitBreaker()
        self.tenant = ""
        self.ordered = False
        self.email = False
        self.rate = RateLimit()
        self.quiet_hours: QuietHours | None = None
        #: The projection may hold more than memory.
        self.more = True
        self.in_flight: dict[Key, str] = {}
        self._queued: list[QueuedDelivery] = []
        self._by_key: dict[Key, QueuedDelivery] = {}
        self._latency_ms = 0.0
        self._endpoint: Endpoint | None = None

    def configure(self, endpoint: Endpoint | None) -> None:
        """Use the settings that the receiver's endpoint has now; None: it is not known any more."""
        if endpoint is self._endpoint and endpoint is not None:
            return  # nearly always: an endpoint that is changed is another object
        self._endpoint = endpoint
        ordered = endpoint is not None and endpoint.ordered
        if ordered != self.ordered:
            self.ordered = ordered
            self.clear()
        self.tenant = endpoint.tenant if endpoint else ""
        self.email = endpoint is not None and endpoint.format == "email"
        self.rate.per_s = endpoint.rate_per_s if endpoint else None
        self.quiet_hours = endpoint.quiet_hours if endpoint else None

    @property
    def size(self) -> int:
        """Number of deliveries in memory."""
        return len(self._queued)

    @property
    def slow(self) -> bool:
        """Whether the receiver is slow or failing."""
        return self._latency_ms > SLOW_MS or not self.breaker.closed

    @property
    def pool(self) -> Pool:
        """Pool of its attempts."""
        if self.email:
            return "email"
        return "slow" if self.slow else "fast"

    def idle(self, now: float) -> bool:
        """Return whether the lane has nothing to send and no state to keep."""
        return not (self.more or self._queued or self.in_flight or self.slow) and self.allowed_at(now) <= now

    def offer(self, delivery: TrackedDelivery) -> None:
        """Queue a pending delivery by its due time."""
        self.add(delivery, delivery.due.timestamp())

    def add(self, delivery: PlannedDelivery, due_s: float) -> None:
        """Queue a delivery that is pending by its due time, which is Unix time."""
        key = delivery.key
        self._remove(key)
        if key in self.in_flight or (self.more and not self._queued):
            return  # it is queued again after its attempt, or loaded with the rest
        queued = QueuedDelivery(due_s, delivery.sequence, delivery.endpoint_id, delivery.event_subject)
        if self.more and queued > self._queued[-1]:
            return
        if self._queued and queued < self._queued[-1]:
            insort(self._queued, queued)
        else:  # nearly always, and without comparing it with ten others
            self._queued.append(queued)
        self._by_key[queued.key] = queued
        if len(self._queued) > IN_MEMORY:
            del self._by_key[self._queued.pop().key]
            self.more = True

    def load(self, deliveries: Sequence[TrackedDelivery], *, more: bool) -> None:
        """Replace the deliveries in memory by the first due; ``more``: the projection holds further ones."""
        self._queued = sorted(
            QueuedDelivery.of(delivery) for delivery in deliveries if delivery.key not in self.in_flight
        )
        self._by_key = {queued.key: queued for queued in self._queued}
        self.more = more

    def clear(self) -> None:
        """Drop the deliveries in memory: they are loaded again."""
        self._queued, self._by_key, self.more = [], {}, True

    def reset(self) -> None:
        """Drop the receiver's state: its endpoint was changed."""
        self.breaker, self._latency_ms = CircuitBreaker(), 0.0
        self.rate.reset()
        self.clear()

    def allowed_at(self, now: float) -> float:
        """Return the time from which breaker, rate and quiet hours allow an attempt; infinite during a probe."""
        quiet = -math.inf if self.quiet_hours is None else self.quiet_hours.over_at_s(now)
        return max(self.breaker.allowed_at(), self.rate.allows_at(), quiet)

    def take(self, now: float) -> QueuedDelivery | None:
        """Remove and return the delivery to attempt now; None when there is none."""
        if len(self.in_flight) >= CONCURRENCY or now < self.allowed_at(now):
            return None
        busy = set(self.in_flight.values()) if self.ordered else ()
        for index, queued in enumerate(self._queued):
            if queued.due_s > now:
                return None
            if queued.subject not in busy:
                del self._queued[index], self._by_key[queued.key]
                self._start(queued, now)
                return queued
        return None

    def admits(self, now: float) -> bool:
        """Count a request beside the queue in the rate; False if it may not be sent now."""
        if self.slow or now < self.allowed_at(now):
            return False
        self.rate.count(now)
        return True

    def wake_at(self, now: float) -> float:
        """Return the earliest time of the next attempt; infinite while it depends on one in flight."""
        if len(self.in_flight) >= CONCURRENCY:
            return math.inf
        if not self._queued:
            return now if self.more else math.inf
        busy = set(self.in_flight.values()) if self.ordered else ()
        first = next((queued for queued in self._queued if queued.subject not in busy), None)
        return math.inf if first is None else max(first.due_s, self.allowed_at(now))

    def finish(self, key: Key, *, latency_ms: float | None) -> None:
        """Remove an attempt from those in flight; without a latency, nothing was sent."""
        self.in_flight.pop(key, None)
        if latency_ms is None:
            self.breaker.abandoned()
        else:
            self._latency_ms += 0.3 * (latency_ms - self._latency_ms)

    def _start(self, queued: QueuedDelivery, now: float) -> None:
        self.in_flight[queued.key] = queued.subject
        self.breaker.started()
        self.rate.count(now)

    def _remove(self, key: Key) -> None:
        if queued := self._by_key.pop(key, None):
            del self._queued[bisect_left(self._queued, queued)]


class Lanes:
    """All lanes, and the time at which each has to be checked."""

    def __init__(self, fast: int = FAST_POOL, slow: int = SLOW_POOL, email: int = EMAIL_POOL) -> None:
        """Start without lanes; ``fast``, ``slow`` and ``email`` are the attempts of one tenant at once."""
        self._lanes: dict[str, Lane] = {}
        self._pools: dict[Pool, SlotPool[str]] = {
            "fast": SlotPool(fast),
            "slow": SlotPool(slow),
            "email": SlotPool(email),
        }
        self._checks: list[tuple[float, str]] = []
        self._check_at: dict[str, float] = {}
        #: Lanes whose check is due, in order for each tenant; the tenant whose turn it is comes first.
        self._due: dict[str, dict[str, None]] = {}

    def get(self, name: str) -> Lane | None:
        """Return a lane; None when it has no deliveries and no state."""
        return self._lanes.get(name)

    def lane(self, name: str) -> Lane:
        """Return a lane, created if necessary."""
        if name not in self._lanes:
            self._lanes[name] = Lane(name)
        return self._lanes[name]

    def all(self) -> list[Lane]:
        """Return all lanes."""
        return list(self._lanes.values())

    def is_waiting(self, tenant: str) -> bool:
        """Return whether a lane of a tenant is due and not checked yet."""
        return tenant in self._due

    def wake(self, name: str, at: float) -> None:
        """Schedule a check of a lane, not later than ``at``."""
        if at < self._check_at.get(name, math.inf):
            self._check_at[name] = at
            heapq.heappush(self._checks, (at, name))

    def wake_next(self, lane: Lane, now: float) -> None:
        """Schedule the next check of a lane.

        Nothing is scheduled while all its attempts are in flight: the end of one wakes it.
        """
        if (at := lane.wake_at(now)) < math.inf:
            self.wake(lane.name, max(at, now))

    def next_at(self) -> float:
        """Return the time of the next check."""
        if self._due:
            return -math.inf
        return self._checks[0][0] if self._checks else math.inf

    def due(self, now: float) -> Lane | None:
        """Remove and return a lane whose check is due; tenants take turns, however many lanes each has."""
        while self._checks and self._checks[0][0] <= now:
            at, name = heapq.heappop(self._checks)
            if self._check_at.get(name) == at:
                del self._check_at[name]
                self._due.setdefault(self.lane(name).tenant, {})[name] = None
        tenant = next(iter(self._due), None)
        if tenant is None:
            return None
        names = self._due.pop(tenant)
        name = next(iter(names))
        del names[name]
        if names:
            self._due[tenant] = names  # behind the other tenants
        return self.lane(name)

    def take(self, lane: Lane, now: float, load: Callable[[Lane], None]) -> tuple[QueuedDelivery, Pool] | None:
        """Take the next delivery of a lane and a slot of its pool; return both.

        A lane that finds no slot for its tenant is woken when there is one; ``load`` fills a lane from the projection.
        """
        if not lane.size and lane.more:
            load(lane)
        pool = lane.pool
        slots = self._pools[pool]
        if not slots.is_open(lane.tenant):
            if lane.wake_at(now) <= now:
                slots.wait(lane.tenant, lane.name)
            return None
        if (queued := lane.take(now)) is None:
            return None
        slots.take(lane.tenant)
        return queued, pool

    def release(self, pool: Pool, tenant: str) -> None:
        """Return a tenant's slot to its pool."""
        self._pools[pool].release(tenant)

    def schedule(self, lane: Lane, now: float) -> None:
        """Schedule the next check of a lane, and of the lanes that have waited longest for a free slot."""
        if now < (at := lane.wake_at(now)) < math.inf:
            self.wake(lane.name, at)
        elif lane.idle(now):
            self._lanes.pop(lane.name, None)
        for slots in self._pools.values():
            if name := slots.next_waiting():
                self.wake(name, now)
