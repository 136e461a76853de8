"""Winner of a rally, where the evidence suffices.

The side that wins a rally serves next (Laws of Badminton 10.3, 11.3), so the first hit of the next rally says who won;
so does the place where the shuttle landed, if it is not too near to a line for the error of that place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from modal_workers.badminton.court.dimensions import COURT_LENGTH_M, COURT_WIDTH_M, NET_Y_M, SINGLES_INSET_M
from modal_workers.badminton.players.player_tracks import PlayerTracks
from modal_workers.badminton.rallies.ending import Ending
from modal_workers.badminton.rallies.rally import Hit, WinnerEvidence

#: Below this a winner is not named; one kind of evidence alone rarely reaches it, two that agree do.
_LEAST_CONFIDENCE: Final = 0.9
#: Evidence below this is not counted at all.
_LEAST_EVIDENCE: Final = 0.75
#: Share of rallies after which the side that hits first is the side that won: the first hit seen may be the second.
_SERVER_WON: Final = 0.95
#: The same for a shuttle seen to land, or to end at the net; the error of a landing that no covariance contains.
_LANDING_RIGHT: Final = 0.95
_NET_RIGHT: Final = 0.78
_LEAST_ERROR_M: Final = 0.08
#: A pause longer than this may hide a rally that was not seen.
_LONGEST_PAUSE_S: Final = 60.0


@dataclass(frozen=True)
class WinnerVerdict:
    """The winner, or why none is named."""

    winner: int | None
    confidence: float
    evidence: WinnerEvidence


@dataclass(frozen=True)
class _SideVerdict:
    side: int  # 0: not known
    confidence: float
    evidence: WinnerEvidence


def decide_winner(
    hits: Sequence[Hit], ending: Ending, next_service: Hit | None, players: PlayerTracks | None
) -> WinnerVerdict:
    """Return who won a rally."""
    if players is None:
        return WinnerVerdict(None, 0.0, "last_hit_unknown")
    landed = _by_landing(hits[-1], ending, players)
    served = _by_service(hits[-1], next_service, players)
    if landed.side and served.side:
        if landed.side == served.side:
            confidence = 1 - (1 - landed.confidence) * (1 - served.confidence)
            chosen = _SideVerdict(landed.side, confidence, landed.evidence)
        else:
            return WinnerVerdict(None, 0.0, "evidence_disagrees")
    else:
        chosen = served if served.side else landed
    if not chosen.side:
        return WinnerVerdict(None, 0.0, chosen.evidence)
    if chosen.confidence < _LEAST_CONFIDENCE:
        return WinnerVerdict(None, 0.0, "evidence_too_weak")
    winner = _player_of(chosen.side, hits, next_service, players)
    if winner is None:
        return WinnerVerdict(None, 0.0, "last_hit_unknown")
    return WinnerVerdict(winner, chosen.confidence, chosen.evidence)


def _by_service(last: Hit, served: Hit | None, players: PlayerTracks) -> _SideVerdict:
    """Return the side, at the end of the rally, of the player who serves next."""
    nothing = _SideVerdict(0, 0.0, "landing_not_seen")
    if served is None or served.player is None or served.time_s - last.time_s > _LONGEST_PAUSE_S:
        return nothing
    confidence = _SERVER_WON * served.player_confidence * served.confidence
    # The ends may have been changed since: the person counts, not the half from which the service came.
    side = _side(players, served.player, last.frame)
    return _SideVerdict(side, confidence, "next_server") if confidence >= _LEAST_EVIDENCE else nothing


def _by_landing(last: Hit, ending: Ending, players: PlayerTracks) -> _SideVerdict:
    """Return the side that won by where the shuttle ended."""
    if last.player is None:
        return _SideVerdict(0, 0.0, "last_hit_unknown")
    hitter = _side(players, last.player, last.frame)
    if ending.place_m is None or ending.kind not in ("floor", "net") or hitter == 0:
        return _SideVerdict(0, 0.0, "landing_not_seen")
    sure = last.confidence * last.player_confidence
    if ending.kind == "net":
        return _SideVerdict(-hitter, _NET_RIGHT * sure, "not_over_net")
    x, y = ending.place_m
    error = max(ending.error_m, _LEAST_ERROR_M)
    inset = SINGLES_INSET_M if players.player_count == 2 else 0.0
    over = -hitter * (y - NET_Y_M)
    inside = min(x - inset, COURT_WIDTH_M - inset - x, COURT_LENGTH_M - y, y)
    is_over, is_inside = _share(over / error), _share(inside / error)
    # The three outcomes: short of the net, in, out.
    options: list[tuple[float, int, WinnerEvidence]] = [
        (1 - is_over, -hitter, "not_over_net"),
        (is_over * is_inside, hitter, "landed_in"),
        (is_over * (1 - is_inside), -hitter, "landed_out"),
    ]
    probability, side, evidence = max(options)
    other = sum(share for share, of, _ in options if of == side)
    confidence = _LANDING_RIGHT * sure * other
    if confidence < _LEAST_EVIDENCE:
        return _SideVerdict(0, 0.0, "too_close_to_line" if probability < 0.9 else "last_hit_unknown")
    return _SideVerdict(side, confidence, evidence)


def _share(deviations: float) -> float:
    return 0.5 * math.erfc(-deviations / math.sqrt(2))


def _side(players: PlayerTracks, player: int, frame: int) -> int:
    around = players.side[player, max(0, frame - 15) : frame + 16].astype(int)
    return int(np.sign(around.sum()))


def _player_of(side: int, hits: Sequence[Hit], served: Hit | None, players: PlayerTracks) -> int | None:
    """Return a player of the side that won: who serves next or who hit last, else any."""
    frame = hits[-1].frame
    named = [hit.player for hit in (*([served] if served is not None else []), *reversed(hits))]
    for player in [*(each for each in named if each is not None), *range(players.player_count)]:
        if _side(players, player, frame) == side:
            return int(player)
    return None
