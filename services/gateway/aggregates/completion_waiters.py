"""Requests that wait until a job or session has ended (``Prefer: wait=N``)."""

from __future__ import annotations

import asyncio


class CompletionWaiters:
    """Waiting requests by the id of their job or session."""

    def __init__(self) -> None:
        """Start without waiting requests."""
        #: Whether the service stops: nobody should wait again.
        self.stopping = False
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}

    async def wait(self, subject_id: str, timeout_s: float) -> None:
        """Return when the job or session has ended, or after ``timeout_s``; the caller reads which."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(subject_id, set())
        waiters.add(ended)
        try:
            async with asyncio.timeout(timeout_s):
                await ended
        except TimeoutError:
            return
        finally:
            waiters.discard(ended)
            if not waiters:
                self._waiters.pop(subject_id, None)

    def notify(self, subject_id: str) -> None:
        """Resume the requests that wait for a job or session."""
        for ended in self._waiters.get(subject_id, ()):
            if not ended.done():
                ended.set_result(None)

    def notify_all(self) -> None:
        """Resume every waiting request; called when the service stops."""
        self.stopping = True
        for subject_id in list(self._waiters):
            self.notify(subject_id)
