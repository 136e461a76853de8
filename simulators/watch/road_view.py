"""A road seen from a car: the car ahead, the curve, the traffic light."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Final

import numpy as np

from simulators.watch.canvas import HEIGHT, Canvas, Point, ease, shaded
from simulators.watch.names import COLOURS, LIGHT_COLOURS, Colour
from simulators.watch.truth import ClipTruth, Entity, MomentTruth, WatchEvent

_LANE: Final = 0.28  # width of a lane at the bottom of the picture
_LAMPS: Final[dict[str, Colour]] = {"red": (255, 40, 30), "yellow": (255, 210, 40), "green": (40, 240, 100)}
_GROUNDS: Final[tuple[Colour, ...]] = ((95, 125, 70), (150, 135, 100), (120, 125, 115), (190, 195, 195))


class RoadView:
    """A drive of some seconds, drawn from ``random``."""

    def __init__(self, random: np.random.Generator, length_s: float) -> None:
        uniform = random.uniform
        self._horizon, self._vanish = uniform(0.26, 0.33), 0.5 + uniform(-0.05, 0.05)
        self._curve = float(random.choice((-1, 0, 1)) * uniform(0.7, 1.2))
        self._speed = 0.0 if uniform() < 0.25 else uniform(0.5, 2.0)
        self._sky = shaded((150, 185, 220), uniform(0.45, 1.15))
        self._ground = shaded(_GROUNDS[random.integers(len(_GROUNDS))], uniform(0.7, 1.1))
        self._asphalt = shaded((95, 95, 98), uniform(0.7, 1.3))
        self._phase = uniform(0, 1)
        self._trees = [(uniform(-1, 1), uniform(0.05, 0.16), uniform(0.6, 1.2)) for _ in range(random.integers(0, 8))]
        self._events: list[WatchEvent] = []
        self._make_car(random, length_s)
        self._make_light(random, length_s)

    def draw(self, canvas: Canvas, time_s: float, shake: Point = (0.0, 0.0)) -> None:
        """Draw the frame of a time."""
        dx, dy = shake
        horizon = self._horizon + dy
        canvas.rows(0, horizon, shaded(self._sky, 0.9), shaded(self._sky, 1.1))
        canvas.rows(horizon, HEIGHT, shaded(self._ground, 0.85), self._ground)
        for x, tall, light in self._trees:
            u = self._vanish + x * 0.6 + dx
            canvas.ellipse((u, horizon - tall / 2), (tall / 2, tall / 1.7), shaded((70, 95, 60), light))
        self._draw_road(canvas, time_s, dx, dy)
        if self._light:
            self._draw_light(canvas, time_s, dx, dy)
        if self._car:
            self._draw_car(canvas, time_s, dx, dy)

    def truth(self, time_s: float) -> MomentTruth:
        """Return what the frame of a time shows: the road, then car and light where there are any."""
        u, v = self._seen(0.0, 0.5)
        entities = [Entity("road", "", u, v / HEIGHT, 0.5, 0, (0, self._horizon / HEIGHT, 1, 1), state=self._curve)]
        if self._car:
            near, lane = self._near(time_s), self._lane(time_s)
            u, v = self._seen(lane, near)
            wide = self._wide * near
            tall = 0.75 * wide
            region = (u - wide / 2, (v - tall) / HEIGHT, u + wide / 2, v / HEIGHT)
            entities.append(
                Entity("car", self._car, u, (v - tall / 2) / HEIGHT, near, 0.0, region, self._brakes(time_s), lane)
            )
        if self._light:
            u, v, size = self._lamp()
            region = (u - size, (v - 2 * size) / HEIGHT, u + size, (v + 2 * size) / HEIGHT)
            entities.append(Entity("light", self._lit(time_s), u, v / HEIGHT, 0.4, 0, region))
        return MomentTruth(time_s, tuple(entities))

    def clip_truth(self, times_s: tuple[float, ...]) -> ClipTruth:
        """Return the truth of a clip."""
        return ClipTruth("road", tuple(self.truth(time_s) for time_s in times_s), tuple(self._events))

    @property
    def events(self) -> tuple[WatchEvent, ...]:
        """The light turns, the car brakes."""
        return tuple(self._events)

    def _make_car(self, random: np.random.Generator, length_s: float) -> None:
        uniform = random.uniform
        names = tuple(COLOURS)
        self._car = names[random.integers(len(names))] if uniform() < 0.85 else ""
        self._paint = shaded(COLOURS[self._car or "red"], uniform(0.85, 1.1))
        self._wide = uniform(0.28, 0.34)
        near = uniform(0.2, 0.3) if uniform() < 0.5 else uniform(0.45, 0.75)
        change = float(random.choice((0.0, 0.0, -1.0, 1.0))) * uniform(0.12, 0.35)
        self._nears = (near, float(np.clip(near + change, 0.18, 0.8)))
        self._change_s = (uniform(-0.5, 0.3) * length_s, uniform(0.7, 1.4) * length_s)
        lane = float(random.choice((-1, 0, 0, 1)))
        self._lanes = (lane, float(random.choice((-1, 1))) if lane == 0 else 0.0) if uniform() < 0.25 else (lane, lane)
        start_s = uniform(-0.2, 0.8) * length_s
        self._lane_s = (start_s, start_s + uniform(0.5, 1.0))
        self._brake_s = math.inf
        if uniform() < 0.35 and self._car:
            self._brake_s = uniform(-0.5, 1.0) * length_s
            self._events.append(WatchEvent("braked", 1, self._brake_s, self._brake_s))

    def _make_light(self, random: np.random.Generator, length_s: float) -> None:
        uniform = random.uniform
        self._light = bool(uniform() < 0.65)
        self._post, self._post_size = (uniform(0.12, 0.2), uniform(0.022, 0.036))
        self._post_top = uniform(0.1, 0.2)
        self._colour_path = [(-math.inf, LIGHT_COLOURS[random.integers(3)])]
        if uniform() < 0.45:
            turn_s = uniform(-0.3, 1.0) * length_s
            old = self._colour_path[0][1]
            new = {"red": "green", "green": "yellow", "yellow": "red"}[old]
            self._colour_path.append((turn_s, new))
            if self._light:
                self._events.append(WatchEvent("turned", 2 if self._car else 1, turn_s, turn_s))

    def _near(self, time_s: float) -> float:
        start, end = self._change_s
        return self._nears[0] + (self._nears[1] - self._nears[0]) * ease((time_s - start) / (end - start))

    def _lane(self, time_s: float) -> float:
        start, end = self._lane_s
        return self._lanes[0] + (self._lanes[1] - self._lanes[0]) * ease((time_s - start) / (end - start))

    def _brakes(self, time_s: float) -> float:
        return 1.0 if time_s >= self._brake_s else 0.0

    def _lit(self, time_s: float) -> str:
        return [colour for start_s, colour in self._colour_path if start_s <= time_s][-1]

    def _seen(self, lane: float, near: float) -> Point:
        y = self._horizon + (HEIGHT - self._horizon) * near
        bend = 0.3 * self._curve * (1 - near) ** 2
        return self._vanish + (0.5 - self._vanish) * near + bend + lane * _LANE * near, y

    def _lamp(self) -> tuple[float, float, float]:
        x, _ = self._seen(1.5, 0.4)
        return min(0.94, x + self._post), self._post_top + 0.06, self._post_size

    def _draw_road(self, canvas: Canvas, time_s: float, dx: float, dy: float) -> None:
        steps = [0.03, 0.1, 0.18, 0.28, 0.4, 0.55, 0.75, 1.0]
        for a, b in pairwise(steps):
            (l0, y0), (r0, _) = self._seen(-1.5, a), self._seen(1.5, a)
            (l1, y1), (r1, _) = self._seen(-1.5, b), self._seen(1.5, b)
            canvas.polygon(
                ((l0 + dx, y0 + dy), (r0 + dx, y0 + dy), (r1 + dx, y1 + dy), (l1 + dx, y1 + dy)), self._asphalt
            )
            canvas.line((l0 + dx, y0 + dy), (l1 + dx, y1 + dy), (230, 230, 225), 0.004 + 0.006 * b)
            canvas.line((r0 + dx, y0 + dy), (r1 + dx, y1 + dy), (230, 230, 225), 0.004 + 0.006 * b)
        for dash in range(7):
            distance = dash + 1 - (self._phase + self._speed * time_s) % 1
            a, b = 1 / (0.3 + distance), 1 / (0.3 + max(0.05, distance - 0.5))
            if a > 1:
                continue
            for lane in (-0.5, 0.5):
                (x0, y0), (x1, y1) = self._seen(lane, a), self._seen(lane, min(1.0, b))
                canvas.line((x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (220, 220, 215), 0.003 + 0.008 * a)

    def _draw_car(self, canvas: Canvas, time_s: float, dx: float, dy: float) -> None:
        near = self._near(time_s)
        u, v = self._seen(self._lane(time_s), near)
        u, v, wide = u + dx, v + dy, self._wide * near
        half, tall = wide / 2, 0.75 * wide
        canvas.ellipse((u, v), (1.1 * half, 0.15 * half), shaded(self._asphalt, 0.5))
        canvas.box(u - 0.9 * half, v - 0.15 * tall, u - 0.6 * half, v, (20, 20, 20))
        canvas.box(u + 0.6 * half, v - 0.15 * tall, u + 0.9 * half, v, (20, 20, 20))
        canvas.box(u - half, v - 0.6 * tall, u + half, v - 0.1 * tall, self._paint)
        roof = (
            (u - 0.65 * half, v - tall),
            (u + 0.65 * half, v - tall),
            (u + 0.9 * half, v - 0.6 * tall),
            (u - 0.9 * half, v - 0.6 * tall),
        )
        canvas.polygon(roof, shaded(self._paint, 0.9))
        canvas.box(u - 0.6 * half, v - 0.92 * tall, u + 0.6 * half, v - 0.62 * tall, (60, 70, 85))
        braking = self._brakes(time_s) > 0
        lamp = (255, 30, 20) if braking else (110, 20, 20)
        size = 0.34 if braking else 0.2
        for side in (-1, 1):
            outer, inner = u + side * 0.97 * half, u + side * (0.97 - size) * half
            canvas.box(
                min(outer, inner), v - 0.5 * tall, max(outer, inner), v - (0.28 if braking else 0.36) * tall, lamp
            )

    def _draw_light(self, canvas: Canvas, time_s: float, dx: float, dy: float) -> None:
        u, v, size = self._lamp()
        u, v = u + dx, v + dy
        _, foot = self._seen(1.5, 0.4)
        canvas.line((u, v), (u, foot + dy), (60, 62, 66), 0.012)
        canvas.box(u - 1.15 * size, v - 2.9 * size, u + 1.15 * size, v + 2.9 * size, (25, 27, 28))
        for row, name in enumerate(LIGHT_COLOURS):
            lit = name == self._lit(time_s)
            paint = _LAMPS[name] if lit else shaded(_LAMPS[name], 0.22)
            canvas.ellipse((u, v + (row - 1) * 1.85 * size), (0.85 * size, 0.85 * size), paint)
