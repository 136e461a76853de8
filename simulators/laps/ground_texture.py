"""Texture of the ground of a circuit from above: grass, road, kerbs, lines, gravel, shadows."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from simulators.laps.circuit import ROAD_WIDTH_M, Circuit

Floats = NDArray[np.float64]
Picture = NDArray[np.uint8]

MARGIN_M = 70.0
WORDS = ("SACCADE", "APEX", "NORDWIND", "TORQUE", "VELOX", "HALCYON", "MERIDIAN", "KITE", "OSTRO", "LUMEN")


@dataclass(frozen=True)
class GroundTexture:
    """A ground texture with its mipmaps. ``levels[k]`` has ``pixels_per_m / 2**k``; row 0 is south."""

    levels: tuple[Picture, ...]
    origin_m: tuple[float, float]
    pixels_per_m: float

    def from_world(self, level: int) -> Floats:
        """Return the 3x3 matrix from ground metres to pixels of a level."""
        scale = self.pixels_per_m / 2**level
        shift = 0.5 / 2**level - 0.5
        return np.array(
            [
                [scale, 0, -self.origin_m[0] * scale + shift],
                [0, scale, -self.origin_m[1] * scale + shift],
                [0, 0, 1.0],
            ]
        )


def paint_ground(circuit: Circuit, trees_m: Floats, pixels_per_m: float = 8.0) -> GroundTexture:
    """Paint the ground around a circuit; ``trees_m`` [T, 3] are x, y and crown radius, for their shadows."""
    random = np.random.default_rng([circuit.seed, 31])
    low = circuit.point_m.min(0) - MARGIN_M
    size = np.ceil((circuit.point_m.max(0) + MARGIN_M - low) * pixels_per_m).astype(int)
    brush = _Brush(circuit, low, pixels_per_m, _grass(random, int(size[1]), int(size[0])))
    _run_off(brush, random)
    _road(brush, random)
    _kerbs(brush)
    _markings(brush, random)
    _shadows(brush, trees_m)
    levels = [brush.picture]
    while min(levels[-1].shape[:2]) > 64 and len(levels) < 7:
        levels.append(np.asarray(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)))
    return GroundTexture(tuple(levels), (float(low[0]), float(low[1])), pixels_per_m)


@dataclass
class _Brush:
    circuit: Circuit
    low: Floats
    scale: float
    picture: Picture

    def pixel(self, point_m: Floats) -> NDArray[np.int32]:
        """Return points in 1/16 pixels, for OpenCV's ``shift=4``."""
        return np.round((point_m - self.low) * self.scale * 16).astype(np.int32)

    def ribbon(self, start_m: float, end_m: float, left_m: float, right_m: float, colour: tuple[int, ...]) -> None:
        """Fill a strip along the road between two offsets (positive is left)."""
        place = np.linspace(start_m, end_m, max(2, int((end_m - start_m) / 1.0) + 1))
        edge = np.vstack([self.circuit.at(place, left_m), self.circuit.at(place[::-1], right_m)])
        cv2.fillPoly(self.picture, [self.pixel(edge)], colour, cv2.LINE_AA, 4)

    def loop(self, offset_m: float, width_m: float, colour: tuple[int, ...]) -> None:
        """Draw a line around the whole circuit at an offset."""
        place = np.arange(0.0, self.circuit.length_m, 1.0)
        points = self.pixel(self.circuit.at(place, offset_m))
        cv2.polylines(self.picture, [points], True, colour, max(1, round(width_m * self.scale)), cv2.LINE_AA, 4)


def _noise(random: np.random.Generator, height: int, width: int, cell: float, strength: float) -> NDArray[np.float32]:
    coarse = random.standard_normal((max(2, int(height / cell)), max(2, int(width / cell)))).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)) * np.float32(strength)


