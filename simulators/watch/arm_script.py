"""Course of the arm: the path of its gripper, and the place of every object at any time."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from simulators.watch.canvas import ease
from simulators.watch.names import COLOURS, ROLLING_SHAPES, SHAPES
from simulators.watch.solids import HEIGHTS
from simulators.watch.truth import WatchEvent

#: Place on and over the table: x from -1 (left) to 1, depth from 0 (far) to 1, height of the foot above the table.
Place = tuple[float, float, float]

ACTIONS: Final = ("rest", "hover", "carry", "pick_up", "put_down", "drop", "push", "roll")
_GRIP_S: Final = 0.16
_GRAVITY: Final = 15.0  # heights a second squared: a fall from 0.7 takes 0.3 s
_BOUNCES: Final = (1.0, 0.4, 0.18)  # share of the speed of the first impact
_LOW: Final = 0.0
_OPEN: Final = 0.09  # what open jaws leave on each side of an object


@dataclass(frozen=True)
class TableObject:
    """An object; ``half`` is half of its width, in units of half of the table."""

    shape: str
    colour: str
    half: float

    @property
    def grasp_height(self) -> float:
        """Height at which the jaws hold it, above its foot."""
        return 0.45 * HEIGHTS[self.shape] * self.half

    @property
    def grasp_width(self) -> float:
        """Distance between the jaws that hold it."""
        return 2 * self.half * (0.6 if self.shape == "bottle" else 0.9)


@dataclass
class _Track:
    """From ``start_s`` on an object is where ``place`` says; ``held`` says that the gripper has it."""

    start_s: float
    place: Callable[[float], Place]
    held: bool = False
    pushed: bool = False


@dataclass
class ArmScript:
    """The course of a scene, built action by action; then asked for the state at any time.

    A key of the gripper's path is (time, x, depth, height of the tips, opening).
    """

    random: np.random.Generator
    objects: tuple[TableObject, ...]
    keys: list[tuple[float, float, float, float, float]] = field(default_factory=list)
    tracks: list[list[_Track]] = field(default_factory=list)
    events: list[WatchEvent] = field(default_factory=list)
    grips: list[tuple[float, float]] = field(default_factory=list)  # times at which the jaws move
    held: int | None = None

    @property
    def end_s(self) -> float:
        """Time until which the script is written."""
        return self.keys[-1][0]

    # The state at a time.

    def gripper(self, time_s: float) -> tuple[float, float, float, float]:
        """Return x, depth, height of the tips and opening."""
        index = bisect_right(self.keys, (time_s, math.inf, 0, 0, 0)) - 1
        if index < 0:
            return self.keys[0][1:]
        if index + 1 >= len(self.keys):
            return self.keys[-1][1:]
        a, b = self.keys[index], self.keys[index + 1]
        share = ease((time_s - a[0]) / (b[0] - a[0])) if b[0] > a[0] else 1.0
        x, depth, height, opening = (p + (q - p) * share for p, q in zip(a[1:], b[1:], strict=True))
        return x, depth, height, opening

    def place(self, index: int, time_s: float) -> tuple[Place, bool]:
        """Return where an object is, and whether it is held."""
        tracks = self.tracks[index]
        chosen = tracks[0]
        for track in tracks:
            if track.start_s <= time_s:
                chosen = track
        return chosen.place(time_s), chosen.held

    def gripping(self, time_s: float) -> bool:
        """Return whether the jaws open or close around an object."""
        return any(start <= time_s <= end for start, end in self.grips)

    # Actions.

    def start(self, held: int | None) -> None:
        """Place the objects and the gripper; it may hold one from the start."""
        places = self._free_places(len(self.objects))
        for place in places:
            self.tracks.append([_Track(0.0, lambda _, place=place: place)])  # type: ignore[misc]
        x, depth = self.random.uniform(-0.8, 0.8), self.random.uniform(0.2, 0.8)
        height = self.random.uniform(0.45, 0.85)
        self.held = held
        opening = 0.3
        if held is not None:
            opening = self.objects[held].grasp_width
            self.tracks[held] = [self._carried(held, 0.0)]
        self.keys.append((0.0, x, depth, height, opening))

    def act(self, action: str) -> float:
        """Append an action; return the time at which it is seen best. Impossible actions become possible ones first."""
        if action in {"carry", "put_down", "drop"} and self.held is None:
            self.pick_up()
        if action in {"pick_up", "push", "hover", "rest", "roll"} and self.held is not None and action != "rest":
            self.put_down()
        return {
            "rest": self.rest,
            "hover": self.hover,
            "carry": self.carry,
            "pick_up": self.pick_up,
            "put_down": self.put_down,
            "drop": self.drop,
            "push": self.push,
            "roll": self.roll,
        }[action]()

    def rest(self) -> float:
        """Do nothing for a while."""
        start_s = self.end_s
        self._move(duration_s=self.random.uniform(0.8, 1.6))
        return (start_s + self.end_s) / 2

    def hover(self) -> float:
        """Move the empty gripper over the table."""
        start_s, x = self.end_s, self.keys[-1][1]
        self._move(x=self._far_x(x), depth=self.random.uniform(0.2, 0.8), height=self.random.uniform(0.4, 0.85))
        return (start_s + self.end_s) / 2

    def carry(self) -> float:
        """Move the held object through the air."""
        if self.keys[-1][3] < 0.4:
            self._move(height=self.random.uniform(0.55, 0.85))
        start_s, x, height = self.end_s, self.keys[-1][1], self.keys[-1][3]
        speed = self.random.uniform(0.5, 1.0)
        if self.random.uniform() < 0.3:  # only up or down
            self._move(height=0.85 if height < 0.6 else 0.35, speed=speed)
        else:
            self._move(
                x=self._far_x(x),
                depth=self.random.uniform(0.2, 0.8),
                height=self.random.uniform(0.5, 0.85),
                speed=speed,
            )
        return (start_s + self.end_s) / 2

    def pick_up(self) -> float:
        """Reach an object, close the jaws, lift it."""
        index = int(self.random.integers(len(self.objects)))
        item = self.objects[index]
        (x, depth, foot), _ = self.place(index, self.end_s + 60)
        opening = item.grasp_width + 2 * _OPEN
        self._move(x=x, depth=depth, height=self.random.uniform(0.55, 0.8), opening=opening, speed=1.6)
        self._move(height=foot + item.grasp_height, speed=1.3)
        grip_s = self.end_s
        self._move(opening=item.grasp_width, duration_s=_GRIP_S)
        self.grips.append((grip_s, self.end_s))
        self.held = index
        self.tracks[index].append(self._carried(index, self.end_s))
        lift_s = self.end_s
        self._move(height=self.random.uniform(0.5, 0.85), speed=1.1)
        self.events.append(WatchEvent("picked_up", index, lift_s, self.end_s))
        return lift_s + 0.3 * (self.end_s - lift_s)

    def put_down(self) -> float:
        """Lower the held object onto a free place, open the jaws, go up."""
        index = self._held()
        item = self.objects[index]
        x, depth = self._free_place(index)
        if math.hypot(x - self.keys[-1][1], depth - self.keys[-1][2]) > 0.05:
            self._move(x=x, depth=depth, height=max(0.5, self.keys[-1][3]))
        lower_s = self.end_s
        self._move(height=item.grasp_height, speed=self.random.uniform(0.8, 1.7))
        self._release(index, (x, depth, _LOW))
        released_s = self.end_s
        self._move(height=self.random.uniform(0.5, 0.85), speed=1.3)
        self.events.append(WatchEvent("put_down", index, lower_s, released_s))
        return released_s - 0.1

    def drop(self) -> float:
        """Open the jaws high above the table: the object falls and bounces."""
        index = self._held()
        if self.random.uniform() < 0.4:
            self.carry()
        x, depth = self._free_place(index)
        moves = math.hypot(x - self.keys[-1][1], depth - self.keys[-1][2]) > 0.05
        low = self.keys[-1][3] < 0.5
        if moves or low:
            self._move(x=x, depth=depth, height=self.random.uniform(0.55, 0.85), speed=1.4)
        if self.random.uniform() < 0.5:
            self._move(duration_s=self.random.uniform(0.1, 0.5))
        fall_from = self.keys[-1][3] - self.objects[index].grasp_height
        start_s = self.end_s
        self._release(index, (x, depth, fall_from), grip_s=0.08)
        fall = _Fall(x, depth, fall_from, self.end_s, drift=self.random.uniform(-0.12, 0.12))
        self.tracks[index][-1] = _Track(start_s + 0.06, fall)
        self.events.append(WatchEvent("dropped", index, start_s + 0.06, fall.end_s))
        self._move(duration_s=self.random.uniform(0.5, 1.0))
        if self.random.uniform() < 0.5:
            self._move(height=self.random.uniform(0.5, 0.9))
        return start_s + 0.2

    def push(self) -> float:
        """Push an object along the table with closed jaws."""
        index = int(self.random.integers(len(self.objects)))
        item = self.objects[index]
        (x, depth, _), _ = self.place(index, self.end_s + 60)
        side = 1.0 if x < 0 else -1.0
        reach = item.half + 0.08
        self._move(x=x - side * (reach + 0.12), depth=depth, height=0.6, opening=0.06, speed=1.8)
        self._move(height=item.grasp_height, speed=1.6)
        self._move(x=x - side * reach, duration_s=0.15)
        start_s, distance = self.end_s, self._free_run(index, x, depth, side, 0.9)
        self._move(x=x - side * reach + distance, duration_s=abs(distance) / self.random.uniform(0.6, 1.1))
        self.tracks[index].append(
            _Track(start_s, lambda time_s: (self.gripper(time_s)[0] + side * reach, depth, _LOW), pushed=True)
        )
        end_s, rest = self.end_s, (x + distance, depth, _LOW)
        self.tracks[index].append(_Track(end_s, lambda _: rest))
        self.events.append(WatchEvent("pushed", index, start_s, end_s))
        self._move(height=0.6, speed=1.4)
        return (start_s + end_s) / 2

    def roll(self) -> float:
        """Roll an object that can roll along the table while the gripper rests."""
        rolling = [i for i, item in enumerate(self.objects) if item.shape in ROLLING_SHAPES and i != self.held]
        if not rolling:
            return self.rest()
        index = int(self.random.choice(rolling))
        (x, depth, _), _ = self.place(index, self.end_s + 60)
        side = 1.0 if x < 0 else -1.0
        start_s = self.end_s + 0.1
        duration_s, distance = self.random.uniform(0.8, 1.6), self._free_run(index, x, depth, side, 1.0)
        self.tracks[index].append(
            _Track(start_s, lambda t: (x + distance * ease((t - start_s) / duration_s), depth, _LOW))
        )
        self.events.append(WatchEvent("rolled", index, start_s, start_s + duration_s))
        self._move(duration_s=duration_s + 0.3)
        return start_s + duration_s / 2

    # Parts of actions.

    def _move(
        self,
        *,
        x: float | None = None,
        depth: float | None = None,
        height: float | None = None,
        opening: float | None = None,
        duration_s: float | None = None,
        speed: float = 1.0,
    ) -> None:
        time_s, x0, depth0, height0, opening0 = self.keys[-1]
        x1, depth1, height1 = (
            old if new is None else new for old, new in ((x0, x), (depth0, depth), (height0, height))
        )
        if duration_s is None:
            distance = math.hypot(x1 - x0, depth1 - depth0, height1 - height0)
            duration_s = max(0.15, distance / (speed * float(self.random.uniform(0.8, 1.5))))
        self.keys.append((time_s + duration_s, x1, depth1, height1, opening0 if opening is None else opening))

    def _held(self) -> int:
        if self.held is None:
            raise ValueError("The gripper holds nothing.")
        return self.held

    def _carried(self, index: int, start_s: float) -> _Track:
        grasp = self.objects[index].grasp_height

        def place(time_s: float) -> Place:
            x, depth, height, _ = self.gripper(time_s)
            return x, depth, height - grasp

        return _Track(start_s, place, held=True)

    def _release(self, index: int, place: Place, grip_s: float = _GRIP_S) -> None:
        start_s = self.end_s
        self._move(opening=self.objects[index].grasp_width + 2 * _OPEN, duration_s=grip_s)
        self.grips.append((start_s, self.end_s))
        self.tracks[index].append(_Track(start_s + grip_s / 2, lambda _: place))
        self.held = None

    def _far_x(self, x: float) -> float:
        side = -1.0 if self.random.uniform(-1, 1) < x else 1.0
        return float(np.clip(x + side * self.random.uniform(0.4, 1.1), -0.85, 0.85))

    def _free_places(self, count: int) -> list[Place]:
        for _ in range(40):
            xs = self.random.uniform(-0.85, 0.85, count)
            depths = self.random.uniform(0.1, 0.95, count)
            if all(_apart(xs[i], depths[i], xs[j], depths[j]) for i in range(count) for j in range(i)):
                break
        return [(float(x), float(depth), _LOW) for x, depth in zip(xs, depths, strict=True)]

    def _free_run(self, index: int, x: float, depth: float, side: float, longest: float) -> float:
        """Return how far an object goes along the table, to a place that is free if one is found."""
        others = [self.place(i, self.end_s + 60)[0] for i in range(len(self.objects)) if i != index]
        distance = 0.0
        for _ in range(20):
            distance = side * float(self.random.uniform(0.4, longest))
            if all(_apart(x + distance, depth, other[0], other[1]) for other in others):
                break
        return distance

    def _free_place(self, index: int) -> tuple[float, float]:
        time_s = self.end_s
        others = [self.place(i, time_s + 60)[0] for i in range(len(self.objects)) if i != index]
        x, depth = self.keys[-1][1:3]
        for _ in range(30):
            if all(_apart(x, depth, other[0], other[1]) for other in others):
                break
            x, depth = float(self.random.uniform(-0.85, 0.85)), float(self.random.uniform(0.15, 0.9))
        return x, depth


class _Fall:
    """A free fall with two bounces."""

    def __init__(self, x: float, depth: float, height: float, start_s: float, drift: float) -> None:
        self._x, self._depth, self._drift, self._start_s = x, depth, drift, start_s - 0.02
        self._height = height
        self._fall_s = math.sqrt(2 * height / _GRAVITY)
        impact = self._fall_s * _GRAVITY
        self._hops: list[tuple[float, float]] = []
        time_s = self._start_s + self._fall_s
        for share in _BOUNCES[1:]:
            self._hops.append((time_s, impact * share))
            time_s += 2 * impact * share / _GRAVITY
        self.end_s = time_s

    def __call__(self, time_s: float) -> Place:
        age_s = max(0.0, time_s - self._start_s)
        height = self._height - 0.5 * _GRAVITY * age_s**2
        for start_s, speed in self._hops:
            if time_s >= start_s:
                hop_s = time_s - start_s
                height = speed * hop_s - 0.5 * _GRAVITY * hop_s**2
        share = min(1.0, age_s / (self.end_s - self._start_s))
        return self._x + self._drift * share, self._depth, max(_LOW, height)


def random_objects(random: np.random.Generator, count: int) -> tuple[TableObject, ...]:
    """Return objects no two of which have both shape and colour in common."""
    chosen: set[tuple[str, str]] = set()
    colours = tuple(COLOURS)
    while len(chosen) < count:
        chosen.add((SHAPES[random.integers(len(SHAPES))], colours[random.integers(len(colours))]))
    names = sorted(chosen)
    random.shuffle(names)
    return tuple(TableObject(shape, colour, float(random.uniform(0.17, 0.23))) for shape, colour in names)


def _apart(x: float, depth: float, other_x: float, other_depth: float) -> bool:
    return abs(x - other_x) > 0.46 or (abs(depth - other_depth) > 0.5 and abs(x - other_x) > 0.25)
