"""Scenery beside the road: trees as sprites, boards and buildings as textured panels, and the panorama."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from simulators.laps.circuit import ROAD_WIDTH_M, Circuit
from simulators.laps.ground_texture import WORDS

Floats = NDArray[np.float64]
Picture = NDArray[np.uint8]

HAZE_BGR = (226, 214, 200)
PANORAMA_WIDTH_PX = 4096
PANORAMA_HALF_RAD = 0.55  # the panorama reaches this far above the horizon


@dataclass(frozen=True)
class Scenery:
    """All objects beside the road.

    Shapes: tree_m [T, 5] is x, y, height, width, sprite; panel_m [Q, 4, 3] corners from top left, clockwise as seen
    from its front; panel_picture [Q] indexes ``panel_pictures``.
    """

    tree_m: Floats
    sprites: tuple[Picture, ...]  # BGRA, colour multiplied by alpha
    panel_m: Floats
    panel_picture: NDArray[np.int64]
    panel_pictures: tuple[Picture, ...]
    panorama: Picture


def make_scenery(circuit: Circuit) -> Scenery:
    """Generate the scenery of a circuit; the same seed always gives the same scenery."""
    random = np.random.default_rng([circuit.seed, 41])
    sprites = tuple(_tree(random, conifer=bool(index % 3 == 0)) for index in range(14))
    builder = _Panels(circuit, random)
    builder.barriers()
    builder.boards()
    builder.buildings()
    builder.gantry(circuit.length_m - 2.0)
    builder.gantry(circuit.length_m * random.uniform(0.35, 0.65))
    return Scenery(
        tree_m=_plant(circuit, random, len(sprites), np.array(builder.keep_clear)),
        sprites=sprites,
        panel_m=np.array(builder.corners),
        panel_picture=np.array(builder.which),
        panel_pictures=tuple(builder.pictures),
        panorama=_panorama(random),
    )


def _plant(circuit: Circuit, random: np.random.Generator, kinds: int, keep_clear: Floats) -> Floats:
    """Plant trees in clumps of varying density, clear of road and buildings."""
    count = int(circuit.length_m * 1.1)
    place = random.uniform(0, circuit.length_m, count)
    density = 0.5 + 0.5 * np.sin(place * 2 * np.pi / circuit.length_m * 5 + random.uniform(0, 6))
    keep = random.uniform(size=count) < 0.25 + 0.75 * density
    place = place[keep]
    offset = (ROAD_WIDTH_M / 2 + 11 + random.gamma(1.5, 12.0, len(place))) * random.choice([-1, 1], len(place))
    where = circuit.at(place, offset)
    free = circuit.distance_to_road_m(where) > ROAD_WIDTH_M / 2 + 9
    free &= np.min(np.linalg.norm(where[:, None] - keep_clear[None], axis=-1), axis=1) > 9.0
    where = where[free]
    height = random.uniform(5.0, 13.0, len(where))
    return np.column_stack(
        [where, height, height * random.uniform(0.55, 0.85, len(where)), random.integers(0, kinds, len(where))]
    )


def _tree(random: np.random.Generator, *, conifer: bool) -> Picture:
    """Draw one tree, 192x256, lit from the upper left."""
    colour, alpha = np.zeros((256, 192, 3), np.uint8), np.zeros((256, 192), np.uint8)
    bark = tuple(int(v) for v in np.array([38, 58, 80]) * random.uniform(0.7, 1.2))
    for canvas, tone in ((colour, bark), (alpha, 255)):
        cv2.rectangle(canvas, (90, 150), (103, 255), tone, -1, cv2.LINE_AA)
    base = np.array([44, 96, 66]) + random.uniform(-1, 1, 3) * np.array([14, 20, 24])
    if random.uniform() < 0.2:
        base = np.array([48, 108, 148]) + random.uniform(-12, 12, 3)
    for index in range(230):
        level = (index + 0.5) / 230
        if conifer:
            y = 238 - 232 * level
            reach = 84 * (1 - level) * (0.65 + 0.35 * ((level * 6) % 1))
            x, radius = 96 + random.uniform(-reach, reach), random.uniform(5, 11) * (1.15 - level)
        else:
            angle, reach = random.uniform(0, 2 * np.pi), np.sqrt(random.uniform()) * (1 - 0.25 * level)
            x, y = 96 + 78 * reach * np.cos(angle), 98 + 88 * reach * np.sin(angle) - 18 * level
            radius = random.uniform(6, 17) * (1.1 - 0.5 * level)
        light = 0.52 + 0.62 * level * (0.75 + 0.25 * ((96 - x) / 96)) + random.uniform(-0.1, 0.1)
        tone = tuple(int(v) for v in np.clip(base * light, 0, 255))
        for canvas, value in ((colour, tone), (alpha, 255)):
            cv2.circle(canvas, (int(x), int(y)), max(2, int(radius)), value, -1, cv2.LINE_AA)
    return np.dstack([cv2.multiply(colour, cv2.merge([alpha] * 3), scale=1 / 255), alpha])


@dataclass
class _Panels:
    """Builder of the textured panels."""

    circuit: Circuit
    random: np.random.Generator

    def __post_init__(self) -> None:
        self.corners: list[Floats] = []
        self.which: list[int] = []
        self.pictures: list[Picture] = []
        self.keep_clear: list[Floats] = []

    def texture(self, picture: Picture) -> int:
        """Store a picture and return its number."""
        self.pictures.append(picture)
        return len(self.pictures) - 1

    def put(self, left_m: Floats, right_m: Floats, bottom_m: float, top_m: float, picture: int) -> None:
        """Add an upright panel between two ground points, as seen from its front."""
        rows = [(*left_m, top_m), (*right_m, top_m), (*right_m, bottom_m), (*left_m, bottom_m)]
        self.corners.append(np.array(rows))
        self.which.append(picture)
        self.keep_clear.append((left_m + right_m) / 2)

    def barriers(self) -> None:
        """Line the road with guard rails, and with tyre walls outside corners."""
        rail = np.full((32, 64, 3), (150, 152, 150), np.uint8)
        rail[6:9], rail[14:18], rail[24:] = (196, 198, 196), (112, 116, 116), (98, 104, 100)
        rail[:, 30:34] = (88, 90, 90)
        kinds = [self.texture(rail)]
        for first, second in (((60, 50, 200), (230, 230, 230)), ((190, 110, 40), (230, 230, 230))):
            tyres = np.full((32, 64, 3), first, np.uint8)
            tyres[:, 32:] = second
            for x in range(4, 64, 8):
                cv2.line(tyres, (x, 0), (x, 32), (40, 40, 40), 2)
            kinds.append(self.texture(tyres))
        for side in (-1.0, 1.0):
            place = 0.0
            while place < self.circuit.length_m - 4:
                bend = float(self.circuit.curvature_at(np.array([place]))[0])
                outside = bend * side < -1 / 80.0
                reach = side * (ROAD_WIDTH_M / 2 + (12.5 if outside else 6.0))
                ends = self.circuit.at(np.array([place, place + 4.0]), reach)
                clear = self.circuit.distance_to_road_m(ends).min() > ROAD_WIDTH_M / 2 + 3.5
                if clear and np.linalg.norm(ends[0] - ends[1]) > 1.0:
                    left, right = (ends[0], ends[1]) if side > 0 else (ends[1], ends[0])
                    kind = kinds[1 + int(place / 60) % 2] if outside else kinds[0]
                    self.put(left, right, 0.0, 1.1 if outside else 0.85, kind)
                place += 4.0
        self.keep_clear.clear()

    def boards(self) -> None:
        """Add advertising boards beside the road and brake markers before corners."""
        for place in np.arange(20.0, self.circuit.length_m, 24.0):
            if self.random.uniform() < 0.25:
                continue
            side = float(self.random.choice([-1, 1]))
            where = place + self.random.uniform(-8, 8)
            reach = side * (ROAD_WIDTH_M / 2 + self.random.uniform(7.5, 15.0))
            size = (self.random.uniform(4, 8), 0.6, self.random.uniform(1.8, 3.2))
            self._facing(where, reach, size, self._board())
        bend = np.abs(self.circuit.curvature_at(np.arange(0.0, self.circuit.length_m, 5.0))) > 1 / 45.0
        for start in np.flatnonzero(np.diff(bend.astype(int)) == 1) * 5.0:
            for number in (100, 50):
                picture = np.full((64, 96, 3), 245, np.uint8)
                cv2.putText(picture, str(number), (6, 48), cv2.FONT_HERSHEY_DUPLEX, 1.35, (20, 20, 20), 3, cv2.LINE_AA)
                self._facing(start - number, -(ROAD_WIDTH_M / 2 + 3.5), (1.8, 0.4, 1.7), self.texture(picture))

    def _board(self) -> int:
        hue = int(self.random.integers(0, 180))
        ground = cv2.cvtColor(np.array([[[hue, 190, 170]]], np.uint8), cv2.COLOR_HSV2BGR)[0, 0]
        picture = np.empty((64, 256, 3), np.uint8)
        picture[:] = ground
        if self.random.uniform() < 0.4:
            cv2.rectangle(picture, (0, 54), (256, 64), (240, 240, 240), -1)
        text = WORDS[int(self.random.integers(len(WORDS)))]
        cv2.putText(picture, text, (12, 45), cv2.FONT_HERSHEY_DUPLEX, 1.3, (250, 250, 250), 3, cv2.LINE_AA)
        return self.texture(picture)

    def _facing(self, place: float, reach: float, size: tuple[float, float, float], picture: int) -> None:
        """Add a panel (width, bottom, height) that faces the traffic, turned slightly towards the road."""
        width, bottom, height = size
        centre = self.circuit.at(np.array([place]), reach)[0]
        heading = float(self.circuit.heading_at(np.array([place]))[0]) + np.sign(reach) * 0.35
        across = np.array([np.sin(heading), -np.cos(heading)]) * width / 2
        if self.circuit.distance_to_road_m(centre + np.array([across, -across])).min() > ROAD_WIDTH_M / 2 + 1.5:
            self.put(centre - across, centre + across, bottom, bottom + height, picture)

    def buildings(self) -> None:
        """Add pit buildings, houses and grandstands, built of panels at most 9 m wide."""
        for place in np.arange(self.random.uniform(10, 40), self.circuit.length_m, self.random.uniform(75, 110)):
            side = float(self.random.choice([-1, 1]))
            stand = self.random.uniform() < 0.45
            depth, height = self.random.uniform(8, 14), self.random.uniform(4.5, 8.0)
            picture = self.texture(_stand(self.random) if stand else _house(self.random))
            near, far = side * (ROAD_WIDTH_M / 2 + 15), side * (ROAD_WIDTH_M / 2 + 15 + depth)
            corners = self.circuit.at(np.array([place, place + 26.0]), near)
            back = self.circuit.at(np.array([place, place + 26.0]), far)
            if self.circuit.distance_to_road_m(np.vstack([corners, back])).min() < ROAD_WIDTH_M / 2 + 12:
                continue
            front = [corners[0] + (corners[1] - corners[0]) * part for part in (0.0, 1 / 3, 2 / 3, 1.0)]
            for first, second in pairwise(front):
                left, right = (first, second) if side > 0 else (second, first)
                self.put(left, right, 0.0, height, picture)
            wall = self.texture(_wall(self.random))
            left, right = (back[0], corners[0]) if side > 0 else (corners[0], back[0])
            self.put(left, right, 0.0, height, wall)

    def gantry(self, place_m: float) -> None:
        """Span a bridge with a sponsor name over the road."""
        left, right = self.circuit.at(np.array([place_m, place_m]), np.array([7.5, -7.5]))
        for first, second in ((0.0, 0.5), (0.5, 1.0)):
            self.put(left + (right - left) * first, left + (right - left) * second, 5.0, 6.8, self._board())
        post = self.texture(np.full((32, 8, 3), (120, 118, 116), np.uint8))
        for end, inward in ((left, right - left), (right, left - right)):
            step = inward / np.linalg.norm(inward) * 0.25
            pair = (end - step, end + step) if end is left else (end + step, end - step)
            self.put(pair[0], pair[1], 0.0, 5.2, post)


def _house(random: np.random.Generator) -> Picture:
    tone = np.array([188, 204, 214]) + random.uniform(-34, 26, 3)
    picture = np.empty((96, 144, 3), np.uint8)
    picture[:] = np.clip(tone, 0, 255)
    picture[:14] = (70, 78, 128) if random.uniform() < 0.5 else (92, 88, 84)
    for row in range(24, 84, 30):
        for x in range(8, 132, 24):
            glass = int(random.integers(70, 130))
            cv2.rectangle(picture, (x, row), (x + 14, row + 18), (glass + 20, glass, glass - 24), -1)
            cv2.rectangle(picture, (x, row), (x + 14, row + 18), (232, 236, 238), 1)
    return picture


def _wall(random: np.random.Generator) -> Picture:
    picture = np.empty((64, 64, 3), np.uint8)
    picture[:] = np.clip(np.array([150, 160, 168]) + random.uniform(-30, 20, 3), 0, 255)
    picture[:10] = (84, 82, 80)
    return picture


def _stand(random: np.random.Generator) -> Picture:
    """Draw a grandstand with its crowd."""
    picture = np.full((96, 144, 3), (96, 92, 88), np.uint8)
    picture[:18] = np.array([150, 90, 40]) if random.uniform() < 0.5 else np.array([50, 50, 160])
    crowd = random.integers(40, 235, (15, 36, 3)).astype(np.uint8)
    picture[24:84] = np.repeat(np.repeat(crowd, 4, 0), 4, 1)
    picture[24:84:4] = (84, 84, 84)
    picture[:, ::48] = (70, 70, 70)
    return picture


def _panorama(random: np.random.Generator) -> Picture:
    """Draw the sky, clouds and three ranges of hills all around; the last row is the horizon."""
    width, height = PANORAMA_WIDTH_PX, 360
    up = np.linspace(1, 0, height)[:, None]
    top, low = np.array([206, 140, 84.0]), np.array(HAZE_BGR, float)
    sky = low + (top - low) * np.clip(up * 1.5, 0, 1)[..., None]
    picture = np.broadcast_to(sky, (height, width, 3)).astype(np.float32).copy()
    clouds = np.zeros((height, width), np.float32)
    for cell, strength in ((8, 0.5), (18, 0.3), (44, 0.2)):
        coarse = random.standard_normal((cell, cell * 6)).astype(np.float32)
        ring = np.hstack([coarse[:, -4:], coarse, coarse[:, :4]])  # wraps around
        edge = round(4 * width / (cell * 6))
        smooth = np.asarray(cv2.resize(ring, (width + 2 * edge, height), interpolation=cv2.INTER_CUBIC))
        clouds += np.float32(strength) * smooth[:, edge : edge + width]
    cover = np.clip((clouds - 0.05) * 1.9, 0, 0.9)[..., None] * np.clip(up * 5, 0, 1)[..., None].astype(np.float32)
    picture += (np.array([250, 248, 246], np.float32) - picture) * cover
    angle = np.linspace(0, 2 * np.pi, width, endpoint=False)
    for layer, (reach, tone) in enumerate(((0.20, (196, 176, 150)), (0.12, (150, 148, 116)), (0.065, (84, 116, 84)))):
        ridge = np.full(width, reach * 0.55)
        for harmonic in range(2, 60, 1 + layer):
            ridge += reach * 0.9 / harmonic**0.85 * np.cos(harmonic * angle + random.uniform(0, 2 * np.pi)) * 0.5
        line = (height - 1) * (1 - np.clip(ridge, 0.01, 0.9))
        below = np.arange(height)[:, None] > line[None]
        grain = random.uniform(-9, 9, (height // 3 + 1, width // 3 + 1)).astype(np.float32)
        grain = np.kron(grain, np.ones((3, 3), np.float32))[:height, :width]
        picture[below] = (np.array(tone, np.float32) + grain[..., None] * (layer + 1) / 2)[below]
    return np.asarray(np.clip(picture, 0, 255).astype(np.uint8))