def _grass(random: np.random.Generator, height: int, width: int) -> Picture:
    shade = _noise(random, height, width, 90, 11) + _noise(random, height, width, 17, 8)
    fine = random.integers(-11, 12, (512, 512)).astype(np.float32)
    shade += np.tile(fine, (height // 512 + 1, width // 512 + 1))[:height, :width]
    dry = np.clip(_noise(random, height, width, 160, 0.55) + 0.25, 0, 1)
    picture = np.empty((height, width, 3), np.uint8)
    for channel, (green, straw) in enumerate(((52, 74), (112, 136), (84, 132))):
        picture[..., channel] = np.clip(green + (straw - green) * dry + shade, 0, 255)
    return picture


def _corners(circuit: Circuit) -> list[tuple[float, float, float]]:
    """Return the corners: (start_m, end_m, signed curvature at the apex)."""
    step = 2.0
    place = np.arange(0.0, circuit.length_m, step)
    bend = circuit.curvature_at(place)
    inside = np.abs(bend) > 1 / 75.0
    edges = np.flatnonzero(np.diff(np.concatenate([[0], inside.astype(int), [0]])))
    spans = zip(edges[::2], edges[1::2], strict=True)
    return [(place[a], place[b - 1], bend[a:b][np.abs(bend[a:b]).argmax()]) for a, b in spans if b - a > 4]


def _run_off(brush: _Brush, random: np.random.Generator) -> None:
    half = ROAD_WIDTH_M / 2
    brush.loop(0.0, ROAD_WIDTH_M + 3.0, (66, 104, 92))
    for start, end, bend in _corners(brush.circuit):
        outside = -np.sign(bend)
        kind = random.integers(3)
        colour = ((118, 168, 188), (92, 96, 98), (150, 110, 70))[kind]
        brush.ribbon(start - 8, end + 14, outside * (half + 1.4), outside * (half + random.uniform(6, 11)), colour)
        if kind == 2:
            for stripe in np.arange(start - 8, end + 12, 7.0):
                brush.ribbon(stripe, stripe + 3.5, outside * (half + 1.4), outside * (half + 6), (190, 190, 196))


def _road(brush: _Brush, random: np.random.Generator) -> None:
    half = ROAD_WIDTH_M / 2
    brush.loop(0.0, ROAD_WIDTH_M, (84, 82, 80))
    for _ in range(int(brush.circuit.length_m / 14)):
        start, length = random.uniform(0, brush.circuit.length_m), random.uniform(3, 26)
        left = random.uniform(-half, half - 1)
        tone = int(random.integers(66, 104))
        right = min(half, left + random.uniform(1.0, 5.0))
        brush.ribbon(start, start + length, left, right, (tone, tone, tone - 2))
    for offset in (-1.1, 0.6):
        brush.loop(offset, 0.7, (70, 69, 68))
    for start, end, bend in _corners(brush.circuit):
        for _ in range(4):
            begin, side = random.uniform(start - 40, end - 5), np.sign(bend) * random.uniform(-3.5, 2.5)
            brush.ribbon(begin, begin + random.uniform(8, 28), side, side + 0.28, (46, 46, 46))
    height, width = brush.picture.shape[:2]
    grain = np.tile(random.integers(0, 14, (512, 512, 1)).astype(np.uint8), (height // 512 + 1, width // 512 + 1, 3))
    brush.picture = np.asarray(cv2.subtract(brush.picture, grain[:height, :width]))


def _kerbs(brush: _Brush) -> None:
    half = ROAD_WIDTH_M / 2
    for start, end, bend in _corners(brush.circuit):
        inside = float(np.sign(bend))
        for side, begin, finish in ((inside, start, end), (-inside, end - 6, end + 22)):
            for index, stripe in enumerate(np.arange(begin, finish, 1.6)):
                colour = (40, 40, 205) if index % 2 else (228, 230, 232)
                brush.ribbon(stripe, stripe + 1.6, side * half, side * (half + 1.2), colour)


def _markings(brush: _Brush, random: np.random.Generator) -> None:
    half = ROAD_WIDTH_M / 2
    for side in (-1, 1):
        brush.loop(side * (half - 0.25), 0.2, (226, 228, 228))
    for column in range(10):
        for row in range(3):
            tone = (235, 235, 235) if (column + row) % 2 else (25, 25, 25)
            brush.ribbon(row * 0.6, row * 0.6 + 0.6, -half + column, -half + column + 1, tone)
    for slot in range(8):
        place, left = brush.circuit.length_m - 8.0 * (slot + 1), (-2.6, 1.0)[slot % 2]
        brush.ribbon(place, place + 0.25, left, left + 1.8, (225, 225, 225))
    for start in np.arange(60.0, brush.circuit.length_m - 60, random.uniform(110, 150)):
        _word(brush, random, float(start + random.uniform(0, 40)))


def _word(brush: _Brush, random: np.random.Generator, place_m: float) -> None:
    """Paint a sponsor name on the grass beside the road, readable for approaching drivers."""
    word = np.zeros((40, 220, 3), np.uint8)
    text = WORDS[int(random.integers(len(WORDS)))]
    cv2.putText(word, text, (6, 31), cv2.FONT_HERSHEY_DUPLEX, 1.15, (235, 235, 235), 3, cv2.LINE_AA)
    side = float(random.choice([-1, 1])) * (ROAD_WIDTH_M / 2 + 9.0)
    centre = brush.circuit.at(np.array([place_m]), side)[0]
    heading = float(brush.circuit.heading_at(np.array([place_m]))[0])
    right, ahead = np.array([np.sin(heading), -np.cos(heading)]), np.array([np.cos(heading), np.sin(heading)])
    corners = [centre + right * across + ahead * along for across, along in ((-6, 4), (6, 4), (6, -4), (-6, -4))]
    target = ((np.array(corners) - brush.low) * brush.scale).astype(np.float32)
    source = np.array([[0, 0], [220, 0], [220, 40], [0, 40]], np.float32)
    low, high = np.floor(target.min(0)).astype(int), np.ceil(target.max(0)).astype(int)
    region = brush.picture[low[1] : high[1], low[0] : high[0]]
    warp = cv2.getPerspectiveTransform(source, (target - low).astype(np.float32))
    painted = cv2.warpPerspective(word, warp, (region.shape[1], region.shape[0]), flags=cv2.INTER_AREA)
    np.maximum(region, painted, out=region)


def _shadows(brush: _Brush, trees_m: Floats) -> None:
    shade = np.full(brush.picture.shape[:2], 255, np.uint8)
    for x, y, radius in trees_m:
        centre = brush.pixel(np.array([x + 0.8 * radius, y - 0.5 * radius]))
        reach = (int(radius * 1.25 * brush.scale * 16), int(radius * 0.75 * brush.scale * 16))
        cv2.ellipse(shade, (int(centre[0]), int(centre[1])), reach, -30, 0, 360, 140, -1, cv2.LINE_AA, 4)
    soft = cv2.blur(shade, (5, 5))
    brush.picture = np.asarray(cv2.multiply(brush.picture, cv2.merge([soft, soft, soft]), scale=1 / 255))
