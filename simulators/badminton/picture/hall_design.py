"""A sports hall's sheets: floor, walls, ceiling, boards and stands, with their pictures and colours by the seed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.dimensions import (
    CENTRE_X_M,
    COURT_LENGTH_M,
    COURT_WIDTH_M,
    LINE_WIDTH_M,
    NET_Y_M,
    line_segments_m,
)
from simulators.badminton.match_options import MatchOptions

Floats = NDArray[np.float64]
Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]

#: The hall: from, to in x, y; its height.
HALL_M: Final = ((-14.0, -15.0), (20.0, 34.0), 10.0)
_WORDS: Final = ("VOLANT", "SMASH", "NORDIC BANK", "AERO", "KESTREL", "OPEN", "TOUR", "ORION", "VERDE", "MIRA", "LUMEN")
_BOARDS: Final = ((40, 40, 160), (150, 60, 20), (30, 30, 30), (200, 200, 200), (40, 120, 30), (20, 120, 200))


@dataclass(frozen=True, eq=False)
class HallSheet:
    """A rectangle in space with a picture: ``origin`` is the picture's top left corner."""

    origin_m: Floats
    right_m: Floats
    down_m: Floats
    picture: Picture
    is_floor: bool = False


@dataclass(frozen=True, eq=False)
class Stripe:
    """A painted line on the floor: its four corners [4, 2] and colour."""

    corners_m: Floats
    colour: Colour


@dataclass(frozen=True, eq=False)
class HallDesign:
    """Parts of a hall."""

    sheets: tuple[HallSheet, ...]
    stripes: tuple[Stripe, ...]
    #: Lamps under the ceiling: centres [K, 2]; the floor reflects them.
    lamps_m: Floats
    gloss: float
    post: Colour
    net: Colour


def design_hall(options: MatchOptions) -> HallDesign:
    """Draw a hall from the seed."""
    random = np.random.default_rng([options.seed, 41])
    broadcast = options.camera.startswith("broadcast")
    (x0, y0), (x1, y1), _ = HALL_M
    xs, ys = np.meshgrid(np.linspace(x0 + 4, x1 - 4, 5), np.linspace(y0 + 4, y1 - 4, 6))
    lamps = np.column_stack([xs.ravel(), ys.ravel()])
    sheets = [_floor(random, broadcast=broadcast), *_walls(random, lamps, broadcast=broadcast)]
    # Boards would hide the next court, where bystanders play.
    if broadcast or (random.uniform() < 0.5 and not options.bystanders):
        sheets += _boards(random, far_m=float(random.uniform(2.0, 3.2)), aside_m=float(random.uniform(2.6, 3.6)))
    if broadcast:
        sheets.append(_stand(random))
    if options.bystanders:
        sheets += _umpires_chair()
    stripes = _stripes(random, options, broadcast=broadcast)
    post = ((60, 60, 60), (200, 200, 200), (40, 40, 150))[int(random.integers(0, 3))]
    gloss = float(random.uniform(0.1, 0.35)) * (0.6 if broadcast else 1.0)
    return HallDesign(tuple(sheets), tuple(stripes), lamps, gloss, post, (35, 40, 45))


def line_corners_m(start: tuple[float, float], end: tuple[float, float]) -> Floats:
    """Return the corners [4, 2] of the painted line of a segment of ``line_segments_m``.

    A line's position is its outer edge: the paint is on the inner side, for the short service line on the side away
    from the net; the centre line has its paint on both sides.
    """
    (ax, ay), (bx, by) = start, end
    if ay == by:
        inwards = LINE_WIDTH_M if ay < COURT_LENGTH_M / 2 else -LINE_WIDTH_M
        if 3.0 < abs(ay) < COURT_LENGTH_M - 3.0:
            inwards = -inwards
        return np.array([[ax, ay], [bx, ay], [bx, ay + inwards], [ax, ay + inwards]])
    if ax == CENTRE_X_M:
        low, high = ax - LINE_WIDTH_M / 2, ax + LINE_WIDTH_M / 2
    else:
        low, high = (ax, ax + LINE_WIDTH_M) if ax < CENTRE_X_M else (ax - LINE_WIDTH_M, ax)
    return np.array([[low, ay], [high, ay], [high, by], [low, by]])


