"""Event stream over any number of connections: resumes by cursor, drops duplicates, detects its end."""

from __future__ import annotations

import math
import re
import time
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from typing import Final

import httpx

from saccade_client.errors import UNAVAILABLE, ClientError, refusal, unreachable
from saccade_client.events import ENDS, Event, Gap, matches_types, parse_event
from saccade_client.retries import COMES_BACK_S, Retries, retry_after_s
from saccade_client.sse import SseBlock, SseParser
from saccade_client.transport import StreamedResponse, Transport

#: A stream that is silent for this long is broken: the server sends a heartbeat every 15 s.
SILENCE_S: Final = 45.0
_TENANT: Final = "/v1/events"
_REMEMBERED_IDS: Final = 4096
_HEADER_VALUE: Final = re.compile(r"[!-~]+")
_SECONDS: Final = re.compile(r"([0-9]{1,9})s?")
#: Statuses of a proxy or a failing server, not of ours: these are retried.
_RETRIED_STATUS: Final = UNAVAILABLE | {408, 500}


class _BrokenError(Exception):
    """The connection broke, or a proxy answered instead of the server: retried."""

    def __init__(self, cause: Exception, asked_s: float = 0.0) -> None:
        self.cause = cause
        self.asked_s = asked_s
        super().__init__(str(cause))


