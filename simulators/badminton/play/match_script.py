"""The course of a match: who hits the shuttle when and where to, where the players run, and what happens in pauses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from simulators.badminton.play.movement import Mover
from simulators.badminton.play.shuttle_flight import ShuttleFlight

Floats = NDArray[np.float64]
RallyEnd = Literal["landed_in", "out", "net", "not_returned"]
SwingKind = Literal["overhead", "underarm", "serve", "pass"]

REST_S: Final = 0.6


@dataclass(frozen=True)
class PlayedHit:
    """A hit of a player: when and where the racket meets the shuttle."""

    time_s: float
    player: int
    xyz_m: tuple[float, float, float]
    shot: str


@dataclass(frozen=True)
class TrueRally:
    """A rally: from the hit of the service until the shuttle is on the floor or has met the net.

    Team 0 are those who begin on the far half. ``landed_in``: nobody reached the shuttle; ``not_returned``: a player
    swung at it and missed.
    """

    start_s: float
    end_s: float
    server: int
    winner_team: int
    reason: RallyEnd
    #: Points of both teams after the rally.
    score: tuple[int, int]
    #: False where the video ends before.
    complete: bool = True


@dataclass(frozen=True)
class RacketSwing:
    """A movement of the racket to a point at a time; a miss has one too."""

    time_s: float
    player: int
    kind: SwingKind
    xyz_m: tuple[float, float, float]
    lunge: float = 0.0
    jump_m: float = 0.0


@dataclass(frozen=True)
class Held:
    """A player holds the shuttle in the hand without the racket; a service is held out at ``serve_at_m``."""

    start_s: float
    end_s: float
    player: int
    serve_at_m: tuple[float, float, float] | None = None


@dataclass
class MatchScript:
    """Everything that happens, in the order of time."""

    movers: list[Mover]
    duration_s: float
    hits: list[PlayedHit] = field(default_factory=list)
    passes: list[PlayedHit] = field(default_factory=list)
    rallies: list[TrueRally] = field(default_factory=list)
    swings: list[RacketSwing] = field(default_factory=list)
    #: (start time, flight); the shuttle is in the air.
    flights: list[tuple[float, ShuttleFlight]] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    #: (time, player) of a shuttle picked up from the floor.
    pickups: list[tuple[float, int, tuple[float, float]]] = field(default_factory=list)
    #: (start, end) while players change ends.
    changes_of_ends_s: list[tuple[float, float]] = field(default_factory=list)
    #: Times at which a player lands a split step: (time, player).
    split_steps: list[tuple[float, int]] = field(default_factory=list)
