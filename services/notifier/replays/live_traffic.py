"""Rest of replays while live events are delivered: they work a small part of the time, so that no live event waits.

A replay shares the processor, the disk of NATS and the network with live deliveries. While nothing live is stored it
may have all of them; each piece of work beside live events is followed by a rest that is several times as long,
measured by the clock, so that a replay is the slower, the busier the machine is.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final

from kit.bus.event_store import StoredEvent
from kit.history.stream_reader import BATCH_EVENTS

#: Time after a live event for which more are expected.
_EXPECTED_S: Final = 1.0
#: Rest after a piece of work, as a multiple of it, and the longest one.
_REST: Final = 10.0
_LONGEST_REST_S: Final = 1.0
#: Time in which a live event is read and sent.
_PASS_S: Final = 0.001
#: Events that a replay reads at once: reading a whole batch takes several milliseconds, in which a live event waits.
_BATCH_EVENTS: Final = 50


class LiveTraffic:
    """Live events of one notifier."""

    def __init__(self) -> None:
        """Begin without any."""
        self._last = -math.inf

    def on_event(self, _: StoredEvent) -> None:
        """Note a stored event."""
        self._last = asyncio.get_running_loop().time()

    @property
    def is_expected(self) -> bool:
        """Whether there was a live event a moment ago, so that more are expected."""
        return asyncio.get_running_loop().time() - self._last < _EXPECTED_S

    def batch_events(self) -> int:
        """Return how many events a replay may read at once."""
        return _BATCH_EVENTS if self.is_expected else BATCH_EVENTS

    async def let_pass(self) -> None:
        """Leave the loop to live events in the middle of a piece of work, if there are any."""
        if self.is_expected:
            await asyncio.sleep(_PASS_S)

    async def rest(self, worked_s: float) -> None:
        """Rest after a piece of work of a replay, if live events are delivered."""
        if self.is_expected:
            await asyncio.sleep(min(_REST * worked_s, _LONGEST_REST_S))
