"""From detected persons to the players' tracks over a whole video."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.dimensions import NET_Y_M
from modal_workers.badminton.players.body_centre import HipRays, MeasuredFeet, body_tracks, hip_rays, view_axes
from modal_workers.badminton.players.feet_smoothing import detected_feet, smooth_feet
from modal_workers.badminton.players.floor_points import CourtSegment, FloorPoints, floor_points, half_of
from modal_workers.badminton.players.foot_lift import StandingPlaces, standing_places
from modal_workers.badminton.players.identity import NOBODY, Identities, identify
from modal_workers.badminton.players.persons import PersonLog
from modal_workers.badminton.players.player_tracks import PlayerTracks
from modal_workers.badminton.players.skeleton_smoothing import smooth_skeleton
from modal_workers.badminton.players.tracklet_facts import TrackletFacts, facts_of
from modal_workers.badminton.players.tracklets import Tracklet, TrackletBuilder
from modal_workers.badminton.players.trajectory_smoothing import Trajectory, smooth_trajectory

Floats = NDArray[np.float64]
Players = Literal["auto", "singles", "doubles"]

#: Share of the halves with a player on which there are two, from which on it is doubles; near it, it is said so.
_DOUBLES_SHARE: Final = 0.35
_UNSURE_SHARES: Final = (0.2, 0.5)
#: Tracklets that define the players are followed together for so long, if there are such.
_ANCHOR_S: Final = 2.0
#: Mean shirts nearer than this many standard deviations of one shirt are the same for us.
_SAME_SHIRT: Final = 2.0


def track_players(
    log: PersonLog,
    times_s: Floats,
    courts: Sequence[CourtSegment],
    *,
    picture_size_px: tuple[int, int],
    players: Players,
    has_skeletons: bool,
    progress: Callable[[float], None] = lambda _share: None,
) -> tuple[PlayerTracks, tuple[str, ...]]:
    """Return the tracks of two or four players, and warnings for the user.

    ``courts``: the stretches with a court, in the order of time: first frame, last frame (included) and the court's
    view. Between them nothing is tracked; identities are found again after each. ``picture_size_px`` (width, height) of
    the upright full-size picture: with the court it gives the camera, and so how far above the floor an ankle is.
    ``progress`` is called with the share done (0 to 1) on the way; what it raises stops the work.
    """
    points = floor_points(log, courts, picture_size_px)
    shirts = _square_roots(log.appearance, points.row)
    tracklets = TrackletBuilder(points, times_s, log.boxes_px[points.row], shirts).build(
        lambda share: progress(0.4 * share)
    )
    facts = facts_of(tracklets, points, times_s, shirts)
    del shirts  # as large as the log's histograms
    doubles, warnings = _is_doubles(players, facts, tracklets, points)
    count = 4 if doubles else 2
    anchors = _anchors(facts, tracklets, points, count)
    identities = identify(facts, anchors)
    warnings += _shirt_warnings(identities, facts)
    order = _order(identities, facts, tracklets, points, count)
    tracks = _empty(count, len(times_s), has_skeletons=has_skeletons)
    segment = np.full(len(times_s), -1, np.int64)
    for number, (first, last, _) in enumerate(courts):
        segment[first : last + 1] = number
    measured: list[tuple[HipRays, MeasuredFeet]] = []
    for place, player in enumerate(order):
        mine = [
            (tracklet, float(identities.confidence[index]))
            for index, tracklet in enumerate(tracklets)
            if identities.player[index] == player
        ]
        _fill(tracks, place, mine, points, log)
        progress(0.5 + 0.3 * place / count)
        index = _in_time([tracklet for tracklet, _ in mine], points)
        standing = standing_places(points, index, times_s)
        feet = _measured_feet(points.frame[index], standing, len(times_s))
        _smooth(
            tracks, place, rejected=sum(each.rejected for each, _ in mine), feet=feet, times_s=times_s, segment=segment
        )
        if has_skeletons:
            rays = hip_rays(log, points.row[index], points.frame[index], courts, picture_size_px)
            measured.append((rays, feet))
            if len(rays.frame):
                places = detected_feet(points, index, standing, len(times_s))
                _set_places(tracks, place, smooth_feet(places, view_axes(rays, segment), times_s, segment))
    progress(0.8)
    bodies = body_tracks(measured, times_s, segment)
    return (tracks if bodies is None else _with_bodies(tracks, bodies)), tuple(warnings)


def _square_roots(appearance: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return unit vectors whose products are the similarities of histograms (Bhattacharyya)."""
    if appearance.shape[1] == 0:
        return np.ones((len(rows), 1), np.float32)
    roots = np.sqrt(np.maximum(np.nan_to_num(appearance[rows]), 0))
    lengths = np.linalg.norm(roots, axis=1, keepdims=True)
    return np.asarray(np.divide(roots, lengths, out=np.zeros_like(roots), where=lengths > 0))


