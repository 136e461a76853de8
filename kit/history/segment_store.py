"""Segments in a bucket: ``archive/<epoch>/<first>-<last>.ndjson.zst``, written once, verified, read frame by frame.

An object is never trusted because it was written: it is read back and compared, because a server may ignore a condition
on a write (rclone ignores ``If-None-Match``). Writing the same segment again changes nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from contracts.errors import ErrorCode, SaccadeError
from kit.history.event_lines import HistoryEvent, decode_each
from kit.history.manifest import SegmentInvalid, SegmentManifest
from kit.history.segments import TAIL_BYTES, Segment, SegmentFile, SegmentIndex, read_index, tail_needed

if TYPE_CHECKING:
    from kit.bucket import Bucket

CONTENT_TYPE: Final = "application/zstd"
FOLDER: Final = "archive"
_NAME: Final = re.compile(r"(\d{18})-(\d{18})\.ndjson\.zst")
#: Indexes that are kept in memory, about 50 KB each.
_INDEXES: Final = 64
#: Compressed bytes of consecutive frames that one request reads.
_READ_BYTES: Final = 512 * 1024
#: Lines that are decoded at a time: a thread would hold the interpreter for all of a frame, 4 ms.
_DECODED: Final = 100
#: Largest index that is read: that of a segment with more frames than any has.
_INDEX_BYTES: Final = 64 * 1024 * 1024


class SegmentDamaged(SaccadeError):  # noqa: N818 - names what is wrong with the archive
    """A segment of the archive is missing, or was cut off or changed."""

    def __init__(self, name: str, problem: str, first: int | None = None) -> None:
        """``name`` is the key of the object, or the range of its events; after them comes the event ``first``."""
        extra = {"segment": name} if first is None else {"segment": name, "first": first}
        super().__init__(ErrorCode.SEGMENT_DAMAGED, f"The archive is damaged: {name}: {problem}.", **extra)


class SegmentRewritten(SegmentDamaged):
    """A segment was written anew, without erased events, since its index was read: read its index again."""

    def __init__(self, stored: StoredSegment) -> None:
        """Report a segment."""
        super().__init__(stored.key, "it was written anew while it was read", stored.last + 1)


@dataclass(frozen=True, order=True)
class StoredSegment:
    """A segment as its name in the bucket tells it."""

    first: int
    last: int
    epoch: str
    key: str


class SegmentStore:
    """The archive in one bucket."""

    def __init__(self, open_bucket: Callable[[], Awaitable[Bucket]]) -> None:
        """Open the bucket at the first use: most processes never read the archive."""
        self.open_bucket = open_bucket
        #: Newest use last.
        self._indexes: OrderedDict[str, SegmentIndex] = OrderedDict()

    async def epochs(self) -> list[str]:
        """Return the ids of all epochs that have a segment, also of streams that are lost.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        bucket = await self.open_bucket()
        folder = f"{bucket.key(FOLDER)}/"
        keys = [key.removeprefix(folder).split("/") for key in await bucket.list_keys(folder)]
        return sorted({key[0] for key in keys if len(key) == 2 and _NAME.fullmatch(key[1])})

    async def of_epoch(self, epoch: str) -> list[StoredSegment]:
        """Return the segments of an epoch by their names, in order.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        bucket = await self.open_bucket()
        folder = f"{bucket.key(FOLDER, epoch)}/"
        found = [(key, _NAME.fullmatch(key.removeprefix(folder))) for key in await bucket.list_keys(folder)]
        return sorted(StoredSegment(int(name[1]), int(name[2]), epoch, key) for key, name in found if name)

    async def place_of(self, manifest: SegmentManifest) -> StoredSegment:
        """Return where a segment belongs.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        bucket = await self.open_bucket()
        key = bucket.key(FOLDER, manifest.epoch, segment_name(manifest.first, manifest.last))
        return StoredSegment(manifest.first, manifest.last, manifest.epoch, key)

    async def store(self, segment: Segment) -> StoredSegment:
        """Write a segment, unless it is there, and read it back.

        Raises:
            SegmentDamaged: the bucket does not return the bytes that were written.
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        bucket = await self.open_bucket()
        stored = await self.place_of(segment.manifest)
        key = stored.key
        expected = await asyncio.to_thread(_sha256, segment.data)
        if await self._sha256_of(key) != expected:
            await bucket.put(key, segment.data, CONTENT_TYPE)
            if (found := await self._sha256_of(key)) != expected:
                problem = "it is not there" if found is None else "its bytes are not those that were written"
                raise SegmentDamaged(key, f"right after it was written, {problem}")
        self._indexes.pop(key, None)
        return stored

    async def verified(self, stored: StoredSegment) -> SegmentFile:
        """Return a whole segment, verified in every frame.

        Raises:
            SegmentDamaged: it is missing, or was cut off or changed.
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        from kit.bucket import ObjectMissing  # noqa: PLC0415 - loaded with the bucket

        bucket = await self.open_bucket()
        try:
            data = await bucket.get(stored.key)
        except ObjectMissing as error:
            raise SegmentDamaged(stored.key, "there is no such object", stored.last + 1) from error
        try:
            return await asyncio.to_thread(_verified, data, stored)
        except SegmentInvalid as error:
            raise SegmentDamaged(stored.key, str(error), stored.last + 1) from error

    async def index(self, stored: StoredSegment) -> SegmentIndex:
        """Return the index of a segment, from memory if it was read lately.

        Raises:
            SegmentDamaged: it is missing, or was cut off or changed.
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        if (index := self._indexes.get(stored.key)) is not None:
            self._indexes.move_to_end(stored.key)
            return index
        index = await self._read_index(stored)
        self._indexes[stored.key] = index
        while len(self._indexes) > _INDEXES:
            self._indexes.popitem(last=False)
        return index

    async def frames(
        self, stored: StoredSegment, numbers: Sequence[int], is_wanted: Callable[[bytes], bool] | None = None
    ) -> AsyncIterator[list[HistoryEvent]]:
        """Yield the events of some frames, verified, in small parts; with ``is_wanted`` of the lines that pass it.

        Raises:
            SegmentRewritten: it was written anew since its index was read.
            SegmentDamaged: it is missing, or was cut off or changed.
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        index = await self.index(stored)
        for run in _runs(index, numbers):
            try:
                compressed = await self._read_run(stored, index, run)
            except SegmentDamaged:
                await self._require_same(stored, index)
                raise
            for number, data in compressed:
                try:
                    lines = await asyncio.to_thread(index.read_lines, number, data)
                except SegmentInvalid as error:
                    await self._require_same(stored, index)
                    raise SegmentDamaged(stored.key, str(error), first=stored.last + 1) from error
                name = index.name_of(number)
                for at in range(0, len(lines), _DECODED):
                    part = lines[at : at + _DECODED]
                    yield list(decode_each(filter(is_wanted, part) if is_wanted else part, name))

    async def _require_same(self, stored: StoredSegment, index: SegmentIndex) -> None:
        """Check that a segment is the one whose index was read; frames of another one are not the same events.

        Raises:
            SegmentRewritten: it was written anew since.
            SegmentDamaged, SaccadeError: as ``index``.
        """
        self._indexes.pop(stored.key, None)
        if (await self.index(stored)).manifest.sha256 != index.manifest.sha256:
            raise SegmentRewritten(stored)

    async def _read_run(
        self, stored: StoredSegment, index: SegmentIndex, run: Sequence[int]
    ) -> list[tuple[int, bytes]]:
        start = index.places[run[0]][0]
        end = sum(index.places[run[-1]])
        data = await self._range(stored, start, end - start)
        places = [(number, *index.places[number]) for number in run]
        return [(number, data[offset - start : offset - start + length]) for number, offset, length in places]

    async def _read_index(self, stored: StoredSegment) -> SegmentIndex:
        from kit.bucket import ObjectMissing  # noqa: PLC0415 - loaded with the bucket

        bucket = await self.open_bucket()
        try:
            size = await bucket.size(stored.key)
            wanted = min(TAIL_BYTES, size)
            tail = await self._range(stored, size - wanted, wanted) if size else b""
            needed = tail_needed(tail, size)
            if needed > wanted:
                if needed > min(size, _INDEX_BYTES):
                    raise SegmentInvalid("its table of frames does not fit into the file: it was cut off")
                tail = await self._range(stored, size - needed, needed)
            index = await asyncio.to_thread(read_index, tail, size)
        except ObjectMissing as error:
            raise SegmentDamaged(stored.key, "there is no such object", stored.last + 1) from error
        except SegmentInvalid as error:
            raise SegmentDamaged(stored.key, str(error), stored.last + 1) from error
        _check_name(index, stored)
        return index

    async def _range(self, stored: StoredSegment, offset: int, length: int) -> bytes:
        """Return some bytes of an object.

        Raises:
            SegmentDamaged: it does not have so many.
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        from kit.bucket import ObjectMissing  # noqa: PLC0415 - loaded with the bucket

        bucket = await self.open_bucket()
        try:
            async with bucket.opened(stored.key, offset, length) as opened:
                data = b"".join([chunk async for chunk in opened.chunks()])
        except ObjectMissing as error:
            raise SegmentDamaged(stored.key, "there is no such object", stored.last + 1) from error
        if len(data) != length:
            raise SegmentDamaged(stored.key, "it was cut off", stored.last + 1)
        return data

    async def _sha256_of(self, key: str) -> str | None:
        """Return the hash of an object; None if there is none.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        from kit.bucket import ObjectMissing  # noqa: PLC0415 - loaded with the bucket
        from kit.bucket_inventory import sha256_of  # noqa: PLC0415 - as above

        try:
            return await sha256_of(await self.open_bucket(), key)
        except ObjectMissing:
            return None


