"""One subscription that outlives its connections: resumes by cursor, drops what came before, knows its end."""

from __future__ import annotations

import math
import re
import time
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Final

import httpx

from saccade.errors import AWAY, ClientError, refusal, unreachable
from saccade.events import ENDS, Event, Gap, Snapshot, matches_types, parse_event
from saccade.retries import COMES_BACK_S, Retries, retry_after_s
from saccade.sse import SseBlock, SseParser
from saccade.transport import StreamedResponse, Transport

#: A stream that is silent for this long is dead: the server's heartbeat comes every 15 s.
SILENCE_S: Final = 45.0
#: Without ``follow`` history is taken to be over when nothing came for this long.
_IDLE_S: Final = 1.5
_TENANT: Final = "/v1/events"
_REMEMBERED_IDS: Final = 4096
_SECONDS: Final = re.compile(r"([0-9]{1,9})s?")
#: An EventSource takes these for the end, so a proxy that says so stands in for a server that will not.
_BROKEN: Final = AWAY | {408, 500}


class _BrokenError(Exception):
    """The connection broke, or something on the way answered for the server: worth another try."""

    def __init__(self, cause: Exception, asked_s: float = 0.0) -> None:
        self.cause = cause
        self.asked_s = asked_s
        super().__init__(str(cause))


