"""Colours and build of persons."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Look:
    """Colours (BGR) and build of a person."""

    shirt: Colour
    shorts: Colour
    skin: Colour
    hair: Colour
    shoes: Colour
    socks: Colour
    racket: Colour | None
    number: str = ""
    long_hair: bool = False
    trousers: bool = False
    skirt: bool = False
    sleeves: Colour = (0, 0, 0)
    height_m: float = 1.75
    width: float = 1.0

    def colour(self, wears: str) -> Colour:
        """Return the colour of what a limb wears."""
        return getattr(self, wears)  # type: ignore[no-any-return]


_SHIRTS: Final = (
    (36, 28, 190),
    (170, 70, 20),
    (40, 150, 235),
    (60, 140, 40),
    (30, 30, 30),
    (225, 225, 225),
    (150, 40, 120),
    (30, 200, 230),
    (200, 170, 60),
    (110, 80, 225),
)
_SKINS: Final = ((150, 175, 225), (120, 150, 205), (95, 125, 185), (70, 95, 150), (45, 65, 110))
_SHOES: Final = ((235, 235, 235), (60, 60, 220), (220, 160, 40), (40, 200, 220))
_HAIRS: Final = ((20, 20, 25), (25, 35, 55), (40, 65, 100), (70, 120, 170), (90, 90, 95))


def random_look(random: np.random.Generator, *, racket: bool, number: int = 0, formal: bool = False) -> Look:
    """Draw the looks of a person; ``number`` chooses a shirt that differs from that of other numbers."""
    shade = float(random.uniform(0.8, 1.1))
    shirt = _SHIRTS[number % len(_SHIRTS)]
    shorts = ((30, 30, 32), (190, 190, 195), (95, 45, 25), scaled(shirt, 0.6))[int(random.integers(0, 4))]
    return Look(
        shirt=(45, 35, 35) if formal else scaled(shirt, shade),
        shorts=(35, 32, 32) if formal else scaled(shorts, 1.0),
        skin=_SKINS[int(random.integers(0, len(_SKINS)))],
        hair=_HAIRS[int(random.integers(0, len(_HAIRS)))],
        shoes=_SHOES[int(random.integers(0, len(_SHOES)))],
        socks=(230, 230, 230),
        racket=scaled(_SHIRTS[int(random.integers(0, len(_SHIRTS)))], 1.0) if racket else None,
        number=str(int(random.integers(1, 30))) if racket else "",
        long_hair=bool(random.uniform() < 0.4),
        skirt=racket and bool(random.uniform() < 0.2),
        sleeves=(45, 35, 35) if formal else scaled(*((shirt, shade) if random.uniform() < 0.6 else (shorts, 1.1))),
        trousers=formal or (not racket and bool(random.uniform() < 0.7)),
        height_m=float(random.uniform(1.62, 1.88)),
        width=float(random.uniform(0.92, 1.12)),
    )


@lru_cache(maxsize=4096)
def scaled(colour: tuple[int, ...], by: float) -> Colour:
    """Return a colour made brighter or darker."""
    return tuple(int(min(max(part * by, 0), 255)) for part in colour)  # type: ignore[return-value]
