"""Check of a frame by its header: format, size in bytes, size in pixels. Pure.

Nothing is decoded here. A picture that is damaged further on is rejected by the worker, which decodes it.
"""

from __future__ import annotations

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import FRAME_BYTES, FRAME_SIDE_PX, KIB
from contracts.picture_header import PictureHeader, read_picture_header


def frame_too_large(size_bytes: int) -> SaccadeError:
    """Return the error for a frame with too many bytes."""
    message = f"The frame has {size_bytes} bytes; at most {FRAME_BYTES // KIB} KiB are accepted."
    return SaccadeError(ErrorCode.FRAME_TOO_LARGE, message)


def check_frame(body: bytes) -> PictureHeader:
    """Return media type and size of a picture, read from its header.

    Raises:
        SaccadeError: FRAME_EMPTY, FRAME_TOO_LARGE (in bytes, or in pixels as declared), FRAME_UNREADABLE.
    """
    if not body:
        raise SaccadeError(ErrorCode.FRAME_EMPTY)
    if len(body) > FRAME_BYTES:
        raise frame_too_large(len(body))
    try:
        frame_format = read_picture_header(body)
    except ValueError as error:
        raise _unreadable(str(error)) from None
    if max(frame_format.width_px, frame_format.height_px) > FRAME_SIDE_PX:
        message = (
            f"The frame is {frame_format.width_px} x {frame_format.height_px} px; a side may have {FRAME_SIDE_PX} px."
        )
        raise SaccadeError(ErrorCode.FRAME_TOO_LARGE, message)
    if not min(frame_format.width_px, frame_format.height_px):
        raise _unreadable("its header declares no pixels")
    return frame_format


def _unreadable(reason: str) -> SaccadeError:
    return SaccadeError(ErrorCode.FRAME_UNREADABLE, f"The frame cannot be read: {reason}.")
