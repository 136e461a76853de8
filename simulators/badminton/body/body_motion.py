"""Joints of a player over the whole match: posture, steps, split steps, lunges and swings of the racket."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simulators.badminton.body.gait import feet
from simulators.badminton.body.skeleton import (
    ANKLE_HEIGHT,
    FOREARM,
    HALF_HIPS,
    HALF_SHOULDERS,
    HAND,
    HIP_HEIGHT,
    JOINTS,
    RACKET_M,
    SHIN,
    THIGH,
    TRUNK,
    UPPER_ARM,
    Trunk,
    bent_limb,
    left_of,
    smooth_step,
    unit,
)
from simulators.badminton.body.swing import Hands, swing_hands
from simulators.badminton.play.match_script import Held, MatchScript, RacketSwing
from simulators.badminton.play.movement import STEP_S

Floats = NDArray[np.float64]

_UP: Final = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class BodyMotion:
    """Joints [T, J, 3] of a person in metres, every ``movement.STEP_S`` seconds."""

    joints_m: Floats
    velocity_mps: Floats
    height_m: float

    def at(self, time_s: float) -> Floats:
        """Return the joints [J, 3] at a time."""
        if len(self.joints_m) == 1:
            return np.asarray(self.joints_m[0])
        place = min(max(time_s / STEP_S, 0.0), len(self.joints_m) - 1.001)
        first = int(place)
        share = place - first
        return np.asarray(self.joints_m[first] * (1 - share) + self.joints_m[first + 1] * share)

    def sampled(self, times_s: Floats) -> Floats:
        """Return the joints [N, J, 3] at times [N]."""
        return sampled(self.joints_m, times_s)


def sampled(values: Floats, times_s: Floats) -> Floats:
    """Return values [N, ...] at times [N] of a series [T, ...] with one every ``movement.STEP_S`` seconds."""
    at = np.clip(times_s / STEP_S, 0, max(len(values) - 1.001, 0.0))
    first = at.astype(np.int64)
    share = (at - first).reshape(-1, *[1] * (values.ndim - 1))
    return np.asarray(values[first] * (1 - share) + values[np.minimum(first + 1, len(values) - 1)] * share)


def body_motion(script: MatchScript, player: int, height_m: float) -> BodyMotion:
    """Return the joints of a player."""
    history = np.array(script.movers[player].history, np.float64)
    swings = [swing for swing in script.swings if swing.player == player]
    pickups = [(time_s, place) for time_s, who, place in script.pickups if who == player]
    splits = [time_s for time_s, who in script.split_steps if who == player]
    right_handed = script.movers[player].right_handed
    held = [holding for holding in script.held if holding.player == player]
    return pose(history, height_m, swings=swings, pickups=pickups, splits=splits, held=held, right_handed=right_handed)


def pose(
    history: Floats,
    height_m: float,
    *,
    swings: Sequence[RacketSwing] = (),
    pickups: Sequence[tuple[float, tuple[float, float]]] = (),
    splits: Sequence[float] = (),
    held: Sequence[Held] = (),
    right_handed: bool = True,
) -> BodyMotion:
    """Return the joints of a person whose floor places, velocities, heading and readiness are ``history`` [T, 6]."""
    times = np.arange(len(history), dtype=np.float64) * STEP_S
    heading = np.column_stack([np.cos(history[:, 4]), np.sin(history[:, 4]), np.zeros(len(times))])
    left = left_of(heading)
    ready = _smoothed(history[:, 5], 31)
    velocity = history[:, 2:4]
    speed = np.linalg.norm(velocity, axis=1)
    lunge, reach = _lunges(times, swings, history)
    stoop = _bumps(times, [(when, 1.0) for when, _ in pickups], 0.8, 0.7)
    air = _jumps(times, swings, splits)

    # In a lunge the racket's leg steps ahead, the other stays behind.
    ahead = (-0.32, 0.62) if right_handed else (0.62, -0.32)
    places = lunge[:, None] * reach * (1, 1, 0)
    ankles = _ankles(history, left, 0.10 + 0.13 * ready, places, ahead)
    ankles[:, :, 2] += ANKLE_HEIGHT * height_m + air
    pelvis = np.column_stack([history[:, :2], np.zeros(len(times))]) + 0.28 * lunge[:, None] * reach
    bob = 0.012 * np.sin(2 * np.pi * np.cumsum(speed / (0.75 + 0.36 * speed)) * STEP_S * 2) * np.clip(speed, 0, 1)
    lowered = 0.012 + 0.085 * ready + 0.16 * lunge + 0.30 * stoop
    pelvis[:, 2] = (HIP_HEIGHT - lowered) * height_m + bob + air
    hips = [pelvis + side * left * HALF_HIPS * height_m for side in (1, -1)]
    legs = [
        bent_limb(hips[side], ankles[side], THIGH * height_m, SHIN * height_m, heading + 0.25 * (1 - 2 * side) * left)
        for side in (0, 1)
    ]

    lean = 0.04 + 0.30 * ready + 0.05 * np.clip(speed, 0, 4) + 0.35 * lunge + 1.25 * stoop
    forward = unit(heading + 0.5 * lunge[:, None] * reach)
    spine = np.sin(lean)[:, None] * forward + np.cos(lean)[:, None] * _UP
    neck = pelvis + spine * TRUNK * height_m
    trunk = Trunk(times, heading, left, spine, neck, pelvis, ready, stoop, speed, height_m, right_handed)
    hands = swing_hands(trunk, swings, held, pickups)
    return BodyMotion(_joints(trunk, hips, legs, hands), velocity, height_m)


def _joints(trunk: Trunk, hips: list[Floats], legs: list[tuple[Floats, Floats]], hands: Hands) -> Floats:
    """Return all joints [T, J, 3] from the trunk, the legs' (knees, ankles) and the hands."""
    heading, left, neck, height_m = trunk.heading, trunk.left, trunk.neck, trunk.height_m
    stoop = trunk.stoop
    joints = np.empty((len(neck), len(JOINTS), 3))

    def put(name: str, value: Floats) -> None:
        joints[:, JOINTS[name]] = value

    look = unit(heading - 0.5 * stoop[:, None] * _UP + 0.12 * (1 - stoop[:, None]) * _UP)
    up = unit(0.5 * trunk.spine + 0.7 * _UP)
    head = neck + 0.105 * height_m * up
    put("head", head)
    size = height_m / 1.75
    put("nose", head + size * (0.105 * look - 0.015 * up))
    for name, side in (("left", 1.0), ("right", -1.0)):
        put(f"{name}_eye", head + size * (0.085 * look + side * 0.033 * left + 0.022 * up))
        put(f"{name}_ear", head + size * (-0.005 * look + side * 0.078 * left + 0.004 * up))
    put("neck", neck)
    shoulder_left = unit(left + hands.twist[:, None] * heading * (1 if trunk.right_handed else -1))
    shoulders = [neck - 0.03 * _UP + side * shoulder_left * HALF_SHOULDERS * height_m for side in (1, -1)]
    put("pelvis", trunk.pelvis)
    for number, name in enumerate(("left", "right")):
        racket = (number == 1) == trunk.right_handed
        hand = hands.racket_wrist if racket else hands.free_wrist
        out = (1 - 2 * number) * left
        towards = -0.7 * _UP + 0.8 * out - 0.5 * heading + (hands.overhead[:, None] * 1.2 * _UP * racket)
        elbow, wrist = bent_limb(shoulders[number], hand, UPPER_ARM * height_m, FOREARM * height_m, towards)
        put(f"{name}_shoulder", shoulders[number])
        put(f"{name}_elbow", elbow)
        put(f"{name}_wrist", wrist)
        put(f"{name}_hip", hips[number])
        knee, ankle = legs[number]
        put(f"{name}_knee", knee)
        put(f"{name}_ankle", ankle)
        put(f"{name}_toe", ankle + 0.105 * height_m * heading - 0.03 * height_m * _UP)
        if racket:
            # The racket points at the shuttle from where the wrist really is.
            near = hands.contact[:, None]
            direction = unit((1 - near) * hands.racket_direction + near * unit(hands.contact_m - wrist))
            put(f"{name}_hand", wrist + HAND * height_m * direction)
            put("racket_head", wrist + RACKET_M * direction)
            put("racket_side", wrist + RACKET_M * direction + 0.1 * unit(np.cross(direction, heading + 0.3 * _UP)))
        else:
            put(f"{name}_hand", wrist + HAND * height_m * unit(wrist - elbow))
    return joints


