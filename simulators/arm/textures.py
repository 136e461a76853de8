"""Textures of the objects on the table in uniform light: RGB pictures [H, W, 3], generated from a seed."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]

_FONT: Final = cv2.FONT_HERSHEY_DUPLEX
_CUBE_COLOURS: Final[tuple[Colour, ...]] = (
    (196, 30, 38),
    (255, 108, 18),
    (20, 78, 180),
    (16, 150, 82),
    (244, 244, 240),
    (252, 208, 30),
)


def planks(random: np.random.Generator, size_px: int, planks_across: int) -> Picture:
    """Paint an oak table top: vertical planks, each with its own tone and grain."""
    width = size_px // planks_across
    picture = np.zeros((size_px, size_px, 3), np.float32)
    for plank in range(planks_across):
        tone = np.array([186, 146, 102], np.float32) * random.uniform(0.80, 1.08) + random.uniform(-6, 6, 3)
        rows = np.arange(size_px, dtype=np.float32)[:, None]
        across = np.arange(width, dtype=np.float32)[None] + 14 * _noise(random, size_px, width, (6, 2))
        rings = np.sin((across + 5 * np.sin(rows / size_px * 9 + plank)) * random.uniform(0.16, 0.3) + plank * 1.7)
        grain = (
            9 * rings
            + 15 * _noise(random, size_px, width, (14, width // 4))
            + 7 * _noise(random, size_px, width, (40, width // 2))
        )
        piece = tone + grain[..., None] * np.array([1.0, 0.92, 0.75], np.float32)
        for _ in range(random.integers(2, 5)):
            _knot(random, piece)
        piece[:, :2] *= 0.62
        picture[:, plank * width : (plank + 1) * width] = piece
        end = int(random.integers(0, size_px))
        picture[end : end + 3, plank * width : (plank + 1) * width] *= 0.66
    return _picture(picture)


def cutting_mat(random: np.random.Generator, width_px: int, height_px: int, px_per_cm: int) -> Picture:
    """Paint a cutting mat: a ruled grid, angles, numbers along the edge."""
    ground = np.array([22, 92, 84], np.float32) + 5 * _noise(random, height_px, width_px, (12, 16))[..., None]
    picture = _picture(ground)
    faint, bright = (66, 136, 122), (196, 220, 200)
    margin = px_per_cm
    for centimetre in range(width_px // px_per_cm):
        x = margin + centimetre * px_per_cm
        if x <= width_px - margin:
            cv2.line(picture, (x, margin), (x, height_px - margin), faint, 1 if centimetre % 5 else 3, cv2.LINE_AA)
    for centimetre in range(height_px // px_per_cm):
        y = margin + centimetre * px_per_cm
        if y <= height_px - margin:
            cv2.line(picture, (margin, y), (width_px - margin, y), faint, 1 if centimetre % 5 else 3, cv2.LINE_AA)
    low, high = (margin, height_px - margin), (width_px - margin, margin)
    for tilt_deg in (30, 45, 60):
        far = (low[0] + 2 * width_px, low[1] - round(2 * width_px * float(np.tan(np.deg2rad(tilt_deg)))))
        _, start, end = cv2.clipLine((margin, margin, high[0] - low[0], low[1] - high[1]), low, far)
        cv2.line(picture, start, end, (120, 172, 150), 2, cv2.LINE_AA)
    cv2.rectangle(picture, (margin, margin), (width_px - margin, height_px - margin), bright, 3, cv2.LINE_AA)
    for number in range(0, (width_px - 2 * margin) // px_per_cm + 1, 5):
        x = margin + number * px_per_cm
        _write(picture, str(number), (x, margin // 2), 0.62 * margin, bright)
        _write(picture, str(number), (x, height_px - margin // 2), 0.62 * margin, bright)
    cv2.ellipse(picture, low, (6 * px_per_cm,) * 2, 0, -90, 0, bright, 2, cv2.LINE_AA)
    _write(picture, "SACCADE", (width_px - 7 * px_per_cm, height_px - round(2.2 * px_per_cm)), px_per_cm, bright)
    return picture


def puzzle_cube(random: np.random.Generator, size_px: int) -> list[Picture]:
    """Paint the six faces of a shuffled puzzle cube: nine stickers per face."""
    stickers = random.permutation(np.repeat(np.arange(6), 9)).reshape(6, 3, 3)
    pictures = []
    for face in range(6):
        stickers[face, 1, 1] = face
        picture = np.full((size_px, size_px, 3), 18, np.uint8)
        cell = size_px / 3
        for row in range(3):
            for column in range(3):
                low = (round((column + 0.07) * cell), round((row + 0.07) * cell))
                high = (round((column + 0.93) * cell), round((row + 0.93) * cell))
                cv2.rectangle(picture, low, high, _CUBE_COLOURS[stickers[face, row, column]], -1)
        pictures.append(picture)
    return pictures


def letter_block(random: np.random.Generator, size_px: int) -> list[Picture]:
    """Paint a wooden toy block: a framed letter on every face."""
    letters = random.permutation(list("ACDESGRS"))[:6]
    inks = random.permutation(np.array([(190, 40, 48), (28, 86, 168), (24, 128, 76), (206, 120, 16)]))
    pictures = []
    for face in range(6):
        ground = np.array([226, 196, 146], np.float32) + 9 * _noise(random, size_px, size_px, (5, 20))[..., None]
        picture = _picture(ground)
        ink: Colour = (int(inks[face % 4][0]), int(inks[face % 4][1]), int(inks[face % 4][2]))
        edge = round(0.08 * size_px)
        cv2.rectangle(picture, (edge, edge), (size_px - edge, size_px - edge), ink, round(0.06 * size_px), cv2.LINE_AA)
        _write(picture, str(letters[face]), (size_px // 2, size_px // 2), 0.55 * size_px, ink, 0.075 * size_px)
        pictures.append(picture)
    return pictures


def parcel(random: np.random.Generator, size: tuple[float, float, float], px_per_m: float) -> list[Picture]:
    """Paint a cardboard parcel of ``size`` (m): brown paper, tape over the top and two sides, a label, symbols."""
    x, y, z = (round(side * px_per_m) for side in size)
    shapes = ((y, z), (y, z), (x, z), (x, z), (x, y), (x, y))  # width, height of each face
    pictures = []
    for face, (width, height) in enumerate(shapes):
        ground = np.array([188, 140, 92], np.float32) + 7 * _noise(random, height, width, (30, 6))[..., None]
        ground[:, ::7] *= 0.965  # the flutes
        picture = _picture(ground)
        band = round(0.008 * px_per_m)
        if face == 4:
            _tape(picture[height // 2 - band : height // 2 + band])
            label = (round(0.08 * width), round(0.60 * height))
            _label(random, picture, label, (round(0.50 * width), round(0.34 * height)))
            _write(picture, "FRAGILE", (round(0.70 * width), round(0.20 * height)), 0.11 * width, (176, 24, 24))
        if face in (0, 1):
            _tape(picture[: round(0.55 * height), width // 2 - band : width // 2 + band])
        if face in (2, 3):
            for column, glyph in enumerate(("cup", "up", "up")):
                _mark(picture, glyph, (round((0.16 + 0.17 * column) * width), height // 2), round(0.24 * height))
            _write(picture, "SO-101", (round(0.75 * width), height // 2), 0.22 * height, (48, 36, 28))
        pictures.append(picture)
    return pictures


def tin_label(random: np.random.Generator, width_px: int, height_px: int) -> Picture:
    """Paint the label of a tin: two tones with a medal and text, metal rims."""
    tones: list[tuple[Colour, Colour]] = [((196, 28, 36), (246, 238, 222)), ((24, 74, 150), (248, 226, 120))]
    tone, paper = tones[int(random.integers(len(tones)))]
    picture = np.empty((height_px, width_px, 3), np.uint8)
    picture[:] = tone
    picture[round(0.56 * height_px) :] = paper
    for side, (brand, kind) in enumerate((("SPLAT", "TOMATO"), ("SOUP", "GAUSS"))):
        middle = round((side + 0.5) * width_px / 2)
        centre = (middle, round(0.56 * height_px))
        cv2.circle(picture, centre, round(0.13 * height_px), (214, 168, 60), -1, cv2.LINE_AA)
        cv2.circle(picture, centre, round(0.09 * height_px), (250, 232, 170), round(0.02 * height_px), cv2.LINE_AA)
        _write(picture, brand, (middle, round(0.26 * height_px)), 0.20 * height_px, paper, 5)
        _write(picture, kind, (middle, round(0.82 * height_px)), 0.14 * height_px, tone)
        seam = round(side * width_px / 2)
        for row in range(round(0.62 * height_px), round(0.92 * height_px), round(0.06 * height_px)):
            cv2.line(picture, (seam - 50, row), (seam + 50, row), tone, 2, cv2.LINE_AA)
    for rim in (0, 1):
        at = round(rim * 0.955 * height_px)
        picture[at : at + round(0.045 * height_px)] = (176, 180, 184)
    return np.roll(picture, width_px // 4, axis=1)  # so that a brand faces the arm


def tin_lid(size_px: int) -> Picture:
    """Paint a tin's lid: metal rings and a pull tab."""
    picture = np.full((size_px, size_px, 3), (186, 190, 194), np.uint8)
    centre, half = (size_px // 2, size_px // 2), size_px / 2
    for radius, tone in ((0.98, 150), (0.90, 206), (0.80, 168), (0.74, 196), (0.40, 176), (0.36, 194)):
        cv2.circle(picture, centre, round(radius * half), (tone, tone + 3, tone + 6), -1, cv2.LINE_AA)
    tab, hole = (size_px // 2, round(0.36 * size_px)), (size_px // 2, round(0.29 * size_px))
    axes = (round(0.10 * size_px), round(0.17 * size_px))
    cv2.ellipse(picture, tab, axes, 0, 0, 360, (120, 124, 130), -1, cv2.LINE_AA)
    cv2.circle(picture, hole, round(0.05 * size_px), (190, 192, 196), -1, cv2.LINE_AA)
    return picture


def beach_ball(random: np.random.Generator, width_px: int, height_px: int) -> Picture:
    """Paint a beach ball by longitude and latitude: six gores, a ring of dots, white poles."""
    gores = random.permutation(
        np.array([(226, 40, 44), (250, 250, 246), (28, 108, 196), (252, 200, 32), (250, 250, 246), (26, 148, 84)])
    )
    picture = np.empty((height_px, width_px, 3), np.uint8)
    for column in range(width_px):
        picture[:, column] = gores[column * 6 // width_px]
    for gore in range(6):
        middle = (round((gore + 0.5) * width_px / 6), height_px // 2)
        dark = tuple(int(part) // 2 for part in gores[gore])
        size = (round(width_px / 26), round(height_px / 26 * 2))
        cv2.ellipse(picture, middle, size, 0, 0, 360, dark, -1, cv2.LINE_AA)
    cap = round(0.1 * height_px)
    picture[:cap] = picture[-cap:] = (250, 250, 246)
    return picture


def _tape(strip: Picture) -> None:
    strip[:] = (0.45 * strip + 0.55 * np.array([232, 212, 170])).astype(np.uint8)


def _label(random: np.random.Generator, picture: Picture, low: tuple[int, int], size: tuple[int, int]) -> None:
    high = (low[0] + size[0], low[1] + size[1])
    cv2.rectangle(picture, low, high, (246, 246, 242), -1)
    x, bars = low[0] + size[0] // 14, low[1] + size[1] // 2
    while x < high[0] - size[0] // 10:
        wide = int(random.integers(1, max(2, size[0] // 28)))
        cv2.rectangle(picture, (x, bars), (x + wide, high[1] - size[1] // 8), (20, 20, 24), -1)
        x += wide + int(random.integers(2, max(3, size[0] // 22)))
    for line, length in enumerate((0.75, 0.5)):
        y = low[1] + round((0.16 + 0.17 * line) * size[1])
        cv2.line(picture, (low[0] + size[0] // 14, y), (low[0] + round(length * size[0]), y), (60, 60, 66), 3)


def _mark(picture: Picture, glyph: str, centre: tuple[int, int], half: int) -> None:
    ink, (x, y) = (48, 36, 28), centre
    if glyph == "up":
        cv2.fillPoly(picture, [np.array([[x, y - half], [x - half // 2, y], [x + half // 2, y]], np.int32)], ink)
        cv2.rectangle(picture, (x - half // 5, y), (x + half // 5, y + half), ink, -1)
        return
    cv2.fillPoly(picture, [np.array([[x - half // 2, y - half], [x + half // 2, y - half], [x, y]], np.int32)], ink)
    cv2.rectangle(picture, (x - half // 10, y), (x + half // 10, y + half), ink, -1)
    cv2.rectangle(picture, (x - half // 2, y + round(0.85 * half)), (x + half // 2, y + half), ink, -1)


def _knot(random: np.random.Generator, piece: NDArray[np.float32]) -> None:
    y, x = random.integers(0, piece.shape[0]), random.integers(0, piece.shape[1])
    axes = (int(random.integers(2, 5)), int(random.integers(4, 12)))
    shade = np.zeros(piece.shape[:2], np.float32)
    cv2.ellipse(shade, (int(x), int(y)), axes, 0, 0, 360, 1.0, -1)
    piece *= 1 - 0.45 * cv2.GaussianBlur(shade, (0, 0), 2.0)[..., None]


def _write(  # noqa: PLR0917 - drawn as OpenCV draws
    picture: Picture, text: str, centre: tuple[int, int], height_px: float, ink: Colour, stroke_px: float | None = None
) -> None:
    stroke = max(1, round(stroke_px if stroke_px is not None else height_px / 9))
    (_, reference), _ = cv2.getTextSize("X", _FONT, 1.0, 1)
    scale = height_px / reference
    (width, height), _ = cv2.getTextSize(text, _FONT, scale, stroke)
    origin = (centre[0] - width // 2, centre[1] + height // 2)
    cv2.putText(picture, text, origin, _FONT, scale, ink, stroke, cv2.LINE_AA)


def _noise(random: np.random.Generator, height: int, width: int, cells: tuple[int, int]) -> NDArray[np.float32]:
    """Return smooth noise of about unit size with ``cells`` bumps down and across."""
    coarse = random.standard_normal((max(2, cells[0]), max(2, cells[1]))).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def _picture(values: NDArray[np.float32]) -> Picture:
    return np.clip(values, 0, 255).astype(np.uint8)
