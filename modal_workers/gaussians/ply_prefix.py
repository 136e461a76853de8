"""The first splats of a PLY file without reading the rest; standard library only."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import BinaryIO, Final

_HEADER_MAX_BYTES: Final = 16 * 1024
_END: Final = b"end_header\n"
_SIZES: Final = {
    **dict.fromkeys(("char", "uchar", "int8", "uint8"), 1),
    **dict.fromkeys(("short", "ushort", "int16", "uint16"), 2),
    **dict.fromkeys(("int", "uint", "float", "int32", "uint32", "float32"), 4),
    **dict.fromkeys(("double", "float64"), 8),
}


def prefix(source: bytes | Path, max_splats: int) -> bytes:
    """Return the PLY of the first ``max_splats`` vertices: of a file sorted by importance, the best ones.

    Raises:
        ValueError: it is not a binary PLY with ``vertex`` as its only element and no lists, or it is incomplete.
    """
    if isinstance(source, Path):
        with source.open("rb") as file:
            return _cut(file, max_splats)
    return _cut(io.BytesIO(source), max_splats)


def _cut(file: BinaryIO, max_splats: int) -> bytes:
    start = file.read(_HEADER_MAX_BYTES)
    if not start.startswith(b"ply\n") or _END not in start:
        raise ValueError("This is not a PLY file.")
    header = start[: start.index(_END) + len(_END)]
    elements = re.findall(rb"^element (\w+) (\d+)$", header, re.MULTILINE)
    properties = re.findall(rb"^property (\w+) \w+$", header, re.MULTILINE)
    if b"format binary_" not in header or [name for name, _ in elements] != [b"vertex"] or b"property list" in header:
        raise ValueError("This PLY file has more than binary vertices.")
    if any(kind.decode() not in _SIZES for kind in properties):
        raise ValueError("This PLY file has properties of unknown types.")
    available = int(elements[0][1])
    count = min(available, max(0, max_splats))
    size = count * sum(_SIZES[kind.decode()] for kind in properties)
    file.seek(len(header))
    body = file.read(size)
    if len(body) < size:
        raise ValueError(f"This PLY file is incomplete: its header declares {available} vertices.")
    return header.replace(b"element vertex %d\n" % available, b"element vertex %d\n" % count) + body