class EventStream:
    """Gives every event once, in order, over as many connections as it takes."""

    def __init__(
        self,
        connection: Transport,
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
        """Read ``path``; ``cursor`` is the last event that is known already, ``types`` are shown of all there is."""
        self._connection = connection
        self._path = path
        self._params = dict(params)
        self._types = types
        self._since = since
        self._follow = follow
        self._silence_s = silence_s if follow else _IDLE_S
        self._retries = Retries(reached=reached, first_pause_s=0.1, longest_pause_s=5.0)
        self._incoming: StreamedResponse | None = None
        self._parser = SseParser()
        self._ready: deque[Event] = deque()
        self._began = datetime.now(timezone.utc)
        self._began_s = self._told_s = time.monotonic()
        self._answered = False
        self._over = False
        #: The end was told; the answer to one more request says whether that was all.
        self._ending = False
        self._retry_s = 0.0
        self._last_type = ""
        #: Where to resume, and up to where all came already: the same, but after a gap.
        self._known = self._place = cursor
        self._ids: OrderedDict[str, None] = OrderedDict()
        #: The cursor of the newest durable event that was given out: where to go on another time.
        self.cursor = cursor

    async def next(self) -> Event | None:
        """Give the next event, or None at the end.

        Raises:
            ClientError: the server refused for good, or was not there from the start.
        """
        while True:
            while self._ready:
                event = self._ready.popleft()
                self.cursor = event.cursor or self.cursor
                if not self._follow and _is_live(event, self._began):
                    await self._end()
                elif matches_types(self._types, event):
                    return event
            if self._over:
                return None
            try:
                await self._advance()
            except (httpx.TransportError, httpx.StreamError, httpx.DecodingError, _BrokenError) as error:
                await self._broke(error)

    async def close(self) -> None:
        """Let the connection go."""
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            await incoming.close()

    async def _end(self) -> None:
        self._over = True
        self._ready.clear()
        await self.close()

    async def _advance(self) -> None:
        """Connect, or read some of what comes."""
        if self._incoming is None:
            await self._connect()
            return
        chunk = await self._incoming.read()
        if chunk is None:
            await self._closed()
            return
        for block in self._parser.push(chunk):
            self._told_s = time.monotonic()
            self._take(block)
        if not self._follow and not self._ready and time.monotonic() - self._told_s > _IDLE_S:
            await self._end()  # heartbeats only

    async def _connect(self) -> None:
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity", "Cache-Control": "no-store"}
        params = dict(self._params)
        if self._known:
            # By both ways: there are proxies that drop headers they do not know.
            headers["Last-Event-ID"] = params["last_event_id"] = self._known
        elif since := self._from():
            params["since"] = since
        self._parser = SseParser()
        incoming = await self._connection.open(self._path, headers=headers, params=params, silence_s=self._silence_s)
        self._incoming = incoming
        self._told_s = time.monotonic()
        response = incoming.response
        if response.status_code == httpx.codes.NO_CONTENT:
            await self._end()
            return
        media_type = response.headers.get("Content-Type", "")
        if not response.is_success:
            await incoming.read_all()
            error = refusal(response)
            if response.status_code not in _BROKEN:
                await self.close()
                raise error
            raise _BrokenError(error, retry_after_s(response))
        if not media_type.startswith("text/event-stream"):
            raise _BrokenError(ClientError("unexpected_answer", f"An event stream came as {media_type or 'nothing'}."))
        self._answered = True
        self._retries.be_patient(math.inf if self._follow else COMES_BACK_S)

    def _take(self, block: SseBlock) -> None:
        """Keep what a block says, unless it came before."""
        if block.retry_ms is not None:
            self._retry_s = block.retry_ms / 1000
        if not block.data:  # the server asks us to come again later
            return
        try:
            event = parse_event(block)
        except ValueError as error:
            raise _BrokenError(error) from error
        if isinstance(event, Gap):
            self._place = None
        if event.cursor is not None:
            if _is_known(event.cursor, self._place):
                return
            self._known = self._place = event.cursor
            self._last_type = event.type
            if event.id in self._ids:
                return
            self._remember(event.id)
        self._retries.succeeded()
        self._ending = False
        self._ready.append(event)

    def _remember(self, event_id: str | None) -> None:
        """Remember an event by its id: an incarnation of the stream that was restored tells of it once more."""
        if event_id is not None:
            self._ids[event_id] = None
            if len(self._ids) > _REMEMBERED_IDS:
                self._ids.popitem(last=False)

    async def _closed(self) -> None:
        """Go on after the server closed the connection in order."""
        if self._parser.unfinished:
            raise _BrokenError(ClientError("unexpected_answer", "An event came cut off."))
        await self.close()
        if self._ending:
            await self._end()
        elif self._path != _TENANT and self._last_type in ENDS:
            self._ending = True
        else:
            pause_s = self._retries.pause_s(asked_s=self._retry_s)
            await self._pause(pause_s, ClientError("unexpected_answer", "The event stream ends at once."))

    async def _broke(self, error: Exception) -> None:
        """Go on after a connection that broke; after a cut the first try is soon."""
        opened = self._incoming is not None and self._incoming.response.is_success
        await self.close()
        if self._ending or (isinstance(error, httpx.ReadTimeout) and opened and not self._follow):
            # The last event was here: that the server does not confirm it is no reason to wait for it.
            await self._end()
            return
        cause = error.cause if isinstance(error, _BrokenError) else error
        asked_s = error.asked_s if isinstance(error, _BrokenError) else 0.0
        failure = cause if isinstance(cause, ClientError) else unreachable(self._connection.url, cause)
        await self._pause(self._retries.pause_s(cause, asked_s=asked_s), failure)

    async def _pause(self, pause_s: float | None, failure: ClientError) -> None:
        if pause_s is None:
            raise failure
        await self._connection.sleep(pause_s)

    def _from(self) -> str | None:
        """Say from when on, before an event gave a cursor: a connection that broke without one leaves no hole."""
        elapsed_s = math.ceil(time.monotonic() - self._began_s)
        if self._since is None:
            return str(elapsed_s + 1) if self._answered and self._path == _TENANT else None
        seconds = _SECONDS.fullmatch(self._since)
        return str(int(seconds[1]) + elapsed_s) if seconds else self._since


def _is_known(cursor: str, known: str | None) -> bool:
    """Tell whether a cursor is at or before another of the same incarnation of the stream."""
    epoch, _, sequence = cursor.partition(".")
    known_epoch, _, known_sequence = (known or "").partition(".")
    if epoch != known_epoch or not (sequence.isdigit() and known_sequence.isdigit()):
        return False
    return int(sequence) <= int(known_sequence)


def _is_live(event: Event, began: datetime) -> bool:
    """Tell whether an event is past history: progress comes after it, and so does what happened since."""
    if isinstance(event, (Gap, Snapshot)):
        return False
    if event.cursor is None:
        return True
    try:
        return datetime.fromisoformat((event.time or "").replace("Z", "+00:00")) > began
    except (ValueError, TypeError):
        return False