def _ankles(history: Floats, left: Floats, width_m: Floats, reach: Floats, ahead_m: tuple[float, float]) -> Floats:
    """Return the left and right foot [2, T, 3]: stepping, and one far ahead in a lunge.

    ``reach`` [T, 3] is the direction of a lunge times its strength.
    """
    lunge = np.linalg.norm(reach, axis=1)
    places, lifted = feet(history[:, :2], left[:, :2], width_m, STEP_S)
    ankles = np.empty((2, len(history), 3))
    for side, ahead in enumerate(ahead_m):
        lunging = history[:, :2] + (1 - 2 * side) * left[:, :2] * 0.08 - places[side]
        ankles[side, :, :2] = places[side] + lunge[:, None] * lunging + ahead * reach[:, :2]
        ankles[side, :, 2] = lifted[side] * (1 - lunge)
    return ankles


def _lunges(times: Floats, swings: Sequence[RacketSwing], history: Floats) -> tuple[Floats, Floats]:
    """Return the strength [T] and the direction [T, 3] of lunges to low shuttles."""
    strength, direction = np.zeros(len(times)), np.zeros((len(times), 3))
    for swing in swings:
        if swing.lunge <= 0:
            continue
        own = _bumps(times, [(swing.time_s, swing.lunge)], 0.34, 0.42)
        at = min(round(swing.time_s / STEP_S), len(history) - 1)
        way = np.array([*(np.array(swing.xyz_m[:2]) - history[at, :2]), 0.0])
        better = own > strength
        strength = np.where(better, own, strength)
        direction[better] = unit(way)
    return strength, direction


def _jumps(times: Floats, swings: Sequence[RacketSwing], splits: Sequence[float]) -> Floats:
    """Return how far the feet are above the floor [T]: jumps and split steps."""
    air = np.zeros(len(times))
    jumps = [(swing.time_s, swing.jump_m) for swing in swings if swing.jump_m > 0]
    for when, height in jumps + [(at, 0.07) for at in splits]:
        half = math.sqrt(2 * height / 9.81)
        air = np.maximum(air, height * (1 - ((times - when) / half) ** 2))
    return np.maximum(air, 0.0)


def _bumps(times: Floats, events: Sequence[tuple[float, float]], before_s: float, after_s: float) -> Floats:
    total = np.zeros(len(times))
    for when, strength in events:
        rise = smooth_step((times - when + before_s) / before_s)
        fall = smooth_step((when + after_s - times) / after_s)
        total = np.maximum(total, strength * np.minimum(rise, fall))
    return total


def _smoothed(values: Floats, width: int) -> Floats:
    padded = np.pad(values, width // 2, mode="edge")
    return np.asarray(np.convolve(padded, np.full(width, 1 / width), mode="valid"))
