"""A session's telemetry from the stream: from any message on, then live, in order, without a gap or a repeat.

One short-lived consumer, filtered to the session's subjects (docs/adr/0009). Whatever goes wrong with it (a gap,
silence, a lost connection) is mended by a new one that begins after the last message that was handled.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import nats.errors
from nats.aio.msg import Msg

from contracts.errors import ErrorCode, SaccadeError
from kit.bus.telemetry_consumer import HEARTBEAT_S
from kit.tasks import end
from modal_workers.runtime.sessions.telemetry_source import TelemetrySource

log = logging.getLogger(__name__)

_PAUSE_S: Final = 0.2
#: Between two tries while nobody makes a consumer.
_LONGEST_PAUSE_S: Final = 2.0
_BILLION: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Recorded:
    """One message of the stream."""

    sequence: int
    #: ``joints``, ``frames`` or ``acks``.
    name: str
    #: When the server stored it, unix seconds.
    stored_at_s: float
    headers: Mapping[str, str]
    body: bytes
    #: Messages that were stored after it when it was sent to us.
    left: int


class TelemetryTail:
    """Follows the telemetry of one session."""

    def __init__(
        self,
        source: TelemetrySource,
        handler: Callable[[Recorded], None],
        on_empty: Callable[[], None] | None = None,
    ) -> None:
        """Hand messages to ``handler``, in the loop."""
        self._source = source
        self._client = source.client
        self._handler = handler
        #: Told when there is nothing (more) to hand over at the moment.
        self._on_empty = on_empty
        self.last = 0
        self._consumed = 0
        self._heard_s = 0.0
        self._broken = asyncio.Event()

    async def run(self, after: int = 0) -> None:
        """Follow for ever."""
        self.last = after
        pause_s = _PAUSE_S
        while True:
            try:
                await self._follow()
                pause_s = _PAUSE_S
            except (TimeoutError, nats.errors.Error, OSError, SaccadeError) as error:
                if self._client.is_closed:
                    return
                log.warning("telemetry: %s", error or type(error).__name__)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            await asyncio.sleep(pause_s)

    async def _follow(self) -> None:
        """Make a consumer and hear it until it breaks."""
        subject = self._source.new_subject()
        self._consumed = 0
        self._broken.clear()
        loop = asyncio.get_running_loop()
        subscription = await self._client.subscribe(subject, cb=self._on_message)
        reconnects = self._client.stats["reconnects"]
        try:
            pending = await self._source.deliver(subject, self.last)
            if self._on_empty is not None and not pending and not self._consumed:
                self._on_empty()
            self._heard_s = loop.time()
            while not self._broken.is_set():
                await asyncio.sleep(_PAUSE_S)
                if self._client.stats["reconnects"] != reconnects or loop.time() - self._heard_s > 3 * HEARTBEAT_S:
                    break
        finally:
            if not self._client.is_closed:
                await subscription.unsubscribe()

    async def _on_message(self, msg: Msg) -> None:
        self._heard_s = asyncio.get_running_loop().time()
        headers = msg.headers or {}
        if "Status" in headers and not msg.reply:
            # A heartbeat tells how far the consumer is: more than we have heard means that something was lost.
            if int(headers.get("Nats-Last-Consumer", self._consumed)) != self._consumed:
                self._broken.set()
            return
        # $JS.ACK.<stream>.<consumer>.<deliveries>.<stream sequence>.<consumer sequence>.<time in ns>.<pending>
        place = msg.reply.split(".")[-4:]
        sequence, consumed, stored_at_ns, left = map(int, place)
        if consumed != self._consumed + 1:
            self._broken.set()
        if self._broken.is_set() or sequence <= self.last:
            return
        self._consumed, self.last = consumed, sequence
        name = msg.subject.rpartition(".")[2]
        try:
            self._handler(Recorded(sequence, name, stored_at_ns / _BILLION, headers, msg.data, left))
        except ValueError as error:  # whoever holds the session's credentials may send anything
            log.warning("telemetry %d of %s is not readable: %s", sequence, name, error)


async def read_all(
    source: TelemetrySource, handler: Callable[[Recorded], None], after: int = 0, timeout_s: float = 60.0
) -> None:
    """Hand over all that is stored now after a sequence, in order.

    Raises:
        SaccadeError: BUS_UNAVAILABLE, when nothing new came for ``timeout_s``.
    """
    ended = asyncio.Event()

    def on_recorded(recorded: Recorded) -> None:
        if not ended.is_set():
            handler(recorded)
        if recorded.left == 0:
            ended.set()

    tail = TelemetryTail(source, on_recorded, on_empty=ended.set)
    task = asyncio.ensure_future(tail.run(after))
    try:
        # Not in all: a long record over a thin line takes what it takes.
        while not ended.is_set():
            before = tail.last
            try:
                async with asyncio.timeout(timeout_s):
                    await ended.wait()
            except TimeoutError as error:
                if tail.last == before:
                    raise SaccadeError(ErrorCode.BUS_UNAVAILABLE) from error
    finally:
        await end(task)
