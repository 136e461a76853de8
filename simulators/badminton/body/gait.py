"""Feet of somebody who moves over the floor: planted in turn, so that they do not slide."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Share of a foot's cycle in which it stands.
_STANCE: Final = 0.58


def feet(xy_m: Floats, left: Floats, half_width_m: Floats, step_s: float) -> tuple[Floats, Floats]:
    """Return places [2, T, 2] and heights [2, T] of the left and right foot of a body at ``xy_m`` [T, 2].

    ``left`` [T, 2] is the body's left, ``half_width_m`` [T] half the distance of the standing feet.
    """
    speed = np.linalg.norm(np.gradient(xy_m, step_s, axis=0), axis=1)
    smooth = np.convolve(np.pad(speed, 6, mode="edge"), np.full(13, 1 / 13), mode="valid")
    stride = 0.75 + 0.36 * smooth
    phase = np.concatenate([[0.0], np.cumsum(np.where(smooth > 0.12, smooth / stride, 0.0))[:-1] * step_s])
    places, heights = np.empty((2, len(xy_m), 2)), np.empty((2, len(xy_m)))
    index = np.arange(len(xy_m), dtype=np.float64)
    for foot, (side, shift) in enumerate(((1.0, 0.0), (-1.0, 0.5))):
        home = xy_m + side * left * half_width_m[:, None]
        own = phase + shift
        cycle = np.floor(own)
        share = own - cycle
        # A foot is put down where it will be below the body at the middle of its stance.
        numbers = np.arange(cycle[0], cycle[-1] + 3)
        middle = np.interp(numbers + _STANCE / 2, own, index)
        planted = np.column_stack([np.interp(middle, index, home[:, axis]) for axis in range(2)])
        swing = np.clip((share - _STANCE) / (1 - _STANCE), 0.0, 1.0)
        swing = swing * swing * (3 - 2 * swing)
        first = (cycle - cycle[0]).astype(np.int64)
        places[foot] = planted[first] + swing[:, None] * (planted[first + 1] - planted[first])
        # Somebody who stands has both feet below: the stance follows slow shifts of the body.
        still = np.clip(1 - smooth / 0.35, 0.0, 1.0)[:, None]
        places[foot] += still * (home - places[foot])
        heights[foot] = np.sin(np.pi * swing) * np.clip(smooth / 4, 0.0, 0.2) * (1 - still[:, 0])
    return places, heights
