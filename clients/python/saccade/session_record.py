"""What was streamed into a session, as the server keeps it: message after message, over connections that break."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import httpx

from saccade.errors import AWAY, ClientError, TransferError, refusal, unreachable
from saccade.retries import COMES_BACK_S, Retries, retry_after_s
from saccade.transport import StreamedResponse, Transport

#: A server that sends nothing for this long is gone.
_SILENCE_S: Final = 30.0
#: Larger than any message or head can be.
_LONGEST_HEAD: Final = 64 * 1024
_LONGEST_BODY: Final = 16 * 1024 * 1024
_END: Final = "end"
_BEGIN: Final = "record"


@dataclass(frozen=True)
class RecordedMessage:
    """One message: ``joints`` (a batch, JSON), ``frames`` (a picture) or ``acks`` (what became of frames, JSON)."""

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
    """How much is kept of a session, in messages; and how many frames there were."""

    joints: int
    frames: int
    acks: int
    frames_sent: int

    @property
    def frames_missing(self) -> int:
        """Count the frames that are not kept any more."""
        return max(0, self.frames_sent - self.frames)


class RecordStream:
    """Gives every message of a record once, in order."""

    def __init__(self, connection: Transport, path: str, *, reached: bool = False) -> None:
        """Read ``path``; ``reached`` tells that the server has answered before."""
        self._connection = connection
        self._path = path
        self._incoming: StreamedResponse | None = None
        self._parts = _Parts()
        self._ready: deque[RecordedMessage] = deque()
        self._retries = Retries(patience_s=COMES_BACK_S, reached=reached)
        self._over = False
        #: Known once the first message was asked for, or ``begin`` was called.
        self.size: RecordSize | None = None
        self.after = 0

    async def begin(self) -> RecordSize:
        """Find out how much there is.

        Raises:
            ClientError: there is nothing, or it is not kept any more.
        """
        while self.size is None:
            await self._advance()
        return self.size

    async def next(self) -> RecordedMessage | None:
        """Give the next message, or None at the end.

        Raises:
            ClientError: the record is not there, or did not come whole.
        """
        while not self._ready:
            if self._over:
                return None
            await self._advance()
        return self._ready.popleft()

    async def close(self) -> None:
        """Let the connection go."""
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            await incoming.close()

    async def _advance(self) -> None:
        """Connect, or read some of what comes; again from where it broke."""
        try:
            if self._incoming is None:
                await self._connect()
                return
            chunk = await self._incoming.read()
            if chunk is None:
                raise _CutError("the record ended before its end")
            for head, body in self._parts.push(chunk):
                self._take(head, body)
        except (httpx.TransportError, httpx.StreamError, httpx.DecodingError, _CutError) as error:
            await self.close()
            asked_s = error.asked_s if isinstance(error, _CutError) else 0.0
            pause_s = self._retries.pause_s(error, asked_s=asked_s)
            if pause_s is None and self.size is None and isinstance(error, httpx.TransportError):
                raise unreachable(self._connection.url, error) from error
            if pause_s is None:
                message = f"The record did not come whole: {error or type(error).__name__}."
                raise TransferError("download_failed", message, "Try again.", retryable=True) from error
            await self._connection.sleep(pause_s)

    async def _connect(self) -> None:
        self._parts = _Parts()
        incoming = await self._connection.open(
            self._path,
            headers={"Accept-Encoding": "identity"},
            params={"after": str(self.after)},
            silence_s=_SILENCE_S,
        )
        self._incoming = incoming
        if not incoming.response.is_success:
            await incoming.read_all()
            error = refusal(incoming.response)
            if incoming.response.status_code in AWAY:
                raise _CutError(error.message, retry_after_s(incoming.response))
            await self.close()
            raise error

    def _take(self, head: dict[str, Any], body: bytes) -> None:
        try:
            self._keep(str(head["type"]), head, body)
        except (KeyError, TypeError, ValueError) as error:
            raise _no_record() from error

    def _keep(self, kind: str, head: dict[str, Any], body: bytes) -> None:
        if kind == _BEGIN:
            counts = {name: int(head[name]) for name in ("joints", "frames", "acks", "frames_sent")}
            self.size = self.size or RecordSize(**counts)
        elif kind == _END:
            self._over = True
        else:
            self.after = int(head["sequence"])
            self._retries.succeeded()
            self._ready.append(
                RecordedMessage(kind, self.after, _nanoseconds(str(head["stored_at"])), dict(head["headers"]), body)
            )


class _CutError(Exception):
    def __init__(self, message: str, asked_s: float = 0.0) -> None:
        self.asked_s = asked_s
        super().__init__(message)


class _Parts:
    """Cuts what comes into heads and bodies."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._head: dict[str, Any] | None = None
        self._size = 0

    def push(self, chunk: bytes) -> list[tuple[dict[str, Any], bytes]]:
        """Give the parts that are whole now.

        Raises:
            ClientError: it is no record.
        """
        self._held += chunk
        parts = []
        while (part := self._cut()) is not None:
            parts.append(part)
        return parts

    def _cut(self) -> tuple[dict[str, Any], bytes] | None:
        if self._head is None:
            length = int.from_bytes(self._held[:4], "big")
            if length > _LONGEST_HEAD:
                raise _no_record()
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
        raise _no_record() from None
    if not isinstance(size, int) or not 0 <= size <= _LONGEST_BODY:
        raise _no_record()
    return head, size


def _no_record() -> ClientError:
    return ClientError("unexpected_answer", "The answer is no record of a session.", "See that the address is right.")


def _nanoseconds(text: str) -> int:
    """Read a time (RFC 3339) to the nanosecond."""
    whole, _, rest = text.partition(".")
    digits = rest.rstrip("Zz") if rest else ""
    whole = whole.rstrip("Zz")
    return int(datetime.fromisoformat(whole + "+00:00").timestamp()) * 1_000_000_000 + int(digits[:9].ljust(9, "0"))
