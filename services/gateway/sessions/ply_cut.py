"""Cuts a binary PLY whose rows are sorted by importance to its first rows: the best splats that fit. Pure.

Source: the PLY format, G. Turk, 1994; rows of the 3DGS convention are scalars of fixed size.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from contracts.errors import ErrorCode, SaccadeError

#: No header of ours is longer.
HEADER_BYTES: Final = 64 * 1024
_END: Final = b"end_header\n"
_VERTEX: Final = re.compile(rb"^element vertex (\d{1,12})\n", re.MULTILINE)
_PROPERTY: Final = re.compile(rb"^property (\w+) \w+\n", re.MULTILINE)
_SIZES: Final = {
    **dict.fromkeys((b"char", b"uchar", b"int8", b"uint8"), 1),
    **dict.fromkeys((b"short", b"ushort", b"int16", b"uint16"), 2),
    **dict.fromkeys((b"int", b"uint", b"float", b"int32", b"uint32", b"float32"), 4),
    **dict.fromkeys((b"double", b"float64"), 8),
}


class PlyCut(NamedTuple):
    """A header for the rows that stay, and where their bytes lie in the file."""

    header: bytes
    first_byte: int
    row_bytes: int
    rows: int

    @property
    def size_bytes(self) -> int:
        """Give the size of the file that is cut."""
        return len(self.header) + self.rows * self.row_bytes


def cut_ply(beginning: bytes, rows_at_most: int) -> PlyCut | None:
    """Plan the cut of a file from its beginning; None while the header is not whole.

    Raises:
        SaccadeError: INTERNAL, when it is no such file.
    """
    end = beginning.find(_END)
    if end < 0:
        if len(beginning) > HEADER_BYTES:
            raise SaccadeError(ErrorCode.INTERNAL, "The worker's PLY has no header.")
        return None
    header = beginning[: end + len(_END)]
    vertex = _VERTEX.search(header)
    types = _PROPERTY.findall(header)
    whole = header.count(b"\nelement ") == 1 and header.count(b"\nproperty ") == len(types)
    if vertex is None or not whole or any(one not in _SIZES for one in types):
        raise SaccadeError(ErrorCode.INTERNAL, "The worker's PLY is not one of splats.")
    rows = min(int(vertex[1]), rows_at_most)
    kept = header[: vertex.start(1)] + str(rows).encode() + header[vertex.end(1) :]
    return PlyCut(kept, len(header), sum(_SIZES[one] for one in types), rows)