def _is_doubles(
    players: Players, facts: Sequence[TrackletFacts], tracklets: Sequence[Tracklet], points: FloorPoints
) -> tuple[bool, list[str]]:
    if players != "auto":
        return players == "doubles", []
    frames = int(points.frame[-1]) + 1 if len(points) else 0
    on_half = np.zeros((2, frames), np.int32)
    for tracklet, known in zip(tracklets, facts, strict=True):
        if known.worth > 0 and known.seconds_inside > 1.0:
            half = half_of(points.position_m[tracklet.points])
            for row, side in enumerate((-1, 1)):
                on_half[row, points.frame[tracklet.points[half == side]]] += 1
    occupied = int((on_half > 0).sum())
    share = float((on_half > 1).sum()) / occupied if occupied else 0.0
    doubles = share > _DOUBLES_SHARE
    warnings = []
    if _UNSURE_SHARES[0] < share < _UNSURE_SHARES[1]:
        warnings.append(
            f"Taken for {'doubles' if doubles else 'singles'}: two players stand on one half in {share:.0%} of the time"
            " that one does. Set the parameter players if that is wrong."
        )
    return doubles, warnings


def _anchors(
    facts: Sequence[TrackletFacts], tracklets: Sequence[Tracklet], points: FloorPoints, count: int
) -> list[int]:
    """Return for each player the tracklet that defines who it is: early ones that are followed at the same time."""
    per_half = count // 2
    useful = [index for index, known in enumerate(facts) if known.worth > 0 and known.seconds_inside > 0.5]
    best: tuple[float, list[int]] = (0.0, [NOBODY] * count)
    for now, index in enumerate(useful):
        start_s = facts[index].first.time_s
        chosen: list[int] = []
        length = []
        followed = [other for other in useful[max(now - 60, 0) : now + 1] if facts[other].last.time_s > start_s]
        half_now = {other: _half_at(facts[index].first.frame, tracklets[other], points) for other in followed}
        for half in (-1, 1):
            together = [other for other in followed if half_now[other] == half]
            together.sort(key=lambda other: -facts[other].last.time_s)
            chosen += [*together[:per_half], *([NOBODY] * (per_half - len(together)))]
            length += [facts[other].last.time_s - start_s for other in together[:per_half]]
        worth = len(length) + min(min(length, default=0.0), _ANCHOR_S) / _ANCHOR_S
        if worth > best[0] + 1e-6:
            best = (worth, chosen)
        if worth >= count + 1:
            break
    return best[1]


def _half_at(frame: int, tracklet: Tracklet, points: FloorPoints) -> int:
    place = int(np.searchsorted(points.frame[tracklet.points], frame))
    return int(half_of(points.position_m[tracklet.points[min(place, len(tracklet.points) - 1)]]))


def _shirt_warnings(identities: Identities, facts: Sequence[TrackletFacts]) -> list[str]:
    known = [player for player in range(len(identities.shirts)) if (identities.player == player).any()]
    alike = [
        (first, second)
        for first, second in itertools.combinations(known, 2)
        if 1 - float(identities.shirts[first] @ identities.shirts[second])
        < (_SAME_SHIRT * identities.shirt_spread) ** 2
    ]
    unsure = [index for index, known_ in enumerate(facts) if identities.player[index] != NOBODY and known_.count > 15]
    least = min((float(identities.confidence[index]) for index in unsure), default=1.0)
    if alike and least < 0.9:
        text = (
            "Players wear shirts of the same colour: after cuts, crossings and changes of ends they are told apart by"
            f" motion and by their side of the net only. Least confidence of an identity: {least:.2f}."
        )
        return [text]
    return []


