"""Recorded telemetry of a session, read message by message over any disconnect."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import httpx

from saccade_client.errors import UNAVAILABLE, ClientError, TransferError, refusal, unreachable
from saccade_client.retries import COMES_BACK_S, Retries, retry_after_s
from saccade_client.transport import StreamedResponse, Transport

#: Reading fails when the server sends nothing for this long.
_SILENCE_S: Final = 30.0
#: Limits above any real header or message.
_MAX_HEADER_BYTES: Final = 64 * 1024
_MAX_BODY_BYTES: Final = 16 * 1024 * 1024
_END: Final = "end"
_BEGIN: Final = "record"


@dataclass(frozen=True)
class RecordedMessage:
    """One message: ``joints`` (a batch, JSON), ``frames`` (a picture) or ``acks`` (verdicts of frames, JSON)."""

    kind: str
    sequence: int
    #: When the server stored it, nanoseconds since 1970.
    stored_at_ns: int
    #: Of a frame: ``Frame-Seq``, ``Frame-Captured-At``, ``Frame-Source``, ``Content-Type``.
    headers: dict[str, str]
    body: bytes


#: The public name of ``RecordedMessage``.
Recorded = RecordedMessage


@dataclass(frozen=True)
class RecordSize:
    """Numbers of messages that are kept of a session, and of frames that were sent."""

    joints: int
    frames: int
    acks: int
    frames_sent: int

    @property
    def frames_missing(self) -> int:
        """Number of frames that have expired."""
        return max(0, self.frames_sent - self.frames)


class RecordStream:
    """Source of a record's messages, each once and in order."""

    def __init__(self, transport: Transport, path: str, *, reached: bool = False) -> None:
        """Read ``path``; ``reached``: the server has answered before."""
        self._transport = transport
        self._path = path
        self._stream: StreamedResponse | None = None
        self._parser = _RecordParser()
        self._ready: deque[RecordedMessage] = deque()
        self._retries = Retries(patience_s=COMES_BACK_S, reached=reached)
        self._ended = False
        #: Known after the first message, or after ``begin``.
        self.size: RecordSize | None = None
        self.after = 0

    async def begin(self) -> RecordSize:
        """Return how many messages are kept.

        Raises:
            ClientError: there are none, or they have expired.
        """
        while self.size is None:
            await self._advance()
        return self.size

    async def next(self) -> RecordedMessage | None:
        """Return the next message, or None at the end.

        Raises:
            ClientError: there is no record, or it could not be read completely.
        """
        while not self._ready:
            if self._ended:
                return None
            await self._advance()
        return self._ready.popleft()

    async def close(self) -> None:
        """Close the connection."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()

    async def _advance(self) -> None:
        """Connect, or read the next bytes; reconnect after an error."""
        try:
            if self._stream is None:
                await self._connect()
                return
            chunk = await self._stream.read()
            if chunk is None:
                raise _DisconnectedError("the connection closed before the end of the record")
            for head, body in self._parser.push(chunk):
                self._take(head, body)
        except (httpx.TransportError, httpx.StreamError, httpx.DecodingError, _DisconnectedError) as error:
            await self.close()
            asked_s = error.asked_s if isinstance(error, _DisconnectedError) else 0.0
            pause_s = self._retries.pause_s(error, asked_s=asked_s)
            if pause_s is None and self.size is None and isinstance(error, httpx.TransportError):
                raise unreachable(self._transport.url, error) from error
            if pause_s is None:
                message = f"The record could not be read completely: {error or type(error).__name__}."
                raise TransferError("download_failed", message, "Read it again.", retryable=True) from error
            await self._transport.sleep(pause_s)

    async def _connect(self) -> None:
        self._parser = _RecordParser()
        stream = await self._transport.open(
            self._path,
            headers={"Accept-Encoding": "identity"},
            params={"after": str(self.after)},
            silence_s=_SILENCE_S,
        )
        self._stream = stream
        if not stream.response.is_success:
            await stream.read_all()
            error = refusal(stream.response)
            if stream.response.status_code in UNAVAILABLE:
                raise _DisconnectedError(error.message, retry_after_s(stream.response))
            await self.close()
            raise error

    def _take(self, head: dict[str, Any], body: bytes) -> None:
        try:
            self._keep(str(head["type"]), head, body)
        except (KeyError, TypeError, ValueError) as error:
            raise _not_a_record() from error

    def _keep(self, kind: str, head: dict[str, Any], body: bytes) -> None:
        if kind == _BEGIN:
            counts = {name: int(head[name]) for name in ("joints", "frames", "acks", "frames_sent")}
            self.size = self.size or RecordSize(**counts)
        elif kind == _END:
            self._ended = True
        else:
            self.after = int(head["sequence"])
            self._retries.succeeded()
            self._ready.append(
                RecordedMessage(kind, self.after, _nanoseconds(str(head["stored_at"])), dict(head["headers"]), body)
            )


class _DisconnectedError(Exception):
    def __init__(self, message: str, asked_s: float = 0.0) -> None:
        self.asked_s = asked_s
        super().__init__(message)


class _RecordParser:
    """Parser of the record: header (JSON with its length before it) and body of each message."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._head: dict[str, Any] | None = None
        self._size = 0

    def push(self, chunk: bytes) -> list[tuple[dict[str, Any], bytes]]:
        """Parse some bytes and return the messages that they complete.

        Raises:
            ClientError: the answer is not a record.
        """
        self._held += chunk
        parts = []
        while (part := self._next_message()) is not None:
            parts.append(part)
        return parts

    def _next_message(self) -> tuple[dict[str, Any], bytes] | None:
        if self._head is None:
            length = int.from_bytes(self._held[:4], "big")
            if length > _MAX_HEADER_BYTES:
                raise _not_a_record()
            if len(self._held) < 4 or len(self._held) < 4 + length:
                return None
            self._head, self._size = _read_head(self._held[4 : 4 + length])
            del self._held[: 4 + length]
        if len(self._held) < self._size:
            return None
        head, body = self._head, bytes(self._held[: self._size])
        del self._held[: self._size]
        self._head = None
        return head, body


def _read_head(text: bytearray) -> tuple[dict[str, Any], int]:
    try:
        head = json.loads(text)
        size = head.get("bytes", 0)
    except (ValueError, AttributeError):
        raise _not_a_record() from None
    if not isinstance(size, int) or not 0 <= size <= _MAX_BODY_BYTES:
        raise _not_a_record()
    return head, size


def _not_a_record() -> ClientError:
    return ClientError("unexpected_answer", "The answer is not a session's record.", "Check that the address is right.")


def _nanoseconds(text: str) -> int:
    """Return a time (RFC 3339) in nanoseconds since 1970."""
    whole, _, rest = text.partition(".")
    digits = rest.rstrip("Zz") if rest else ""
    whole = whole.rstrip("Zz")
    return int(datetime.fromisoformat(whole + "+00:00").timestamp()) * 1_000_000_000 + int(digits[:9].ljust(9, "0"))
