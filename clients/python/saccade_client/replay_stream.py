"""Stream of a replay over any number of connections: each event once and in order, resumed by the replay's own ids."""

from __future__ import annotations

import json
import math
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

import httpx

from saccade_client.errors import UNAVAILABLE, ClientError, refusal, unreachable
from saccade_client.retries import Retries, retry_after_s
from saccade_client.sse import SseBlock, SseParser
from saccade_client.transport import StreamedResponse, Transport

_RETRIED_STATUS: Final = UNAVAILABLE | {408, 500}
_OPENED: Final = "replay.opened"
_CLOSED: Final = "replay.closed"


@dataclass(frozen=True)
class ReplayedEvent:
    """One event of a replay."""

    #: Where to resume: ``rpl_….<sequence>``. It is no cursor of live events.
    id: str
    type: str
    #: The event's own bytes; of a replay into a file the line of the archive's format.
    body: bytes

    @property
    def sequence(self) -> int:
        """Sequence of the event in the stream that it comes from."""
        return int(self.id.rpartition(".")[2])

    @property
    def envelope(self) -> dict[str, Any]:
        """The body as JSON."""
        value: dict[str, Any] = json.loads(self.body)
        return value


class ReplayStream:
    """Source of a replay's events."""

    def __init__(
        self, transport: Transport, path: str, *, last_id: str | None, silence_s: float, reached: bool
    ) -> None:
        """Read ``path`` after ``last_id``."""
        self._transport = transport
        self._path = path
        self._silence_s = silence_s
        self._retries = Retries(reached=reached, first_pause_s=0.1, longest_pause_s=2.0)
        self._stream: StreamedResponse | None = None
        self._parser = SseParser()
        self._ready: deque[ReplayedEvent] = deque()
        self._over = False
        #: Id of the newest event that was returned; pass it to a later call to resume.
        self.last_id = last_id
        #: Where to resume: of the newest event that was received.
        self._resume_id = last_id
        #: How the replay ended: ``completed``, ``cancelled``, …; None before the end.
        self.state: str | None = None

    async def next(self) -> ReplayedEvent | None:
        """Return the next event when it comes, or None at the end.

        Raises:
            ClientError: the server refused, or never answered.
        """
        while not self._ready:
            if self._over:
                return None
            try:
                await self._advance()
            except (httpx.TransportError, httpx.StreamError, httpx.DecodingError) as error:
                await self._pause(error, unreachable(self._transport.url, error))
        event = self._ready.popleft()
        self.last_id = event.id
        return event

    async def close(self) -> None:
        """Close the connection."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()

    async def _advance(self) -> None:
        if self._stream is None:
            await self._connect()
            return
        chunk = await self._stream.read()
        if chunk is None:
            await self._pause(
                None, ClientError("unexpected_answer", "The replay's stream ended before its last frame.")
            )
            return
        for block in self._parser.push(chunk):
            await self._take(block)

    async def _connect(self) -> None:
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity", "Cache-Control": "no-store"}
        params: dict[str, str] = {}
        if self._resume_id:
            headers["Last-Event-ID"] = params["last_event_id"] = self._resume_id
        self._parser = SseParser(self._resume_id or "")
        stream = await self._transport.open(self._path, headers=headers, params=params, silence_s=self._silence_s)
        self._stream = stream
        response = stream.response
        if response.status_code == httpx.codes.NO_CONTENT:
            self._over = True
            await self.close()
        elif not response.is_success:
            await stream.read_all()
            error = refusal(response)
            if response.status_code not in _RETRIED_STATUS:
                await self.close()
                raise error
            await self._pause(None, error, retry_after_s(response))

    async def _take(self, block: SseBlock) -> None:
        if block.event == _OPENED:
            self._retries.set_patience(math.inf)
            self._retries.succeeded()
        elif block.event == _CLOSED:
            self.state = str(json.loads(block.body).get("state", ""))
            self._over = True
            await self.close()
        elif block.id is not None and not self._over:
            self._resume_id = block.id
            self._ready.append(ReplayedEvent(block.id, block.event, block.body))

    async def _pause(self, error: Exception | None, failure: ClientError, asked_s: float = 0.0) -> None:
        await self.close()
        pause_s = self._retries.pause_s(error, asked_s=asked_s)
        if pause_s is None:
            raise failure
        await self._transport.sleep(pause_s)
