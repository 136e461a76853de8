"""Short slices of work of a replay, each with a rest after it, which leave the processor to live deliveries first."""

from __future__ import annotations

import asyncio
from typing import Final

from services.notifier.replays.live_traffic import LiveTraffic

#: Longest slice of work: about the time of one live delivery to a few hundred streams.
_SLICE_S: Final = 0.001


class LiveFirst:
    """Slices of one replay."""

    def __init__(self, traffic: LiveTraffic | None = None) -> None:
        """Begin a slice; with ``traffic`` a rest beside live events is several times as long as the work."""
        self._traffic = traffic
        self._since = asyncio.get_running_loop().time()

    async def turn(self) -> None:
        """Rest, if the slice is over; call it after each piece of work."""
        loop = asyncio.get_running_loop()
        worked_s = loop.time() - self._since
        if worked_s < _SLICE_S:
            return
        await asyncio.sleep(min(worked_s, 5 * _SLICE_S))
        if self._traffic is not None:
            await self._traffic.rest(worked_s)
        self._since = loop.time()

    def rested(self) -> None:
        """Begin a new slice: the replay has waited for something else."""
        self._since = asyncio.get_running_loop().time()
