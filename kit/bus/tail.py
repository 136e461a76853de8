"""Follows a stream from a sequence for ever: history, then live, in order, without a gap or a repeat.

Live events come over core NATS (the stream's republished copies, which cost nats-server next to nothing a reader);
their sequences show every loss, and what was lost is read from the stream. See docs/adr/0002.
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

#: Between two looks at the stream; bounds how late a lost last event and a stream made anew are found.
_LOOK_S: Final = 2.0
#: Live events held while history is read; beyond it the oldest are dropped and read from the stream instead.
_HELD: Final = 10_000
#: How long a replica that answers may lag behind the live events; what is not there then was deleted.
_LAG_S: Final = 5.0


class EpochChanged(Exception):  # noqa: N818 - it is news, not a fault
    """The stream was deleted and made anew; whatever was folded from it must be folded again."""


class EventTail:
    """Gives every event of a stream to one handler, in order, each once.

    The handler is called in the event loop and must not block. What it cannot handle goes to the dead letters
    and the tail goes on.
    """

    def __init__(self, store: EventStore, handler: Callable[[StoredEvent], None], *, live: str, name: str) -> None:
        """Follow ``store``; ``live`` is the subject of the republished copies, ``name`` stands on dead letters."""
        self.store = store
        self.epoch = ""
        self.last = 0
        self.caught_up = asyncio.Event()
        self._handler = handler
        self._live = live
        self._name = name
        self._held: deque[StoredEvent] = deque(maxlen=_HELD)
        self._news = asyncio.Event()
        #: The stream was seen to be the same since the connection was last made: a live event may be handled at once.
        self._settled = False
        self._reconnects = 0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._dead: set[asyncio.Task[None]] = set()

    async def run(self, after: int = 0, epoch: str = "") -> None:
        """Follow from ``after``; with an ``epoch`` the sequence counts only in that incarnation of the stream.

        Raises:
            EpochChanged: the stream is another one than it was.
        """
        self.epoch, last = await epoch_of(self.store.client, self.store.stream)
        if (epoch and epoch != self.epoch) or after > last:
            raise EpochChanged(self.epoch)
        self.last = after
        subscription = await self.store.client.subscribe(self._live, cb=self._on_live)
        try:
            await self._follow()
        finally:
            self._settled = False
            if not self.store.client.is_closed:
                await subscription.unsubscribe()

    async def wait_for(self, sequence: int, timeout_s: float) -> bool:
        """Wait until an event has been handled; tell whether it was."""
        if self.last >= sequence:
            return True
        arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (sequence, arrived)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(timeout_s):
                await arrived
        except TimeoutError:
            return False
        finally:
            self._waiting = [other for other in self._waiting if other is not entry]
        return True

    @property
    def _reconnected(self) -> bool:
        return bool(self.store.client.stats["reconnects"] != self._reconnects)

    async def _on_live(self, msg: Msg) -> None:
        headers = msg.headers or {}
        stored = StoredEvent(int(headers["Nats-Sequence"]), headers["Nats-Subject"], msg.data)
        if stored.sequence == self.last + 1 and self._settled and not self._held and not self._reconnected:
            self._hand_over(stored)  # nearly always; without a turn of another task, which costs as much again
            return
        self._held.append(stored)
        self._news.set()

    async def _follow(self) -> None:
        await self._catch_up()
        self.caught_up.set()
        loop = asyncio.get_running_loop()
        self._reconnects, looked_at = self.store.client.stats["reconnects"], loop.time()
        self._settled = True
        while True:
            if (reconnected := self._reconnected) or loop.time() - looked_at >= _LOOK_S:
                # Also without a loss of connection: a stream can be made anew under it, and its sequences,
                # which begin again, would pass for events that were handled.
                self._settled = not reconnected
                self._reconnects, looked_at = self.store.client.stats["reconnects"], loop.time()
                await self._check_epoch()
            if reconnected:
                await self._catch_up()
                self._settled = True
            while self._held:
                stored = self._held.popleft()
                if stored.sequence > self.last + 1:
                    await self._catch_up(stored.sequence)
                self._hand_over(stored)
            self._news.clear()
            try:
                async with asyncio.timeout(_LOOK_S):
                    await self._news.wait()
            except TimeoutError:
                await self._catch_up()

    async def _check_epoch(self) -> None:
        known = self.last  # events that come while the stream is asked are newer than its answer
        try:
            epoch, last = await epoch_of(self.store.client, self.store.stream)
        except StreamMissing as error:
            raise EpochChanged(self.epoch) from error  # only a start declares it again
        except SaccadeError:
            return  # not back yet; the next look finds out
        if epoch != self.epoch or last < known:
            raise EpochChanged(epoch)

    async def _catch_up(self, until: int = 0) -> None:
        """Read from the stream all that is newer than what was handled; ``until`` is known to be stored."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _LAG_S
        left = 1
        while left:
            try:
                found, left = await self.store.batch(self.last)
            except SaccadeError as error:
                log.warning("tail of %s: %s", self.store.stream, error)
                await self._check_epoch()  # a stream that is gone never answers
                await asyncio.sleep(0.2)
                continue
            for stored in found:
                self._hand_over(stored)
            if not left and self.last < until and loop.time() < end:
                left = 1  # a replica that lags has answered
                await asyncio.sleep(0.05)
            await asyncio.sleep(0)  # a long history must not keep health checks waiting

    def _hand_over(self, stored: StoredEvent) -> None:
        if stored.sequence <= self.last:
            return
        try:
            self._handler(stored)
        except Exception as error:  # whatever it is, one bad event must not stop the rest
            log.exception("event %d could not be handled", stored.sequence, extra={"subject": stored.subject})
            task = asyncio.ensure_future(self._bury(stored, error))
            self._dead.add(task)
            task.add_done_callback(self._dead.discard)
        self.last = stored.sequence
        for sequence, arrived in self._waiting:
            if sequence <= stored.sequence and not arrived.done():
                arrived.set_result(None)

    async def _bury(self, stored: StoredEvent, error: Exception) -> None:
        """Keep what could not be handled, with why, for someone to look at and try again."""
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