def segment_name(first: int, last: int) -> str:
    """Return the name of a segment in the folder of its epoch; names sort as their ranges do."""
    return f"{first:018d}-{last:018d}.ndjson.zst"


def _verified(data: bytes, stored: StoredSegment) -> SegmentFile:
    file = SegmentFile(data)
    _check_name(file.index, stored)
    file.verify()
    return file


def _check_name(index: SegmentIndex, stored: StoredSegment) -> None:
    """Check that a segment is the one that its name tells.

    Raises:
        SegmentDamaged: it is another one.
    """
    manifest = index.manifest
    if (manifest.epoch, manifest.first, manifest.last) != (stored.epoch, stored.first, stored.last):
        held = f"it holds the events {manifest.first} to {manifest.last} of epoch {manifest.epoch}"
        raise SegmentDamaged(stored.key, held, stored.last + 1)


def _runs(index: SegmentIndex, numbers: Sequence[int]) -> list[list[int]]:
    """Return consecutive frames in groups that one request reads."""
    runs: list[list[int]] = []
    size = 0
    for number in numbers:
        length = index.places[number][1]
        if runs and runs[-1][-1] + 1 == number and size + length <= _READ_BYTES:
            runs[-1].append(number)
            size += length
        else:
            runs.append([number])
            size = length
    return runs


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
