"""Hands live events over as the bus' connection reads them: no task, queue or dictionary of headers between.

Through nats-py an event takes two turns of other tasks and eight parsed headers, once, whoever listens; with a hundred
clients that was a tenth of all CPU time. Whatever is not simply the next event goes that way still.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Final

from nats.aio.msg import Msg
from nats.aio.transport import TcpTransport
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

from contracts.streams import LIVE_EVENTS
from kit.bus.event_store import StoredEvent
from kit.bus.tail import EventTail

#: Takes an event's sequence, subject and body, or refuses it.
Take = Callable[[int, str, bytes], bool]

_COPIES: Final = "live."
_SUBJECTS: Final = LIVE_EVENTS.removeprefix(_COPIES).removesuffix(">")
#: A message with headers and nobody to answer to: its subject, the size of its headers, and that of all.
_LINE: Final = re.compile(
    f"HMSG {re.escape(_COPIES)}({re.escape(_SUBJECTS)}[!-~]+) [0-9]+ ([0-9]+) ([0-9]+)\r\n".encode()
)
_SEQUENCE_NAME: Final = b"\r\nNats-Sequence: "
_SEQUENCE: Final = re.compile(_SEQUENCE_NAME + rb"([0-9]+)\r\n")
_END_BYTES: Final = 2


class LiveTail(EventTail):
    """An ``EventTail`` that handles the next event as soon as it is read."""

    _reader: asyncio.StreamReader | None = None

    async def _on_live(self, msg: Msg) -> None:
        """Hear of an event by nats-py: the first of each connection, and those that could not be taken."""
        await super()._on_live(msg)
        transport = self.store.client._transport  # noqa: SLF001 - no other way in; test_notifier_live.py watches it
        reader = transport._io_reader if isinstance(transport, TcpTransport) else None  # noqa: SLF001
        if reader is not None and reader is not self._reader:
            self._reader = reader
            feed = Feed(reader, self.store.client._ps, self._take)  # noqa: SLF001
            reader.feed_data = feed.data  # type: ignore[method-assign,assignment]

    def _take(self, sequence: int, subject: str, body: bytes) -> bool:
        """Handle an event at once; refuse it unless all before it were handled, and in this incarnation."""
        if sequence != self.last + 1 or not self._settled or self._held or self._reconnected:
            return False
        self._hand_over(StoredEvent(sequence, subject, body))
        return True


class Feed:
    """Stands between a connection and its reader, and takes out the live events that begin what was read."""

    def __init__(self, reader: asyncio.StreamReader, parser: Parser, take: Take) -> None:
        """Stand before a reader whose bytes ``parser`` gets; ``take`` is asked about each live event, in order."""
        self._reader = reader
        self._parser = parser
        self._take = take
        self._go_on = reader.feed_data
        #: The beginning of a live event whose end was not read yet.
        self._rest = b""

    def data(self, data: bytes) -> None:
        """Take what was read; the reader gets all from the first byte on that is of something else."""
        parser = self._parser
        waiting = self._reader._buffer  # type: ignore[attr-defined] # noqa: SLF001
        if waiting or parser.buf or parser.state != AWAITING_CONTROL_LINE:
            self._go_on(data)  # where a message begins is not known here, before all until now is parsed
            return
        if self._rest:
            data = self._rest + data
            self._rest = b""
        at = 0
        while line := _LINE.match(data, at):
            headers = line.end()
            body, end = headers + int(line[2]), headers + int(line[3])
            if len(data) < end + _END_BYTES:
                self._rest = data[at:]
                return
            # The server writes its headers after those of whoever published, who may write what they like.
            sequence = _SEQUENCE.match(data, max(0, data.rfind(_SEQUENCE_NAME, headers, body)))
            if sequence is None or not self._take(int(sequence[1]), line[1].decode(), data[body:end]):
                break
            at = end + _END_BYTES
        if at < len(data):
            self._go_on(data[at:] if at else data)
