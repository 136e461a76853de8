"""All figures of a match, made from its tracks and rallies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.analytics.footwork import Footwork, measure_footwork
from modal_workers.badminton.analytics.heat_map import heat_map
from modal_workers.badminton.analytics.motion import (
    BODY_RAISED_PER_ERROR_M,
    MAX_STEP_S,
    RAISED_PER_ERROR_M,
    CourtTrack,
    Motion,
    measure_motion,
)
from modal_workers.badminton.analytics.own_half import own_half
from modal_workers.badminton.analytics.shots import GroundShot, measure_shots
from modal_workers.badminton.analytics.zones import ZoneTimes, measure_zones
from modal_workers.badminton.match import Match
from modal_workers.badminton.missing import hits_known
from modal_workers.badminton.players.player_tracks import PlayerTracks
from modal_workers.badminton.rallies.rally import Rally

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PlayerFigures:
    """Figures of one player over the whole match."""

    player: int
    motion: Motion
    #: What moved: the body's centre over the floor, or the middle between the feet where no skeletons were found.
    motion_point: Literal["body_centre", "feet"]
    #: The same, in rallies only; None where there are no rallies.
    in_rallies: Motion | None
    zones: ZoneTimes
    footwork: Footwork
    #: Seconds in each cell of the floor [rows, columns], of ``heat_map``.
    heat_map_s: Floats
    #: Hits in rallies, not passes in pauses; None where the shuttle was not tracked.
    hit_count: int | None
    #: Rallies won with evidence; in doubles those of the pair. None where the shuttle was not tracked.
    won_count: int | None
    outlier_count: int
    #: Mean over the known frames, and the lowest: probability that it is the person of the beginning.
    identity_confidence: float
    identity_confidence_min: float
    #: Median standard deviation of the position.
    position_error_m: float


@dataclass(frozen=True, eq=False)
class RallyFigures:
    """Figures of one rally: ``players`` and ``hit_counts`` in the order of the players' ids.

    ``hit_counts`` is empty where the rally was found by the players' movement: nobody saw its hits.
    """

    rally: Rally
    players: tuple[Motion, ...]
    hit_counts: tuple[int, ...]
    shots: tuple[GroundShot, ...]

    @property
    def duration_s(self) -> float:
        """Time from the service to the end of play."""
        return self.rally.end_s - self.rally.start_s


@dataclass(frozen=True, eq=False)
class PlayTime:
    """Time in rallies, and ``total_s`` of the whole video, with what was not analysed."""

    total_s: float
    rally_s: float
    mean_rally_s: float
    longest_rally_s: float
    shortest_rally_s: float


@dataclass(frozen=True, eq=False)
class Analysis:
    """Figures of a match. ``speed_m_s`` [P, N], ``frame_s`` [N]: each analysed frame's duration, 0 of the others."""

    players: tuple[PlayerFigures, ...]
    rallies: tuple[RallyFigures, ...]
    play_time: PlayTime
    speed_m_s: NDArray[np.float32]
    frame_s: Floats


def analyse(match: Match) -> Analysis:
    """Return all figures of a match."""
    segment = match.segment_of_frame()
    used = np.isin(segment, [number for number, part in enumerate(match.segments) if part.analysed])
    frame_s = np.where(used, _frame_durations_s(match.times_s), 0.0)
    tracks = match.tracks
    if tracks is None:
        speed_m_s = np.zeros((0, match.frame_count), np.float32)
        return Analysis(
            (), tuple(_without_players(rally) for rally in match.rallies), _play_time(match), speed_m_s, frame_s
        )
    by_player = [_moving(match, tracks, player, used) for player in range(tracks.player_count)]
    return Analysis(
        players=tuple(_player(match, tracks, number, track, frame_s) for number, track in enumerate(by_player)),
        rallies=tuple(_rally(rally, tracks, by_player) for rally in match.rallies),
        play_time=_play_time(match),
        speed_m_s=np.array([track.speed_m_s for track in by_player], np.float32).reshape(-1, match.frame_count),
        frame_s=frame_s,
    )


