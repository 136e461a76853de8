"""Words and figures as readers see them, the same in the videos, the report and the tables."""

from __future__ import annotations

import math

from modal_workers.badminton.rallies.rally import WinnerEvidence

#: Sentences for a rally's winner, or for why it has none.
WINNER_TEXT: dict[WinnerEvidence, str] = {
    "landed_in": "the shuttle landed in",
    "landed_out": "the shuttle landed out",
    "not_over_net": "the shuttle did not cross the net",
    "next_server": "who served next",
    "landing_not_seen": "the landing was not seen",
    "last_hit_unknown": "who hit last is not known",
    "too_close_to_line": "the landing is too close to a line",
    "evidence_disagrees": "the landing and who served next do not agree",
    "evidence_too_weak": "what was seen of the end is too little to name a winner",
    "no_shuttle_track": "the shuttle was not tracked",
}


def player_name(player: int) -> str:
    """Return a player's name: people count from 1, ids from 0."""
    return f"Player {player + 1}"


def player_label(player: int) -> str:
    """Return a player's name where there is little room."""
    return f"P{player + 1}"


def winner_name(winner: int, player_count: int) -> str:
    """Return who won a rally: in doubles the pair, players 0 and 1 or 2 and 3."""
    if player_count <= 2:
        return player_name(winner)
    first = winner // 2 * 2
    return f"Players {first + 1} and {first + 2}"


def clock(seconds: float) -> str:
    """Return minutes and seconds: ``1:07``, ``1:02:07``."""
    whole = max(0, int(seconds))
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def figure(value: float, digits: int = 1) -> str:
    """Return a figure, or a dash where it is not known."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def percent(share: float) -> str:
    """Return a share in percent, or a dash where it is not known."""
    return f"{100 * share:.0f} %" if math.isfinite(share) else "–"
