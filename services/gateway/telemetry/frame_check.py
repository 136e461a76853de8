"""Check of a frame by its header: format, size in bytes, size in pixels. Pure.

Nothing is decoded here. A picture that is damaged further on is rejected by the worker, which decodes it.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import FRAME_BYTES, FRAME_SIDE_PX, KIB

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_JPEG: Final = b"\xff\xd8"
#: JPEG markers without a length field: TEM, RST0 to RST7, SOI.
_WITHOUT_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD9)})
#: Start of frame: 0xC0 to 0xCF except DHT, JPG and DAC.
_START_OF_FRAME: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_END_OF_HEADER: Final = frozenset({0xD9, 0xDA})


class FrameFormat(NamedTuple):
    """Media type and size from a frame's header."""

    content_type: Literal["image/jpeg", "image/png"]
    width_px: int
    height_px: int


def frame_too_large(size_bytes: int) -> SaccadeError:
    """Return the error for a frame with too many bytes."""
    message = f"The frame has {size_bytes} bytes; at most {FRAME_BYTES // KIB} KiB are accepted."
    return SaccadeError(ErrorCode.FRAME_TOO_LARGE, message)


def check_frame(body: bytes) -> FrameFormat:
    """Return media type and size of a picture, read from its header.

    Sources: ITU-T T.81, annex B; W3C PNG, third edition, section 11.2.1.

    Raises:
        SaccadeError: FRAME_EMPTY, FRAME_TOO_LARGE (in bytes, or in pixels as declared), FRAME_UNREADABLE.
    """
    if not body:
        raise SaccadeError(ErrorCode.FRAME_EMPTY)
    if len(body) > FRAME_BYTES:
        raise frame_too_large(len(body))
    if body.startswith(_PNG):
        frame_format = _png(body)
    elif body.startswith(_JPEG):
        frame_format = _jpeg(body)
    else:
        raise _unreadable("it is neither a JPEG nor a PNG picture")
    if max(frame_format.width_px, frame_format.height_px) > FRAME_SIDE_PX:
        message = (
            f"The frame is {frame_format.width_px} x {frame_format.height_px} px; a side may have {FRAME_SIDE_PX} px."
        )
        raise SaccadeError(ErrorCode.FRAME_TOO_LARGE, message)
    if not min(frame_format.width_px, frame_format.height_px):
        raise _unreadable("its header declares no pixels")
    return frame_format


def _png(body: bytes) -> FrameFormat:
    """Parse the IHDR chunk, which comes first and has 13 bytes.

    Raises:
        SaccadeError: FRAME_UNREADABLE.
    """
    if len(body) < 33 or body[8:16] != b"\x00\x00\x00\rIHDR":
        raise _unreadable("its header is truncated or invalid")
    return FrameFormat("image/png", int.from_bytes(body[16:20]), int.from_bytes(body[20:24]))


def _jpeg(body: bytes) -> FrameFormat:
    """Walk the segments to the start of frame; a thumbnail is inside a segment and is skipped with it.

    Raises:
        SaccadeError: FRAME_UNREADABLE.
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
            height_px, width_px = (
                int.from_bytes(body[offset + 5 : offset + 7]),
                int.from_bytes(body[offset + 7 : offset + 9]),
            )
            return FrameFormat("image/jpeg", width_px, height_px)
        else:
            offset += 2 + max(2, int.from_bytes(body[offset + 2 : offset + 4]))
    raise _unreadable("its header is truncated or invalid")


def _unreadable(reason: str) -> SaccadeError:
    return SaccadeError(ErrorCode.FRAME_UNREADABLE, f"The frame cannot be read: {reason}.")
