"""Format and size of a JPEG or PNG from its header; nothing is decoded."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_JPEG: Final = b"\xff\xd8"
#: JPEG markers without a length field: TEM, RST0 to RST7, SOI.
_WITHOUT_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD9)})
#: Start of frame: 0xC0 to 0xCF except DHT, JPG and DAC.
_START_OF_FRAME: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_END_OF_HEADER: Final = frozenset({0xD9, 0xDA})


class PictureHeader(NamedTuple):
    """Media type and size of a picture."""

    content_type: Literal["image/jpeg", "image/png"]
    width_px: int
    height_px: int


def read_picture_header(body: bytes) -> PictureHeader:
    """Return media type and size of a picture.

    Sources: ITU-T T.81, annex B; W3C PNG, third edition, section 11.2.1.

    Raises:
        ValueError: neither a JPEG nor a PNG, or its header is cut off or wrong.
    """
    if body.startswith(_PNG):
        return _png(body)
    if body.startswith(_JPEG):
        return _jpeg(body)
    raise ValueError("it is neither a JPEG nor a PNG picture")


def _png(body: bytes) -> PictureHeader:
    """Parse the IHDR chunk, which comes first and has 13 bytes.

    Raises:
        ValueError: it is not there.
    """
    if len(body) < 33 or body[8:16] != b"\x00\x00\x00\rIHDR":
        raise ValueError("its header is truncated or invalid")
    return PictureHeader("image/png", int.from_bytes(body[16:20]), int.from_bytes(body[20:24]))


def _jpeg(body: bytes) -> PictureHeader:
    """Walk the segments to the start of frame; a thumbnail is inside a segment and is skipped with it.

    Raises:
        ValueError: there is no start of frame.
    """
    offset = 2
    while offset + 4 <= len(body):
        if body[offset] != 0xFF:
            break
        marker = body[offset + 1]
        if marker == 0xFF:  # padding
            offset += 1
        elif marker in _WITHOUT_LENGTH:
            offset += 2
        elif marker in _END_OF_HEADER:
            break
        elif marker in _START_OF_FRAME:
            if offset + 9 > len(body):
                break
            height_px = int.from_bytes(body[offset + 5 : offset + 7])
            width_px = int.from_bytes(body[offset + 7 : offset + 9])
            return PictureHeader("image/jpeg", width_px, height_px)
        else:
            offset += 2 + max(2, int.from_bytes(body[offset + 2 : offset + 4]))
    raise ValueError("its header is truncated or invalid")
