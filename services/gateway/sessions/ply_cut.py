"""Cut of a binary PLY, whose rows are sorted by importance, to its first rows. Pure.

Source: the PLY format, G. Turk, 1994; rows of the 3DGS convention are scalars of fixed size.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from contracts.errors import ErrorCode, SaccadeError

#: Limit of the header's size; headers of our workers are shorter.
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
    """New header, and the position of the remaining rows in the file."""

    header: bytes
    first_byte: int
    row_bytes: int
    rows: int

    @property
    def size_bytes(self) -> int:
        """Return the size of the resulting file."""
        return len(self.header) + self.rows * self.row_bytes


def cut_ply(beginning: bytes, max_rows: int) -> PlyCut | None:
    """Return the cut of a file, given its first bytes; None if they do not contain the whole header.

    Raises:
        SaccadeError: INTERNAL, if it is not a PLY of splats.
    """
    end = beginning.find(_END)
    if end < 0:
        if len(beginning) > HEADER_BYTES:
            raise SaccadeError(ErrorCode.INTERNAL, "The worker's PLY has no header.")
        return None
    header = beginning[: end + len(_END)]
    vertex = _VERTEX.search(header)
    types = _PROPERTY.findall(header)
    only_scalars = header.count(b"\nelement ") == 1 and header.count(b"\nproperty ") == len(types)
    if vertex is None or not only_scalars or any(type_name not in _SIZES for type_name in types):
        raise SaccadeError(ErrorCode.INTERNAL, "The worker's PLY does not contain splats.")
    rows = min(int(vertex[1]), max_rows)
    kept = header[: vertex.start(1)] + str(rows).encode() + header[vertex.end(1) :]
    return PlyCut(kept, len(header), sum(_SIZES[type_name] for type_name in types), rows)
