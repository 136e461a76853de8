"""A small scene as a 3DGS PLY, written with struct: three balls of known colours over a chequered floor."""

from __future__ import annotations

import math
import random
import struct
from typing import NamedTuple

SH0 = 0.28209479177387814
NAMES = (
    "x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity",
    "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3",
)  # fmt: skip


class Ball(NamedTuple):
    """Centre in metres in the robot's frame, colour in 0..1."""

    centre: tuple[float, float, float]
    colour: tuple[float, float, float]


RED = Ball((0.3, 0.0, 0.06), (0.85, 0.12, 0.12))
GREEN = Ball((0.3, 0.14, 0.06), (0.1, 0.7, 0.2))
BLUE = Ball((0.3, -0.14, 0.06), (0.12, 0.25, 0.85))
BALLS = (RED, GREEN, BLUE)


def scene(floor: int = 36, per_ball: int = 220, balls: tuple[Ball, ...] = BALLS) -> bytes:
    """Write the scene; floor splats first, as many as ``floor`` squared."""
    chance = random.Random(5)
    splats = []
    for row in range(floor):
        for column in range(floor):
            shade = 0.62 if (row // 4 + column // 4) % 2 else 0.3
            place = (0.08 + 0.44 * row / floor, -0.22 + 0.44 * column / floor, 0.0)
            splats.append((place, (shade, shade * 0.97, shade * 0.9), 0.36 / floor, 0.95))
    for ball in balls:
        for _ in range(per_ball):
            way = [chance.gauss(0, 1) for _ in range(3)]
            long = 0.045 * chance.random() ** (1 / 3) / (math.hypot(*way) or 1)
            place = tuple(at + part * long for at, part in zip(ball.centre, way, strict=True))
            splats.append((place, ball.colour, 0.008, 0.9))
    return written(splats)


def written(splats: list[tuple[tuple[float, ...], tuple[float, ...], float, float]]) -> bytes:
    """Write round splats with position (m), colour (0..1), radius (m) and opacity."""
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(splats)}\n"
    head += "".join(f"property float {name}\n" for name in NAMES) + "end_header\n"
    rows = [
        struct.pack(
            f"<{len(NAMES)}f",
            *place, 0, 0, 0, *((part - 0.5) / SH0 for part in colour), math.log(opacity / (1 - opacity)),
            *(math.log(radius),) * 3, 1, 0, 0, 0,
        )
        for place, colour, radius, opacity in splats
    ]  # fmt: skip
    return head.encode() + b"".join(rows)
