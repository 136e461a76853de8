"""One frame of a ZIP of frames in the bucket, read without the rest: frames are stored in it uncompressed.

Source: APPNOTE.TXT 6.3.10 of PKWARE, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.16 (its end).
"""

from __future__ import annotations

import struct
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from kit.bucket import Bucket, ObjectMissing
from modal_workers.nerf.params import BATCH_FRAMES

#: Bytes at the end of a ZIP in which its central directory is: an entry of it has about 60 bytes.
_END_BYTES: Final = 64 * 1024
_LOCAL_BYTES: Final = 30
_END: Final = struct.Struct("<4s4H2LH")
_ENTRY: Final = struct.Struct("<4s6H3L5H2L")


def batch_name(index: int) -> str:
    """Return the name of the artifact that contains a frame, by its number from 0 on."""
    return f"frames/batch_{index // BATCH_FRAMES:02d}.zip"


async def read_frame(bucket: Bucket, key: str, index: int) -> bytes:
    """Return a frame of the ZIP at ``key``.

    Raises:
        SaccadeError: ARTIFACT_NOT_FOUND, it is not rendered yet; STORAGE_UNAVAILABLE.
    """
    name = f"frame_{index:04d}.png"
    missing = SaccadeError(ErrorCode.ARTIFACT_NOT_FOUND, f"Frame {index + 1} is not rendered yet.")
    try:
        size = await bucket.size(key)
        start = max(0, size - _END_BYTES)
        place = entry_place(await _part(bucket, key, start, size - start), start, name)
        if place is None:
            raise missing
        offset, length = place
        header = await _part(bucket, key, offset, _LOCAL_BYTES)
        names = sum(struct.unpack_from("<2H", header, 26))
        return await _part(bucket, key, offset + _LOCAL_BYTES + names, length)
    except ObjectMissing:
        raise missing from None


def entry_place(end: bytes, start: int, name: str) -> tuple[int, int] | None:
    """Return the offset of an entry's local header and its length, from the end of a ZIP that begins at ``start``."""
    found = end.rfind(b"PK\x05\x06")
    if found < 0:
        return None
    _, _, _, _, count, _, directory, _ = _END.unpack_from(end, found)
    at = directory - start
    for _ in range(count):
        if not 0 <= at <= len(end) - _ENTRY.size:
            return None
        fields = _ENTRY.unpack_from(end, at)
        length, name_bytes, extra_bytes, comment_bytes, offset = fields[9], *fields[10:13], fields[-1]
        if end[at + _ENTRY.size : at + _ENTRY.size + name_bytes] == name.encode():
            return offset, length
        at += _ENTRY.size + name_bytes + extra_bytes + comment_bytes
    return None


async def _part(bucket: Bucket, key: str, offset: int, length: int) -> bytes:
    async with bucket.opened(key, offset, length) as opened:
        return b"".join([chunk async for chunk in opened.chunks()])
