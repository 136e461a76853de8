"""The camera in front of the arm's table: how a script looks, and what can be seen of it."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from simulators.watch.arm_script import ArmScript, Place
from simulators.watch.canvas import HEIGHT, Canvas, Point, mixed, shaded
from simulators.watch.names import COLOURS, Colour
from simulators.watch.solids import HEIGHTS, draw_solid
from simulators.watch.truth import ClipTruth, Entity, MomentTruth

_TABLES: Final[tuple[Colour, ...]] = (
    (150, 118, 88), (122, 100, 80), (140, 140, 140), (105, 108, 112), (165, 150, 130), (96, 104, 96), (120, 128, 140),
)  # fmt: skip
_WALLS: Final[tuple[Colour, ...]] = (
    (190, 190, 185), (160, 170, 175), (130, 135, 130), (95, 100, 110), (175, 160, 145), (120, 115, 130), (70, 75, 80),
)  # fmt: skip
_METALS: Final[tuple[Colour, ...]] = ((70, 72, 78), (110, 112, 118), (150, 152, 156), (196, 188, 170), (52, 50, 60))
_JAW: Final = 0.30  # length of the jaws
_PLANE: Final = 0.46  # half of the table's width in the picture, at its front edge


class ArmView:
    """Draw the frames of a script; the look and the camera's place are drawn from ``random``."""

    def __init__(self, script: ArmScript, random: np.random.Generator) -> None:
        self._script = script
        uniform = random.uniform
        self._back, self._front = uniform(0.25, 0.33), uniform(0.60, 0.68)
        self._zoom, self._middle = uniform(0.94, 1.06), 0.5 + uniform(-0.03, 0.03)
        self._table = shaded(_TABLES[random.integers(len(_TABLES))], uniform(0.85, 1.15))
        self._wall = shaded(_WALLS[random.integers(len(_WALLS))], uniform(0.8, 1.15))
        self._metal = _METALS[random.integers(len(_METALS))]
        self._jaws = shaded(_METALS[random.integers(len(_METALS))], uniform(0.8, 1.2))
        self._tints = [_tinted(COLOURS[item.colour], random) for item in script.objects]
        self._base = (uniform(-0.2, 1.2), uniform(-0.3, -0.1))
        self._elbow = uniform(-0.2, 0.2)
        self._light = uniform(-0.5, 0.5)  # where shadows fall
        count = int(random.integers(0, 6))
        self._clutter = [
            (uniform(-0.1, 1.0), uniform(0.0, self._back), uniform(0.05, 0.3), uniform(0.7, 1.3)) for _ in range(count)
        ]
        self._stains = [
            (uniform(0.0, 1.0), uniform(self._back, HEIGHT), uniform(0.03, 0.2), uniform(0.9, 1.1))
            for _ in range(int(random.integers(0, 4)))
        ]
        self._planks = int(random.integers(0, 7)) if uniform() < 0.4 else 0

    def draw(self, canvas: Canvas, time_s: float, shake: Point = (0.0, 0.0)) -> None:
        """Draw the frame of a time; ``shake`` moves everything."""
        script = self._script
        dx, dy = shake
        self._draw_room(canvas, dx, dy)
        places = [script.place(i, time_s) for i in range(len(script.objects))]
        order = sorted(range(len(places)), key=lambda i: places[i][0][1])
        grip = script.gripper(time_s)
        for (x, depth, height), _ in places:
            self._draw_shadow(canvas, (x, depth, height), dx, dy)
        self._draw_shadow(canvas, (grip[0], grip[1], max(0.3, grip[2])), dx, dy)
        drawn = False
        for index in order:
            (place, held), item = places[index], script.objects[index]
            if not drawn and place[1] > grip[1] + 0.02 and not held:
                self._draw_gripper(canvas, grip, dx, dy)
                drawn = True
            x, y = self._seen(place)
            draw_solid(canvas, item.shape, (x + dx, y + dy), item.half * self._scale(place[1]), self._tints[index])
        if not drawn:
            self._draw_gripper(canvas, grip, dx, dy)

    def truth(self, time_s: float) -> MomentTruth:
        """Return what the frame of a time shows; the last entity is the gripper."""
        script, entities, held = self._script, [], None
        for index, item in enumerate(script.objects):
            place, is_held = script.place(index, time_s)
            held = index if is_held else held
            x, y = self._seen(place)
            half = item.half * self._scale(place[1])
            tall = HEIGHTS[item.shape] * half
            lift = place[2] * self._scale(place[1]) / HEIGHT
            region = (x - half, (y - tall) / HEIGHT, x + half, y / HEIGHT)
            entities.append(Entity(item.shape, item.colour, x, (y - tall / 2) / HEIGHT, place[1], lift, region))
        x, depth, height, opening = script.gripper(time_s)
        u, v = self._seen((x, depth, height))
        scale = self._scale(depth)
        half = (opening / 2 + 0.05) * scale
        region = (u - half, (v - (_JAW + 0.08) * scale) / HEIGHT, u + half, v / HEIGHT)
        lift = height * scale / HEIGHT
        entities.append(Entity("gripper", "", u, v / HEIGHT, depth, lift, region, state=opening))
        return MomentTruth(time_s, tuple(entities), held, script.gripping(time_s))

    def clip_truth(self, times_s: tuple[float, ...]) -> ClipTruth:
        """Return the truth of a clip."""
        return ClipTruth("arm", tuple(self.truth(time_s) for time_s in times_s), tuple(self._script.events))

    def _scale(self, depth: float) -> float:
        return _PLANE * (0.66 + 0.34 * depth) * self._zoom

    def _seen(self, place: Place) -> Point:
        x, depth, height = place
        scale = self._scale(depth)
        return self._middle + x * scale, self._back + (self._front - self._back) * depth - height * scale

    def _draw_room(self, canvas: Canvas, dx: float, dy: float) -> None:
        edge = self._back - 0.03 + dy
        canvas.rows(0.0, edge, shaded(self._wall, 1.05), shaded(self._wall, 0.9))
        canvas.rows(edge, HEIGHT, shaded(self._table, 0.9), shaded(self._table, 1.05))
        for left, top, wide, light in self._clutter:
            canvas.box(left + dx, top + dy, left + wide + dx, edge, shaded(self._wall, light))
        for x, y, wide, light in self._stains:
            canvas.ellipse((x + dx, y + dy), (wide, wide / 3), shaded(self._table, light))
        for plank in range(self._planks):
            x = (plank + 0.5) / self._planks - 0.5
            far, near = (0.5 + x + dx, edge), (0.5 + 1.5 * x + dx, HEIGHT)
            canvas.line(far, near, shaded(self._table, 0.85), 0.004)

    def _draw_shadow(self, canvas: Canvas, place: Place, dx: float, dy: float) -> None:
        x, y = self._seen((place[0] + self._light * place[2] * 0.5, place[1], 0.0))
        strength = 0.35 / (1 + 2 * place[2])
        wide = 0.2 * self._scale(place[1]) * (1 + 0.3 * place[2])
        canvas.ellipse((x + dx, y + dy - 0.005), (wide, wide * 0.3), shaded(self._table, 1 - strength))

    def _draw_gripper(self, canvas: Canvas, grip: tuple[float, float, float, float], dx: float, dy: float) -> None:
        x, depth, height, opening = grip
        u, tip = self._seen((x, depth, height))
        u, tip, scale = u + dx, tip + dy, self._scale(depth)
        thick, palm, half = 0.06 * scale, tip - _JAW * scale, (opening / 2 + 0.03) * scale
        wrist = (u, palm - 0.1 * scale)
        base = (self._base[0] + dx, self._base[1] + dy)
        elbow = ((wrist[0] + base[0]) / 2 + self._elbow, min(wrist[1], 0.3) - 0.25)
        canvas.line(base, elbow, shaded(self._metal, 0.85), 0.26 * scale)
        canvas.line(elbow, wrist, self._metal, 0.2 * scale)
        canvas.ellipse(elbow, (0.14 * scale, 0.14 * scale), shaded(self._metal, 1.2))
        canvas.box(u - 0.09 * scale, palm - 0.12 * scale, u + 0.09 * scale, palm, shaded(self._metal, 1.1))
        reach = max(half, 0.13 * scale)
        canvas.box(u - reach - thick, palm - 0.05 * scale, u + reach + thick, palm + 0.02 * scale, self._jaws)
        for side in (-1, 1):
            inner, outer = u + side * half, u + side * (half + thick)
            canvas.polygon(((inner, palm), (outer, palm), (outer, tip - thick), (inner, tip)), shaded(self._jaws, 1.0))


def _tinted(colour: Colour, random: np.random.Generator) -> Colour:
    grey = round(sum(colour) / 3)
    tint = shaded(mixed(colour, (grey, grey, grey), float(random.uniform(0, 0.15))), float(random.uniform(0.85, 1.1)))
    red, green, blue = (int(np.clip(part + random.uniform(-10, 10), 0, 255)) for part in tint)
    return red, green, blue


def gripper_travel(script: ArmScript, start_s: float, end_s: float) -> float:
    """Return how far the gripper moves between two times, in halves of the table."""
    a, b = script.gripper(start_s), script.gripper(end_s)
    return math.dist(a[:3], b[:3])
