"""Files of events: written whole or not at all, read only if they are whole, and described."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from cli.failure import Failure
from cli.output import format_time
from kit.history.manifest import SegmentInvalid, SegmentManifest
from kit.history.segments import SegmentFile


def require_new(file: Path) -> None:
    """Check that a file can be written and that nothing is written over.

    Raises:
        Failure: there is such a file, or no folder for it.
    """
    if file.exists():
        raise Failure(f"{file} exists.", code="file_exists", hint="Move it away, or name another file.")
    if not file.parent.is_dir():
        raise Failure(f"There is no folder {file.parent}.", code="file_system", hint="Create it, or name another file.")


def write_whole(file: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all."""
    part = file.with_name(f"{file.name}.part")
    with part.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    part.replace(file)


def read_whole(file: Path) -> tuple[SegmentFile, bytes]:
    """Return a file of events all of whose frames were verified, and its bytes.

    Raises:
        Failure: it was cut off or changed, or is none.
    """
    data = file.read_bytes()
    try:
        segment = SegmentFile(data)
        segment.verify()
    except SegmentInvalid as error:
        raise Failure(
            f"{file} is damaged: {error}.",
            code="file_damaged",
            hint="Copy it again from where it was written, and compare its size and SHA-256 with what export printed.",
        ) from error
    return segment, data


def described(data: bytes, manifest: SegmentManifest) -> dict[str, Any]:
    """Return what is shown of a file: its manifest, its size and its hash."""
    shown = manifest.model_dump(mode="json", exclude={"frames"})
    return shown | {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def span(manifest: SegmentManifest) -> str:
    """Return how many events there are, and from when to when."""
    return f"{manifest.events} events, {format_time(manifest.first_time)} to {format_time(manifest.last_time)}"
