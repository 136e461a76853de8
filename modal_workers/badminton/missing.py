"""Parts of the result that do not exist, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

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


def seen_players(players: PlayerTracks | None, analysed: NDArray[np.bool_]) -> PlayerTracks | None:
    """Return the tracks without those of players who are named as missing; None where nobody was seen enough."""
    unseen = [] if players is None else _unseen(players, analysed)
    if players is None or len(unseen) == players.player_count:
        return None
    if not unseen:
        return players
    blank: dict[str, Any] = {}
    for field in fields(players):
        values = getattr(players, field.name)
        if values is not None and values.flags.writeable:  # what repeats one value is unknown anyway
            blank[field.name] = values = values.copy()
            values[unseen] = np.nan if values.dtype.kind == "f" else 0
    return replace(players, **blank)


def seen_shuttle(shuttle: ShuttleTrack | None, analysed: NDArray[np.bool_]) -> ShuttleTrack | None:
    """Return the shuttle's track if it was found in enough of the frames to say anything."""
    if shuttle is None or np.isfinite(shuttle.position_px[analysed, 0]).mean() < LEAST_TRACKED_SHARE:
        return None
    return shuttle


def missing_parts(
    mode: Mode,
    *,
    pose_backend: str,
    has_skeletons: bool,
    players: PlayerTracks | None,
    shuttle: ShuttleTrack | None,
    rallies: Sequence[Rally],
    analysed: NDArray[np.bool_],
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
        if seen_shuttle(shuttle, analysed) is None:
            found.append(Missing(SHUTTLE, "The shuttle was not found: it is too small, or there is no play."))
    if not rallies:
        by_movement = mode == "rally_only" or seen_shuttle(shuttle, analysed) is None
        shown_by = "the players' movement" if by_movement else "the shuttle's track"
        found.append(Missing(RALLIES, f"No rally was found: {shown_by} shows none."))
    return tuple(found)


def _players(players: PlayerTracks | None, analysed: NDArray[np.bool_]) -> list[Missing]:
    if players is None:
        return [Missing(PLAYERS, "No player was found on the court.")]
    unseen = _unseen(players, analysed)
    if len(unseen) == players.player_count:
        return [Missing(PLAYERS, "No player was found on the court.")]
    return [Missing(f"player {number}", "Nobody was seen there for long enough.") for number in unseen]


def _unseen(players: PlayerTracks, analysed: NDArray[np.bool_]) -> list[int]:
    share = players.observed[:, analysed].mean(axis=1)
    return np.flatnonzero(share < LEAST_OBSERVED_SHARE).tolist()
