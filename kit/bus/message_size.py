"""Largest message of each stream; a larger one is refused before it is sent, and the error says what to change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Message
from contracts.limits import KIB
from contracts.streams import STREAMS

_LARGEST_BYTES: Final = {stream.name: stream.max_message_bytes for stream in STREAMS}
#: First and last line of a message's headers, and what stands between and after a name and its value.
_FRAME_BYTES: Final = len("NATS/1.0\r\n") + len("\r\n")
_LINE_BYTES: Final = len(": ") + len("\r\n")


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
