"""Images in the encoder's own pixel format (planar 4:2:0), and sprites to blend onto them.

Panels leave the scaler and enter the encoder in these planes, so only the small sprites are ever converted from RGB;
this is what makes the overlay cheap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from av.video.reformatter import Colorspace
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Weights = NDArray[np.uint16]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class ColourMatrix:
    """Conversion of RGB to luma and chroma: the luma weights of ITU-R BT.601 or BT.709, limited range."""

    scaler: Colorspace  # name in the scaler
    tag: int  # tag of the stream: AVColorSpace
    red: float
    blue: float

    def planes(self, rgb: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert RGB in 0..255, shape [..., 3], to Y, U, V in limited range, shape [..., 3]."""
        r, g, b = rgb[..., 0], rgb[..., 1], rgb[..., 2]
        luma = self.red * r + (1 - self.red - self.blue) * g + self.blue * b
        u = 128 + (b - luma) / (2 * (1 - self.blue)) * 224 / 255
        v = 128 + (r - luma) / (2 * (1 - self.red)) * 224 / 255
        return np.stack([16 + luma * 219 / 255, u, v], axis=-1)


BT601 = ColourMatrix(Colorspace.ITU601, 6, 0.299, 0.114)
BT709 = ColourMatrix(Colorspace.ITU709, 1, 0.2126, 0.0722)


class YuvImage:
    """A 4:2:0 image, all three planes in one buffer as the encoder takes it.

    ``pixels`` is [height * 3 / 2, width]; ``y``, ``u`` and ``v`` are views of it. Sizes are even.
    """

    def __init__(self, pixels: Pixels) -> None:
        height, width = pixels.shape[0] * 2 // 3, pixels.shape[1]
        if width % 2 or height % 2 or pixels.shape[0] * 2 != height * 3:
            raise ValueError(f"A 4:2:0 image needs even sides, not {width} x {height}.")
        flat = pixels.reshape(-1)
        quarter = width * height // 4
        self.pixels, self.width, self.height = pixels, width, height
        self.y = pixels[:height]
        self.u = flat[4 * quarter : 5 * quarter].reshape(height // 2, width // 2)
        self.v = flat[5 * quarter :].reshape(height // 2, width // 2)

    @classmethod
    def filled(cls, width: int, height: int, colour: Colour, matrix: ColourMatrix) -> YuvImage:
        """Return an image of one colour."""
        picture = cls(np.empty((height * 3 // 2, width), np.uint8))
        picture.fill((0, 0, width, height), colour, matrix)
        return picture

    @classmethod
    def of_image(cls, image: Image.Image, matrix: ColourMatrix) -> YuvImage:
        """Convert an RGB image of even size."""
        planes = matrix.planes(np.asarray(image.convert("RGB"), np.float64))
        picture = cls(np.empty((image.height * 3 // 2, image.width), np.uint8))
        picture.y[:] = np.rint(planes[..., 0])
        picture.u[:] = np.rint(_halved(planes[..., 1]))
        picture.v[:] = np.rint(_halved(planes[..., 2]))
        return picture

    def copy(self) -> YuvImage:
        """Return a copy."""
        return YuvImage(self.pixels.copy())

    def fill(self, box: tuple[int, int, int, int], colour: Colour, matrix: ColourMatrix) -> None:
        """Fill a box (left, top, width, height), rounded down to even pixels."""
        luma, u, v = (round(float(p)) for p in matrix.planes(np.array(colour, np.float64)))
        x, y, width, height = (n // 2 for n in box)
        self.y[2 * y : 2 * (y + height), 2 * x : 2 * (x + width)] = luma
        self.u[y : y + height, x : x + width] = u
        self.v[y : y + height, x : x + width] = v

    def paste(self, other: YuvImage, x: int, y: int, left: int = 0, right: int | None = None) -> None:
        """Copy another image to even (x, y); only its columns from ``left`` to ``right``."""
        right = other.width if right is None else right
        rows, half_rows = slice(y, y + other.height), slice(y // 2, (y + other.height) // 2)
        self.y[rows, x + left : x + right] = other.y[:, left:right]
        columns, half = slice((x + left) // 2, (x + right) // 2), slice(left // 2, right // 2)
        self.u[half_rows, columns] = other.u[:, half]
        self.v[half_rows, columns] = other.v[:, half]

    def blend(self, sprite: Sprite, x: int, y: int) -> None:
        """Blend a sprite at (x, y), rounded down to even pixels and clipped to the image."""
        x, y = x // 2, y // 2
        left, top = max(0, -x), max(0, -y)
        right = min(sprite.width // 2, self.width // 2 - x)
        bottom = min(sprite.height // 2, self.height // 2 - y)
        if right <= left or bottom <= top:
            return
        whole = np.s_[2 * (y + top) : 2 * (y + bottom), 2 * (x + left) : 2 * (x + right)]
        half = np.s_[y + top : y + bottom, x + left : x + right]
        part, half_part = np.s_[2 * top : 2 * bottom, 2 * left : 2 * right], np.s_[top:bottom, left:right]
        _blend(self.y[whole], sprite.y_keep[part], sprite.y_add[part])
        _blend(self.u[half], sprite.c_keep[half_part], sprite.u_add[half_part])
        _blend(self.v[half], sprite.c_keep[half_part], sprite.v_add[half_part])


def _blend(plane: Pixels, keep: Weights, add: Weights) -> None:
    mixed = np.multiply(plane, keep, dtype=np.uint16)
    mixed += add
    mixed >>= 8
    plane[:] = mixed


def _halved(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average each 2 x 2 block."""
    return (plane[::2, ::2] + plane[1::2, ::2] + plane[::2, 1::2] + plane[1::2, 1::2]) / 4


@dataclass(frozen=True)
class Sprite:
    """A small image ready to blend: what to keep of the image below and what to add, in 1/256. Sizes are even."""

    y_keep: Weights
    y_add: Weights
    c_keep: Weights
    u_add: Weights
    v_add: Weights

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.y_keep.shape[1])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.y_keep.shape[0])

    @classmethod
    def of_image(cls, image: Image.Image, matrix: ColourMatrix) -> Sprite:
        """Convert an RGBA image; an odd size is padded with a transparent line."""
        rgba = np.asarray(image.convert("RGBA"), np.float64)
        rgba = np.pad(rgba, ((0, rgba.shape[0] % 2), (0, rgba.shape[1] % 2), (0, 0)))
        planes = matrix.planes(rgba[..., :3])
        alpha = rgba[..., 3] * 256 / 255
        half_alpha = _halved(alpha)
        return cls(
            y_keep=np.rint(256 - alpha).astype(np.uint16),
            y_add=np.rint(planes[..., 0] * alpha).astype(np.uint16),
            c_keep=np.rint(256 - half_alpha).astype(np.uint16),
            u_add=np.rint(_halved(planes[..., 1] * alpha)).astype(np.uint16),
            v_add=np.rint(_halved(planes[..., 2] * alpha)).astype(np.uint16),
        )

    @classmethod
    def row(cls, sprites: Sequence[Sprite]) -> Sprite:
        """Join sprites of equal height side by side."""
        return cls(
            y_keep=np.hstack([s.y_keep for s in sprites]),
            y_add=np.hstack([s.y_add for s in sprites]),
            c_keep=np.hstack([s.c_keep for s in sprites]),
            u_add=np.hstack([s.u_add for s in sprites]),
            v_add=np.hstack([s.v_add for s in sprites]),
        )
