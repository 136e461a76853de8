"""Hands of a player: at rest, ready, and in swings of the racket."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simulators.badminton.body.skeleton import HALF_SHOULDERS, RACKET_M, Trunk, smooth_step, unit
from simulators.badminton.play.match_script import Held, RacketSwing

Floats = NDArray[np.float64]

_UP: Final = np.array([0.0, 0.0, 1.0])
#: Seconds before the hit at which the swing begins and the racket is back, and after it until it is through and done.
_BEGIN_S, _BACK_S, _THROUGH_S, _DONE_S = 0.6, 0.16, 0.16, 0.6


@dataclass
class Hands:
    """Goals of the hands. Shapes: [T, 3], the others [T]."""

    racket_wrist: Floats
    racket_direction: Floats
    free_wrist: Floats
    #: Where the racket meets the shuttle, and 1 at that time.
    contact_m: Floats
    contact: Floats
    #: Turn of the shoulders towards the racket's side, and how much the arm is overhead.
    twist: Floats
    overhead: Floats


def swing_hands(
    trunk: Trunk,
    swings: Sequence[RacketSwing],
    held: Sequence[Held],
    pickups: Sequence[tuple[float, tuple[float, float]]],
) -> Hands:
    """Return the hands over the whole match."""
    hands, times = _posture(trunk), trunk.times_s
    for swing in swings:
        window = slice(*np.searchsorted(times, [swing.time_s - _BEGIN_S, swing.time_s + _DONE_S]))
        _swing(hands, trunk, window, swing)
    for holding in held:
        _hold(hands, trunk, holding)
    for when, place in pickups:
        window = slice(*np.searchsorted(times, [when - 0.7, when + 0.6]))
        share = smooth_step(1 - np.abs(times[window] - when) / 0.65)[:, None]
        target = np.array([place[0], place[1], 0.06])
        hands.free_wrist[window] += share * (target - hands.free_wrist[window])
    return hands


def _posture(trunk: Trunk) -> Hands:
    """Return the hands without swings: racket up in front when ready, arms hanging and swinging when walking."""
    times, speed, height_m = trunk.times_s, trunk.speed_mps, trunk.height_m
    heading, hand, neck = trunk.heading, trunk.racket_side, trunk.neck
    shoulder = HALF_SHOULDERS * height_m
    phase = 2 * np.pi * np.cumsum(speed / (0.75 + 0.36 * speed)) * (times[1] - times[0])
    sway = np.sin(phase) * np.clip(speed * 0.12, 0, 0.25)
    up = trunk.ready[:, None]
    wrist: list[Floats] = []
    free: list[Floats] = []
    for side, ready_place in ((1.0, (0.40, 0.16, -0.26)), (-1.0, (0.34, 0.20, -0.30))):
        ahead, aside, above = ready_place
        at_ready = neck + ahead * heading + side * (shoulder * 0.6 + aside) * hand + above * _UP
        at_rest = neck + side * (shoulder + 0.07) * hand - 0.30 * height_m * _UP
        at_rest += (0.06 + side * sway)[:, None] * heading
        (wrist if side > 0 else free).append(up * at_ready + (1 - up) * at_rest)
    direction = unit(up * (0.75 * heading + 0.7 * _UP - 0.25 * hand) + (1 - up) * (0.55 * heading - 0.75 * _UP))
    none = np.zeros(len(times))
    return Hands(wrist[0], direction, free[0], np.zeros_like(neck), none, none.copy(), none.copy())


def _swing(hands: Hands, trunk: Trunk, window: slice, swing: RacketSwing) -> None:
    """Lay one swing over the posture in a window of time."""
    after = trunk.times_s[window] - swing.time_s
    if not len(after):
        return
    f, h, n = trunk.heading[window], trunk.racket_side[window], trunk.neck[window]
    shuttle = np.array(swing.xyz_m)
    shoulder = n + HALF_SHOULDERS * trunk.height_m * h
    if swing.kind == "overhead":
        back, back_direction = n + 0.30 * h - 0.18 * f + 0.10 * _UP, unit(-0.75 * f - 0.45 * _UP + 0.1 * h)
        through, through_direction = n + 0.42 * f - 0.18 * h - 0.45 * _UP, unit(0.5 * f - 0.7 * _UP - 0.5 * h)
        direction = unit(0.25 * (shuttle - shoulder) + 0.75 * _UP + 0.1 * f)
    else:
        back, back_direction = n + 0.36 * h + 0.05 * f - 0.45 * _UP, unit(-0.2 * f - 0.6 * _UP + 0.6 * h)
        through, through_direction = n + 0.45 * f - 0.05 * h + 0.05 * _UP, unit(0.4 * f + 0.9 * _UP - 0.3 * h)
        direction = unit(shuttle - shoulder)
    contact = shuttle - RACKET_M * direction
    hit = np.exp(-((after / 0.045) ** 2))
    # Two thirds of the way from the back to the hit are in the last 50 ms.
    forth = np.clip((after + _BACK_S) / _BACK_S, 0.0, 1.0) ** 2
    rest = smooth_step(after / _THROUGH_S)
    whole = np.minimum(
        smooth_step((after + _BEGIN_S) / (_BEGIN_S - _BACK_S)), 1 - smooth_step((after - _THROUGH_S) / (_DONE_S - 0.16))
    )[:, None]

    def path(first: Floats, second: Floats, third: Floats) -> Floats:
        at = first + forth[:, None] * (second - first)
        return np.asarray(at + rest[:, None] * (third - second))

    wrist = path(back, contact, through)
    pointing = unit(path(back_direction, direction, through_direction))
    hands.racket_wrist[window] += whole * (wrist - hands.racket_wrist[window])
    hands.racket_direction[window] = unit(
        hands.racket_direction[window] + whole * (pointing - hands.racket_direction[window])
    )
    stronger = hit > hands.contact[window]
    hands.contact[window] = np.where(stronger, hit, hands.contact[window])
    hands.contact_m[window] = np.where(stronger[:, None], shuttle, hands.contact_m[window])
    if swing.kind == "overhead":
        turned = smooth_step((after + _BEGIN_S) / 0.35) * (1 - smooth_step((after + 0.12) / 0.16))
        hands.twist[window] += 0.75 * turned
        hands.overhead[window] = np.maximum(hands.overhead[window], whole[:, 0] * (after < 0.05))
        # The free arm points up at the shuttle before the hit.
        point = n - 0.22 * h + 0.28 * f + 0.30 * _UP
        hands.free_wrist[window] += turned[:, None] * (point - hands.free_wrist[window])
    else:
        # The free arm balances behind the body.
        balance = n - 0.45 * h - 0.25 * f - 0.18 * _UP
        share = 0.8 * swing.lunge * whole
        hands.free_wrist[window] += share * (balance - hands.free_wrist[window])


def _hold(hands: Hands, trunk: Trunk, one: Held) -> None:
    """Put the shuttle into the free hand, in front of the body, and hold it out for the service."""
    times, heading = trunk.times_s, trunk.heading
    window = slice(*np.searchsorted(times, [one.start_s + 0.3, one.end_s + 0.1]))
    at = times[window]
    carried = trunk.neck[window] + 0.30 * heading[window] - 0.16 * trunk.racket_side[window] - 0.42 * _UP
    share = np.minimum(smooth_step((at - one.start_s - 0.3) / 0.5), smooth_step((one.end_s + 0.1 - at) / 0.25))
    hands.free_wrist[window] += share[:, None] * (carried - hands.free_wrist[window])
    if one.serve_at_m is not None:
        out = smooth_step((at - one.end_s + 1.3) / 0.7) * smooth_step((one.end_s + 0.1 - at) / 0.12)
        target = np.array(one.serve_at_m) - 0.09 * heading[window] + 0.05 * _UP
        hands.free_wrist[window] += out[:, None] * (target - hands.free_wrist[window])
