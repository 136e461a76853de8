"""A pass of planning in a task of its own, for which newer events wait a moment only."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from contracts.errors import ErrorCode, SaccadeError
from kit.tasks import end

log = logging.getLogger(__name__)

#: Time for which newer events wait for earlier ones.
_PATIENCE_S: Final = 2.0
#: Pause after NATS, or the bucket, did not answer.
_BUS_RETRY_S: Final = 0.5
_BUCKET_RETRY_S: Final = 5.0


class PlanningPass:
    """One pass at a time; the loop that plans new events begins them."""

    def __init__(self, plan: Callable[[], Coroutine[Any, Any, None]], changed: asyncio.Event) -> None:
        """Call ``plan`` for a pass; set ``changed`` when ``step`` should be called again."""
        self._plan, self._changed = plan, changed
        #: Whether newer events are planned before what is still to be done.
        self.is_late = False
        self._running: asyncio.Task[None] | None = None
        self._rests = False

    async def step(self, *, has_work: bool) -> None:
        """Begin a pass if there is something to do, and wait a moment for its end; take note of one that has ended.

        Raises:
            sqlite3.Error: the disk does not accept a write.
        """
        self._note_end()
        if self._running is None and not self._rests and has_work:
            self._running = asyncio.ensure_future(self._plan())
            await asyncio.wait((self._running,), timeout=_PATIENCE_S)
            self._running.add_done_callback(lambda _: self._changed.set())
            self._note_end()

    def _note_end(self) -> None:
        """Take note of a pass that has ended.

        Raises:
            sqlite3.Error: it has found that the disk does not accept a write.
        """
        if self._running is None:
            return
        if not self._running.done():
            self.is_late = True
            return
        ended, self._running = self._running, None
        try:
            ended.result()
            self.is_late = False
        except SaccadeError as error:
            log.warning("webhooks: earlier events are not planned yet: %s", error)
            self.is_late = self._rests = True
            pause_s = _BUS_RETRY_S if error.code is ErrorCode.BUS_UNAVAILABLE else _BUCKET_RETRY_S
            asyncio.get_running_loop().call_later(pause_s, self._retry)

    def _retry(self) -> None:
        self._rests = False
        self._changed.set()

    async def stop(self) -> None:
        """Cancel the pass that runs."""
        ended, self._running = self._running, None
        self.is_late = self._rests = False
        if ended is not None:
            await end(ended)
