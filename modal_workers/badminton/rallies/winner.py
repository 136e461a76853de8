"""Winner of a rally, where the evidence suffices.

The side that wins a rally serves next (Laws of Badminton 10.3, 11.3), so the first hit of the next rally says who won.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from modal_workers.badminton.court.homography import CourtView
from modal_workers.badminton.players.player_tracks import PlayerTracks
from modal_workers.badminton.rallies.flights import FlightPiece
from modal_workers.badminton.rallies.rally import Hit, WinnerEvidence

#: Below this a winner is not named.
_LEAST_CONFIDENCE: Final = 0.75
#: Share of rallies after which the side that hits first is the side that won: the first hit seen may be the second.
_SERVER_WON: Final = 0.95
#: A pause longer than this may hide a rally that was not seen.
_LONGEST_PAUSE_S: Final = 60.0


@dataclass(frozen=True)
class Ending:
    """What is known of how a rally ended."""

    hits: tuple[Hit, ...]
    last_flight: FlightPiece | None
    court: CourtView | None
    next_service: Hit | None
    picture_size: tuple[int, int]


@dataclass(frozen=True)
class WinnerVerdict:
    """The winner, or why none is named."""

    winner: int | None
    confidence: float
    evidence: WinnerEvidence


def decide_winner(ending: Ending, players: PlayerTracks | None) -> WinnerVerdict:
    """Return who won a rally."""
    served = ending.next_service
    if players is not None and served is not None and served.player is not None:
        confidence = _SERVER_WON * served.player_confidence * served.confidence
        if confidence >= _LEAST_CONFIDENCE and served.time_s - ending.hits[-1].time_s <= _LONGEST_PAUSE_S:
            return WinnerVerdict(served.player, confidence, "next_server")
    if ending.hits[-1].player is None:
        return WinnerVerdict(None, 0.0, "last_hit_unknown")
    return WinnerVerdict(None, 0.0, "landing_not_seen")
