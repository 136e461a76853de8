"""Frames are decoded upright and small enough, or rejected with a reason."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.vision_stream.frame_images import decode_frame


def encoded(size: tuple[int, int], kind: str = "JPEG", mode: str = "RGB", **more: object) -> bytes:
    out = io.BytesIO()
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[: size[1] // 2] = (250, 10, 10)
    Image.fromarray(pixels).convert(mode).save(out, kind, **more)
    return out.getvalue()


@pytest.mark.parametrize(
    ("image", "shape"),
    [
        (encoded((64, 48)), (48, 64, 3)),
        (encoded((1280, 720)), (405, 720, 3)),
        (encoded((2000, 3000)), (720, 480, 3)),
        (encoded((64, 48), "PNG"), (48, 64, 3)),
        (encoded((64, 48), "PNG", "P"), (48, 64, 3)),
        (encoded((64, 48), "PNG", "RGBA"), (48, 64, 3)),
        (encoded((64, 48), "JPEG", "L"), (48, 64, 3)),
    ],
)
def test_a_frame_is_rgb_of_at_most_the_edge(image: bytes, shape: tuple[int, ...]) -> None:
    rgb = decode_frame(image, 720)
    assert (rgb.shape, rgb.dtype) == (shape, np.uint8)
    assert abs(int(rgb[2, 2, 0]) - int(rgb[-2, -2, 0])) > 50, "the picture is there"


def test_a_telephone_held_sideways_gives_an_upright_frame() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to the right
    rgb = decode_frame(encoded((64, 48), exif=exif), 720)
    assert rgb.shape == (64, 48, 3)
    assert rgb[30, -2, 0] > 200, "the upper half is on the right side"
    assert rgb[30, 2, 0] < 50


def _bomb() -> bytes:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = lambda name, data: struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))  # noqa: E731
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))


@pytest.mark.parametrize(
    ("image", "code"),
    [
        (b"", ErrorCode.FRAME_EMPTY),
        (b"no picture", ErrorCode.FRAME_UNREADABLE),
        (encoded((640, 480))[:-2000], ErrorCode.FRAME_UNREADABLE),
        (encoded((640, 480), "PNG")[:-200], ErrorCode.FRAME_UNREADABLE),
        (encoded((64, 48), "GIF"), ErrorCode.FRAME_UNREADABLE),
        (b"\xff\xd8\xff\xe0" + bytes(5000), ErrorCode.FRAME_UNREADABLE),
        (_bomb(), ErrorCode.FRAME_TOO_LARGE),
    ],
)
def test_what_is_no_frame_is_rejected_with_a_reason(image: bytes, code: ErrorCode) -> None:
    with pytest.raises(SaccadeError) as caught:
        decode_frame(image, 720)
    assert caught.value.code is code
    assert "0x" not in caught.value.message
