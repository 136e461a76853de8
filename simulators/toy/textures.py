"""Textures of the toy, its table and the room in uniform light: RGB pictures [H, W, 3] from a seed.

Every surface has non-repeating marks of many sizes, like worn paint and wood: features for matching photos.
"""

from __future__ import annotations

import itertools
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]
Random = np.random.Generator

_FONT: Final = cv2.FONT_HERSHEY_DUPLEX
CREAM: Final[Colour] = (242, 230, 202)
INK: Final[Colour] = (38, 34, 44)
BRASS: Final[Colour] = (226, 172, 62)


def worn(random: Random, width_px: int, height_px: int, colour: Colour, *, wear: float = 1.0) -> Picture:
    """Paint a painted surface: patches of tone, brush marks, chips and specks."""
    picture = np.empty((height_px, width_px, 3), np.float32)
    picture[:] = colour
    tone = sum(
        strength * _noise(random, height_px, width_px, cells)
        for cells, strength in ((3, 14.0), (9, 12.0), (26, 11.0), (60, 9.0))
    )
    picture += wear * np.asarray(tone, np.float32)[..., None]
    painted = _picture(picture)
    for _ in range(round(wear * width_px * height_px / 520)):
        x, y = int(random.integers(0, width_px)), int(random.integers(0, height_px))
        light = float(random.uniform(0.35, 1.6))
        speck = tuple(int(min(255, part * light + (40 if light > 1 else 0))) for part in colour)
        axes = (int(random.integers(1, 4)), int(random.integers(1, 3)))
        cv2.ellipse(painted, (x, y), axes, float(random.uniform(0, 180)), 0, 360, speck, -1, cv2.LINE_AA)
    return painted


