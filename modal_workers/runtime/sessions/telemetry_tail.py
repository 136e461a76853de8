"""Tail of a session's telemetry or events: stored ones after a sequence, then live ones, in order, no gap, no repeat.

One short-lived consumer, filtered to the session's subjects (docs/adr/0009). After any fault (a gap, a missing
heartbeat, a lost connection) a new consumer starts after the last message that was handled.
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

_CHECK_S: Final = 0.2
#: Longest pause before a new consumer is created.
_LONGEST_PAUSE_S: Final = 2.0
_NS_PER_S: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class TelemetryMessage:
    """One message of the TELEMETRY stream, or of EVENTS."""

    sequence: int
    #: ``joints``, ``frames`` or ``acks``; of an event its verb.
    name: str
    #: Time of storing by the server's clock, unix seconds.
    stored_at_s: float
    headers: Mapping[str, str]
    body: bytes
    #: Messages stored after it at the time of delivery.
    pending: int


class TelemetryTail:
    """Reader of one session's telemetry."""

    def __init__(
        self,
        source: TelemetrySource,
        handler: Callable[[TelemetryMessage], None],
        on_empty: Callable[[], None] | None = None,
    ) -> None:
        """Call ``handler`` with each message, on the loop; ``on_empty`` when no message is pending at the start."""
        self._source = source
        self._client = source.client
        self._handler = handler
        self._on_empty = on_empty
        self.last_sequence = 0
        self._consumed = 0
        self._received_at_s = 0.0
        self._broken = asyncio.Event()

    async def run(self, after: int = 0) -> None:
        """Read until cancelled or the connection is closed."""
        self.last_sequence = after
        pause_s = _CHECK_S
        while True:
            try:
                await self._follow()
                pause_s = _CHECK_S
            except (TimeoutError, nats.errors.Error, OSError, SaccadeError) as error:
                if self._client.is_closed:
                    return
                log.warning("telemetry: %s", error or type(error).__name__)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            await asyncio.sleep(pause_s)

    async def _follow(self) -> None:
        """Create a consumer and read it until it fails."""
        subject = self._source.new_delivery_subject()
        self._consumed = 0
        self._broken.clear()
        loop = asyncio.get_running_loop()
        subscription = await self._client.subscribe(subject, cb=self._on_message)
        reconnects = self._client.stats["reconnects"]
        try:
            pending = await self._source.create_consumer(subject, self.last_sequence)
            if self._on_empty is not None and not pending and not self._consumed:
                self._on_empty()
            self._received_at_s = loop.time()
            while not self._broken.is_set():
                await asyncio.sleep(_CHECK_S)
                if (
                    self._client.stats["reconnects"] != reconnects
                    or loop.time() - self._received_at_s > 3 * HEARTBEAT_S
                ):
                    break
        finally:
            if not self._client.is_closed:
                await subscription.unsubscribe()

    async def _on_message(self, msg: Msg) -> None:
        self._received_at_s = asyncio.get_running_loop().time()
        headers = msg.headers or {}
        if "Status" in headers and not msg.reply:
            # A heartbeat holds the consumer's position: ahead of ours, a message was lost.
            if int(headers.get("Nats-Last-Consumer", self._consumed)) != self._consumed:
                self._broken.set()
            return
        # $JS.ACK.<stream>.<consumer>.<deliveries>.<stream sequence>.<consumer sequence>.<time in ns>.<pending>
        sequence, consumed, stored_at_ns, pending = map(int, msg.reply.split(".")[-4:])
        if consumed != self._consumed + 1:
            self._broken.set()
        if self._broken.is_set() or sequence <= self.last_sequence:
            return
        self._consumed, self.last_sequence = consumed, sequence
        name = msg.subject.rpartition(".")[2]
        try:
            self._handler(TelemetryMessage(sequence, name, stored_at_ns / _NS_PER_S, headers, msg.data, pending))
        except ValueError as error:  # any holder of the session's credentials may send anything
            log.warning("telemetry %d of %s is not readable: %s", sequence, name, error)


async def read_all(
    source: TelemetrySource, handler: Callable[[TelemetryMessage], None], after: int = 0, timeout_s: float = 60.0
) -> None:
    """Call ``handler`` with every message stored after a sequence, in order.

    Raises:
        SaccadeError: BUS_UNAVAILABLE, if no message arrived for ``timeout_s``.
    """
    ended = asyncio.Event()

    def on_message(message: TelemetryMessage) -> None:
        try:
            if not ended.is_set():
                handler(message)
        finally:  # also after one that the handler cannot read
            if message.pending == 0:
                ended.set()

    tail = TelemetryTail(source, on_message, on_empty=ended.set)
    task = asyncio.ensure_future(tail.run(after))
    try:
        # The timeout is per message: a long recording over a slow line may take any time.
        while not ended.is_set():
            before = tail.last_sequence
            try:
                async with asyncio.timeout(timeout_s):
                    await ended.wait()
            except TimeoutError as error:
                if tail.last_sequence == before:
                    raise SaccadeError(ErrorCode.BUS_UNAVAILABLE) from error
    finally:
        await end(task)