def _moving(match: Match, tracks: PlayerTracks, player: int, used: NDArray[np.bool_]) -> CourtTrack:
    """Return the track that distance and speed are measured on: the body's centre where it is known, else the feet."""
    place, error, raised = tracks.position_m, tracks.position_error_m, RAISED_PER_ERROR_M
    if tracks.body_m is not None and tracks.body_error_m is not None:
        place, error, raised = tracks.body_m, tracks.body_error_m, BODY_RAISED_PER_ERROR_M
    motion = place[player], error[player], tracks.velocity_m_s[player]
    return CourtTrack.of(
        match.times_s, motion, tracks.observed[player], used, match.segment_of_frame(), raised_per_error_m=raised
    )


def _frame_durations_s(times_s: Floats) -> Floats:
    """Return the time until the next frame, at most ``MAX_STEP_S``; the last frame lasts as long as the median."""
    if len(times_s) < 2:
        return np.zeros(len(times_s))
    until_next_s = np.diff(times_s)
    return np.minimum(np.append(until_next_s, np.median(until_next_s)), MAX_STEP_S)


def _player(match: Match, tracks: PlayerTracks, number: int, track: CourtTrack, frame_s: Floats) -> PlayerFigures:
    feet_m, error_m = (np.asarray(each[number], float) for each in (tracks.position_m, tracks.position_error_m))
    known = track.used & np.isfinite(feet_m).all(axis=-1)
    counted_s = np.where(known, frame_s, 0.0)
    half = own_half(feet_m, tracks.side[number])
    identity = tracks.identity_confidence[number][known]
    in_play = np.zeros(len(known), np.bool_)
    for rally in match.rallies:
        in_play[rally.first_frame : rally.last_frame + 1] = True
    counted = hits_known(match)
    hits = [hit for rally in match.rallies for hit in rally.hits]
    return PlayerFigures(
        player=number,
        motion=measure_motion(track),
        motion_point="feet" if tracks.body_m is None else "body_centre",
        in_rallies=measure_motion(track, in_play) if match.rallies else None,
        zones=measure_zones(half, counted_s, error_m),
        footwork=measure_footwork(half, counted_s),
        heat_map_s=heat_map(feet_m, counted_s),
        hit_count=sum(hit.player == number for hit in hits) if counted else None,
        won_count=sum(_won(rally, number, tracks.player_count) for rally in match.rallies) if counted else None,
        outlier_count=int(tracks.outlier_count[number]),
        identity_confidence=_mean(identity),
        identity_confidence_min=float(np.nanmin(identity)) if np.isfinite(identity).any() else float("nan"),
        position_error_m=_median(error_m[known]),
    )


def _won(rally: Rally, player: int, player_count: int) -> bool:
    if rally.winner is None:
        return False
    # In doubles players 0 and 1 are one pair, 2 and 3 the other.
    return rally.winner // 2 == player // 2 if player_count > 2 else rally.winner == player


def _rally(rally: Rally, tracks: PlayerTracks, by_player: list[CourtTrack]) -> RallyFigures:
    counted = range(len(by_player)) if rally.evidence == "shuttle" else ()
    return RallyFigures(
        rally=rally,
        players=tuple(measure_motion(track.between(rally.first_frame, rally.last_frame)) for track in by_player),
        hit_counts=tuple(sum(hit.player == number for hit in rally.hits) for number in counted),
        shots=measure_shots(rally.number, rally.hits, tracks.position_m, tracks.position_error_m),
    )


def _without_players(rally: Rally) -> RallyFigures:
    return RallyFigures(rally, (), (), ())


def _play_time(match: Match) -> PlayTime:
    durations_s = np.array([rally.end_s - rally.start_s for rally in match.rallies])
    total_s = float(match.times_s[-1] - match.times_s[0]) if match.frame_count else 0.0
    if not len(durations_s):
        return PlayTime(total_s, 0.0, float("nan"), float("nan"), float("nan"))
    return PlayTime(
        total_s,
        float(durations_s.sum()),
        float(durations_s.mean()),
        float(durations_s.max()),
        float(durations_s.min()),
    )


def _mean(values: NDArray[np.float32]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _median(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")
