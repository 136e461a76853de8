"""File of a snapshot: a header, the view's SQLite file in zstd, and the SHA-256 of both at the end. Pure.

A file is used only whole, and only by a version whose view has the same tables.
"""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path
from typing import Final

import zstandard
from pydantic import BaseModel, ConfigDict

from contracts.limits import MIB
from services.gateway.aggregates.view import SCHEMA_VERSION
from services.gateway.snapshots.snapshot_record import Reason

#: Incremented when this file's layout changes.
_FORMAT: Final = 1
_DIGEST_BYTES: Final = 64
_MOST_HEADER_BYTES: Final = 1000
_CHUNK_BYTES: Final = MIB
_LEVEL: Final = 3


class ViewSnapshotInvalid(Exception):  # noqa: N818 - an expected result: the history is folded instead
    """A snapshot is damaged, of another version or of another stream."""

    def __init__(self, message: str, reason: Reason = "damaged") -> None:
        """Use the sentence for the log, and the reason for the metrics."""
        super().__init__(message)
        self.reason: Reason = reason


class ViewSnapshotHeader(BaseModel):
    """Header of a snapshot: it must fit before the view is used."""

    model_config = ConfigDict(frozen=True)

    format: int = _FORMAT
    #: Version of the view's tables and of what is in them.
    view_version: int = SCHEMA_VERSION
    #: Epoch and sequence of the newest event that is folded in it.
    epoch: str
    sequence: int
    #: Size of the view's file.
    size_bytes: int


def pack(header: ViewSnapshotHeader, descriptor: int, path: Path, stop: threading.Event) -> int:
    """Write the snapshot of an open file, which nobody changes meanwhile, and return its size; end early at ``stop``.

    Raises:
        OSError: it cannot be read, or its snapshot cannot be written.
    """
    digest, compressor = hashlib.sha256(), zstandard.ZstdCompressor(level=_LEVEL).compressobj(size=header.size_bytes)
    with path.open("wb") as file:

        def write(data: bytes) -> None:
            digest.update(data)
            file.write(data)

        write(header.model_dump_json().encode() + b"\n")
        for offset in range(0, header.size_bytes, _CHUNK_BYTES):
            if stop.is_set():
                break
            length = min(_CHUNK_BYTES, header.size_bytes - offset)
            chunk = os.pread(descriptor, length, offset)
            if len(chunk) != length:
                raise OSError(f"the view's file ends after {offset + len(chunk)} bytes")
            write(compressor.compress(chunk))
        if not stop.is_set():
            write(compressor.flush())
        file.write(digest.hexdigest().encode())
        return file.tell()


def unpack(path: Path, target: Path, most_bytes: int) -> ViewSnapshotHeader:
    """Write the view's file out of a snapshot, and return the snapshot's header.

    Raises:
        ViewSnapshotInvalid: it is damaged, of another version, or its view is larger than ``most_bytes``.
        OSError: the view's file cannot be written.
    """
    content_bytes = path.stat().st_size - _DIGEST_BYTES
    with path.open("rb") as file:
        _check_digest(path, content_bytes)
        header = _header(file.readline(_MOST_HEADER_BYTES))
        if header.size_bytes > most_bytes:
            raise ViewSnapshotInvalid(f"its view has {header.size_bytes} bytes, more than are free", "room")
        written, left = 0, content_bytes - file.tell()
        decompressor = zstandard.ZstdDecompressor().decompressobj()
        with target.open("wb") as view:
            while left and (chunk := file.read(min(_CHUNK_BYTES, left))):
                left -= len(chunk)
                try:
                    written += view.write(decompressor.decompress(chunk))
                except zstandard.ZstdError as error:
                    raise ViewSnapshotInvalid("another version wrote it", "version") from error
    if written != header.size_bytes:
        raise ViewSnapshotInvalid("another version wrote it", "version")
    return header


def _check_digest(path: Path, content_bytes: int) -> None:
    """Check that a snapshot is whole.

    Raises:
        ViewSnapshotInvalid: it is not.
    """
    digest, left = hashlib.sha256(), max(0, content_bytes)
    with path.open("rb") as file:
        while left and (chunk := file.read(min(_CHUNK_BYTES, left))):
            digest.update(chunk)
            left -= len(chunk)
        if content_bytes <= 0 or file.read() != digest.hexdigest().encode():
            raise ViewSnapshotInvalid("it is damaged")


def _header(line: bytes) -> ViewSnapshotHeader:
    """Return the header of a snapshot that this version can use.

    Raises:
        ViewSnapshotInvalid: another version wrote it.
    """
    try:
        header = ViewSnapshotHeader.model_validate_json(line)
    except ValueError as error:
        raise ViewSnapshotInvalid("another version wrote it", "version") from error
    if (header.format, header.view_version) != (_FORMAT, SCHEMA_VERSION):
        raise ViewSnapshotInvalid("another version wrote it", "version")
    return header
