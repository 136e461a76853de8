"""The photographed toy: a painted wooden locomotive, standing on its wheels at the world's origin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simulators.shapes import Box, Floats, Frustum, Shape, Sphere
from simulators.toy import textures as paint
from simulators.toy.textures import Colour, Picture, Random

#: Corners of the bounding box of the toy, m: x ahead, y to its left, z up from the table.
BOUNDS_M: Final = ((-0.122, -0.052, 0.0), (0.122, 0.052, 0.146))
_PX_PER_M: Final = 2600.0
#: Axes of a frustum that lies along the toy, and of one across it; the third row is its own axis.
_ALONG: Final[NDArray[np.float64]] = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
_ACROSS: Final[NDArray[np.float64]] = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
_PAINTS: Final[tuple[Colour, ...]] = ((186, 38, 44), (30, 92, 168), (28, 120, 84), (206, 110, 26), (108, 56, 140))
_NAMES: Final = ("SACCADE", "EMMA", "RHEINGOLD", "PUFFIN", "MALLARD")


@dataclass(frozen=True)
class TexturedPart:
    """A solid and the picture of each of its faces, in uniform light."""

    shape: Shape
    pictures: tuple[Picture, ...]


def three_paints(random: Random) -> tuple[Colour, Colour, Colour]:
    """Return three different colours."""
    first, second, third = (_PAINTS[index] for index in random.permutation(len(_PAINTS))[:3])
    return first, second, third


def locomotive(random: Random) -> list[TexturedPart]:
    """Build the toy; the random generator determines its colours, name and number."""
    first, second, third = three_paints(random)
    name, number = str(random.choice(_NAMES)), str(int(random.integers(11, 99)))
    parts = [
        block(random, (0.0, 0.0, 0.034), (0.224, 0.066, 0.02), first, name),
        block(random, (-0.066, 0.0, 0.084), (0.072, 0.078, 0.08), second, number, window=True),
        block(random, (-0.066, 0.0, 0.129), (0.09, 0.094, 0.01), third, ""),
        block(random, (0.117, 0.0, 0.036), (0.01, 0.084, 0.024), third, number),
        round_part(random, (0.034, 0.0, 0.076), (0.032, 0.032), 0.128, _ALONG, second, name, number),
        round_part(random, (0.074, 0.0, 0.126), (0.012, 0.019), 0.04, np.eye(3), first, "", ""),
        round_part(random, (-0.012, 0.0, 0.113), (0.014, 0.01), 0.022, np.eye(3), third, "", ""),
    ]
    ball = paint.bands(random, 180, 90, third, "")
    parts.append(TexturedPart(Sphere((0.032, 0.0, 0.108), 0.018), (ball,)))
    places = [(x, side * 0.042, 0.022) for x in (-0.076, 0.0, 0.076) for side in (-1, 1)]
    return parts + [_wheel(random, place, third if place[0] == 0 else first) for place in places]


def block(
    random: Random,
    centre: tuple[float, float, float],
    size: tuple[float, float, float],
    colour: Colour,
    words: str,
    *,
    window: bool = False,
) -> TexturedPart:
    """Build a box of painted faces, ``words`` on its sides."""
    x, y, z = (max(24, round(side * _PX_PER_M)) for side in size)
    faces = [(y, z), (y, z), (x, z), (x, z), (x, y), (x, y)]
    pictures = [
        paint.panel(random, width, height, colour, words if face < 4 else "", window=window and face < 4)
        for face, (width, height) in enumerate(faces)
    ]
    return TexturedPart(Box(centre, size), tuple(pictures))


def round_part(  # noqa: PLR0917 - one line per part, as in a drawing
    random: Random,
    centre: tuple[float, float, float],
    radii: tuple[float, float],
    length: float,
    axes: Floats,
    colour: Colour,
    words: str,
    number: str,
) -> TexturedPart:
    """Build a frustum, ``words`` around it and ``number`` on its ends."""
    around, tall = round(2 * np.pi * max(radii) * _PX_PER_M), max(24, round(length * _PX_PER_M))
    wide = max(24, round(2 * max(radii) * _PX_PER_M))
    side = paint.bands(random, around, tall, colour, words)
    ends = tuple(paint.plate(random, wide, colour, number) for _ in range(2))
    return TexturedPart(Frustum(centre, radii, length, axes), (side, *ends))


def _wheel(random: Random, centre: tuple[float, float, float], colour: Colour) -> TexturedPart:
    radius, thick = 0.022, 0.014
    tread = paint.worn(random, round(2 * np.pi * radius * _PX_PER_M), round(thick * _PX_PER_M), (70, 64, 70), wear=1.6)
    sides = tuple(paint.wheel(random, round(2 * radius * _PX_PER_M), colour) for _ in range(2))
    return TexturedPart(Frustum(centre, (radius, radius), thick, _ACROSS), (tread, *sides))
