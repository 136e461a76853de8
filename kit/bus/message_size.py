"""Refusals of messages: one that is too large, before it is sent, and those of the server, such as of a full stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Message
from contracts.limits import KIB
from contracts.streams import EVENTS, STREAMS

_LARGEST_BYTES: Final = {stream.name: stream.max_message_bytes for stream in STREAMS}
#: First and last line of a message's headers, and what stands between and after a name and its value.
_FRAME_BYTES: Final = len("NATS/1.0\r\n") + len("\r\n")
_LINE_BYTES: Final = len(": ") + len("\r\n")
#: The server could not store a message; its description says so if the stream has its maximum size.
_STORE_FAILED: Final = 10077
_FULL_RETRY_S: Final = 30.0


def check_size(stream: str, message: Message, headers: Mapping[str, str]) -> None:
    """Reject a message that the stream does not take, because with its headers it is too large.

    Raises:
        SaccadeError: BODY_TOO_LARGE.
    """
    most_bytes = _LARGEST_BYTES.get(stream)
    if most_bytes is None:
        return
    size_bytes = len(message.body) + header_bytes(headers)
    if size_bytes > most_bytes:
        kind = ".".join(message.subject.split(".")[-3::2])
        raise SaccadeError(
            ErrorCode.BODY_TOO_LARGE,
            f"The event {kind} would have {size_bytes} bytes; at most {most_bytes // KIB} KiB are stored.",
            hint="Send shorter values, and what is long as a file: POST /v1/uploads.",
            limit_bytes=most_bytes,
        )


def header_bytes(headers: Mapping[str, str]) -> int:
    """Return the size of a message's headers on the bus."""
    return _FRAME_BYTES + sum(len(name) + len(value.encode()) + _LINE_BYTES for name, value in headers.items())


def refusal(stream: str, code: int | None, description: str | None) -> SaccadeError:
    """Return the error for a message that the server has refused."""
    if stream == EVENTS.name and code == _STORE_FAILED and "maximum" in (description or ""):
        message = f"The stream {stream} is full: {description}."
        return SaccadeError(ErrorCode.EVENTS_FULL, message, retry_after_s=_FULL_RETRY_S)
    return SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"NATS: {description}.")
