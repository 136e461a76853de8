"""File of a snapshot: SHA-256 of the rest, a header, and the lines of the state in zstd. Pure.

A file is used only whole, and only by the very code that wrote it: another version may fold an event differently.
"""

from __future__ import annotations

import functools
import hashlib
import secrets
from pathlib import Path
from typing import Final

import pydantic
import zstandard
from pydantic import BaseModel, ConfigDict

import contracts
from services.dispatcher.snapshots.fold_state import FoldState, decode_lines, encode_lines

#: Incremented when this file's layout changes.
_FORMAT: Final = 1
_DIGEST_BYTES: Final = 64
#: Source files that decide what the state is after an event; ``contracts`` besides, as a whole.
_FOLDERS: Final = ("jobs", "rules", "budgets", "snapshots")
_FILES: Final = ("app.py", "scheduling/on_job.py")


class SnapshotInvalid(Exception):  # noqa: N818 - an expected result: the history is folded instead
    """A snapshot is damaged, or of another version."""


class SnapshotHeader(BaseModel):
    """Header of a snapshot: it must fit before the state is used."""

    model_config = ConfigDict(frozen=True)

    format: int
    #: Of the code that wrote it.
    fingerprint: str
    #: Epoch and sequence of the newest event that is folded in it.
    epoch: str
    sequence: int
    #: Newest sequence of which anything is in it, at least ``sequence``.
    reached: int


def header_of(state: FoldState, epoch: str, sequence: int) -> SnapshotHeader:
    """Return the header of a state after the event with this sequence."""
    reached = max(sequence, state.reached)
    return SnapshotHeader(
        format=_FORMAT, fingerprint=code_fingerprint(), epoch=epoch, sequence=sequence, reached=reached
    )


def encode_snapshot(header: SnapshotHeader, state: FoldState) -> bytes:
    """Return the file of a snapshot."""
    compressor = zstandard.ZstdCompressor(level=3).compressobj()
    compressed = [compressor.compress(line) for line in encode_lines(state)]
    content = b"".join([header.model_dump_json().encode(), b"\n", *compressed, compressor.flush()])
    return hashlib.sha256(content).hexdigest().encode() + content


def decode_snapshot(data: bytes) -> tuple[SnapshotHeader, FoldState]:
    """Return header and state of a file that this version wrote.

    Raises:
        SnapshotInvalid: it is damaged, or another version wrote it.
    """
    digest, content = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise SnapshotInvalid("it is damaged")
    told, _, compressed = content.partition(b"\n")
    try:
        header = SnapshotHeader.model_validate_json(told)
        if (header.format, header.fingerprint) != (_FORMAT, code_fingerprint()):
            raise SnapshotInvalid("another version wrote it")
        return header, decode_lines(zstandard.ZstdDecompressor().decompressobj().decompress(compressed).splitlines())
    except (ValueError, zstandard.ZstdError) as error:
        raise SnapshotInvalid("another version wrote it") from error


@functools.cache
def code_fingerprint() -> str:
    """Return a hash of the code that folds events and stores the state."""
    sources = fingerprinted_files()
    if Path(__file__) not in sources:  # without source files nothing tells one version from another
        return secrets.token_hex(32)
    digest = hashlib.sha256(pydantic.VERSION.encode())
    for path in sources:
        body = path.read_bytes()
        digest.update(f"{path.parent.name}/{path.name} {len(body)} ".encode() + body)
    return digest.hexdigest()


def fingerprinted_files() -> list[Path]:
    """Return the source files of which the fingerprint is made."""
    dispatcher = Path(__file__).parents[1]
    folders = [Path(contracts.__file__).parent, *(dispatcher / name for name in _FOLDERS)]
    files = [dispatcher / name for name in _FILES]
    return sorted({*(path for folder in folders for path in folder.rglob("*.py")), *filter(Path.exists, files)})
