"""Colours of a comparison: one hue per driver, per direction and per grade, on dark video."""

from __future__ import annotations

from modal_workers.footage.yuv_image import Colour
from modal_workers.lap_compare.wording import Grade

BACKGROUND: Colour = (11, 14, 20)
LINE: Colour = (58, 66, 80)
MUTED: Colour = (150, 160, 176)
WHITE: Colour = (240, 244, 250)

DRIVER_A: Colour = (77, 184, 255)
DRIVER_B: Colour = (206, 147, 255)
AHEAD: Colour = (61, 214, 140)
BEHIND: Colour = (255, 92, 108)

GRADES: dict[Grade, Colour] = {"good": (61, 214, 140), "fair": (255, 190, 70), "poor": (255, 92, 108)}


def mix(colour: Colour, other: Colour, share: float) -> Colour:
    """Mix ``share`` (0..1) of ``other`` into ``colour``."""
    red, green, blue = (round(c * (1 - share) + o * share) for c, o in zip(colour, other, strict=True))
    return red, green, blue


def delta_colour(delta_s: float, error_s: float) -> Colour:
    """Return the colour of B's delta: ahead, behind, or white while it is within its error."""
    if abs(delta_s) <= error_s:
        return WHITE
    return BEHIND if delta_s > 0 else AHEAD
