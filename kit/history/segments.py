"""Segment of the archive: a range of a stream's events in one file, with the hashes that show whether it is whole.

The file is NDJSON in the seekable format of zstd (contrib/seekable_format of its repository), so ``zstdcat`` reads all
of it, and a reader with its last bytes reads any frame alone. It has frames of 1,000 lines ``{seq, subject, time, id,
event}``, a frame with the manifest, and the table of the frames' sizes. Equal events give equal lines; a segment's hash
is that of its manifest, with the hashes of lines, not of compressed bytes: it outlives a version of zstd. Pure.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import zstandard

from kit.history.event_lines import HistoryEvent, decode_each, decode_lines, encode_line
from kit.history.manifest import (
    ExportFacts,
    FrameSummary,
    SegmentInvalid,
    SegmentManifest,
    SubjectCounts,
    decode_manifest,
    subject_filter,
)

#: Events of one frame: it decompresses in less than a millisecond, and larger ones are hardly smaller in the sum.
FRAME_EVENTS: Final = 1000
#: More in one frame only of a single event.
FRAME_BYTES: Final = 4 * 1024 * 1024
#: Largest frame after decompression that is read: the largest event in base64, and a frame before it.
_READ_BYTES: Final = 16 * 1024 * 1024
#: Level of compression: 5 % smaller than level 1, and three times as fast as level 9.
_LEVEL: Final = 3
_SKIPPABLE_MAGIC: Final = 0x184D2A5E
_SEEKABLE_MAGIC: Final = 0x8F92EAB1
_FOOTER: Final = struct.Struct("<IBI")
_ENTRY: Final = struct.Struct("<II")
_SKIPPABLE: Final = struct.Struct("<II")
#: Bytes at the end of a file that nearly always hold its table and its manifest.
TAIL_BYTES: Final = 128 * 1024


@dataclass(frozen=True)
class Segment:
    """A finished segment."""

    manifest: SegmentManifest
    data: bytes


class SegmentBuilder:
    """Builds one segment from events in the order of the stream."""

    def __init__(
        self,
        stream: str,
        epoch: str,
        first: int,
        previous: str = "",
        expired: tuple[int, int] | None = None,
        *,
        export: ExportFacts | None = None,
    ) -> None:
        """Begin at the sequence ``first``, which need not be stored; ``previous`` is the hash of the segment before.

        ``expired``: sequences before it that the stream had deleted before they were archived. ``export``: it is a file
        that was exported, not one of the archive.
        """
        self.raw_bytes = 0
        self._export = export
        self._stream = stream
        self._epoch = epoch
        self._first = first
        self._previous = previous
        self._expired = expired
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True, write_content_size=True)
        self._waiting: list[tuple[HistoryEvent, bytes]] = []
        self._waiting_bytes = 0
        self._frames: list[FrameSummary] = []
        self._parts: list[bytes] = []
        self._sizes: list[tuple[int, int]] = []

    def add(self, events: Iterable[HistoryEvent]) -> None:
        """Add events; those of a whole frame are compressed."""
        for event in events:
            line = encode_line(event)
            if self._waiting_bytes and self._waiting_bytes + len(line) > FRAME_BYTES:
                self._end_frame()
            self._waiting.append((event, line))
            self._waiting_bytes += len(line)
            self.raw_bytes += len(line)
            if len(self._waiting) == FRAME_EVENTS:
                self._end_frame()

    def take(self) -> bytes:
        """Return and forget the frames that are finished: a file that grows gets them; ``finish`` returns the rest."""
        taken, self._parts = b"".join(self._parts), []
        return taken

    def finish(self, last: int) -> Segment:
        """End the segment with the sequence ``last``, which need not be stored, and return it."""
        if self._waiting:
            self._end_frame()
        counts = SubjectCounts()
        for frame in self._frames:
            counts.add(frame.counts)
        manifest = SegmentManifest(
            stream=self._stream,
            epoch=self._epoch,
            first=self._first,
            last=last,
            events=sum(frame.events for frame in self._frames),
            first_time=self._frames[0].first_time if self._frames else None,
            last_time=self._frames[-1].last_time if self._frames else None,
            types=counts.by_type(),
            tenants=counts.by_tenant(),
            previous=self._previous,
            expired=self._expired,
            frames=tuple(self._frames),
            export=self._export,
        )
        self._put_frame(manifest.encode())
        return Segment(manifest, b"".join([*self._parts, _seek_table(self._sizes)]))

    def _end_frame(self) -> None:
        events = [event for event, _ in self._waiting]
        raw = b"".join(line for _, line in self._waiting)
        counts = SubjectCounts()
        for event in events:
            counts.count(event.subject)
        self._frames.append(
            FrameSummary(
                first=events[0].sequence,
                last=events[-1].sequence,
                events=len(events),
                first_time=events[0].timestamp,
                last_time=events[-1].timestamp,
                sha256=hashlib.sha256(raw).hexdigest(),
                counts=counts.tenants,
                ids=subject_filter(event.subject_id for event in events),
            )
        )
        self._put_frame(raw)
        self._waiting, self._waiting_bytes = [], 0

    def _put_frame(self, raw: bytes) -> None:
        # Copied: what zstandard returns keeps the memory of the largest result that there could have been, that of the
        # events before compression.
        compressed = bytes(memoryview(self._compressor.compress(raw)))
        self._parts.append(compressed)
        self._sizes.append((len(compressed), len(raw)))


@dataclass(frozen=True)
class SegmentIndex:
    """Manifest of a segment, and where its frames are in the file."""

    manifest: SegmentManifest
    #: Offset and length in the file of each frame of events.
    places: tuple[tuple[int, int], ...]
    #: Length of the file.
    size_bytes: int

    def read_frame(self, number: int, compressed: bytes) -> list[HistoryEvent]:
        """Return the events of a frame from its compressed bytes, verified.

        Raises:
            SegmentInvalid: it was changed.
        """
        return list(decode_each(self.read_lines(number, compressed), self.name_of(number)))

    def read_lines(self, number: int, compressed: bytes) -> list[bytes]:
        """Return the lines of a frame from its compressed bytes, verified; it holds the interpreter for a moment only.

        Raises:
            SegmentInvalid: it was changed.
        """
        name = self.name_of(number)
        raw = _decompress(compressed, name)
        if hashlib.sha256(raw).hexdigest() != self.manifest.frames[number].sha256:
            raise SegmentInvalid(f"{name} was changed: its bytes do not have the hash of the manifest")
        return raw.removesuffix(b"\n").split(b"\n") if raw else []

    def name_of(self, number: int) -> str:
        """Return the name of a frame in errors."""
        summary = self.manifest.frames[number]
        return f"frame {number + 1} of {len(self.places)} (events {summary.first} to {summary.last})"


def whole_frames(chunks: Iterable[bytes]) -> Iterator[list[HistoryEvent]]:
    """Yield the events of each whole frame at the begin of a file that was not finished; what follows is left out.

    Raises:
        SegmentInvalid: a frame holds something else than events; its manifest is not such a frame.
    """
    frame, parts = zstandard.ZstdDecompressor().decompressobj(), []
    for chunk in chunks:
        rest = chunk
        while rest:
            try:
                parts.append(frame.decompress(rest))
            except zstandard.ZstdError:
                return
            rest = frame.unused_data if frame.eof else b""
            if frame.eof:
                raw = b"".join(parts)
                if raw.startswith(b'{"manifest":'):
                    return
                yield decode_lines(raw, "a frame")
                frame, parts = zstandard.ZstdDecompressor().decompressobj(), []


def tail_needed(tail: bytes, size_bytes: int) -> int:
    """Return how many bytes of a file's end ``read_index`` needs; ``tail`` is its end, at least 16 bytes of it.

    Raises:
        SegmentInvalid: it does not end as a segment does.
    """
    sizes_bytes, compressed = _read_seek_table(tail, size_bytes)
    return sizes_bytes + (compressed[-1][0] if compressed else 0)


def read_index(tail: bytes, size_bytes: int) -> SegmentIndex:
    """Return the index of a segment from the end of its file, which is ``size_bytes`` long.

    Raises:
        SegmentInvalid: it was cut off or changed.
    """
    table_bytes, sizes = _read_seek_table(tail, size_bytes)
    if not sizes:
        raise SegmentInvalid("it has no manifest")
    manifest_bytes = sizes[-1][0]
    if table_bytes + manifest_bytes > len(tail):
        raise SegmentInvalid("the end of the file does not hold its manifest")
    start = len(tail) - table_bytes - manifest_bytes
    manifest = decode_manifest(_decompress(tail[start : start + manifest_bytes], "the manifest"))
    if len(manifest.frames) != len(sizes) - 1 or table_bytes + sum(size for size, _ in sizes) != size_bytes:
        raise SegmentInvalid("its table of frames does not match its manifest: it was cut off, or bytes were added")
    places: list[tuple[int, int]] = []
    offset = 0
    for compressed, _ in sizes[:-1]:
        places.append((offset, compressed))
        offset += compressed
    return SegmentIndex(manifest, tuple(places), size_bytes)


class SegmentFile:
    """A segment whose whole file is in memory."""

    def __init__(self, data: bytes) -> None:
        """Read the index.

        Raises:
            SegmentInvalid: it was cut off or changed.
        """
        self._data = memoryview(data)
        self.index = read_index(data, len(data))

    @property
    def manifest(self) -> SegmentManifest:
        """Return the manifest."""
        return self.index.manifest

    def events(self, after: int = 0, until: int | None = None) -> Iterator[HistoryEvent]:
        """Yield the events after a sequence and up to another, verified frame by frame.

        Raises:
            SegmentInvalid: a frame was changed.
        """
        for number, summary in enumerate(self.manifest.frames):
            if summary.last <= after:
                continue
            if until is not None and summary.first > until:
                return
            offset, length = self.index.places[number]
            for event in self.index.read_frame(number, bytes(self._data[offset : offset + length])):
                if event.sequence > after and (until is None or event.sequence <= until):
                    yield event

    def verify(self) -> None:
        """Verify every frame, and that the manifest tells what is in them.

        Raises:
            SegmentInvalid: what was changed.
        """
        rebuilt = SegmentBuilder(
            self.manifest.stream,
            self.manifest.epoch,
            self.manifest.first,
            self.manifest.previous,
            self.manifest.expired,
            export=self.manifest.export,
        )
        position = self.manifest.first - 1
        for event in self.events():
            if not position < event.sequence <= self.manifest.last:
                raise SegmentInvalid(f"event {event.sequence} is out of order, or outside of the segment's range")
            position = event.sequence
            rebuilt.add([event])
        if rebuilt.finish(self.manifest.last).manifest.model_dump() != self.manifest.model_dump():
            raise SegmentInvalid("its manifest does not tell what is in it")


def encode_segment(
    events: Iterable[HistoryEvent],
    *,
    stream: str,
    epoch: str,
    first: int,
    last: int,
    previous: str = "",
    expired: tuple[int, int] | None = None,
) -> Segment:
    """Return the segment of events."""
    builder = SegmentBuilder(stream, epoch, first, previous, expired)
    builder.add(events)
    return builder.finish(last)


def _decompress(compressed: bytes, name: str) -> bytes:
    try:
        if zstandard.frame_content_size(compressed) > _READ_BYTES:
            raise SegmentInvalid(f"{name} is larger than a frame can be")
        return zstandard.ZstdDecompressor().decompress(compressed, max_output_size=_READ_BYTES)
    except zstandard.ZstdError as error:
        raise SegmentInvalid(f"{name} was cut off or changed: {error}") from error


def _seek_table(sizes: list[tuple[int, int]]) -> bytes:
    entries = b"".join(_ENTRY.pack(*size) for size in sizes)
    footer = _FOOTER.pack(len(sizes), 0, _SEEKABLE_MAGIC)
    return _SKIPPABLE.pack(_SKIPPABLE_MAGIC, len(entries) + len(footer)) + entries + footer


def _read_seek_table(tail: bytes, size_bytes: int) -> tuple[int, list[tuple[int, int]]]:
    """Return the length of the table in bytes, and the compressed and raw sizes of all frames.

    Raises:
        SegmentInvalid: there is none.
    """
    cut_off = "it does not end with a table of frames: it was cut off"
    if len(tail) < _FOOTER.size:
        raise SegmentInvalid(cut_off)
    frames, flags, magic = _FOOTER.unpack_from(tail, len(tail) - _FOOTER.size)
    length = _SKIPPABLE.size + frames * _ENTRY.size + _FOOTER.size
    if magic != _SEEKABLE_MAGIC or flags or length > size_bytes:
        raise SegmentInvalid(cut_off)
    if length > len(tail):
        raise SegmentInvalid("the end of the file does not hold its table of frames")
    start = len(tail) - length
    if _SKIPPABLE.unpack_from(tail, start) != (_SKIPPABLE_MAGIC, length - _SKIPPABLE.size):
        raise SegmentInvalid(cut_off)
    return length, [
        _ENTRY.unpack_from(tail, start + _SKIPPABLE.size + number * _ENTRY.size) for number in range(frames)
    ]
