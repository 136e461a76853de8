"""Requests that wait for the end of a job or session (``Prefer: wait=N``)."""

from __future__ import annotations

import asyncio


class CompletionWaiters:
    """Who waits for which job or session."""

    def __init__(self) -> None:
        """Nobody waits."""
        self._ends: dict[str, set[asyncio.Future[None]]] = {}

    async def until_ended(self, subject_id: str, timeout_s: float) -> None:
        """Return when it ends or the time is over; the caller looks which."""
        end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ends = self._ends.setdefault(subject_id, set())
        ends.add(end)
        try:
            async with asyncio.timeout(timeout_s):
                await end
        except TimeoutError:
            return
        finally:
            ends.discard(end)
            if not ends:
                self._ends.pop(subject_id, None)

    def ended(self, subject_id: str) -> None:
        """Wake those who wait for one."""
        for end in self._ends.get(subject_id, ()):
            if not end.done():
                end.set_result(None)

    def wake_all(self) -> None:
        """Wake everybody: the service stops."""
        for subject_id in list(self._ends):
            self.ended(subject_id)
