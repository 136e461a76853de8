"""Names of colours and things in the sentences, and how the colours are painted."""

from __future__ import annotations

from typing import Final, Literal

Kind = Literal["arm", "court", "road"]
Colour = tuple[int, int, int]

KINDS: Final[tuple[Kind, ...]] = ("arm", "court", "road")

#: Red, green, blue.
COLOURS: Final[dict[str, Colour]] = {
    "red": (208, 38, 38),
    "green": (40, 150, 60),
    "blue": (40, 80, 210),
    "yellow": (232, 208, 45),
    "orange": (240, 128, 28),
    "purple": (135, 55, 170),
    "white": (238, 238, 238),
    "black": (30, 30, 33),
}
LIGHT_COLOURS: Final = ("red", "yellow", "green")
#: What lies on the table.
SHAPES: Final = ("cube", "ball", "cone", "cylinder", "ring", "bottle")
ROLLING_SHAPES: Final = ("ball", "cylinder", "ring")
