"""Parts of the result that do not exist, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from modal_workers.badminton.match import Match, Missing, Mode
from modal_workers.badminton.players.player_tracks import PlayerTracks
from modal_workers.badminton.rallies.rally import Rally
from modal_workers.badminton.shuttle.shuttle_track import ShuttleTrack

PLAYERS: Final = "players"
SKELETONS: Final = "skeletons"
SHUTTLE: Final = "shuttle"
RALLIES: Final = "rallies"

#: A player seen in a smaller share of the analysed frames has no track worth the name.
LEAST_OBSERVED_SHARE: Final = 0.05
#: A match whose shuttle is found in a smaller share of the frames has no usable track: nobody plays all the time.
LEAST_TRACKED_SHARE: Final = 0.01


def hits_known(match: Match) -> bool:
    """Return whether hits were found by the shuttle: where it was not tracked, their count says nothing."""
    return match.shuttle is not None and all(each.part != SHUTTLE for each in match.missing)


def missing_parts(
    mode: Mode,
    *,
    pose_backend: str,
    has_skeletons: bool,
    players: PlayerTracks | None,
    shuttle: ShuttleTrack | None,
    rallies: Sequence[Rally],
    analysed: np.ndarray,
) -> tuple[Missing, ...]:
    """Return the missing parts; ``analysed`` [N] are the frames of segments with a court."""
    found: list[Missing] = []
    if mode == "rally_only":
        reason = "mode=rally_only finds the rallies only."
        found += [Missing(part, reason) for part in (PLAYERS, SKELETONS, SHUTTLE)]
    else:
        found += _players(players, analysed)
        if not has_skeletons:
            found.append(Missing(SKELETONS, f"The pose backend {pose_backend} finds no skeletons."))
        if shuttle is None or np.isfinite(shuttle.position_px[analysed, 0]).mean() < LEAST_TRACKED_SHARE:
            found.append(Missing(SHUTTLE, "The shuttle was not found: it is too small, or there is no play."))
    if not rallies:
        found.append(Missing(RALLIES, "No rally was found: neither the shuttle nor the players show play."))
    return tuple(found)


def _players(players: PlayerTracks | None, analysed: np.ndarray) -> list[Missing]:
    if players is None:
        return [Missing(PLAYERS, "No player was found on the court.")]
    share = players.observed[:, analysed].mean(axis=1)
    seen = [number for number in range(players.player_count) if share[number] >= LEAST_OBSERVED_SHARE]
    if not seen:
        return [Missing(PLAYERS, "No player was found on the court.")]
    if len(seen) < players.player_count:
        unseen = [str(number) for number in range(players.player_count) if number not in seen]
        return [Missing(f"player {number}", "Nobody was seen there for long enough.") for number in unseen]
    return []