def wood(random: Random, width_px: int, height_px: int, colour: Colour, planks: int = 1) -> Picture:
    """Paint vertical planks, each with its own tone, grain and knots."""
    picture = np.zeros((height_px, width_px, 3), np.float32)
    edges = np.linspace(0, width_px, planks + 1).round().astype(int)
    for number, (low, high) in enumerate(itertools.pairwise(edges)):
        rows = np.arange(height_px, dtype=np.float32)[:, None]
        across = np.arange(high - low, dtype=np.float32)[None] + 12 * _noise(random, height_px, high - low, 5)
        rings = np.sin((across + 6 * np.sin(rows / height_px * 7 + number)) * float(random.uniform(0.2, 0.4)))
        grain = (
            11 * rings + 14 * _noise(random, height_px, high - low, 24) + 9 * _noise(random, height_px, high - low, 70)
        )
        tone = np.asarray(colour, np.float32) * float(random.uniform(0.76, 1.1)) + random.uniform(-8, 8, 3)
        picture[:, low:high] = tone + grain[..., None] * np.array([1.0, 0.9, 0.7], np.float32)
        picture[:, low : low + 2] *= 0.55
        end = int(random.integers(0, height_px))
        picture[end : end + 2, low:high] *= 0.6
    painted = _picture(picture)
    for _ in range(max(2, width_px * height_px // 9000)):
        at = (int(random.integers(0, width_px)), int(random.integers(0, height_px)))
        size, dark = (int(random.integers(1, 5)), int(random.integers(2, 9))), float(random.uniform(0.4, 0.8))
        cv2.ellipse(painted, at, size, 0, 0, 360, tuple(int(part * dark) for part in colour), -1, cv2.LINE_AA)
    return painted


def panel(
    random: Random, width_px: int, height_px: int, colour: Colour, words: str, *, window: bool = False
) -> Picture:
    """Paint a panel: a lined border with rivets, and words or a window in it."""
    picture = worn(random, width_px, height_px, colour)
    edge = max(3, round(0.06 * min(width_px, height_px)))
    cv2.rectangle(picture, (edge, edge), (width_px - edge, height_px - edge), BRASS, max(1, edge // 3), cv2.LINE_AA)
    for x in np.linspace(edge / 2, width_px - edge / 2, max(3, width_px // 26)).round().astype(int):
        for y in (edge // 2, height_px - edge // 2):
            cv2.circle(picture, (int(x), int(y)), max(1, edge // 4), INK, -1, cv2.LINE_AA)
    if window:
        low, high = (round(0.2 * width_px), round(0.14 * height_px)), (round(0.8 * width_px), round(0.52 * height_px))
        cv2.rectangle(picture, low, high, (92, 128, 158), -1)
        for _ in range(7):  # static reflections
            ends = [(int(random.integers(low[0], high[0])), int(random.integers(low[1], high[1]))) for _ in range(2)]
            cv2.line(picture, ends[0], ends[1], (164, 196, 214), 2, cv2.LINE_AA)
        cv2.rectangle(picture, low, high, CREAM, max(2, edge // 2), cv2.LINE_AA)
    if words:
        height = 0.28 * height_px if window else 0.45 * height_px
        centre = (width_px // 2, round((0.75 if window else 0.5) * height_px))
        write(picture, words, centre, min(height, 1.25 * width_px / max(2, len(words))), CREAM)
    return picture


def wheel(random: Random, size_px: int, colour: Colour) -> Picture:
    """Paint a spoked wheel from its side; one spoke has another colour."""
    picture = worn(random, size_px, size_px, (52, 48, 56))
    centre, half = (size_px // 2, size_px // 2), size_px / 2
    cv2.circle(picture, centre, round(0.86 * half), colour, round(0.14 * half), cv2.LINE_AA)
    turn = float(random.uniform(0, np.pi))
    for spoke in range(7):
        angle = turn + spoke * 2 * np.pi / 7
        end = (round(centre[0] + 0.8 * half * np.cos(angle)), round(centre[1] + 0.8 * half * np.sin(angle)))
        cv2.line(picture, centre, end, CREAM if spoke == 0 else colour, max(2, round(0.13 * half)), cv2.LINE_AA)
    cv2.circle(picture, centre, round(0.26 * half), BRASS, -1, cv2.LINE_AA)
    return picture


def bands(random: Random, width_px: int, height_px: int, colour: Colour, words: str) -> Picture:
    """Paint the side of a boiler: hoops, words and flowers between them."""
    picture = worn(random, width_px, height_px, colour)
    for share in (0.04, 0.34, 0.66, 0.96):
        row = round(share * height_px)
        cv2.line(picture, (0, row), (width_px, row), BRASS, max(2, height_px // 34), cv2.LINE_AA)
    for _ in range(26):
        at = (int(random.integers(0, width_px)), int(random.integers(height_px // 14, height_px)))
        _flower(random, picture, at, int(random.integers(height_px // 30, height_px // 15)))
    turned = np.ascontiguousarray(np.rot90(picture))
    for side in (0.25, 0.75):
        write(turned, words, (turned.shape[1] // 2, round(side * turned.shape[0])), 0.1 * width_px, CREAM)
    return np.ascontiguousarray(np.rot90(turned, -1))


def plate(random: Random, size_px: int, colour: Colour, words: str) -> Picture:
    """Paint a round end with a number plate."""
    picture = worn(random, size_px, size_px, colour)
    centre, half = (size_px // 2, size_px // 2), size_px / 2
    cv2.circle(picture, centre, round(0.84 * half), BRASS, max(2, round(0.08 * half)), cv2.LINE_AA)
    cv2.circle(picture, centre, round(0.52 * half), CREAM, -1, cv2.LINE_AA)
    write(picture, words, centre, 0.5 * half, (170, 34, 40))
    return picture


def table_top(random: Random, size_px: int) -> Picture:
    """Paint a table with a cloth of leaves and flowers on it."""
    picture = wood(random, size_px, size_px, (170, 128, 88), 9)
    low, high = round(0.2 * size_px), round(0.8 * size_px)
    cloth = worn(random, high - low, high - low, (176, 184, 176), wear=1.3)
    for _ in range(420):
        at = (int(random.integers(0, high - low)), int(random.integers(0, high - low)))
        if random.uniform() < 0.45:
            _flower(random, cloth, at, int(random.integers(7, 22)))
        else:
            ink = (int(random.integers(30, 120)), int(random.integers(80, 160)), int(random.integers(60, 130)))
            size = (int(random.integers(5, 26)), int(random.integers(2, 8)))
            cv2.ellipse(cloth, at, size, float(random.uniform(0, 180)), 0, 360, ink, -1, cv2.LINE_AA)
    cv2.rectangle(cloth, (14, 14), (high - low - 14, high - low - 14), (64, 92, 146), 9, cv2.LINE_AA)
    picture[low:high, low:high] = cloth
    return picture


def wall(random: Random, size_px: int) -> Picture:
    """Paint a wall of a room: wallpaper, a shelf of books, framed pictures."""
    tone: Colour = tuple(int(part) for part in random.integers(120, 200, 3))  # type: ignore[assignment]
    picture = worn(random, size_px, size_px, tone, wear=0.8)
    for _ in range(9):
        x, y = (int(part) for part in random.integers(0, round(0.8 * size_px), 2))
        width, height = (int(part) for part in random.integers(size_px // 12, size_px // 4, 2))
        frame: Colour = tuple(int(part) for part in random.integers(20, 240, 3))  # type: ignore[assignment]
        piece = picture[y : y + height, x : x + width]
        piece[:] = worn(random, piece.shape[1], piece.shape[0], frame, wear=2.0)
        cv2.rectangle(picture, (x, y), (x + width, y + height), INK, max(2, size_px // 120), cv2.LINE_AA)
    shelf, x = round(0.62 * size_px), 0
    while x < size_px:
        wide, tall = (
            int(random.integers(size_px // 60, size_px // 22)),
            int(random.integers(size_px // 9, size_px // 6)),
        )
        cover = tuple(int(part) for part in random.integers(30, 230, 3))
        cv2.rectangle(picture, (x, shelf - tall), (x + wide, shelf), cover, -1)
        cv2.line(picture, (x, shelf - tall), (x, shelf), INK, 1)
        cv2.line(picture, (x, shelf - tall * 3 // 4), (x + wide, shelf - tall * 3 // 4), CREAM, 2)
        x += wide
    cv2.rectangle(picture, (0, shelf), (size_px, shelf + size_px // 50), (96, 66, 44), -1)
    return picture


def write(picture: Picture, words: str, centre: tuple[int, int], height_px: float, ink: Colour) -> None:
    """Draw words centred at a point."""
    stroke = max(1, round(height_px / 7))
    (_, reference), _ = cv2.getTextSize("X", _FONT, 1.0, 1)
    scale = height_px / reference
    (width, height), _ = cv2.getTextSize(words, _FONT, scale, stroke)
    origin = (centre[0] - width // 2, centre[1] + height // 2)
    cv2.putText(picture, words, origin, _FONT, scale, ink, stroke, cv2.LINE_AA)


def plain(picture: Picture) -> Picture:
    """Return a uniform surface as bright as the picture: nothing to match."""
    flat = np.empty_like(picture)
    flat[:] = np.full(3, picture.mean()).round()
    return flat


def _flower(random: Random, picture: Picture, centre: tuple[int, int], radius: int) -> None:
    petals, turn = int(random.integers(4, 8)), float(random.uniform(0, np.pi))
    ink = tuple(int(part) for part in random.integers(70, 255, 3))
    for petal in range(petals):
        angle = turn + petal * 2 * np.pi / petals
        at = (round(centre[0] + radius * 0.6 * np.cos(angle)), round(centre[1] + radius * 0.6 * np.sin(angle)))
        cv2.circle(picture, at, max(1, round(radius * 0.45)), ink, -1, cv2.LINE_AA)
    cv2.circle(picture, centre, max(1, round(radius * 0.36)), BRASS if sum(ink) < 420 else INK, -1, cv2.LINE_AA)


def _noise(random: Random, height: int, width: int, cells: int) -> NDArray[np.float32]:
    """Return smooth noise [H, W] of about unit size with ``cells`` bumps along the longer side."""
    step = max(height, width) / cells
    coarse = random.standard_normal((max(2, round(height / step) + 1), max(2, round(width / step) + 1)))
    return np.asarray(cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def _picture(values: NDArray[np.float32]) -> Picture:
    return np.clip(values, 0, 255).astype(np.uint8)
