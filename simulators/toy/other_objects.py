"""Objects other than the toy, each difficult to segment in its own way."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Final

import numpy as np

from simulators.shapes import Sphere
from simulators.toy import textures as paint
from simulators.toy.locomotive import TexturedPart, block, locomotive, round_part, three_paints
from simulators.toy.textures import Colour, Random

TOY: Final = "locomotive"


def basket(random: Random) -> list[TexturedPart]:
    """Build a basket: a high thin handle with a wide opening, a plain body that looks the same from everywhere."""
    first, second, third = three_paints(random)
    return [
        round_part(random, (0.0, 0.0, 0.035), (0.055, 0.075), 0.07, np.eye(3), first, "BASKET", "7"),
        round_part(random, (0.0, 0.0, 0.074), (0.08, 0.08), 0.010, np.eye(3), second, "", ""),
        *_arc(random, (0.0, 0.0, 0.078), (0.07, 0.0075), third, 0.6, (0.0, 180.0), 12),
    ]


def stool(random: Random) -> list[TexturedPart]:
    """Build a stool with a cup on it: thin legs, and the table visible between them in the shadow."""
    first, second, third = three_paints(random)
    parts = [block(random, (0.0, 0.0, 0.082), (0.17, 0.12, 0.018), first, "STOOL")]
    for x in (-0.068, 0.068):
        parts += [
            round_part(random, (x, y, 0.0365), (0.008, 0.0115), 0.073, np.eye(3), second, "", "")
            for y in (-0.044, 0.044)
        ]
    return [*parts, round_part(random, (0.0, 0.0, 0.112), (0.03, 0.018), 0.042, np.eye(3), third, "CUP", "3")]


def mug(random: Random) -> list[TexturedPart]:
    """Build a mug with a ball in it: a handle with a small opening."""
    first, second, third = three_paints(random)
    return [
        round_part(random, (-0.02, 0.0, 0.055), (0.048, 0.052), 0.11, np.eye(3), first, "MUG", "1"),
        *_arc(random, (0.028, 0.0, 0.058), (0.036, 0.0085), second, 0.0, (-88.0, 88.0), 9),
        TexturedPart(Sphere((-0.02, 0.0, 0.115), 0.03), (paint.bands(random, 180, 90, third, ""),)),
    ]


OBJECTS: Final[dict[str, Callable[[Random], list[TexturedPart]]]] = {
    TOY: locomotive,
    "basket": basket,
    "stool": stool,
    "mug": mug,
}


def _arc(  # noqa: PLR0917 - one line per part, as in a drawing
    random: Random,
    centre: tuple[float, float, float],
    radii: tuple[float, float],
    colour: Colour,
    heading_rad: float,
    angles_deg: tuple[float, float],
    count: int,
) -> list[TexturedPart]:
    """Bend a rod of one radius around a larger one, upright, out of ``count`` straight pieces."""
    around, thick = radii
    level, up = np.array([np.cos(heading_rad), np.sin(heading_rad), 0.0]), np.array([0.0, 0.0, 1.0])
    angles = np.radians(np.linspace(*angles_deg, count + 1))[:, None]
    places = np.array(centre) + around * (np.cos(angles) * level + np.sin(angles) * up)
    parts = []
    for start, end in pairwise(places):
        length = float(np.linalg.norm(end - start))
        along = (end - start) / length
        across = np.cross(level, up)
        axes = np.stack([across, np.cross(along, across), along])
        x, y, z = ((start + end) / 2).tolist()
        parts.append(round_part(random, (x, y, z), (thick, thick), 1.12 * length, axes, colour, "", ""))
    return parts
