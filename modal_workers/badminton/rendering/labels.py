"""Text on pictures: rounded labels, drawn once each and kept."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from modal_workers.badminton.rendering.palette import PANEL, WHITE, Colour
from modal_workers.footage.text_sprites import font

Pixels = NDArray[np.uint8]

#: Most labels to keep: speeds in steps of a tenth, times of a rally.
KEPT_LABELS: Final = 1024
_OVERSAMPLING: Final = 2


@dataclass(frozen=True, eq=False)
class Patch:
    """A small image ready to blend onto BGR: what to keep of the picture below and what to add, in 1/256."""

    keep: NDArray[np.uint16]  # [h, w, 1]
    add: NDArray[np.uint16]  # [h, w, 3]

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.add.shape[1])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.add.shape[0])

    @classmethod
    def of_image(cls, image: Image.Image) -> Patch:
        """Convert an RGBA image."""
        rgba = np.asarray(image.convert("RGBA"), np.float32)
        alpha = rgba[..., 3:] * (256 / 255)
        return cls(
            np.rint(256 - alpha).astype(np.uint16), np.rint(rgba[..., 2::-1] * alpha).clip(0, 65_280).astype(np.uint16)
        )

    def blend(self, picture: Pixels, x: int, y: int) -> None:
        """Blend onto a picture with the top left corner at (x, y), clipped to the picture."""
        left, top = max(0, -x), max(0, -y)
        right, bottom = min(self.width, picture.shape[1] - x), min(self.height, picture.shape[0] - y)
        if right <= left or bottom <= top:
            return
        below = picture[y + top : y + bottom, x + left : x + right]
        mixed = np.multiply(below, self.keep[top:bottom, left:right], dtype=np.uint16)
        mixed += self.add[top:bottom, left:right]
        mixed >>= 8
        below[:] = mixed


class Labels:
    """Labels of one size of text."""

    def __init__(self, size_px: int) -> None:
        self.size_px = size_px
        self._kept: OrderedDict[tuple[str, Colour, Colour | None, int], Patch] = OrderedDict()

    def label(self, text: str, colour: Colour = WHITE, *, dot: Colour | None = None, opacity: int = 190) -> Patch:
        """Return text on a rounded dark ground, with a dot in front of it if one is given."""
        key = (text, colour, dot, opacity)
        if key not in self._kept:
            if len(self._kept) >= KEPT_LABELS:
                self._kept.popitem(last=False)
            self._kept[key] = self._drawn(text, colour, dot, opacity)
        self._kept.move_to_end(key)
        return self._kept[key]

    def fitting(self, text: str, width_px: float) -> str:
        """Return a text, cut off at its end if its label would be wider."""
        face, room_px = font(self.size_px, bold=True), width_px - 1.2 * self.size_px
        if face.getlength(text) <= room_px:
            return text
        length = next((n for n in range(len(text), 1, -1) if face.getlength(f"{text[:n].rstrip()}…") <= room_px), 1)
        return f"{text[:length].rstrip()}…"

    def _drawn(self, text: str, colour: Colour, dot: Colour | None, opacity: int) -> Patch:
        scale = _OVERSAMPLING
        face = font(self.size_px * scale, bold=True)
        ascent, descent = face.getmetrics()
        pad_x, pad_y, dot_width = round(0.55 * self.size_px) * scale, round(0.22 * self.size_px) * scale, 0
        if dot is not None:
            dot_width = round(0.95 * self.size_px) * scale
        width = int(face.getlength(text)) + 2 * pad_x + dot_width
        height = ascent + descent + 2 * pad_y
        image = Image.new("RGBA", (width, height), (*PANEL, 0))
        drawing = ImageDraw.Draw(image)
        drawing.rounded_rectangle((0, 0, width - 1, height - 1), 0.32 * height, fill=(*PANEL, opacity))
        if dot is not None:
            radius, middle = 0.3 * self.size_px * scale, height / 2
            place = (pad_x, middle - radius, pad_x + 2 * radius, middle + radius)
            drawing.ellipse(place, fill=(*dot, 255))
        # Text of its own layer: PIL's drawing replaces the ground's opacity, it does not blend.
        drawing_mask = Image.new("L", (width, height))
        ImageDraw.Draw(drawing_mask).text((pad_x + dot_width, pad_y), text, fill=255, font=face)
        image.paste(Image.new("RGBA", image.size, (*colour, 255)), mask=drawing_mask)
        return Patch.of_image(image.resize((-(-width // scale), -(-height // scale)), Image.Resampling.BOX))