def _order(
    identities: Identities,
    facts: Sequence[TrackletFacts],
    tracklets: Sequence[Tracklet],
    points: FloorPoints,
    count: int,
) -> list[int]:
    """Return the players in the order of their ids: those far at the beginning first, of a pair the left one first."""
    places = []
    for player in range(count):
        mine = [index for index in range(len(facts)) if identities.player[index] == player]
        first = tracklets[mine[0]].points[:30] if mine else None
        x, y = (np.inf, np.inf) if first is None else np.median(points.position_m[first], axis=0)
        places.append((float(x), float(y)))
    pairs = [range(count // 2), range(count // 2, count)]
    # Nobody was seen on the half that the others are not on.
    pairs.sort(key=lambda pair: min((y for y in (places[each][1] for each in pair) if y < np.inf), default=NET_Y_M))
    return [player for pair in pairs for player in sorted(pair, key=lambda player: places[player][0])]


def _empty(count: int, frames: int, *, has_skeletons: bool) -> PlayerTracks:
    def unknown(*shape: int) -> NDArray[np.float32]:
        return np.full(shape, np.nan, np.float32)

    # Without skeletons one value stands for all: the array takes no memory.
    keypoints = unknown(count, frames, 17, 3) if has_skeletons else np.broadcast_to(unknown(1), (count, frames, 17, 3))
    return PlayerTracks(
        position_m=unknown(count, frames, 2),
        position_error_m=unknown(count, frames),
        velocity_m_s=unknown(count, frames, 2),
        observed=np.zeros((count, frames), bool),
        boxes_px=unknown(count, frames, 4),
        keypoints_px=keypoints,
        confidence=np.zeros((count, frames), np.float32),
        identity_confidence=np.zeros((count, frames), np.float32),
        side=np.zeros((count, frames), np.int8),
        outlier_count=np.zeros(count, np.int64),
    )


def _fill(
    tracks: PlayerTracks,
    player: int,
    mine: Sequence[tuple[Tracklet, float]],
    points: FloorPoints,
    log: PersonLog,
) -> None:
    """Copy a player's detections."""
    for tracklet, confidence in mine:
        frames, rows = points.frame[tracklet.points], points.row[tracklet.points]
        tracks.observed[player, frames] = True
        tracks.boxes_px[player, frames] = log.boxes_px[rows]
        tracks.confidence[player, frames] = log.confidence[rows]
        # A bridged gap within a tracklet has its identity too.
        tracks.identity_confidence[player, frames[0] : frames[-1] + 1] = confidence
        if tracks.keypoints_px.flags.writeable:
            tracks.keypoints_px[player, frames] = log.keypoints_px[rows]


def _in_time(mine: Sequence[Tracklet], points: FloorPoints) -> NDArray[np.int64]:
    """Return the points of a player in the order of time."""
    if not mine:
        return np.zeros(0, np.int64)
    index = np.concatenate([tracklet.points for tracklet in mine])
    return np.asarray(index[np.argsort(points.frame[index], kind="stable")])


def _measured_feet(frames: NDArray[np.int64], standing: StandingPlaces, count: int) -> MeasuredFeet:
    position, variance = np.full((count, 2), np.nan), np.full((count, 2), np.nan)
    position[frames], variance[frames] = standing.position_m, standing.variance_m2
    return MeasuredFeet(position, variance)


def _smooth(
    tracks: PlayerTracks,
    player: int,
    *,
    rejected: int,
    feet: MeasuredFeet,
    times_s: Floats,
    segment: NDArray[np.int64],
) -> None:
    """Set a player's motion, and smooth the skeleton; ``rejected`` detections were left out of the tracklets."""
    motion = smooth_trajectory(feet.position_m, feet.variance_m2, times_s, segment)
    _set_places(tracks, player, motion)
    tracks.velocity_m_s[player] = motion.velocity_m_s
    tracks.outlier_count[player] = int(motion.rejected.sum()) + rejected
    tracks.observed[player] &= ~motion.rejected
    _bridge_identity(tracks.identity_confidence[player], np.isfinite(motion.error_m))
    if tracks.keypoints_px.flags.writeable:
        smooth_skeleton(tracks.keypoints_px[player], times_s, segment)


def _set_places(tracks: PlayerTracks, player: int, motion: Trajectory) -> None:
    tracks.position_m[player] = motion.position_m
    tracks.position_error_m[player] = motion.error_m
    tracks.side[player] = half_of(motion.position_m)


def _with_bodies(tracks: PlayerTracks, bodies: Sequence[Trajectory]) -> PlayerTracks:
    """Return tracks whose velocities are those of the bodies."""
    return replace(
        tracks,
        velocity_m_s=np.array([body.velocity_m_s for body in bodies], np.float32),
        body_m=np.array([body.position_m for body in bodies], np.float32),
        body_error_m=np.array([body.error_m for body in bodies], np.float32),
    )


def _bridge_identity(confidence: NDArray[np.float32], known: NDArray[np.bool_]) -> None:
    """Between two tracklets, over a short gap, the identity is as sure as before the gap; elsewhere unknown."""
    confidence[~known] = 0
    for frame in np.flatnonzero(known & (confidence == 0)).tolist():
        confidence[frame] = confidence[frame - 1] if frame else 0.0
