"""Decoding of one photo: the same upright image from every format, or the reason why it cannot be decoded."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from modal_workers.nerf.capture.inputs.photo import LONGEST_SIDE_PX, UnreadablePhoto, open_mask, open_photo

HEIC = Path(__file__).parents[4] / "pictures" / "telephone.heic"


def smooth(height: int = 96, width: int = 128) -> np.ndarray:
    """Return a gradient that lossy codecs preserve: red increases to the right, green downwards."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // (width - 1), y * 255 // (height - 1), np.full_like(x, 60)], 2).astype(np.uint8)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


PICTURE = smooth()
RGB = Image.fromarray(PICTURE)
GREY = np.repeat(PICTURE[:, :, :1], 3, axis=2)


def _deep(picture: np.ndarray) -> bytes:
    return cv2.imencode(".png", picture)[1].tobytes()


SAME: dict[str, tuple[bytes, np.ndarray, float]] = {
    "JPEG": (saved(RGB, "JPEG", quality=97), PICTURE, 4),
    "progressive JPEG": (saved(RGB, "JPEG", quality=97, progressive=True), PICTURE, 4),
    "CMYK JPEG": (saved(RGB.convert("CMYK"), "JPEG", quality=97), PICTURE, 6),
    "grey JPEG": (saved(Image.fromarray(PICTURE[:, :, 0]), "JPEG", quality=97), GREY, 4),
    "PNG": (saved(RGB, "PNG"), PICTURE, 0),
    "PNG of 16 bits": (_deep(PICTURE[:, :, ::-1].astype(np.uint16) * 257), PICTURE, 1),
    "grey PNG of 16 bits": (_deep(PICTURE[:, :, 0].astype(np.uint16) * 257), GREY, 1),
    "PNG with a palette": (saved(RGB.quantize(256, dither=Image.Dither.NONE), "PNG"), PICTURE, 30),
    "opaque RGBA": (saved(RGB.convert("RGBA"), "PNG"), PICTURE, 0),
    "WebP": (saved(RGB, "WEBP", lossless=True), PICTURE, 0),
}


@pytest.mark.parametrize("name", SAME)
def test_every_way_of_saving_gives_the_same_picture(name: str):
    data, expected, off = SAME[name]
    opened = open_photo(data)
    assert opened.mask is None
    assert opened.rgb.dtype == np.uint8
    assert np.abs(opened.rgb.astype(int) - expected).max() <= off
    assert opened.original_px == (128, 96)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(orientation: int):
    undo = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_270}  # fmt: skip
    lying = RGB.transpose(undo[orientation]) if orientation > 1 else RGB
    exif = Image.Exif()
    exif[0x0112] = orientation
    opened = open_photo(saved(lying, "JPEG", quality=97, exif=exif))
    assert opened.original_px == (128, 96)
    assert np.abs(opened.rgb.astype(int) - PICTURE).max() <= 4


def test_what_is_transparent_is_not_the_object_and_becomes_white():
    rgba = np.dstack([PICTURE, np.full(PICTURE.shape[:2], 255, np.uint8)])
    rgba[:40, :, 3] = 0
    rgba[40:50, :, 3] = 200
    opened = open_photo(saved(Image.fromarray(rgba), "PNG"))
    assert opened.mask is not None
    assert (opened.mask[:40] == 0).all()
    assert (opened.mask[40:] == 255).all()
    assert (opened.rgb[:40] == 255).all()
    assert (opened.rgb[50:] == PICTURE[50:]).all()
    grey = saved(Image.fromarray(rgba).convert("LA"), "PNG")
    found = open_photo(grey)
    assert found.mask is not None
    assert (found.mask == opened.mask).all()


def test_a_mask_is_white_or_opaque_where_the_object_is():
    mask = np.zeros((96, 128), np.uint8)
    mask[20:50, 30:60] = 255
    for image in (Image.fromarray(mask), Image.fromarray(mask).convert("RGB"), Image.fromarray(mask > 0)):
        assert (open_mask(saved(image, "PNG")) == mask).all()
    cut = Image.fromarray(np.dstack([np.full((96, 128, 3), 10, np.uint8), mask]))
    assert (open_mask(saved(cut, "PNG")) == mask).all()


def test_heic_and_what_its_camera_says():
    opened = open_photo(HEIC.read_bytes())
    assert opened.rgb.shape == (120, 160, 3)
    assert opened.rgb.std() > 20
    assert opened.camera == "Telephone"
    # 28 mm on a sensor diagonal of 43.27 mm
    assert opened.focal_px == pytest.approx(28 / 43.2666 * 200, rel=1e-6)


def test_nonsense_in_exif_is_as_good_as_nothing():
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 0
    exif[0x0112] = 77
    opened = open_photo(saved(RGB, "JPEG", exif=exif))
    assert opened.focal_px is None
    assert opened.rgb.shape == PICTURE.shape


def test_a_large_photo_comes_out_at_most_so_large():
    opened = open_photo(saved(Image.new("RGB", (5000, 1700), (200, 10, 10)), "JPEG"))
    assert opened.rgb.shape[1] == LONGEST_SIDE_PX
    assert opened.rgb.shape[0] == pytest.approx(1700 * LONGEST_SIDE_PX / 5000, abs=1)
    assert opened.original_px == (5000, 1700)


def png_header(width: int, height: int) -> bytes:
    """Return a PNG whose header declares a size that its data does not have."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


JPEG = saved(RGB, "JPEG")
BAD: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "not a JPEG, PNG, WebP or HEIC"),
    "text": (b"Dear Sir or Madam, " * 20, "not a JPEG, PNG, WebP or HEIC"),
    "GIF": (saved(RGB.quantize(16), "GIF"), "not a JPEG, PNG, WebP or HEIC"),
    "TIFF": (saved(RGB, "TIFF"), "not a JPEG, PNG, WebP or HEIC"),
    "JPEG cut off": (JPEG[: len(JPEG) // 2], "damaged"),
    "JPEG without its end": (JPEG[:-40], "damaged"),
    "PNG cut off": (saved(RGB, "PNG")[:-60], "damaged"),
    "HEIC cut off": (HEIC.read_bytes()[:1500], "damaged"),
    "PNG bomb": (png_header(30_000, 30_000), "too large"),
    "PNG bomb of one side": (png_header(2_000_000_000, 1), "too large"),
    "panorama": (saved(Image.new("L", (6000, 2000)), "JPEG"), "6000 x 2000 pixels are a panorama"),
    "panorama that is too large as well": (saved(Image.new("L", (12_001, 300)), "PNG"), "are a panorama"),
    "65 megapixels": (saved(Image.new("L", (10_000, 6_500)), "PNG"), "too large"),
    "an icon": (saved(RGB.resize((48, 48)), "PNG"), "too small"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_says_why(name: str):
    data, why = BAD[name]
    with pytest.raises(UnreadablePhoto, match=why):
        open_photo(data)


def test_a_jpeg_damaged_anywhere_is_opened_or_refused_and_nothing_else():
    seed = 77
    random = np.random.default_rng(seed)
    opened = 0
    for _ in range(60):
        data = bytearray(JPEG)
        for at in random.integers(2, len(data), 6):
            data[at] = int(random.integers(0, 256))
        try:
            open_photo(bytes(data))
            opened += 1
        except UnreadablePhoto:
            pass
    assert 0 < opened < 60, f"seed {seed}"
