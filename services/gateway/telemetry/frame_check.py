"""Whether a frame may go into a live session, by its first bytes: what it is and how large it says it is. Pure.

Nothing is decoded here. A picture that is damaged further in is rejected by the worker that decodes it.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import FRAME_BYTES, FRAME_SIDE_PX, KIB

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_JPEG: Final = b"\xff\xd8"
#: Markers of a JPEG that stand alone, without a length: TEM, RST0 to RST7, SOI.
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
#: Start of frame: 0xC0 to 0xCF but for DHT, JPG and DAC.
_START_OF_FRAME: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_END: Final = frozenset({0xD9, 0xDA})


class FrameForm(NamedTuple):
    """What a frame's header says it is."""

    content_type: Literal["image/jpeg", "image/png"]
    width_px: int
    height_px: int


def too_large(size_bytes: int) -> SaccadeError:
    """Say that a frame has too many bytes."""
    message = f"The frame has {size_bytes} bytes; at most {FRAME_BYTES // KIB} KiB are taken."
    return SaccadeError(ErrorCode.FRAME_TOO_LARGE, message)


def check_frame(body: bytes) -> FrameForm:
    """Read type and size of a picture from its header.

    Sources: ITU-T T.81, annex B; W3C PNG, third edition, section 11.2.1.

    Raises:
        SaccadeError: FRAME_EMPTY, FRAME_TOO_LARGE (in bytes, or in pixels as declared), FRAME_UNREADABLE.
    """
    if not body:
        raise SaccadeError(ErrorCode.FRAME_EMPTY)
    if len(body) > FRAME_BYTES:
        raise too_large(len(body))
    if body.startswith(_PNG):
        form = _png(body)
    elif body.startswith(_JPEG):
        form = _jpeg(body)
    else:
        raise _unreadable("it is neither a JPEG nor a PNG picture")
    if max(form.width_px, form.height_px) > FRAME_SIDE_PX:
        message = f"The frame is {form.width_px} x {form.height_px} px; a side may have {FRAME_SIDE_PX} px."
        raise SaccadeError(ErrorCode.FRAME_TOO_LARGE, message)
    if not min(form.width_px, form.height_px):
        raise _unreadable("its header declares no pixels")
    return form


def _png(body: bytes) -> FrameForm:
    """Read the header chunk, which comes first and has 13 bytes.

    Raises:
        SaccadeError: FRAME_UNREADABLE.
    """
    if len(body) < 33 or body[8:16] != b"\x00\x00\x00\rIHDR":
        raise _unreadable("its header is cut off or broken")
    return FrameForm("image/png", int.from_bytes(body[16:20]), int.from_bytes(body[20:24]))


def _jpeg(body: bytes) -> FrameForm:
    """Go from segment to segment to the start of the frame; a thumbnail lies inside a segment and is passed over.

    Raises:
        SaccadeError: FRAME_UNREADABLE.
    """
    at = 2
    while at + 4 <= len(body):
        if body[at] != 0xFF:
            break
        marker = body[at + 1]
        if marker == 0xFF:  # padding
            at += 1
        elif marker in _ALONE:
            at += 2
        elif marker in _END:
            break
        elif marker in _START_OF_FRAME:
            if at + 9 > len(body):
                break
            height_px, width_px = int.from_bytes(body[at + 5 : at + 7]), int.from_bytes(body[at + 7 : at + 9])
            return FrameForm("image/jpeg", width_px, height_px)
        else:
            at += 2 + max(2, int.from_bytes(body[at + 2 : at + 4]))
    raise _unreadable("its header is cut off or broken")


def _unreadable(why: str) -> SaccadeError:
    return SaccadeError(ErrorCode.FRAME_UNREADABLE, f"The frame cannot be read: {why}.")
