"""Events that only the archive has, written to a stream before the events that the stream EVENTS still has.

They are fetched and decoded in threads, for one stream at a time, with a rest after each piece of work while there are
live events. Each stream holds one frame of the archive: memory is bounded however far back a client begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Final, TypeVar

from contracts.errors import UNREADABLE_EVENTS, ErrorCode, SaccadeError
from kit.history.history import History, HistoryEvent
from services.notifier.streams.sse import Selection, StreamEvent
from services.notifier.streams.subscriber import Subscriber

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Streams that read the archive at the same time.
_MAX_READING: Final = 64
#: Events that are written without letting other tasks run, for 1 to 2 ms.
_BATCH_EVENTS: Final = 50
#: Time for which a new stream waits for the archive.
_TIMEOUT_S: Final = 5.0


class ArchivedEvents:
    """The part of the history that the stream does not have any more."""

    def __init__(self, history: History, epoch: Callable[[], str], rest: Callable[[float], Awaitable[None]]) -> None:
        """Read ``history``; ``epoch`` is that of the cursors of today. ``rest`` is awaited after so many s of work."""
        self._history = history
        self._epoch = epoch
        self._reading = 0
        self._rest = rest
        self._working = asyncio.Lock()

    async def reaches(self, position: int) -> bool:
        """Return whether the events after a position are in the archive, from the first one on.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, also if too many streams read the archive at this moment.
        """
        bounds = await self._unless_away(self._history.bounds())
        if bounds is None:
            return False
        if not bounds.first <= position + 1 < bounds.first_in_stream:
            return False
        if self._reading >= _MAX_READING:
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, "Too many streams read the archive at this moment.")
        return True

    async def sequence_before(self, moment: datetime) -> int | None:
        """Return the last sequence before a time, if the archive has it; None if the stream has.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        bounds = await self._unless_away(self._history.bounds())
        if bounds is None or bounds.first == bounds.first_in_stream:
            return None
        found = await self._unless_away(self._history.sequence_before(moment))
        return found if found is not None and found + 1 < bounds.first_in_stream else None

    async def newest_of(self, selection: Selection, until: int) -> list[StreamEvent]:
        """Return the newest event of each type of one job or session, from wherever it is stored; empty if unknown.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        found = await self._unless_away(self._history.as_of(selection.subjects, until))
        return self._readable(found or [])

    async def write(self, subscriber: Subscriber, position: int) -> SaccadeError | None:
        """Write what the archive has after a position; return why it ended before the stream's first event, if it did.

        Raises:
            StreamClosed: the client disconnected or is too slow.
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE: the client resumes by its cursor.
        """
        subscriber.position = position
        self._reading += 1
        try:
            while (until := (await self._history.bounds()).first_in_stream - 1) > subscriber.position:
                reading = self._history.read(subscriber.position, until, (subscriber.selection.subjects,))
                async with contextlib.aclosing(reading):
                    error = None
                    while error is None:
                        batch, error = await self._next(reading)
                        if not batch:
                            break
                        await subscriber.write(batch)
                        subscriber.position = max(subscriber.position, batch[-1].sequence)
                if error is not None and error.code in UNREADABLE_EVENTS:
                    log.warning("a stream gets a gap: %s", error)
                    return error
                if error is not None:
                    raise error
                subscriber.position = until
        finally:
            self._reading -= 1
        return None

    async def _unless_away(self, answer: Awaitable[T]) -> T | None:
        """Return an answer; None if the archive cannot give it.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                return await answer
        except TimeoutError:
            log.warning("the archive did not answer within %.0f s", _TIMEOUT_S)
        except SaccadeError as error:
            if error.code is ErrorCode.BUS_UNAVAILABLE:
                raise
            log.warning("the archive cannot be read: %s", error)
        return None

    async def _next(
        self, reading: AsyncIterator[HistoryEvent]
    ) -> tuple[list[StreamEvent], SaccadeError | None]:  # fmt: skip
        """Return the next events, none at the end, and the error after them."""
        loop = asyncio.get_running_loop()
        batch: list[StreamEvent] = []
        async with self._working:
            began = loop.time()
            try:
                async for event in reading:
                    batch += self._readable([event])
                    if len(batch) == _BATCH_EVENTS:
                        break
            except SaccadeError as error:
                return batch, error
            await self._rest(loop.time() - began)
        return batch, None

    def _readable(self, events: list[HistoryEvent]) -> list[StreamEvent]:
        """Skip the events that no tail could read either."""
        readable: list[StreamEvent] = []
        for event in events:
            try:
                readable.append(StreamEvent.of(event.subject, event.body, self._epoch(), event.sequence))
            except ValueError as error:
                log.warning("event %d is skipped: %s", event.sequence, error)
        return readable
