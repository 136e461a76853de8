"""Tail of a stream from a sequence on: history, then live events, in order, without gap or repeat.

Live events arrive over core NATS (the stream's republished copies, which cost nats-server next to nothing per reader);
their sequences reveal every loss, and lost events are read from the stream. See docs/adr/0002.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Protocol, TypeVar

from nats.aio.msg import Msg

from contracts.errors import UNREADABLE_EVENTS, SaccadeError
from contracts.events.base import Cursor
from kit.bus.dead_letter_writer import DeadLetterWriter
from kit.bus.event_store import EventStore, StoredEvent
from kit.bus.jetstream_api import StreamMissing
from kit.bus.lineage import Lineage, StreamPosition, open_epoch_if_behind, position_of_stream

log = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")

#: Interval between two checks of the stream: the maximum delay of a lost last event and of a recreated stream.
_CHECK_S: Final = 2.0
#: Maximum live events buffered while history is read; beyond it the oldest are dropped and read from the stream.
_MAX_BUFFERED: Final = 10_000
#: Maximum lag of a replica behind the live events; an event still missing after that was deleted.
_MAX_LAG_S: Final = 5.0
#: Attempts to open an epoch of a stream that was set back, before the tail ends without.
_LEAVE_ATTEMPTS: Final = 100
#: Events of the archive that are handled before other tasks run.
_AT_ONCE: Final = 256
#: Pause after an archive that did not answer.
_ARCHIVE_RETRY_S: Final = 1.0


class OlderEvents(Protocol):
    """Events that a stream had, and has no more."""

    async def begin(self) -> int:
        """Return the sequence after which they are worth reading.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """

    def read(self, after: int, until: int) -> AsyncIterator[StoredEvent]:
        """Yield those after a sequence and up to another, in order.

        Raises:
            SaccadeError: HISTORY_EXPIRED, SEGMENT_DAMAGED, with ``first`` where it goes on; BUS_UNAVAILABLE,
                STORAGE_UNAVAILABLE.
        """


class EpochChanged(Exception):  # noqa: N818 - an expected event, not a fault
    """The stream was created anew, restored or set back: start again, from a position that its lineage still has."""


class EventTail:
    """Passes every event of a stream to one handler, in order, each once.

    The handler is called in the event loop and must not block. If it raises, the event becomes a dead letter and the
    tail continues with the next one.
    """

    def __init__(
        self,
        store: EventStore,
        handler: Callable[[StoredEvent], None],
        *,
        live: str,
        name: str,
        older: OlderEvents | None = None,
    ) -> None:
        """Follow ``store``; ``live`` is the subject of the republished copies, ``name`` that of its dead letters.

        What the stream has deleted is read from ``older``; without it, it is passed over.
        """
        self.store = store
        self._older = older
        #: Epochs of the stream as they were when the tail began; each change of them ends it.
        self.lineage = Lineage()
        self.last = 0
        self.caught_up = asyncio.Event()
        #: Sequence after which this tail began, and the last one of the stream then.
        self.history = (0, 0)
        #: First sequence of the stream then.
        self._first = 0
        self._handler = handler
        self._live = live
        #: What the handler refused; a position that is kept elsewhere is not stored while some wait.
        self.dead_letters = DeadLetterWriter(store, name)
        self._buffered: deque[StoredEvent] = deque(maxlen=_MAX_BUFFERED)
        self._arrived = asyncio.Event()
        #: The epoch was checked since the last connect: a live event may be handled at once.
        self._epoch_checked = False
        self._incarnation = ""
        self._reconnects = 0
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def epoch(self) -> str:
        """Epoch of the cursors of what the tail passes on."""
        return self.lineage.current.id

    async def run(self, after: int = 0, epoch: str = "") -> None:
        """Follow from ``after``, as soon as NATS answers; with an ``epoch``, the sequence of a cursor of it.

        Raises:
            EpochChanged: the stream does not have that position, or was created anew, restored or set back.
            StreamMissing: there is no such stream.
        """
        stream = await self._position()
        self.lineage, self._incarnation, self._first = stream.lineage, stream.incarnation, stream.first
        position = after if not epoch else self.lineage.position_of(Cursor(epoch, after))
        if position is None or position > stream.last:
            await self._leave(Cursor(epoch, after))
        self._reach(after)
        self.history = after, stream.last
        subscription = await self.store.client.subscribe(self._live, cb=self._on_live)
        try:
            await self._follow()
        finally:
            self._epoch_checked = False
            if not self.store.client.is_closed:
                await subscription.unsubscribe()
            await self.dead_letters.stop()

    def reading(self) -> str | None:
        """Return in a sentence how much of the history is read; None once all of it is."""
        if self.caught_up.is_set():
            return None
        after, last = self.history
        if last <= after:
            return f"Stream {self.store.stream} is not read yet."
        percent = min(99, 100 * (self.last - after) // (last - after))
        return f"{percent} % of stream {self.store.stream} is read, up to event {self.last} of {last}."

    async def _position(self) -> StreamPosition:
        """Return where the stream is, as soon as NATS answers.

        Raises:
            StreamMissing: there is no such stream.
        """
        return await self._until_answered(lambda: position_of_stream(self.store.client, self.store.stream))

    async def _until_answered(self, ask: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Return the answer to a question about the stream, asked again while NATS is unavailable.

        Raises:
            StreamMissing: there is no such stream.
        """
        while True:
            try:
                return await ask()
            except StreamMissing:
                raise
            except SaccadeError as error:
                log.warning("tail of %s: %s", self.store.stream, error)
                await asyncio.sleep(0.2)

    async def wait_for(self, sequence: int, timeout_s: float) -> bool:
        """Wait until an event has been handled; return whether it was within ``timeout_s``."""
        if self.last >= sequence:
            return True
        arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (sequence, arrived)
        self._waiters.append(entry)
        try:
            async with asyncio.timeout(timeout_s):
                await arrived
        except TimeoutError:
            return False
        finally:
            self._waiters = [other for other in self._waiters if other is not entry]
        return True

    @property
    def _reconnected(self) -> bool:
        return bool(self.store.client.stats["reconnects"] != self._reconnects)

    async def _on_live(self, msg: Msg) -> None:
        headers = msg.headers or {}
        time = headers.get("Nats-Time-Stamp", "")
        stored = StoredEvent(int(headers["Nats-Sequence"]), headers["Nats-Subject"], msg.data, timestamp=time)
        if stored.sequence == self.last + 1 and self._epoch_checked and not self._buffered and not self._reconnected:
            self._handle(stored)  # the common case; a turn of another task would double its cost
            return
        self._buffered.append(stored)
        self._arrived.set()

    async def _follow(self) -> None:
        while self._older and self.last < self._first - 1:  # also of a stream that has nothing else any more
            if not await self._read_older(self._older):
                break
        await self._catch_up()
        self.caught_up.set()
        loop = asyncio.get_running_loop()
        self._reconnects, checked_at = self.store.client.stats["reconnects"], loop.time()
        self._epoch_checked = True
        while True:
            if (reconnected := self._reconnected) or loop.time() - checked_at >= _CHECK_S:
                # Also without a disconnect: the stream can be recreated, and its sequences, which start again,
                # would be taken for events that were handled.
                self._epoch_checked = not reconnected
                self._reconnects, checked_at = self.store.client.stats["reconnects"], loop.time()
                await self._check_epoch()
            if reconnected:
                await self._catch_up()
                self._epoch_checked = True
            while self._buffered:
                stored = self._buffered.popleft()
                if stored.sequence > self.last + 1:
                    await self._catch_up(stored.sequence)
                self._handle(stored)
            self._arrived.clear()
            try:
                async with asyncio.timeout(_CHECK_S):
                    await self._arrived.wait()
            except TimeoutError:
                await self._catch_up()

    async def _check_epoch(self) -> None:
        known = self.last  # events that arrive during the request are newer than its reply
        try:
            stream = await position_of_stream(self.store.client, self.store.stream)
        except StreamMissing as error:
            raise EpochChanged(self.epoch) from error  # only a starting service declares it again
        except SaccadeError:
            return  # not available yet; the next check will tell
        if (stream.incarnation, stream.lineage.current) != (self._incarnation, self.lineage.current):
            await self._leave(Cursor(self.epoch, known))
        if stream.last < known and await self._is_set_back(known):
            raise EpochChanged(self.store.stream)

    async def _is_set_back(self, known: int) -> bool:
        """Return, once that is sure, whether the stream ends before what was read of it; then it has a new epoch."""
        seen = Cursor(self.epoch, known)
        try:
            return await self._until_answered(lambda: open_epoch_if_behind(self.store.client, self.store.stream, seen))
        except StreamMissing:
            return True

    async def _leave(self, seen: Cursor) -> None:
        """End the tail; if the stream now ends before what was read of it, its next events get an epoch of their own.

        Raises:
            EpochChanged: always.
        """
        for _ in range(_LEAVE_ATTEMPTS):
            try:
                await open_epoch_if_behind(self.store.client, self.store.stream, seen)
                break
            except StreamMissing:
                break
            except SaccadeError as error:
                log.warning("stream %s may have been set back: %s", self.store.stream, error)
                await asyncio.sleep(0.2)
        raise EpochChanged(self.store.stream)

    async def _catch_up(self, until: int = 0) -> None:
        """Read and handle all newer events of the stream; the event ``until`` is known to be stored."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _MAX_LAG_S
        remaining = 1
        while remaining:
            try:
                found, remaining = await self.store.batch(self.last)
            except SaccadeError as error:
                log.warning("tail of %s: %s", self.store.stream, error)
                await self._check_epoch()  # a deleted stream never replies
                await asyncio.sleep(0.2)
                continue
            if self._older and found and found[0].sequence > self.last + 1 and await self._read_older(self._older):
                remaining = 1
                continue
            for stored in found:
                self._handle(stored)
            if not remaining and self.last < until and loop.time() < end:
                remaining = 1  # the reply came from a replica that lags
                await asyncio.sleep(0.05)
            await asyncio.sleep(0)  # a long history must not delay health checks

    async def _read_older(self, older: OlderEvents) -> bool:
        """Handle what the stream has deleted since ``last``, and is in the archive; return whether it has."""
        until = self.last  # while NATS does not say it: nothing is passed over
        try:
            until = (await position_of_stream(self.store.client, self.store.stream)).first - 1
            if until <= self.last:
                return False  # single events were erased
            self._reach(max(self.last, min(await older.begin(), until)))
            async for stored in older.read(self.last, until):
                self._handle(stored)
                if stored.sequence % _AT_ONCE == 0:
                    await asyncio.sleep(0)  # as in ``_catch_up``
            self._reach(until)
        except StreamMissing:
            await self._check_epoch()
        except SaccadeError as error:
            first = min(int(error.extra.get("first", until + 1)), until + 1)
            if error.code in UNREADABLE_EVENTS and first > self.last + 1:
                log.error("events %d to %d cannot be read: %s", self.last + 1, first - 1, error.message)  # noqa: TRY400
                self._reach(first - 1)
            else:
                log.warning("the archive of stream %s is not read yet: %s", self.store.stream, error.message)
                await asyncio.sleep(_ARCHIVE_RETRY_S)
        return True

    def _handle(self, stored: StoredEvent) -> None:
        if stored.sequence <= self.last:
            return
        try:
            self._handler(stored)
        except Exception as error:  # any error: one bad event must not stop the others
            log.exception("event %d could not be handled", stored.sequence, extra={"subject": stored.subject})
            self.dead_letters.add(stored, error, self.epoch)
        self._reach(stored.sequence)

    def _reach(self, position: int) -> None:
        self.last = position
        for sequence, arrived in self._waiters:
            if sequence <= position and not arrived.done():
                arrived.set_result(None)
