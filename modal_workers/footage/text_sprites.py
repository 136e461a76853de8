"""Text for the overlay: matplotlib's DejaVu fonts, drawn once and cached as sprites."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import matplotlib as mpl
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

from modal_workers.footage.yuv_image import Colour, ColourMatrix, Sprite


@lru_cache(maxsize=64)
def font(size_px: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Load DejaVu Sans at a size."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(mpl.get_data_path()) / "fonts" / "ttf" / name, max(6, size_px))


def printable(text: str) -> str:
    """Replace what breaks a label: control characters, line breaks, marks of writing direction."""
    return "".join(c if c.isprintable() else " " for c in text).strip()


def with_known_glyphs(text: str) -> str:
    """Replace characters that DejaVu lacks by a white square."""
    return "".join(c if _glyphs().get_char_index(ord(c)) else "□" for c in printable(text))


@lru_cache(maxsize=1)
def _glyphs() -> FT2Font:
    return FT2Font(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"))


def shortened(text: str, width_px: float, face: ImageFont.FreeTypeFont) -> str:
    """Shorten a text in its middle, where file names carry least information, until it fits."""
    if face.getlength(text) <= width_px:
        return text
    for length in range(len(text) - 1, 1, -1):
        head = (length + 1) // 2
        shorter = f"{text[:head]}…{text[len(text) - (length - head) :]}"
        if face.getlength(shorter) <= width_px:
            return shorter
    return "…"


class TextSprites:
    """Text as sprites; a number is composed of cached glyphs."""

    def __init__(self, matrix: ColourMatrix) -> None:
        self._matrix = matrix
        self._glyphs: dict[tuple[str, int, Colour, bool], Sprite] = {}

    def text(self, text: str, size_px: int, colour: Colour, *, bold: bool = True) -> Sprite:
        """Return a text as a sprite, one cell per character: the cells of a number do not move as digits change."""
        return Sprite.row([self._glyph(character, size_px, colour, bold) for character in text or " "])

    def width(self, text: str, size_px: int, *, bold: bool = True) -> int:
        """Return the width of a text in px."""
        return sum(_cell_width(character, size_px, bold=bold) for character in text)

    def _glyph(self, character: str, size_px: int, colour: Colour, bold: bool) -> Sprite:
        key = (character, size_px, colour, bold)
        if key not in self._glyphs:
            face = font(size_px, bold=bold)
            ascent, descent = face.getmetrics()
            width = _cell_width(character, size_px, bold=bold)
            mask = Image.new("L", (width, ascent + descent))
            ImageDraw.Draw(mask).text(((width - face.getlength(character)) / 2, 0), character, fill=255, font=face)
            image = Image.new("RGBA", mask.size, (*colour, 0))
            image.putalpha(mask)
            self._glyphs[key] = Sprite.of_image(image, self._matrix)
        return self._glyphs[key]


@lru_cache(maxsize=1024)
def _cell_width(character: str, size_px: int, *, bold: bool) -> int:
    return max(2, 2 * round(font(size_px, bold=bold).getlength(character) / 2))
