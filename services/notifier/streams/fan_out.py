"""Fan-out of events to streams: directly to a few, in pieces to many, so that no tenant keeps the event loop.

One event of a tenant with a thousand open streams takes 10 ms and more to send. It is sent in pieces, one in each
iteration of the event loop, by turns for the tenants that have such events; the events of others go between the pieces.
A tenant that has used more than its share of the loop waits while others are there; what waits goes together.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from kit.auth.loop_time_shares import LoopTimeShares

#: Streams to which events are sent without letting others run.
PIECE_STREAMS: Final = 24
#: Events of one tenant that wait; beyond, the oldest are sent to the end at once.
_MAX_WAITING: Final = 256
#: Shortest wait of a tenant beyond its share, so that it is woken seldom and several of its events go together.
_PAUSE_S: Final = 0.02

#: Rest of a tenant after events of several pieces while others are there, as a multiple of the time that they took: the
#: more streams it has, the more of its events go together.
_REST: Final = 5
#: Pause between pieces while others are there: what has arrived finds the loop idle, and other processes the processor.
_BETWEEN_S: Final = 0.001

#: The sending of some events: each ``next`` sends to about ``PIECE_STREAMS`` streams.
Pieces = Iterator[None]
T = TypeVar("T")

_LAST: Final = object()


@dataclass(slots=True)
class _Work(Generic[T]):
    """Events of one tenant that wait, and the pieces of those before them that are being sent."""

    waiting: deque[T]
    pieces: Pieces | None = None
    #: Time that these pieces have taken, and their number.
    spent_s: float = 0.0
    sent: int = 0


class FanOut(Generic[T]):
    """Events that are being sent, in order for each tenant. All methods are called in the event loop."""

    def __init__(
        self,
        begin: Callable[[deque[T]], Pieces],
        shares: LoopTimeShares,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start empty; ``begin`` removes the first of a tenant's events, as many as go together, and sends them."""
        self._begin, self._shares, self._clock = begin, shares, clock
        #: The tenant whose turn it is comes first.
        self._works: dict[str, _Work[T]] = {}
        self._scheduled: asyncio.Handle | None = None
        #: Ends of the tenants' rests.
        self._rests: dict[str, float] = {}

    def __len__(self) -> int:
        """Return the number of events that wait, those that are being sent counting one for each tenant."""
        return sum(len(work.waiting) + (work.pieces is not None) for work in self._works.values())

    def put(self, tenant: str, event: T) -> None:
        """Send the first piece of an event now, and the rest in turn; all of it later if the tenant waits."""
        now_s = self._clock()
        self._shares.seen(tenant, now_s)
        if (work := self._works.get(tenant)) is None:
            work = _Work(deque((event,)))
            if not self._wait_s(tenant, now_s) and self._send(tenant, work):
                return
            self._works[tenant] = work
            self._schedule(0)
            return
        work.waiting.append(event)
        while len(work.waiting) > _MAX_WAITING:
            self._send(tenant, work)

    def flush(self) -> None:
        """Send all that waits."""
        works, self._works = self._works, {}
        for tenant, work in works.items():
            while not self._send(tenant, work):
                pass

    def _schedule(self, wait_s: float) -> None:
        if self._scheduled is not None:
            self._scheduled.cancel()
        loop = asyncio.get_running_loop()
        # Not a task: a callback that schedules the next runs once in each iteration, behind what has arrived meanwhile.
        self._scheduled = loop.call_later(wait_s, self._send_piece) if wait_s else loop.call_soon(self._send_piece)

    def _send_piece(self) -> None:
        """Send a piece for the first tenant that does not wait for others."""
        self._scheduled, now_s, shortest_s = None, self._clock(), float("inf")
        for tenant in self._works:
            wait_s = self._wait_s(tenant, now_s)
            if not wait_s:
                break
            shortest_s = min(shortest_s, wait_s)
        else:
            if self._works:
                self._schedule(max(shortest_s, _PAUSE_S))
            return
        work, is_over = self._works.pop(tenant), False
        try:
            is_over = self._send(tenant, work)
        finally:
            if not is_over:
                self._works[tenant] = work  # behind the other tenants
            if self._works:
                self._schedule(_BETWEEN_S if self._shares.has_others(tenant, now_s) else 0)

    def _wait_s(self, tenant: str, now_s: float) -> float:
        """Return how long a tenant waits, for its share or after its last events."""
        if wait_s := self._shares.wait_s(tenant, now_s):
            return wait_s
        rest_s = self._rests.get(tenant, now_s) - now_s
        if rest_s <= 0:
            self._rests.pop(tenant, None)
            return 0.0
        return rest_s if self._shares.has_others(tenant, now_s) else 0.0

    def _send(self, tenant: str, work: _Work[T]) -> bool:
        """Send a piece; return whether nothing is left. Events that raise are over."""
        begun_s, is_last = self._clock(), True
        try:
            if work.pieces is None and work.waiting:
                work.pieces, work.spent_s, work.sent = self._begin(work.waiting), 0.0, 0
            is_last = work.pieces is None or next(work.pieces, _LAST) is _LAST
        finally:
            now_s = self._clock()
            self._shares.use(tenant, now_s - begun_s, now_s)
            work.spent_s, work.sent = work.spent_s + now_s - begun_s, work.sent + 1
            if is_last:
                work.pieces = None
                if work.sent > 1:
                    self._rests[tenant] = now_s + _REST * work.spent_s
        return is_last and not work.waiting
