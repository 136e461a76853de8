"""Reader of nats-server's backups (NATSARC1 in S2 frames): what is in one, to compare it with what was restored.

Integrity is not its task: a backup's file has a hash of its own. Source: klauspost/compress, s2 (block format: that of
snappy, with repeated offsets); nats-io/nats-architecture-and-design, ADR-63. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from kit.history.nats_archive import ArchivedMessage

_COMPRESSED: Final = 0x00
_STORED: Final = 0x01
_FIRST_SKIPPABLE: Final = 0x80
_MAGIC: Final = b"NATSARC1"
_FRAME_HEAD_BYTES: Final = 4
_CHECKSUM_BYTES: Final = 4


class ArchiveUnreadable(Exception):  # noqa: N818 - says what is wrong with the backup, not with the program
    """The bytes are not a backup that this program can read."""


def read_archive(chunks: Iterable[bytes]) -> Iterator[ArchivedMessage]:
    """Yield the messages of a backup, in order; its state and consumers are skipped.

    Raises:
        ArchiveUnreadable: it was cut off, or is none.
    """
    source = _Source(_decompressed(_Source(chunks)))
    if source.take(len(_MAGIC)) != _MAGIC:
        raise ArchiveUnreadable("it does not begin as a backup of nats-server does")
    while True:
        name_bytes, time_ns, sequence, header_bytes, payload_bytes = (source.uvarint() for _ in range(5))
        name = source.take(name_bytes).decode()
        headers = source.take(header_bytes)
        body = source.take(payload_bytes)
        if not name:
            return  # the end of the backup
        if sequence:
            yield ArchivedMessage(sequence, name, time_ns >> 1 ^ -(time_ns & 1), body, _headers(headers))


class _Source:
    """Bytes that come in chunks."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._held = bytearray()
        self._start = 0

    def take(self, count: int) -> bytes:
        """Return the next bytes.

        Raises:
            ArchiveUnreadable: there are fewer.
        """
        while len(self._held) - self._start < count:
            if not self._fill():
                raise ArchiveUnreadable("it was cut off")
        taken = bytes(self._held[self._start : self._start + count])
        self._start += count
        return taken

    def ended(self) -> bool:
        """Return whether there are no more bytes."""
        return self._start == len(self._held) and not self._fill()

    def uvarint(self) -> int:
        """Return the next number."""
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def _fill(self) -> bool:
        for chunk in self._chunks:
            del self._held[: self._start]
            self._start = 0
            self._held += chunk
            return True
        return False


def _decompressed(source: _Source) -> Iterator[bytes]:
    while not source.ended():
        head = source.take(_FRAME_HEAD_BYTES)
        frame = source.take(int.from_bytes(head[1:], "little"))
        if head[0] == _COMPRESSED:
            yield _decompress_block(frame[_CHECKSUM_BYTES:])
        elif head[0] == _STORED:
            yield frame[_CHECKSUM_BYTES:]
        elif head[0] < _FIRST_SKIPPABLE:
            raise ArchiveUnreadable(f"it has a frame of unknown kind {head[0]}")


def _decompress_block(block: bytes) -> bytes:
    """Return the bytes of a block of S2."""
    wanted = shift = position = 0
    while True:
        byte = block[position]
        position += 1
        wanted |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    out = bytearray()
    offset = 0
    end = len(block)
    while position < end:
        tag = block[position]
        kind = tag & 3
        if kind == 0:
            length, position = _literal_length(block, position)
            out += block[position : position + length]
            position += length
            continue
        if kind == 1:
            length, offset, position = _short_copy(block, position, offset)
        else:
            size = 2 if kind == 2 else 4
            length = (tag >> 2) + 1
            offset = int.from_bytes(block[position + 1 : position + 1 + size], "little")
            position += 1 + size
        if not 0 < offset <= len(out):
            raise ArchiveUnreadable("a frame was changed")
        start = len(out) - offset
        if offset >= length:
            out += out[start : start + length]
        else:
            pattern = bytes(out[start:])
            out += (pattern * (length // offset + 1))[:length]
    if len(out) != wanted:
        raise ArchiveUnreadable("a frame was cut off")
    return bytes(out)


def _literal_length(block: bytes, position: int) -> tuple[int, int]:
    """Return the length of a literal, and where it begins."""
    length = block[position] >> 2
    position += 1
    if length >= 60:
        size = length - 59
        length = int.from_bytes(block[position : position + size], "little")
        position += size
    return length + 1, position


def _short_copy(block: bytes, position: int, offset: int) -> tuple[int, int, int]:
    """Return length and offset of a copy with a short offset, or with the one before, and what follows."""
    tag = block[position]
    length = tag >> 2 & 7
    short = (tag & 0xE0) << 3 | block[position + 1]
    position += 2
    if short:
        return length + 4, short, position
    if length >= 5:
        size = length - 4
        more = int.from_bytes(block[position : position + size], "little")
        position += size
        length = more + (4, 1 << 8, 1 << 16)[size - 1]
    return length + 4, offset, position


def _headers(raw: bytes) -> dict[str, str]:
    lines = raw.decode().split("\r\n")[1:]
    return {name: value.strip() for name, separator, value in (line.partition(":") for line in lines) if separator}
