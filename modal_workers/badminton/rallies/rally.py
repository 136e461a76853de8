"""Hits and rallies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Hit:
    """Contact of racket and shuttle."""

    frame: int
    time_s: float
    player: int | None  # None where the evidence does not say who
    player_confidence: float
    confidence: float  # that there was a hit
    shuttle_px: tuple[float, float]


#: Why a rally has no winner, or what shows who won it.
WinnerEvidence = Literal[
    "landed_in",
    "landed_out",
    "not_over_net",
    "next_server",
    "landing_not_seen",
    "last_hit_unknown",
    "too_close_to_line",
    "evidence_disagrees",
    "evidence_too_weak",
    "no_shuttle_track",
]


@dataclass(frozen=True)
class Rally:
    """One rally, from the service to the end of play."""

    number: int  # from 1
    first_frame: int
    last_frame: int
    start_s: float
    end_s: float
    hits: tuple[Hit, ...]
    winner: int | None  # in doubles one player of the pair that won
    winner_confidence: float
    winner_evidence: WinnerEvidence
    #: By the shuttle that both limits are within 0.3 s; by movement that it and a rally have most of their time in
    #: common.
    confidence: float
    evidence: Literal["shuttle", "movement"]  # what its limits were found by