def _stripes(random: np.random.Generator, options: MatchOptions, *, broadcast: bool) -> list[Stripe]:
    white = int(random.integers(215, 250))
    paint = (white - int(random.integers(0, 14)), white, white)
    stripes: list[Stripe] = []
    if not broadcast and options.scene != "plain":
        # Lines of other sports lie below those of badminton.
        for colour in ((40, 170, 210), (40, 40, 170), (60, 60, 60)):
            if random.uniform() < 0.55:
                stripes += _other_sport(random, colour)
    if options.scene == "tennis":
        return [*stripes, *_tennis(paint)]
    if options.scene == "plain":
        return []
    neighbours = [0.0] if broadcast else [0.0, -8.6, 8.6]
    for shift in neighbours[::-1]:
        for start, end in line_segments_m():
            corners = line_corners_m(start, end)
            stripes.append(Stripe(corners + np.array([shift, 0.0]), paint))
    return stripes


def _other_sport(random: np.random.Generator, colour: Colour) -> list[Stripe]:
    """Return a large field's lines and a circle's pieces."""
    left, right = float(random.uniform(-9, -3)), float(random.uniform(9.5, 15))
    far, near = float(random.uniform(-11, -3)), float(random.uniform(16.5, 28))
    wide = 0.05
    lines = [(left, far, right, far), (left, near, right, near), (left, far, left, near), (right, far, right, near)]
    if random.uniform() < 0.6:
        middle = float(random.uniform(4, 11))
        lines.append((left, middle, right, middle))
    stripes = []
    for ax, ay, bx, by in lines:
        dx, dy = (0, wide) if ay == by else (wide, 0)
        corners = np.array([[ax, ay], [bx, by], [bx + dx, by + dy], [ax + dx, ay + dy]])
        stripes.append(Stripe(corners, colour))
    centre, radius = np.array([(left + right) / 2, far]), float(random.uniform(1.8, 6.0))
    angles = np.linspace(0, np.pi, 40)
    ring = np.column_stack([np.cos(angles), np.sin(angles)])
    for first, second in pairwise(ring):
        outer, inner = radius, radius - wide
        corners = centre + np.array([first * outer, second * outer, second * inner, first * inner])
        stripes.append(Stripe(corners, colour))
    return stripes


def _tennis(paint: Colour) -> list[Stripe]:
    """Return a tennis court of two thirds of the size, which fits into the hall."""
    scale, wide = 0.62, 0.05
    half_x, half_y, service, single = 5.485 * scale, 11.885 * scale, 6.4 * scale, 4.115 * scale
    lines = [(-half_x, y, half_x, y) for y in (-half_y, half_y)] + [(x, -half_y, x, half_y) for x in (-half_x, half_x)]
    lines += [(x, -half_y, x, half_y) for x in (-single, single)] + [
        (-single, y, single, y) for y in (-service, service)
    ]
    lines.append((0.0, -service, 0.0, service))
    stripes = []
    for ax, ay, bx, by in lines:
        dx, dy = (0, wide / 2) if ay == by else (wide / 2, 0)
        corners = np.array([[ax - dx, ay - dy], [bx - dx, by - dy], [bx + dx, by + dy], [ax + dx, ay + dy]])
        stripes.append(Stripe(corners + np.array([CENTRE_X_M, COURT_LENGTH_M / 2]), paint))
    return stripes


