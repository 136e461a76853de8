"""Places where a player can meet a shuttle in flight, and where the player stands then."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.dimensions import COURT_LENGTH_M, COURT_WIDTH_M, NET_Y_M
from simulators.badminton.play.movement import Mover
from simulators.badminton.play.shuttle_flight import ShuttleFlight

Floats = NDArray[np.float64]

_HIGHEST_M: Final = 2.65
_LOWEST_M: Final = 0.2
_SOONEST_S: Final = 0.21


@dataclass(frozen=True)
class Interception:
    """A player meets the shuttle a time after the last hit; ``stance_m`` is below the player's hips."""

    player: int
    after_s: float
    shuttle_m: tuple[float, float, float]
    stance_m: tuple[float, float]
    #: How far the player lunges, 0 to 1.
    lunge: float
    missed: bool = False


def find_interception(
    random: np.random.Generator, flight: ShuttleFlight, players: Sequence[tuple[int, Mover]]
) -> Interception | None:
    """Return where one of the players meets the shuttle, as high as possible; None where nobody is in time."""
    found: list[tuple[float, Interception]] = []
    for player, mover in players:
        half = 1.0 if mover.place_m[1] > NET_Y_M else -1.0
        for after_s in np.arange(_SOONEST_S, flight.duration_s, 0.03):
            shuttle = flight.at(float(after_s))
            behind = (shuttle[1] - NET_Y_M) * half
            outside = abs(shuttle[0] - COURT_WIDTH_M / 2) > COURT_WIDTH_M / 2 + 0.4
            if behind < 0.15 or behind > COURT_LENGTH_M / 2 + 0.7 or outside:
                continue
            if not _LOWEST_M < shuttle[2] < _HIGHEST_M:
                continue
            stance, lunge = stance_for(mover, shuttle, half)
            slack = float(after_s) - mover.time_to_s(np.array(stance))
            if slack < 0:
                continue
            height = float(shuttle[2])
            # High is good, and so is little hurry; a drop of chance makes hits differ.
            worth = min(height, 2.4) + 0.3 * min(slack, 0.6) + float(random.uniform(0, 0.25))
            point = (float(shuttle[0]), float(shuttle[1]), height)
            found.append((worth, Interception(player, float(after_s), point, stance, lunge)))
    return max(found, key=lambda one: one[0])[1] if found else None


def stance_for(mover: Mover, shuttle_m: Floats, half: float) -> tuple[tuple[float, float], float]:
    """Return where to stand to reach a shuttle, and how much of a lunge that is (0 to 1)."""
    if shuttle_m[2] > 1.8:
        # Under the shuttle: a little behind it, with the racket's shoulder below it.
        back = 0.3 + 0.25 * max(2.4 - shuttle_m[2], 0.0)
        aside = 0.28 if mover.right_handed else -0.28
        x, y = shuttle_m[0] - aside * half, shuttle_m[1] + back * half
        lunge = 0.0
    else:
        away = shuttle_m[:2] - mover.place_m
        way = math.hypot(away[0], away[1])
        reach = 1.22 if shuttle_m[2] < 1.0 else 1.0
        direction = away / way if way > 0.3 else np.array([0.0, -half])
        # Not from the side of the net: the body stays behind the shuttle.
        direction = direction - np.array([0.0, 0.35 * half])
        direction /= math.hypot(direction[0], direction[1])
        x, y = shuttle_m[:2] - reach * direction
        lunge = float(np.clip((1.5 - shuttle_m[2]) * 0.9, 0.15, 1.0)) * float(np.clip(way / 1.5, 0.3, 1.0))
    if (y - NET_Y_M) * half < 0.4:
        y = NET_Y_M + 0.4 * half
    return (float(x), float(y)), lunge
