"""Hands the lease over to a standby at an operator's command."""

from __future__ import annotations

import asyncio
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from kit.bus.lease import Lease

#: Time for a standby to take the lease: it hears of the release at once.
_STANDBY_S: Final = 2.0
_POLL_S: Final = 0.05


class LeaseRotation:
    """One rotation at a time: ``rotate`` asks for it, and the loop that leads carries it out when it has stopped."""

    def __init__(self, lease: Lease) -> None:
        """Rotate this lease."""
        self._lease = lease
        self._rotating: asyncio.Future[tuple[str, str]] | None = None
        #: Set while the lease is to be handed over.
        self.requested = asyncio.Event()

    async def rotate(self) -> tuple[str, str]:
        """Hand the lease over; return the ids of the holders before and after.

        Raises:
            SaccadeError: NO_STANDBY: this process takes it again.
        """
        if self._rotating is None:
            self._rotating = asyncio.get_running_loop().create_future()
            self.requested.set()
        return await asyncio.shield(self._rotating)

    async def hand_over(self) -> None:
        """Release the lease if that was asked for, and wait for a standby to take it."""
        if not self.requested.is_set():
            return
        self.requested.clear()
        rotating, self._rotating = self._rotating, None
        assert rotating
        before = self._lease.holder
        await self._lease.release()
        end_s = asyncio.get_running_loop().time() + _STANDBY_S
        while asyncio.get_running_loop().time() < end_s:
            holder = await self._lease.current_holder()
            if holder not in (None, before):
                rotating.set_result((before, str(holder)))
                return
            await asyncio.sleep(_POLL_S)
        rotating.set_exception(
            SaccadeError(ErrorCode.NO_STANDBY, "No standby took the lease; this dispatcher leads again.")
        )
