"""Movement of players over the floor: with a bounded acceleration towards places, in small steps of time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

STEP_S: Final = 1 / 120
PLAY_ACCELERATION_MPS2: Final = 6.0
WALK_ACCELERATION_MPS2: Final = 2.5
WALK_MPS: Final = 1.35
FETCH_MPS: Final = 2.0
REACTION_S: Final = 0.15
#: Speed at which a player in a hurry arrives: the step after the hit takes it up.
ARRIVAL_MPS: Final = 2.0
_TURN_RAD_S: Final = 9.0


@dataclass
class Goal:
    """A place where a player wants to be, the way to look there, and how fast to get there."""

    place_m: tuple[float, float]
    fastest_mps: float = WALK_MPS
    acceleration_mps2: float = WALK_ACCELERATION_MPS2
    #: Direction to look at; None: where the player goes.
    heading: tuple[float, float] | None = None
    #: Ready to play (bent knees, racket up) or at rest.
    ready: bool = False
    arrival_mps: float = 0.0
    #: Before this time the goal is not yet known to the player.
    from_s: float = 0.0


@dataclass
class Mover:
    """One player's place, velocity and heading, and their history."""

    place_m: tuple[float, float]
    fastest_mps: float
    velocity_mps: tuple[float, float] = (0.0, 0.0)
    heading_rad: float = 0.0
    right_handed: bool = True
    goal: Goal | None = None
    history: list[tuple[float, float, float, float, float, bool]] = field(default_factory=list)

    def step(self, time_s: float) -> None:
        """Move by one step and note it."""
        x, y = self.place_m
        u, v = self.velocity_mps
        goal = self.goal
        ready = False
        wanted_u = wanted_v = 0.0
        limit = WALK_ACCELERATION_MPS2
        if goal is not None:
            ready, limit = goal.ready, goal.acceleration_mps2
            away_x, away_y = goal.place_m[0] - x, goal.place_m[1] - y
            distance = math.hypot(away_x, away_y)
            if time_s >= goal.from_s and distance > 0.03:
                # The speed from which three quarters of the acceleration stop the player at the goal.
                arrival = goal.arrival_mps * min(distance / 0.5, 1.0)
                speed = min(goal.fastest_mps, self.fastest_mps, math.sqrt(1.5 * limit * distance + arrival**2))
                wanted_u, wanted_v = away_x / distance * speed, away_y / distance * speed
            self._turn(goal, math.hypot(u, v))
        change_u, change_v = wanted_u - u, wanted_v - v
        change, most = math.hypot(change_u, change_v), limit * STEP_S
        if change > most:
            change_u, change_v = change_u / change * most, change_v / change * most
        u, v = u + change_u, v + change_v
        self.place_m, self.velocity_mps = (x + u * STEP_S, y + v * STEP_S), (u, v)
        self.history.append((*self.place_m, u, v, self.heading_rad, ready))

    def _turn(self, goal: Goal, speed_mps: float) -> None:
        if goal.heading is not None:
            wanted = math.atan2(goal.heading[1], goal.heading[0])
        elif speed_mps > 0.3:
            wanted = math.atan2(self.velocity_mps[1], self.velocity_mps[0])
        else:
            return
        turn = (wanted - self.heading_rad + math.pi) % (2 * math.pi) - math.pi
        most = (_TURN_RAD_S if goal.ready else 4.0) * STEP_S
        self.heading_rad += max(-most, min(most, turn * 0.12))

    def time_to_s(self, place_m: Floats) -> float:
        """Estimate how long the player needs to get to a place in play, with the time to react."""
        u, v = self.velocity_mps
        distance = math.hypot(place_m[0] - self.place_m[0] - 0.15 * u, place_m[1] - self.place_m[1] - 0.15 * v)
        rise, fall = PLAY_ACCELERATION_MPS2, 0.75 * PLAY_ACCELERATION_MPS2
        if distance < 0.3:
            return REACTION_S + math.sqrt(2 * distance / rise)
        peak = math.sqrt((distance + ARRIVAL_MPS**2 / (2 * fall)) / (1 / (2 * rise) + 1 / (2 * fall)))
        top = min(peak, self.fastest_mps)
        slowing = max(top - ARRIVAL_MPS, 0.0) / fall
        ran = top**2 / (2 * rise) + (top + min(ARRIVAL_MPS, top)) / 2 * slowing
        return REACTION_S + top / rise + slowing + max(distance - ran, 0.0) / top
