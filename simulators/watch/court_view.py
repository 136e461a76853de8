"""A badminton court seen from behind: two players, the shuttle between them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from simulators.watch.canvas import HEIGHT, Canvas, Point, ease, shaded
from simulators.watch.names import COLOURS, Colour
from simulators.watch.truth import ClipTruth, Entity, MomentTruth, WatchEvent

_FLOORS: Final[tuple[Colour, ...]] = ((70, 120, 90), (80, 105, 140), (150, 120, 90), (100, 110, 110))
_SKINS: Final[tuple[Colour, ...]] = ((224, 180, 150), (190, 140, 105), (130, 90, 65))
_HALF: Final = 0.42  # half of the court's width in the picture, at its near end
_TALL: Final = 0.36
_NET: Final = 0.14


@dataclass(frozen=True)
class _Player:
    noun: str
    colour: str
    shirt: Colour
    skin: Colour
    shorts: Colour
    path: tuple[tuple[float, float, float], ...]  # (time, x, depth)
    swings_s: tuple[float, ...]

    def place(self, time_s: float) -> Point:
        """Return x and depth."""
        before = self.path[0]
        for key in self.path:
            if key[0] > time_s:
                share = ease((time_s - before[0]) / (key[0] - before[0])) if key[0] > before[0] else 1.0
                return before[1] + (key[1] - before[1]) * share, before[2] + (key[2] - before[2]) * share
            before = key
        return before[1], before[2]


@dataclass(frozen=True)
class _Flight:
    start_s: float
    end_s: float
    start: tuple[float, float, float]
    end: tuple[float, float, float]
    arc: float


class RallyView:
    """A rally of some seconds, drawn from ``random``."""

    def __init__(self, random: np.random.Generator, length_s: float) -> None:
        self._far, self._near = random.uniform(0.28, 0.34), random.uniform(0.64, 0.70)
        self._middle = 0.5 + random.uniform(-0.04, 0.04)
        self._floor = shaded(_FLOORS[random.integers(len(_FLOORS))], random.uniform(0.8, 1.15))
        self._outside = shaded(_FLOORS[random.integers(len(_FLOORS))], random.uniform(0.5, 0.9))
        self._wall = shaded((120, 125, 135), random.uniform(0.4, 1.2))
        self._seats = [
            (*random.uniform(0, 1, 1), *random.uniform(0.02, 0.2, 1), *random.uniform(0.5, 1.5, 1))
            for _ in range(random.integers(0, 12))
        ]
        self._flights, self._events, hits = _rally(random, length_s)
        shirts = random.choice(len(COLOURS), 2, replace=False)
        names = tuple(COLOURS)
        self._players = tuple(
            _Player(
                noun,
                names[shirt],
                shaded(COLOURS[names[shirt]], random.uniform(0.85, 1.1)),
                _SKINS[random.integers(len(_SKINS))],
                shaded((60, 60, 70), random.uniform(0.6, 3)),
                _walk(random, length_s, far=noun == "far player"),
                tuple(time_s for time_s, player in hits if player == index),
            )
            for index, (noun, shirt) in enumerate(zip(("far player", "near player"), shirts, strict=True))
        )

    def draw(self, canvas: Canvas, time_s: float, shake: Point = (0.0, 0.0)) -> None:
        """Draw the frame of a time."""
        dx, dy = shake
        self._draw_hall(canvas, dx, dy)
        self._draw_player(canvas, self._players[0], time_s, dx, dy)
        self._draw_net(canvas, dx, dy)
        self._draw_player(canvas, self._players[1], time_s, dx, dy)
        (x, depth, height), _ = self._shuttle(time_s)
        u, v = self._seen(x, depth, height)
        size = 0.011 + 0.012 * depth
        canvas.ellipse((u + dx, v + dy), (size, size), (250, 250, 245))

    def truth(self, time_s: float) -> MomentTruth:
        """Return what the frame of a time shows: far player, near player, shuttle."""
        entities = []
        for player in self._players:
            x, depth = player.place(time_s)
            u, v = self._seen(x, depth, 0)
            tall = _TALL * self._scale(depth)
            region = (u - 0.2 * tall, (v - tall) / HEIGHT, u + 0.2 * tall, v / HEIGHT)
            entities.append(Entity(player.noun, player.colour, u, (v - tall / 2) / HEIGHT, depth, 0.0, region))
        (x, depth, height), lying = self._shuttle(time_s)
        u, v = self._seen(x, depth, height)
        region = (u - 0.02, v / HEIGHT - 0.025, u + 0.02, v / HEIGHT + 0.025)
        entities.append(Entity("shuttle", "", u, v / HEIGHT, depth, height, region, state=0.0 if lying else 1.0))
        return MomentTruth(time_s, tuple(entities))

    def clip_truth(self, times_s: tuple[float, ...]) -> ClipTruth:
        """Return the truth of a clip."""
        return ClipTruth("court", tuple(self.truth(time_s) for time_s in times_s), self._events)

    @property
    def events(self) -> tuple[WatchEvent, ...]:
        """Hits and the landing."""
        return self._events

    def _scale(self, depth: float) -> float:
        return 0.55 + 0.45 * depth

    def _seen(self, x: float, depth: float, height: float) -> Point:
        scale = self._scale(depth)
        return self._middle + x * _HALF * scale, self._far + (self._near - self._far) * depth - height * scale * _TALL

    def _shuttle(self, time_s: float) -> tuple[tuple[float, float, float], bool]:
        flight = self._flights[0]
        for each in self._flights:
            if each.start_s <= time_s:
                flight = each
        share = min(1.0, max(0.0, (time_s - flight.start_s) / (flight.end_s - flight.start_s)))
        x, depth, height = (a + (b - a) * share for a, b in zip(flight.start, flight.end, strict=True))
        lies = flight is self._flights[-1] and share >= 1.0
        return (x, depth, height + flight.arc * 4 * share * (1 - share)), lies

    def _draw_hall(self, canvas: Canvas, dx: float, dy: float) -> None:
        edge = self._far - 0.06 + dy
        canvas.rows(0, edge, shaded(self._wall, 0.7), self._wall)
        for x, wide, light in self._seats:
            canvas.box(x + dx, edge - wide, x + wide + dx, edge, shaded(self._wall, light))
        canvas.rows(edge, HEIGHT, shaded(self._outside, 0.9), self._outside)
        corners = [self._seen(x, depth, 0) for x, depth in ((-1, 0), (1, 0), (1, 1), (-1, 1))]
        corners = [(x + dx, y + dy) for x, y in corners]
        canvas.polygon(corners, self._floor)
        for a, b in ((0, 1), (1, 2), (2, 3), (3, 0)):
            canvas.line(corners[a], corners[b], (225, 225, 225), 0.005)
        for depth in (0.35, 0.65):
            (x0, y0), (x1, y1) = self._seen(-1, depth, 0), self._seen(1, depth, 0)
            canvas.line((x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (215, 215, 215), 0.004)

    def _draw_net(self, canvas: Canvas, dx: float, dy: float) -> None:
        (left, foot), (right, _) = self._seen(-1.05, 0.5, 0), self._seen(1.05, 0.5, 0)
        top = foot - _NET + 0.03
        for row in range(4):
            y = top + row * 0.022 + dy
            canvas.line((left + dx, y), (right + dx, y), (235, 235, 235) if row == 0 else (70, 70, 70), 0.004)
        for x in (left, right):
            canvas.line((x + dx, foot + dy), (x + dx, top + dy), (60, 60, 60), 0.008)

    def _draw_player(self, canvas: Canvas, player: _Player, time_s: float, dx: float, dy: float) -> None:
        x, depth = player.place(time_s)
        u, v = self._seen(x, depth, 0)
        u, v, tall = u + dx, v + dy, _TALL * self._scale(depth)
        canvas.ellipse((u, v), (0.2 * tall, 0.05 * tall), shaded(self._floor, 0.7))
        stride = 0.09 * tall * math.sin(9 * x + 7 * depth)
        hip = v - 0.45 * tall
        for side in (-1, 1):
            canvas.line((u + side * 0.05 * tall, hip), (u + side * (0.07 * tall + stride), v), player.skin, 0.07 * tall)
        canvas.box(u - 0.12 * tall, hip - 0.03 * tall, u + 0.12 * tall, hip + 0.13 * tall, player.shorts)
        canvas.box(u - 0.14 * tall, v - 0.84 * tall, u + 0.14 * tall, hip, player.shirt)
        canvas.ellipse((u, v - 0.92 * tall), (0.08 * tall, 0.09 * tall), player.skin)
        swing = max((1 - abs(time_s - hit_s) / 0.25 for hit_s in player.swings_s), default=0.0)
        angle = -0.5 + 1.9 * max(0.0, swing)
        shoulder = (u + 0.13 * tall, v - 0.78 * tall)
        hand = (shoulder[0] + 0.25 * tall * math.cos(angle), shoulder[1] - 0.25 * tall * math.sin(angle))
        tip = (hand[0] + 0.2 * tall * math.cos(angle), hand[1] - 0.2 * tall * math.sin(angle))
        canvas.line(shoulder, hand, player.skin, 0.06 * tall)
        canvas.line(hand, tip, (200, 200, 60), 0.03 * tall)
        canvas.ellipse(tip, (0.08 * tall, 0.1 * tall), (220, 220, 220), width=0.006)


def _walk(random: np.random.Generator, length_s: float, *, far: bool) -> tuple[tuple[float, float, float], ...]:
    time_s, x, depth = -0.5, random.uniform(-0.8, 0.8), random.uniform(0.05, 0.3) if far else random.uniform(0.7, 0.95)
    path = [(time_s, float(x), float(depth))]
    while time_s < length_s + 1:
        if random.uniform() < 0.4:
            time_s += random.uniform(0.6, 1.4)
        else:
            side = -1.0 if random.uniform(-1, 1) < x else 1.0
            new_x = float(np.clip(x + side * random.uniform(0.4, 1.2), -0.85, 0.85))
            time_s += max(0.4, abs(new_x - x) / random.uniform(0.7, 1.3))
            x = new_x
            depth = random.uniform(0.05, 0.3) if far else random.uniform(0.7, 0.95)
        path.append((time_s, float(x), float(depth)))
    return tuple(path)


def _rally(
    random: np.random.Generator, length_s: float
) -> tuple[tuple[_Flight, ...], tuple[WatchEvent, ...], list[tuple[float, int]]]:
    """Return flights, events, and who hits when."""
    flights, events, hits = [], [], []
    player, time_s = int(random.integers(2)), -float(random.uniform(0.0, 1.0))

    def beside(index: int) -> tuple[float, float, float]:
        depth = random.uniform(0.05, 0.3) if index == 0 else random.uniform(0.7, 0.95)
        return float(random.uniform(-0.7, 0.7)), float(depth), float(random.uniform(0.9, 1.3))

    start = beside(player)
    lands_s = float(random.uniform(0.2, 2.5)) * length_s
    while True:
        other, duration_s = 1 - player, float(random.uniform(0.7, 1.2))
        ends = time_s + duration_s >= lands_s
        end = beside(other)
        end = (end[0], end[1], 0.05) if ends else end
        flights.append(_Flight(time_s, time_s + duration_s, start, end, float(random.uniform(0.3, 1.0))))
        hits.append((time_s, player))
        events.append(WatchEvent("hit", player, time_s, time_s))
        time_s += duration_s
        if ends:
            events.append(WatchEvent("landed", 2, time_s, time_s))
            return tuple(flights), tuple(events), hits
        player, start = other, end
