"""Writer of nats-server's backup format (NATSARC1, S2 frames), from which a stream is restored with chosen sequences.

Only a restore stores messages with the sequences and times of another stream; a publish gives both anew.
Source: nats-io/nats-architecture-and-design, ADR-63; klauspost/compress, s2 (framing of snappy with larger blocks). The
frames hold stored blocks: the server reads them once, on this machine or the next. Pure.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from kit.history.crc32c import crc32c_of_chunks

_MAGIC: Final = b"NATSARC1"
_STREAM_IDENTIFIER: Final = b"\xff\x06\x00\x00S2sTwO"
_STORED: Final = b"\x01"
#: Bytes of one frame, and of the frames whose checksums are computed together.
_FRAME_BYTES: Final = 2048
_BATCH_BYTES: Final = 4 * 1024 * 1024
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class ArchivedMessage:
    """One message of a stream, as it is restored."""

    sequence: int
    subject: str
    time_ns: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ArchiveBounds:
    """Sequences of a restored stream: the next message gets ``last + 1``."""

    first: int
    last: int
    #: Estimate of the size of all messages, for which the server reserves space.
    bytes: int
    messages: int

    def state(self) -> dict[str, Any]:
        """Return the state that begins an archive and a request for a restore."""
        empty = "0001-01-01T00:00:00Z"
        return {
            "messages": self.messages,
            "bytes": self.bytes,
            "first_seq": self.first,
            "first_ts": empty,
            "last_seq": self.last,
            "last_ts": empty,
            "consumer_count": 0,
        }


def encode_archive(bounds: ArchiveBounds, messages: Iterable[ArchivedMessage]) -> Iterator[bytes]:
    """Yield the bytes of an archive of messages in ascending order of their sequences."""
    yield _STREAM_IDENTIFIER
    batch = bytearray(_MAGIC)
    batch += _entry("state.json", json.dumps(bounds.state()).encode())
    for message in messages:
        batch += _entry(
            message.subject,
            message.body,
            sequence=message.sequence,
            time_ns=message.time_ns,
            headers=_encode_headers(message.headers),
        )
        if len(batch) >= _BATCH_BYTES:
            whole = len(batch) - len(batch) % _FRAME_BYTES
            yield _frames(bytes(batch[:whole]))
            del batch[:whole]
    batch += _entry("", b"")
    yield _frames(bytes(batch))


def nanoseconds(timestamp: str) -> int:
    """Return a time of RFC 3339 in nanoseconds since 1970, with all its digits.

    Raises:
        ValueError: it is none.
    """
    whole, _, rest = timestamp.partition(".")
    fraction = "".join(itertools.takewhile(str.isdigit, rest))
    moment = datetime.fromisoformat(whole + rest[len(fraction) :] if rest else whole)
    if moment.tzinfo is None:
        raise ValueError(f"not a time: {timestamp!r}")
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + int(fraction[:9].ljust(9, "0"))


def _entry(name: str, payload: bytes, *, sequence: int = 0, time_ns: int = 0, headers: bytes = b"") -> bytes:
    encoded = name.encode()
    numbers = (len(encoded), _zigzag(time_ns), sequence, len(headers), len(payload))
    return b"".join((*map(_uvarint, numbers), encoded, headers, payload))


def _uvarint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _zigzag(number: int) -> int:
    return number << 1 if number >= 0 else (-number << 1) - 1


def _encode_headers(headers: Mapping[str, str]) -> bytes:
    if not headers:
        return b""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"NATS/1.0\r\n{lines}\r\n".encode()


def _frames(data: bytes) -> bytes:
    """Return S2 frames of stored blocks: type, length, masked CRC-32C, bytes."""
    framed = bytearray()
    for number, checksum in enumerate(crc32c_of_chunks(data, _FRAME_BYTES)):
        block = data[number * _FRAME_BYTES : (number + 1) * _FRAME_BYTES]
        masked = ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF
        framed += _STORED + (len(block) + 4).to_bytes(3, "little") + masked.to_bytes(4, "little") + block
    return bytes(framed)