def _floor(random: np.random.Generator, *, broadcast: bool) -> HallSheet:
    (x0, y0), (x1, y1), _ = HALL_M
    scale = 50
    width, length = round((x1 - x0) * scale), round((y1 - y0) * scale)
    kind = str(random.choice(["green", "blue", "wood"]))
    colours = {"green": (92, 128, 52), "blue": (150, 95, 40), "wood": (112, 158, 198)}
    colour = np.array(colours[kind]) * random.uniform(0.75, 1.15) + random.uniform(-8, 8, 3)
    picture = np.empty((length, width, 3), np.float32)
    picture[:] = colour
    if broadcast:
        # A mat lies on the hall's floor.
        around = np.array(((75, 75, 80), (120, 80, 50), (60, 50, 110), (105, 150, 190))[int(random.integers(0, 4))])
        mat_x, mat_y = float(random.uniform(0.9, 2.0)), float(random.uniform(1.2, 2.0))
        inside = np.zeros((length, width), bool)
        rows = slice(round((-mat_y - y0) * scale), round((COURT_LENGTH_M + mat_y - y0) * scale))
        columns = slice(round((-mat_x - x0) * scale), round((COURT_WIDTH_M + mat_x - x0) * scale))
        inside[rows, columns] = True
        picture[~inside] = around
    if kind == "wood":
        plank = random.uniform(0.93, 1.06, (length // 100 + 1, width // 6 + 1)).astype(np.float32)
        picture *= cv2.resize(plank, (width, length), interpolation=cv2.INTER_NEAREST)[..., None]
    for cells, strength in ((12, 0.05), (120, 0.03), (700, 0.02)):
        coarse = random.standard_normal((cells, cells)).astype(np.float32)
        picture *= 1 + strength * cv2.resize(coarse, (width, length), interpolation=cv2.INTER_CUBIC)[..., None]
    return HallSheet(
        np.array([x0, y0, 0.0]),
        np.array([x1 - x0, 0, 0]),
        np.array([0, y1 - y0, 0]),
        np.clip(picture, 0, 255).astype(np.uint8),
        is_floor=True,
    )


def _walls(random: np.random.Generator, lamps_m: Floats, *, broadcast: bool) -> list[HallSheet]:
    (x0, y0), (x1, y1), height = HALL_M
    bright = 0.35 if broadcast else 1.0
    lower = (
        np.array(((70, 110, 150), (150, 150, 155), (110, 85, 60), (60, 90, 60))[int(random.integers(0, 4))]) * bright
    )
    upper = np.array(((205, 210, 212), (190, 200, 205), (160, 170, 180))[int(random.integers(0, 3))]) * bright
    sheets = []
    for origin, right in (
        ((x0, y0), (x1 - x0, 0)),
        ((x1, y0), (0, y1 - y0)),
        ((x1, y1), (x0 - x1, 0)),
        ((x0, y1), (0, y0 - y1)),
    ):
        long = abs(right[0]) + abs(right[1])
        picture = np.empty((400, round(long * 40), 3), np.float32)
        picture[:260], picture[260:] = upper, lower
        for at in range(0, picture.shape[1], 80):  # panels
            picture[260:, at : at + 2] *= 0.8
        if random.uniform() < 0.7:  # windows
            glow = 235 if not broadcast else 40
            for at in range(60, picture.shape[1] - 200, 260):
                picture[40:130, at : at + 180] = (glow, glow, glow * 0.96)
        for _ in range(int(random.integers(2, 6))):  # doors, wall bars, posters
            at, wide = int(random.integers(0, picture.shape[1] - 120)), int(random.integers(40, 110))
            top = int(random.integers(285, 330))
            picture[top:395, at : at + wide] = random.uniform(20, 200, 3) * bright
        picture *= np.linspace(1.05, 0.85, 400, dtype=np.float32)[:, None, None]
        sheets.append(
            HallSheet(
                np.array([*origin, height]),
                np.array([*right, 0.0]),
                np.array([0.0, 0.0, -height]),
                np.clip(picture, 0, 255).astype(np.uint8),
            )
        )
    ceiling = np.full((490, 340, 3), 45 if broadcast else 120, np.uint8)
    ceiling[::35] = ceiling[::35] // 2
    for x, y in lamps_m:
        column, row = round((x - x0) * 10), round((y - y0) * 10)
        ceiling[row - 2 : row + 3, column - 10 : column + 11] = 255
    sheets.append(HallSheet(np.array([x0, y0, height]), np.array([x1 - x0, 0, 0]), np.array([0, y1 - y0, 0]), ceiling))
    return sheets


def _umpires_chair() -> list[HallSheet]:
    """Return the high chair at the net's right post: its sides, dark."""
    dark = np.full((8, 8, 3), (52, 46, 44), np.uint8)
    left, right, far, near, seat = COURT_WIDTH_M + 1.0, COURT_WIDTH_M + 1.6, NET_Y_M - 0.3, NET_Y_M + 0.3, 1.5
    down = np.array([0.0, 0.0, -1.0])
    return [
        HallSheet(np.array([left, near, seat]), np.array([right - left, 0, 0]), 0.25 * down, dark),
        HallSheet(np.array([left, far, seat]), np.array([0, near - far, 0]), 0.25 * down, dark),
        HallSheet(np.array([left, far, seat]), np.array([right - left, 0, 0]), np.array([0, near - far, 0]), dark),
        HallSheet(np.array([right, far, seat + 0.6]), np.array([0, near - far, 0]), 0.6 * down, dark),
        *(
            HallSheet(np.array([x, y, seat]), np.array([0.05, 0, 0]), seat * down, dark)
            for x in (left, right - 0.05)
            for y in (far, near)
        ),
    ]


def _boards(random: np.random.Generator, far_m: float, aside_m: float) -> list[HallSheet]:
    """Return advertising boards behind the far line and along both sides."""
    sheets = []
    height = 0.8
    left, right = -aside_m, COURT_WIDTH_M + aside_m
    rows = [
        ((left, -far_m), (1.0, 0.0), right - left),
        ((left, COURT_LENGTH_M), (0.0, -1.0), COURT_LENGTH_M + far_m - 1),
    ]
    rows.append(((right, -far_m + 1), (0.0, 1.0), COURT_LENGTH_M + far_m - 1))
    for origin, direction, long in rows:
        count = max(int(long / 3.0), 1)
        for number in range(count):
            step = np.array([*direction, 0.0]) * long / count
            start = np.array([*origin, height]) + number * step
            picture = advertisement(random, (96, round(96 / height * long / count)))
            sheets.append(HallSheet(start, step * 0.99, np.array([0, 0, -height]), picture))
    return sheets


def advertisement(random: np.random.Generator, size: tuple[int, int]) -> Picture:
    """Paint a board with an invented name; size is (height, width)."""
    colour = _BOARDS[int(random.integers(0, len(_BOARDS)))]
    picture = np.full((*size, 3), colour, np.uint8)
    word = str(random.choice(_WORDS))
    tone = (245, 245, 245) if sum(colour) < 400 else (40, 30, 30)
    scale = size[0] / 40
    (wide, tall), _ = cv2.getTextSize(word, cv2.FONT_HERSHEY_DUPLEX, scale, 3)
    scale *= min(1.0, 0.85 * size[1] / wide)
    (wide, tall), _ = cv2.getTextSize(word, cv2.FONT_HERSHEY_DUPLEX, scale, 3)
    place = ((size[1] - wide) // 2, (size[0] + tall) // 2)
    cv2.putText(picture, word, place, cv2.FONT_HERSHEY_DUPLEX, scale, tone, max(2, size[0] // 24), cv2.LINE_AA)
    return picture


def _stand(random: np.random.Generator) -> HallSheet:
    """Return a stand full of people behind the far boards."""
    return HallSheet(
        np.array([-12.0, -13.0, 6.0]), np.array([30.0, 0, 0]), np.array([0, 8.0, -5.2]), crowd(random, (560, 1800))
    )


def crowd(random: np.random.Generator, size: tuple[int, int]) -> Picture:
    """Paint rows of seated people; size is (height, width)."""
    height, width = size
    picture = np.full((height, width, 3), (38, 34, 34), np.uint8)
    pitch = 60
    for row, y in enumerate(range(30, height, pitch)):
        cv2.line(picture, (0, y + 34), (width, y + 34), (60, 56, 56), 6)
        for x in range(12 + (row % 2) * 14, width, 29):
            if random.uniform() < 0.15:
                cv2.rectangle(picture, (x - 9, y + 4), (x + 9, y + 30), (70, 40, 40), -1)
                continue
            at = (x + int(random.integers(-4, 5)), y + int(random.integers(-4, 5)))
            grey, tint = float(random.uniform(20, 170)), random.uniform(0.75, 1.3, 3)
            shirt = tuple(int(min(grey * part, 220)) for part in tint)
            skin = tuple(int(part * random.uniform(0.45, 0.85)) for part in (150, 180, 225))
            hair = tuple(int(part * random.uniform(0.3, 1.0)) for part in (40, 55, 70))
            cv2.ellipse(picture, (at[0], at[1] + 24), (12, 17), 0, 0, 360, shirt, -1, cv2.LINE_AA)
            cv2.ellipse(picture, at, (6, 8), 0, 0, 360, skin, -1, cv2.LINE_AA)
            cv2.ellipse(picture, (at[0], at[1] - 4), (6, 5), 0, 0, 360, hair, -1, cv2.LINE_AA)
    return picture
