"""Persons beside the court: umpire, line judges, coaches, spectators, players of the next court."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.dimensions import COURT_WIDTH_M, NET_Y_M
from simulators.badminton.body.body_motion import BodyMotion, pose
from simulators.badminton.body.skeleton import HALF_HIPS, HALF_SHOULDERS, JOINTS, TRUNK, left_of, smooth_step
from simulators.badminton.match_options import MatchOptions
from simulators.badminton.picture.looks import Look, random_look
from simulators.badminton.play.movement import PLAY_ACCELERATION_MPS2, STEP_S, Goal, Mover

Floats = NDArray[np.float64]

_UP: Final = np.array([0.0, 0.0, 1.0])
_SEAT_M: Final = 0.48


@dataclass(frozen=True, eq=False)
class Bystander:
    """A person who does not play."""

    look: Look
    body: BodyMotion

    @property
    def moves(self) -> bool:
        """Whether the person moves."""
        return len(self.body.joints_m) > 1


def make_bystanders(options: MatchOptions) -> tuple[Bystander, ...]:
    """Place the bystanders of a match."""
    if not options.bystanders:
        return ()
    random = np.random.default_rng([options.seed, 71])
    steps = math.ceil((options.duration_s + 1) / STEP_S)
    found = []

    def sit(place: tuple[float, float], heading: tuple[float, float], seat_m: float, *, gestures: bool) -> None:
        look = random_look(
            random, racket=False, number=int(random.integers(0, 10)), formal=bool(random.uniform() < 0.6)
        )
        rest = seated(place, heading, seat_m, look.height_m, arm=0.0)
        joints = rest[None]
        if gestures:
            joints = _gesturing(random, rest, seated(place, heading, seat_m, look.height_m, arm=1.0), steps)
        found.append(Bystander(look, BodyMotion(joints, np.zeros((len(joints), 2)), look.height_m)))

    sit((COURT_WIDTH_M + 1.3, NET_Y_M), (-1.0, 0.0), 1.55, gestures=True)
    sit((0.0, -1.6), (0.1, 1.0), _SEAT_M, gestures=True)
    sit((COURT_WIDTH_M, -1.6), (-0.1, 1.0), _SEAT_M, gestures=False)
    sit((-1.7, 4.7), (1.0, 0.0), _SEAT_M, gestures=False)
    for x in (-1.6, COURT_WIDTH_M + 1.6):  # coaches
        sit((x, -0.9), (0.3 if x < 0 else -0.3, 1.0), _SEAT_M, gestures=bool(random.uniform() < 0.5))
    for _ in range(int(random.integers(1, 4))):  # spectators who stand
        look = random_look(random, racket=False, number=int(random.integers(0, 10)))
        place = (float(random.choice([-2.2, COURT_WIDTH_M + 2.2])), float(random.uniform(-1.5, 9.5)))
        found.append(_standing(look, place))
    found.append(_walking(random, steps))
    if not options.camera.startswith("broadcast"):
        shift = float(random.choice([-8.6, 8.6]))
        found += [_next_court(random, steps, shift, half) for half in (-1, 1)]
    return tuple(found)


def seated(
    place_m: tuple[float, float], heading: tuple[float, float], seat_m: float, height_m: float, *, arm: float
) -> Floats:
    """Return the joints [J, 3] of somebody on a chair; ``arm``: 0 hands on the knees, 1 the right arm stretched out."""
    ahead = np.array([*heading, 0.0]) / math.hypot(*heading)
    left = left_of(ahead)
    joints = np.zeros((len(JOINTS), 3))

    def put(name: str, value: Floats) -> None:
        joints[JOINTS[name]] = value

    pelvis = np.array([*place_m, seat_m + 0.08])
    neck = pelvis + TRUNK * height_m * (0.98 * _UP + 0.08 * ahead)
    head = neck + 0.105 * height_m * _UP
    put("pelvis", pelvis)
    put("neck", neck)
    put("head", head)
    put("nose", head + 0.105 * ahead - 0.015 * _UP)
    for side, name in ((1, "left"), (-1, "right")):
        out = side * left
        hip = pelvis + HALF_HIPS * height_m * out
        knee = hip + 0.245 * height_m * ahead + 0.04 * out
        shoulder = neck + HALF_SHOULDERS * height_m * out - 0.03 * _UP
        rests = knee + 0.06 * _UP - 0.08 * ahead
        points = shoulder + 0.31 * height_m * (out + 0.25 * ahead + 0.2 * _UP) * 0.9
        wrist = rests if side > 0 else (1 - arm) * rests + arm * points
        bend = 0.1 * (1 - (arm if side < 0 else 0.0))
        put(f"{name}_hip", hip)
        put(f"{name}_knee", knee)
        put(f"{name}_ankle", knee - min(0.246 * height_m, seat_m) * _UP - 0.03 * ahead)
        put(f"{name}_toe", joints[JOINTS[f"{name}_ankle"]] + 0.105 * height_m * ahead - 0.04 * _UP)
        put(f"{name}_shoulder", shoulder)
        put(f"{name}_elbow", (shoulder + wrist) / 2 + bend * out - bend * ahead)
        put(f"{name}_wrist", wrist)
        put(f"{name}_hand", wrist + 0.05 * height_m * (ahead if side > 0 or arm < 0.5 else out))
        put(f"{name}_eye", head + 0.085 * ahead + 0.033 * out + 0.022 * _UP)
        put(f"{name}_ear", head + 0.078 * out)
    joints[JOINTS["racket_head"]] = joints[JOINTS["racket_side"]] = joints[JOINTS["right_hand"]]
    return joints


def _gesturing(random: np.random.Generator, rest: Floats, signal: Floats, steps: int) -> Floats:
    """Return joints over time of somebody who lifts an arm every few seconds and sways a little."""
    times = np.arange(steps, dtype=np.float64) * STEP_S
    share = np.zeros(steps)
    when = float(random.uniform(1, 5))
    while when < times[-1]:
        hold = float(random.uniform(0.6, 1.5))
        share = np.maximum(share, smooth_step((times - when) / 0.4) * smooth_step((when + hold + 0.8 - times) / 0.4))
        when += hold + float(random.uniform(4, 12))
    joints = rest + share[:, None, None] * (signal - rest)
    upper = rest[:, 2] > rest[JOINTS["pelvis"], 2] + 0.05
    sway = 0.025 * np.sin(2 * np.pi * times / 3.1 + float(random.uniform(0, 6)))
    joints[:, upper, 0] += sway[:, None] * (rest[upper, 2] - rest[JOINTS["pelvis"], 2])
    return np.asarray(joints)


def _standing(look: Look, place_m: tuple[float, float]) -> Bystander:
    towards = math.atan2(NET_Y_M - place_m[1], COURT_WIDTH_M / 2 - place_m[0])
    history = np.tile(np.array([*place_m, 0.0, 0.0, towards, 0.0]), (40, 1))
    body = pose(history, look.height_m)
    return Bystander(look, BodyMotion(body.joints_m[20:21], body.velocity_mps[:1], look.height_m))


def _walking(random: np.random.Generator, steps: int) -> Bystander:
    """Return somebody who walks to and fro beside the court."""
    look = random_look(random, racket=False, number=int(random.integers(0, 10)))
    x = float(random.choice([-2.3, COURT_WIDTH_M + 2.3]))
    stops = [(x, -1.0), (x + 0.3, 10.0)]
    mover = Mover(stops[0], 1.3, heading_rad=math.pi / 2)
    for number in range(steps):
        mover.goal = Goal(stops[1 - int(number * STEP_S // 11) % 2])
        mover.step(number * STEP_S)
    return Bystander(look, pose(np.array(mover.history, np.float64), look.height_m))


def _next_court(random: np.random.Generator, steps: int, shift_m: float, half: int) -> Bystander:
    """Return a player on the next court, who runs from place to place."""
    look = random_look(random, racket=True, number=int(random.integers(0, 10)))
    mover = Mover((COURT_WIDTH_M / 2 + shift_m, NET_Y_M + half * 4.0), 4.0, heading_rad=-half * math.pi / 2)
    until = 0
    for number in range(steps):
        if number >= until:
            until = number + round(float(random.uniform(0.8, 2.0)) / STEP_S)
            place = (
                COURT_WIDTH_M / 2 + shift_m + float(random.uniform(-2, 2)),
                NET_Y_M + half * float(random.uniform(1.5, 6)),
            )
            mover.goal = Goal(place, 4.0, PLAY_ACCELERATION_MPS2, (0.0, -float(half)), ready=True)
        mover.step(number * STEP_S)
    return Bystander(look, pose(np.array(mover.history, np.float64), look.height_m))
