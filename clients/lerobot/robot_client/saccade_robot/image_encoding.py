"""JPEG encoding with OpenCV or Pillow, imported when the first picture comes."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable
from typing import Any, Final

#: Encodes a camera's picture; called in a thread.
Encode = Callable[[Any], bytes]

_QUALITY: Final = 85
_PNG: Final = b"\x89PNG\r\n\x1a\n"


def content_type(picture: bytes) -> str:
    """Return the media type of an encoded picture."""
    return "image/png" if picture.startswith(_PNG) else "image/jpeg"


def find_encoder() -> Encode:
    """Return a JPEG encoder of RGB arrays [H, W, 3] uint8, with OpenCV or Pillow.

    Raises:
        ImportError: neither is installed.
    """
    try:
        cv2: Any = importlib.import_module("cv2")
    except ImportError:
        return _with_pillow(importlib.import_module("PIL.Image"))
    return _with_opencv(cv2)


def _with_opencv(cv2: Any) -> Encode:
    def encode(picture: Any) -> bytes:
        # LeRobot's cameras give RGB, OpenCV writes BGR. Both calls release the GIL.
        ok, jpeg = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        if not ok:
            raise ValueError("OpenCV could not encode the picture as JPEG")
        return bytes(jpeg)

    return encode


def _with_pillow(image: Any) -> Encode:
    def encode(picture: Any) -> bytes:
        file = io.BytesIO()
        image.fromarray(picture).save(file, "JPEG", quality=_QUALITY)
        return bytes(file.getvalue())

    return encode
