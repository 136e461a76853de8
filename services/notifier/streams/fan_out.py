"""Fan-out of events to streams: directly to a few, in pieces to many, so that no tenant keeps the event loop.

One event of a tenant with a thousand open streams takes 10 ms and more to send. It is sent in pieces, one in each
iteration of the event loop, by turns for the tenants that have such events; the events of others go between the pieces.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Final

from services.notifier.tenant_turns import TenantTurns

#: Streams to which an event is sent without letting others run.
PIECE_STREAMS: Final = 24
#: Events of one tenant that wait; beyond, the oldest is sent to the end at once.
_MAX_WAITING: Final = 256

#: The work of one event: each ``next`` sends to about ``PIECE_STREAMS`` streams.
Pieces = Iterator[None]

_LAST: Final = object()


class FanOut:
    """Events that are being sent, in order for each tenant. All methods are called in the event loop."""

    def __init__(self) -> None:
        """Start empty."""
        self._turns = TenantTurns[Pieces]()
        self._scheduled = False

    def __len__(self) -> int:
        """Return the number of events that are not sent to all of their streams yet."""
        return len(self._turns)

    def put(self, tenant: str, pieces: Pieces) -> None:
        """Send the first piece of an event now, and the rest in turn; all of it later if earlier events wait."""
        if self._turns.of(tenant) is None and _run(pieces):
            return
        self._turns.put(tenant, pieces)
        waiting = self._turns.of(tenant)
        if waiting and len(waiting) > _MAX_WAITING:
            _exhaust(waiting.popleft())
        if not self._scheduled:
            self._schedule()

    def flush(self) -> None:
        """Send all that waits."""
        turns, self._turns = self._turns, TenantTurns()
        for pieces in turns:
            _exhaust(pieces)

    def _schedule(self) -> None:
        self._scheduled = True
        # Not a task: a callback that schedules the next runs once in each iteration, behind what has arrived meanwhile.
        asyncio.get_running_loop().call_soon(self._send_piece)

    def _send_piece(self) -> None:
        self._scheduled = False
        if not self._turns:
            return
        try:
            self._turns.step(_run)
        finally:
            if self._turns:
                self._schedule()


def _run(pieces: Pieces) -> bool:
    """Send a piece; return whether it was the last."""
    return next(pieces, _LAST) is _LAST


def _exhaust(pieces: Pieces) -> None:
    deque(pieces, maxlen=0)
