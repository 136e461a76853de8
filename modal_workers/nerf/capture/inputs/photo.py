"""Decodes one photo of any supported format: upright, 8 bits, RGB, with its mask and camera data."""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pi_heif
from numpy.typing import NDArray
from PIL import Image, ImageOps

from contracts.limits import PHOTO_PX, PHOTO_SIDE_PX

Picture = NDArray[np.uint8]

#: Longest side of the photos that the later stages receive.
LONGEST_SIDE_PX: Final = 4096
SMALLEST_SIDE_PX: Final = 64
#: From this aspect ratio on, a photo was swept or stitched and has no single lens. The widest film is 2.76:1.
_PANORAMA: Final = 3.0
_FORMATS: Final = ("JPEG", "PNG", "WEBP", "HEIF")
#: Diagonal of 36 x 24 mm film, the base of the "35 mm equivalent" (CIPA DCG-001).
_FILM_DIAGONAL_MM: Final = 43.2666
_FOCAL_35_MM, _EXIF_IFD, _MODEL, _ORIENTATION = 0xA405, 0x8769, 0x0110, 0x0112
#: Orientations that swap rows and columns.
_TRANSPOSED: Final = (5, 6, 7, 8)
#: Alpha above this is the object.
_OBJECT_ALPHA: Final = 127

pi_heif.register_heif_opener()
pi_heif.options.DECODE_THREADS = 1


class UnreadablePhoto(Exception):  # noqa: N818 - an expected outcome, not a fault
    """The photo cannot be used; the argument is the reason shown to the user."""


@dataclass(frozen=True)
class DecodedPhoto:
    """One photo, upright. ``rgb`` is [h, w, 3]; ``mask`` [h, w] is 255 on the object, None if all is opaque."""

    rgb: Picture
    mask: Picture | None
    original_px: tuple[int, int]  # width, height, upright
    focal_px: float | None  # at the size of ``rgb``, from EXIF
    camera: str


def open_photo(data: bytes) -> DecodedPhoto:
    """Decode a photo to at most ``LONGEST_SIDE_PX``; its header is checked before its pixels are decoded.

    Raises:
        UnreadablePhoto: not a photo, damaged, too large or too small.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                return _decode(image)
    except UnreadablePhoto:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadablePhoto(_too_large(None)) from error
    except MemoryError:
        raise
    # Decoders raise anything on malformed files: struct.error, SyntaxError and KeyError were seen.
    except Exception as error:
        raise UnreadablePhoto(_reason(error, data)) from error


def open_mask(data: bytes) -> Picture:
    """Decode a mask [h, w] of 0 and 255: white, or opaque, is the object.

    Raises:
        UnreadablePhoto: as ``open_photo``.
    """
    opened = open_photo(data)
    if opened.mask is not None:
        return opened.mask
    return _binary(opened.rgb.max(axis=2))


def _decode(image: Any) -> DecodedPhoto:
    width, height = image.size
    if max(width, height) >= _PANORAMA * min(width, height) and max(width, height) > LONGEST_SIDE_PX:
        raise UnreadablePhoto(f"{width} x {height} pixels are a panorama, which was not taken through one lens")
    if max(width, height) > PHOTO_SIDE_PX or width * height > PHOTO_PX:
        raise UnreadablePhoto(_too_large((width, height)))
    if min(width, height) < SMALLEST_SIDE_PX:
        raise UnreadablePhoto(f"{width} x {height} pixels are too small; each side needs at least {SMALLEST_SIDE_PX}")
    exif = image.getexif()
    focal_mm = _number(exif.get_ifd(_EXIF_IFD).get(_FOCAL_35_MM))
    model = str(exif.get(_MODEL, "")).strip("\0 ")
    if image.format in ("JPEG", "MPO"):
        image.draft("RGB", (LONGEST_SIDE_PX, LONGEST_SIDE_PX))  # decodes at a half, quarter or eighth
    original = (height, width) if exif.get(_ORIENTATION) in _TRANSPOSED else (width, height)
    ImageOps.exif_transpose(image, in_place=True)  # in place: avoids a copy of photos that are upright already
    rgb, alpha = _to_eight_bits(image)
    scale = min(1.0, LONGEST_SIDE_PX / max(rgb.shape[:2]))
    if scale < 1:
        size = (round(rgb.shape[1] * scale), round(rgb.shape[0] * scale))
        rgb = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BOX, reducing_gap=2.0))
        alpha = None if alpha is None else np.asarray(Image.fromarray(alpha).resize(size, Image.Resampling.BOX))
    focal_px = focal_mm / _FILM_DIAGONAL_MM * math.hypot(*rgb.shape[:2]) if focal_mm else None
    mask = None if alpha is None or alpha.min() > _OBJECT_ALPHA else _binary(alpha)
    return DecodedPhoto(np.ascontiguousarray(rgb), mask, original, focal_px, model)


def _to_eight_bits(image: Any) -> tuple[Picture, Picture | None]:
    """Return the colours and the alpha channel, if any; colours under transparency become white."""
    if image.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I", "F"):
        values = np.asarray(image, np.float64)
        grey = np.clip(values / (257.0 if values.max(initial=0) > 255 else 1.0), 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2), None
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = np.asarray(image.convert("RGBA"))
        alpha = np.ascontiguousarray(rgba[:, :, 3])
        share = alpha[:, :, None].astype(np.uint16)
        rgb = (rgba[:, :, :3].astype(np.uint16) * share + 255 * (255 - share)) // 255
        return rgb.astype(np.uint8), alpha
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB")), None


def _binary(picture: Picture) -> Picture:
    return np.where(picture > _OBJECT_ALPHA, 255, 0).astype(np.uint8)


def _number(value: Any) -> float | None:
    """Return an EXIF number; None where it is missing or implausible."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if 5.0 <= number <= 2000.0 else None


def _too_large(size: tuple[int, int] | None) -> str:
    what = f"{size[0]} x {size[1]} pixels are" if size else "it is"
    return f"{what} too large: the limit is {PHOTO_SIDE_PX:,} px per side and {PHOTO_PX // 10**6} megapixels"


def _reason(error: Exception, data: bytes) -> str:
    known_format = data.startswith((b"\xff\xd8\xff", b"\x89PNG")) or data[8:12] == b"WEBP" or data[4:8] == b"ftyp"
    text = str(error).partition("\n")[0]
    if "cannot identify" in text:  # Pillow appends the address of a Python object
        return "it is damaged" if known_format else "it is not a JPEG, PNG, WebP or HEIC photo"
    return f"it is damaged ({text[:120] or type(error).__name__})"
