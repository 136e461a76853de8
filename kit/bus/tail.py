"""Tail of a stream from a sequence on: history, then live events, in order, without gap or repeat.

Live events arrive over core NATS (the stream's republished copies, which cost nats-server next to nothing per reader);
their sequences reveal every loss, and lost events are read from the stream. See docs/adr/0002.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from nats.aio.msg import Msg

from contracts.errors import SaccadeError
from contracts.events.base import Message
from contracts.ids import new_id
from kit.bus.connection import StreamMissing, epoch_of
from kit.bus.event_store import EventStore, StoredEvent

log = logging.getLogger(__name__)

#: Interval between two checks of the stream: the maximum delay of a lost last event and of a recreated stream.
_CHECK_S: Final = 2.0
#: Maximum live events buffered while history is read; beyond it the oldest are dropped and read from the stream.
_MAX_BUFFERED: Final = 10_000
#: Maximum lag of a replica behind the live events; an event still missing after that was deleted.
_MAX_LAG_S: Final = 5.0


class EpochChanged(Exception):  # noqa: N818 - an expected event, not a fault
    """The stream was deleted and recreated; every projection of it must be rebuilt."""


class EventTail:
    """Passes every event of a stream to one handler, in order, each once.

    The handler is called in the event loop and must not block. If it raises, the event becomes a dead letter and the
    tail continues with the next one.
    """

    def __init__(self, store: EventStore, handler: Callable[[StoredEvent], None], *, live: str, name: str) -> None:
        """Follow ``store``; ``live`` is the subject of the republished copies, ``name`` that of its dead letters."""
        self.store = store
        self.epoch = ""
        self.last = 0
        self.caught_up = asyncio.Event()
        self._handler = handler
        self._live = live
        self._name = name
        self._buffered: deque[StoredEvent] = deque(maxlen=_MAX_BUFFERED)
        self._arrived = asyncio.Event()
        #: The epoch was checked since the last connect: a live event may be handled at once.
        self._epoch_checked = False
        self._reconnects = 0
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._dead_lettering: set[asyncio.Task[None]] = set()

    async def run(self, after: int = 0, epoch: str = "") -> None:
        """Follow from ``after``; with an ``epoch`` the sequence is only valid in that incarnation of the stream.

        Raises:
            EpochChanged: the stream was recreated.
        """
        self.epoch, last = await epoch_of(self.store.client, self.store.stream)
        if (epoch and epoch != self.epoch) or after > last:
            raise EpochChanged(self.epoch)
        self.last = after
        subscription = await self.store.client.subscribe(self._live, cb=self._on_live)
        try:
            await self._follow()
        finally:
            self._epoch_checked = False
            if not self.store.client.is_closed:
                await subscription.unsubscribe()

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
        stored = StoredEvent(int(headers["Nats-Sequence"]), headers["Nats-Subject"], msg.data)
        if stored.sequence == self.last + 1 and self._epoch_checked and not self._buffered and not self._reconnected:
            self._handle(stored)  # the common case; a turn of another task would double its cost
            return
        self._buffered.append(stored)
        self._arrived.set()

    async def _follow(self) -> None:
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
            epoch, last = await epoch_of(self.store.client, self.store.stream)
        except StreamMissing as error:
            raise EpochChanged(self.epoch) from error  # only a starting service declares it again
        except SaccadeError:
            return  # not available yet; the next check will tell
        if epoch != self.epoch or last < known:
            raise EpochChanged(epoch)

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
            for stored in found:
                self._handle(stored)
            if not remaining and self.last < until and loop.time() < end:
                remaining = 1  # the reply came from a replica that lags
                await asyncio.sleep(0.05)
            await asyncio.sleep(0)  # a long history must not delay health checks

    def _handle(self, stored: StoredEvent) -> None:
        if stored.sequence <= self.last:
            return
        try:
            self._handler(stored)
        except Exception as error:  # any error: one bad event must not stop the others
            log.exception("event %d could not be handled", stored.sequence, extra={"subject": stored.subject})
            task = asyncio.ensure_future(self._dead_letter(stored, error))
            self._dead_lettering.add(task)
            task.add_done_callback(self._dead_lettering.discard)
        self.last = stored.sequence
        for sequence, arrived in self._waiters:
            if sequence <= stored.sequence and not arrived.done():
                arrived.set_result(None)

    async def _dead_letter(self, stored: StoredEvent, error: Exception) -> None:
        """Store an event in DEADLETTERS: a handler that raises rejects it for good, and the tail does not retry it.

        The headers hold its sequence, subject and error; a dead letter that cannot be stored is only logged.
        """
        message = Message(
            subject=f"saccade.dlq.{self.store.stream}.{self._name}",
            id=f"{self.epoch}:{stored.sequence}:{self._name}" if self.epoch else new_id("evt"),
            body=stored.body,
        )
        headers = {
            "Saccade-Sequence": str(stored.sequence),
            "Saccade-Subject": stored.subject,
            "Saccade-Error": f"{type(error).__name__}: {error}".replace("\n", " ")[:500],
        }
        try:
            await self.store.publish(message, headers=headers)
        except SaccadeError:
            log.exception("dead letter of event %d was not stored", stored.sequence)
