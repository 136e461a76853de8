"""Reads server-sent events for as long as there are any: parses, resumes by cursor, drops what came before."""

from __future__ import annotations

import json
import random
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Final

import httpx

#: A stream that is silent for this long is dead: the server's heartbeat comes every 15 s.
_SILENT_S: Final = 45.0
#: Without ``follow`` history is taken to be over when nothing came for this long.
_IDLE_S: Final = 1.5
_LONGEST_WAIT_S: Final = 5.0
_TRIES: Final = 4
_REMEMBERED_IDS: Final = 4096
_ENDS: Final = frozenset({"job.succeeded", "job.failed", "job.cancelled", "session.stopped", "session.failed"})
_OF_THE_STREAM: Final = frozenset({"gap", "snapshot"})
#: Statuses of a proxy whose server is away; the notifier itself never sends them to a stream.
_AWAY: Final = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Event:
    """One event. ``cursor`` stands on durable events only; ``gap`` and ``snapshot`` are the stream's own."""

    type: str
    cursor: str | None
    #: The event's bytes as they were published.
    body: bytes
    #: The body as JSON: a CloudEvents envelope, or the fields of ``gap`` and ``snapshot``.
    envelope: dict[str, Any]

    @property
    def data(self) -> dict[str, Any]:
        """Give what the event says, without its envelope."""
        data = self.envelope.get("data")
        return data if isinstance(data, dict) else self.envelope


@dataclass
class Block:
    """One block of a stream as the wire has it."""

    event: str = "message"
    id: str | None = None
    retry_ms: int | None = None
    data: list[bytes] = field(default_factory=list)


def blocks(chunks: Iterable[bytes]) -> Iterator[Block]:
    """Parse a stream of bytes into blocks; comments and a cut-off last block are dropped.

    Source: HTML Living Standard, 9.2.6 (lines end in LF, CR LF or, not sent by us, CR).
    """
    rest = b""
    block = Block()
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for raw in lines:
            line = raw.removesuffix(b"\r")
            if not line:
                if block.data or block.retry_ms is not None:
                    yield block
                block = Block()
                continue
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            match name:
                case b"data":
                    block.data.append(value)
                case b"event":
                    block.event = value.decode()
                case b"id":
                    block.id = value.decode()
                case b"retry" if value.isdigit():
                    block.retry_ms = int(value)


class EventStream:
    """One subscription that outlives its connections."""

    def __init__(
        self, http: httpx.Client, path: str, params: dict[str, str], *, cursor: str | None, follow: bool
    ) -> None:
        """Read ``path``; ``cursor`` is the last event that is known already."""
        self._http = http
        self._path = path
        self._params = params
        self._follow = follow
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._retry_s = 0.0
        self._ended = False
        self._answered = False
        self._open = False
        #: The cursor of the newest durable event that was given out.
        self.cursor = cursor

    def __iter__(self) -> Iterator[Event]:
        """Give every event once, in order, over as many connections as it takes.

        Raises:
            httpx.HTTPStatusError: the server refused for good, or has been away from the start.
            httpx.TransportError: the server could not be reached from the start.
        """
        failures = 0
        began = datetime.now(timezone.utc)
        while True:
            try:
                for event in self._connection():
                    failures = 0
                    if not self._follow and _is_live(event, began):
                        return
                    yield event
            except httpx.ReadTimeout:
                if not self._follow and self._open:
                    return
                if self._hopeless(failures):
                    raise
                failures += 1
            except httpx.HTTPStatusError as error:
                if error.response.status_code not in _AWAY or self._hopeless(failures):
                    raise
                failures += 1
            except httpx.TransportError as error:
                if self._hopeless(failures) or (isinstance(error, httpx.ConnectError) and not self._answered):
                    raise
                failures += 1
            if self._ended:
                return
            pause_s = max(self._retry_s, min(_LONGEST_WAIT_S, 0.1 * 2**failures))
            self._retry_s = 0.0
            time.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads reconnects, keeps no secret

    def _hopeless(self, failures: int) -> bool:
        """Tell whether to give up: never on a stream that once was there and is followed."""
        return failures >= _TRIES and not (self._answered and self._follow)

    def _connection(self) -> Iterator[Event]:
        """Read one connection to its end."""
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        params = dict(self._params)
        if self.cursor:
            headers["Last-Event-ID"] = self.cursor
            params.pop("since", None)
        timeout = httpx.Timeout(10.0, read=_SILENT_S if self._follow else _IDLE_S)
        last = ""
        self._open = False
        with self._http.stream("GET", self._path, params=params, headers=headers, timeout=timeout) as response:
            if response.status_code == httpx.codes.NO_CONTENT:
                self._ended = True
                return
            if response.is_error:
                response.read()
            response.raise_for_status()
            self._answered = self._open = True
            for block in blocks(response.iter_raw()):
                if not block.data:  # the server asks us to come again later
                    self._retry_s = (block.retry_ms or 0) / 1000
                    continue
                if (event := self._accept(block)) is not None:
                    last = event.type if event.cursor else last
                    yield event
        # A stream of one job or session is closed after its end; a look for more would only cost a wait.
        self._ended = last in _ENDS and not self._path.endswith("/v1/events")

    def _accept(self, block: Block) -> Event | None:
        """Make an event of a block, or None of one that came before."""
        body = b"\n".join(block.data)
        envelope = json.loads(body)
        if block.id is not None:
            event_id = str(envelope.get("id", block.id))
            if event_id in self._seen:
                return None
            self._seen[event_id] = None
            if len(self._seen) > _REMEMBERED_IDS:
                self._seen.popitem(last=False)
            self.cursor = block.id
        return Event(block.event, block.id, body, envelope)


def _is_live(event: Event, began: datetime) -> bool:
    """Tell whether an event is past history: progress comes after it, and so does what happened since."""
    if event.cursor is None:
        return event.type not in _OF_THE_STREAM
    try:
        return datetime.fromisoformat(str(event.envelope["time"])) > began
    except (KeyError, ValueError, TypeError):
        return False
