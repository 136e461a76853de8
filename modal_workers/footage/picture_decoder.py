"""Decodes pictures with OpenCV: JPEG and PNG only, with a limit on their size that is checked before they are decoded.

OpenCV itself takes every format that it was built with, and a few kilobytes that unpack to a gigapixel.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from contracts.limits import PHOTO_SIDE_PX
from contracts.picture_header import read_picture_header


def decode_picture(
    encoded: bytes | NDArray[Any], flags: int, *, max_side_px: int = PHOTO_SIDE_PX
) -> NDArray[np.uint8] | None:
    """Return a picture's pixels as ``cv2.imdecode`` does; None for what is no such picture, damaged or too large."""
    data = np.frombuffer(encoded, np.uint8) if isinstance(encoded, bytes) else encoded.reshape(-1)
    try:
        header = read_picture_header(encoded if isinstance(encoded, bytes) else data.tobytes())
    except ValueError:
        return None
    if not 0 < min(header.width_px, header.height_px) <= max(header.width_px, header.height_px) <= max_side_px:
        return None
    try:
        decoded: Any = cv2.imdecode(data, flags)
    except cv2.error:
        return None
    return decoded if decoded is None else np.asarray(decoded)