class EventStream:
    """Source of events, each once and in order, over as many connections as it takes."""

    def __init__(
        self,
        transport: Transport,
        path: str,
        *,
        params: Mapping[str, str | Sequence[str]],
        types: frozenset[str] = frozenset(),
        since: str | None = None,
        cursor: str | None = None,
        follow: bool = True,
        silence_s: float = SILENCE_S,
        reached: bool = False,
    ) -> None:
        """Read ``path`` after ``cursor``; only events of ``types`` are returned."""
        self._transport = transport
        self._path = path
        self._params = dict(params)
        self._types = types
        self._since = since
        self._follow = follow
        self._silence_s = silence_s
        self._retries = Retries(reached=reached, first_pause_s=0.1, longest_pause_s=5.0)
        self._stream: StreamedResponse | None = None
        self._parser = SseParser()
        self._ready: deque[Event] = deque()
        self._began_s = time.monotonic()
        self._answered = False
        self._ended = False
        #: A final event came; one more request confirms that nothing follows.
        self._ending = False
        self._retry_s = 0.0
        self._last_type = ""
        #: Where to resume, and up to where events are duplicates: the same, except after a gap.
        self._resume_cursor = self._seen_cursor = cursor
        self._ids: OrderedDict[str, None] = OrderedDict()
        #: Cursor of the newest durable event that was returned.
        self.cursor = cursor

    async def next(self) -> Event | None:
        """Return the next event, or None at the end.

        Raises:
            ClientError: the server refused, or never answered, or an event is too large.
        """
        while True:
            while self._ready:
                event = self._ready.popleft()
                self.cursor = event.cursor or self.cursor
                if matches_types(self._types, event):
                    return event
            if self._ended:
                return None
            try:
                await self._advance()
            except (httpx.TransportError, httpx.StreamError, httpx.DecodingError, _BrokenError) as error:
                await self._on_broken(error)

    async def close(self) -> None:
        """Close the connection."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()

    async def _end(self) -> None:
        self._ended = True
        self._ready.clear()
        await self.close()

    async def _advance(self) -> None:
        """Connect, or read the next bytes."""
        if self._stream is None:
            await self._connect()
            return
        chunk = await self._stream.read()
        if chunk is None:
            await self._on_closed()
            return
        blocks = self._parser.push(chunk)
        if self._parser.retry_ms is not None:
            self._retry_s = self._parser.retry_ms / 1000
        for block in blocks:
            if self._follow or not block.live:
                self._take(block)
        self._move_cursor(self._parser.last_event_id)
        if not self._follow:
            await self._end_with_history()

    async def _end_with_history(self) -> None:
        """End behind the history. Silence does not tell its end: a long one can have no event that is wanted.

        Raises:
            ClientError: the server does not say where the history ends.
        """
        if self._parser.live:
            self._ended = True
            await self.close()
        elif self._parser.empty_comments > 1:
            message = "The server does not say where the past events end, and that these are all."
            raise ClientError("unexpected_answer", message, "Update the server, or follow the events.")

    async def _connect(self) -> None:
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity", "Cache-Control": "no-store"}
        params = dict(self._params)
        if self._resume_cursor:
            # As header and as parameter: some proxies drop unknown headers, and not every id can be a header's value.
            params["last_event_id"] = self._resume_cursor
            if _HEADER_VALUE.fullmatch(self._resume_cursor):
                headers["Last-Event-ID"] = self._resume_cursor
        elif since := self._since_parameter():
            params["since"] = since
        self._parser = SseParser(self._resume_cursor or "")
        stream = await self._transport.open(self._path, headers=headers, params=params, silence_s=self._silence_s)
        self._stream = stream
        response = stream.response
        if response.status_code == httpx.codes.NO_CONTENT:
            await self._end()
            return
        media_type = response.headers.get("Content-Type", "")
        if not response.is_success:
            await stream.read_all()
            error = refusal(response)
            if response.status_code not in _RETRIED_STATUS:
                await self.close()
                raise error
            raise _BrokenError(error, retry_after_s(response))
        if not media_type.startswith("text/event-stream"):
            raise _BrokenError(ClientError("unexpected_answer", f"An event stream came as {media_type or 'nothing'}."))
        self._answered = True
        self._retries.set_patience(math.inf if self._follow else COMES_BACK_S)

    def _take(self, block: SseBlock) -> None:
        """Queue the event of a block, unless it is a duplicate."""
        try:
            event = parse_event(block)
        except ValueError as error:
            raise _BrokenError(error) from error
        if isinstance(event, Gap):
            self._seen_cursor = None
        if event.cursor is not None:
            if _is_duplicate(event.cursor, self._seen_cursor):
                return
            self._resume_cursor = self._seen_cursor = event.cursor
            self._last_type = event.type
            if event.id in self._ids:
                return
            self._remember(event.id)
        self._retries.succeeded()
        self._ending = False
        self._ready.append(event)

    def _move_cursor(self, last_event_id: str) -> None:
        """Resume after the stream's last event id, which blocks without data set too; an empty one resets it."""
        if not last_event_id:
            self._resume_cursor = None
        elif last_event_id != self._resume_cursor and not _is_duplicate(last_event_id, self._seen_cursor):
            self._resume_cursor = self._seen_cursor = last_event_id

    def _remember(self, event_id: str | None) -> None:
        """Remember an event's id: a stream that was restored from a backup repeats events under new cursors."""
        if event_id is not None:
            self._ids[event_id] = None
            if len(self._ids) > _REMEMBERED_IDS:
                self._ids.popitem(last=False)

    async def _on_closed(self) -> None:
        """Reconnect, or end, after the server closed the connection."""
        if self._parser.unfinished:
            raise _BrokenError(ClientError("unexpected_answer", "The stream ended inside an event."))
        await self.close()
        if self._ending:
            await self._end()
        elif self._path != _TENANT and self._last_type in ENDS:
            self._ending = True
        else:
            pause_s = self._retries.pause_s(asked_s=self._retry_s)
            await self._pause(pause_s, ClientError("unexpected_answer", "The event stream ends without an event."))

    async def _on_broken(self, error: Exception) -> None:
        """Reconnect after an error, or end."""
        await self.close()
        if self._ending:
            # The final event has come; it needs no confirmation.
            await self._end()
            return
        cause = error.cause if isinstance(error, _BrokenError) else error
        asked_s = error.asked_s if isinstance(error, _BrokenError) else 0.0
        failure = cause if isinstance(cause, ClientError) else unreachable(self._transport.url, cause)
        await self._pause(self._retries.pause_s(cause, asked_s=asked_s), failure)

    async def _pause(self, pause_s: float | None, failure: ClientError) -> None:
        if pause_s is None:
            raise failure
        await self._transport.sleep(pause_s)

    def _since_parameter(self) -> str | None:
        """Return ``since`` of a reconnection without a cursor yet, so that it leaves no gap."""
        elapsed_s = math.ceil(time.monotonic() - self._began_s)
        if self._since is None:
            return str(elapsed_s + 1) if self._answered and self._path == _TENANT else None
        seconds = _SECONDS.fullmatch(self._since)
        return str(int(seconds[1]) + elapsed_s) if seconds else self._since


def _is_duplicate(cursor: str, known: str | None) -> bool:
    """Check whether a cursor is at or before ``known`` in the same epoch of the stream."""
    epoch, _, sequence = cursor.partition(".")
    known_epoch, _, known_sequence = (known or "").partition(".")
    if epoch != known_epoch or not (sequence.isdigit() and known_sequence.isdigit()):
        return False
    return int(sequence) <= int(known_sequence)
