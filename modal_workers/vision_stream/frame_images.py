"""Decoding of a session's frames: JPEG or PNG, upright, in the size that the model gets."""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import FRAME_SIDE_PX

_FORMATS: Final = ("JPEG", "PNG")


def decode_frame(image: bytes, max_edge_px: int) -> NDArray[np.uint8]:
    """Return a frame as RGB, turned as its EXIF orientation says, with a longest edge of at most ``max_edge_px``.

    Raises:
        SaccadeError: FRAME_EMPTY, FRAME_UNREADABLE (also for a file that is cut off), FRAME_TOO_LARGE.
    """
    if not image:
        raise SaccadeError(ErrorCode.FRAME_EMPTY)
    try:
        # The size is known before anything is decoded: a megabyte of PNG may hold a gigapixel.
        with Image.open(io.BytesIO(image), formats=_FORMATS) as opened:
            if max(opened.size) > FRAME_SIDE_PX:
                raise SaccadeError(
                    ErrorCode.FRAME_TOO_LARGE, f"The frame is {opened.width} x {opened.height} pixels large."
                )
            opened.draft("RGB", (max_edge_px, max_edge_px))  # JPEG only: decoded smaller where that is large enough
            upright = ImageOps.exif_transpose(opened).convert("RGB")
    except SaccadeError:
        raise
    except Image.DecompressionBombError as error:
        raise SaccadeError(ErrorCode.FRAME_TOO_LARGE, "The frame is too large to be decoded.") from error
    except Exception as error:  # Pillow raises many kinds of errors for broken files
        raise SaccadeError(ErrorCode.FRAME_UNREADABLE, f"The frame cannot be decoded: {_reason(error)}.") from error
    if max(upright.size) > max_edge_px:
        upright.thumbnail((max_edge_px, max_edge_px), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.asarray(upright, np.uint8)


def _reason(error: Exception) -> str:
    """Return Pillow's words without the address of its buffer."""
    return str(error).partition("<")[0].strip(" .") or type(error).__name__
