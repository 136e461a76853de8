"""Matches with known truth, made without pictures: moving stick figures on a court seen by one camera."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from modal_workers.badminton.court.dimensions import CORNERS_M, COURT_WIDTH_M, NET_Y_M, line_segments_m
from modal_workers.badminton.court.homography import CourtView
from modal_workers.badminton.match import CameraSegmentResult, Match, Missing
from modal_workers.badminton.players.player_tracks import PlayerTracks
from modal_workers.badminton.rallies.rally import Hit, Rally
from modal_workers.badminton.shuttle.shuttle_track import ShuttleTrack
from modal_workers.footage.h264_writer import H264Writer
from modal_workers.footage.video_reader import VideoFacts

#: Joints of a standing player: metres to the player's right, metres above the floor (COCO's order).
_STANCE = (
    *((0.0, 1.68), (-0.03, 1.72), (0.03, 1.72), (-0.07, 1.70), (0.07, 1.70)),
    *((-0.19, 1.45), (0.19, 1.45), (-0.30, 1.18), (0.32, 1.25), (-0.28, 0.95), (0.42, 1.48)),
    *((-0.13, 0.95), (0.13, 0.95), (-0.19, 0.50), (0.19, 0.50), (-0.24, 0.08), (0.24, 0.08)),
)


@dataclass(frozen=True, eq=False)
class Camera:
    """Pinhole camera behind the near end, looking along the court."""

    matrix: np.ndarray  # 3x4: metres (x, y, z) to pixels

    @classmethod
    def behind(cls, width_px: int, height_px: int) -> Camera:
        position, target = np.array([3.05, 24.0, 7.5]), np.array([3.05, 7.4, 0.3])
        forward = (target - position) / np.linalg.norm(target - position)
        right = np.array([1.0, 0.0, 0.0])
        rotation = np.stack([right, np.cross(forward, right), forward])
        rotation[1] *= np.sign(-rotation[1, 2])  # the picture's y points down
        focal = 1.25 * width_px if width_px > height_px else 2.0 * width_px
        inner = np.array([[focal, 0, (width_px - 1) / 2], [0, focal, (height_px - 1) / 2], [0, 0, 1.0]])
        return cls(inner @ np.hstack([rotation, (-rotation @ position)[:, None]]))

    def project(self, points_m: np.ndarray) -> np.ndarray:
        mapped = points_m @ self.matrix[:, :3].T + self.matrix[:, 3]
        return mapped[..., :2] / mapped[..., 2:]

    def view(self) -> CourtView:
        homography = self.matrix[:, [0, 1, 3]]
        return CourtView(homography / homography[2, 2], 0.012, 1.1, 0.97, "lines", 0.94, 1.0)


@dataclass(frozen=True, eq=False)
class KnownMatch:
    """A match as the stages would have measured it, and the truth behind it."""

    match: Match
    camera: Camera
    position_m: np.ndarray  # [P, N, 2]
    speed_m_s: np.ndarray  # [P, N]


def known_match(
    *,
    duration_s: float = 20.0,
    rate_hz: float = 25.0,
    players: int = 2,
    size: tuple[int, int] = (1280, 720),
    noise_m: float = 0.06,
    seed: int = 1,
    skeletons: bool = True,
    name: str = "match.mp4",
) -> KnownMatch:
    """Return a match of rallies of 6 s with pauses of 3 s."""
    random = np.random.default_rng(seed)
    times_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    camera = Camera.behind(*size)
    in_play = (times_s % 9.0 >= 1.5) & (times_s % 9.0 < 7.5)
    position_m = np.stack([_walk(random, times_s, in_play, player, players) for player in range(players)])
    velocity = np.gradient(position_m, times_s, axis=1)
    measured = position_m + _correlated(random, position_m.shape, rate_hz, noise_m)
    side = np.broadcast_to(np.where(position_m[:, :1, 1] < NET_Y_M, -1, 1), position_m.shape[:2]).astype(np.int8)
    rallies = _rallies(random, times_s, in_play, players)
    keypoints_px, boxes_px = _figures(camera, measured, times_s)
    tracks = PlayerTracks(
        position_m=measured.astype(np.float32),
        position_error_m=np.full(position_m.shape[:2], noise_m, np.float32),
        velocity_m_s=(velocity + _correlated(random, velocity.shape, rate_hz, noise_m / 2)).astype(np.float32),
        observed=random.random(position_m.shape[:2]) < 0.97,
        boxes_px=boxes_px,
        keypoints_px=keypoints_px if skeletons else np.full_like(keypoints_px, np.nan),
        confidence=np.full(position_m.shape[:2], 0.87, np.float32),
        identity_confidence=np.full(position_m.shape[:2], 0.98, np.float32),
        side=side,
        outlier_count=np.arange(players, dtype=np.int64) + 2,
    )
    shuttle, hits, rallies = _shuttle(random, camera, times_s, position_m, rallies)
    match = Match(
        facts=VideoFacts(name, *size, 0, len(times_s), float(times_s[-1]), rate_hz, variable_rate=False),
        times_s=times_s,
        source_frame=np.arange(len(times_s), dtype=np.int64),
        segments=(CameraSegmentResult(0, len(times_s) - 1, 0.0, float(times_s[-1]), "play", camera.view(), ""),),
        tracks=tracks,
        shuttle=shuttle,
        rallies=rallies,
        hits=hits,
        pose_backend="synthetic",
        shuttle_backend="synthetic",
        has_skeletons=skeletons,
        mode="full",
        warnings=(),
        missing=() if skeletons else (Missing("skeletons", "The backend motion finds no skeletons."),),
    )
    return KnownMatch(match, camera, position_m, np.hypot(velocity[..., 0], velocity[..., 1]))


def without_court(match: Match, first_frame: int, reason: str) -> Match:
    """Return a match whose camera shows something else from a frame on: players and shuttle are unknown there."""
    (whole,) = match.segments
    boundary_s = float(match.times_s[first_frame])
    court = replace(whole, last_frame=first_frame - 1, end_s=float(match.times_s[first_frame - 1]))
    other = replace(whole, first_frame=first_frame, start_s=boundary_s, kind="cut", court=None, reason=reason)
    tracks, shuttle = match.tracks, match.shuttle
    assert tracks is not None
    assert shuttle is not None
    fields = ("position_m", "position_error_m", "velocity_m_s", "boxes_px", "keypoints_px", "confidence")
    copies = {name: getattr(tracks, name).copy() for name in (*fields, "observed")}
    for name in fields:
        copies[name][:, first_frame:] = np.nan
    copies["observed"][:, first_frame:] = False
    place = shuttle.position_px.copy()
    place[first_frame:] = np.nan
    return replace(
        match,
        segments=(court, other),
        tracks=replace(tracks, **copies),
        shuttle=ShuttleTrack(place, np.where(np.isfinite(place[:, 0]), shuttle.confidence, 0)),
        rallies=tuple(rally for rally in match.rallies if rally.last_frame < first_frame),
        hits=tuple(hit for hit in match.hits if hit.frame < first_frame),
        missing=(Missing("camera segments", reason),),
    )


def film(known: KnownMatch, path: Path, times_s: np.ndarray | None = None) -> None:
    """Write a video of the match: court, net and players as plain figures."""
    facts = known.match.facts
    size = (facts.width_px, facts.height_px)
    empty = _empty_hall(known.camera, size)
    tracks = known.match.tracks
    assert tracks is not None
    with H264Writer(path, size, Fraction(facts.mean_rate_hz).limit_denominator(1001), timed=True) as writer:
        for frame, time_s in enumerate(known.match.times_s if times_s is None else times_s):
            picture = empty.copy()
            for player in range(tracks.player_count):
                _paint_player(picture, tracks.keypoints_px[player, frame], tracks.boxes_px[player, frame], player)
            shuttle = known.match.shuttle
            if shuttle is not None and np.isfinite(shuttle.position_px[frame, 0]):
                x, y = shuttle.position_px[frame]
                cv2.circle(picture, (round(float(x)), round(float(y))), 3, (250, 250, 250), -1, cv2.LINE_AA)
            writer.write(np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420), np.uint8), float(time_s))


def _walk(random: np.random.Generator, times_s: np.ndarray, in_play: np.ndarray, player: int, players: int):
    """Move with minimum jerk from place to place: fast in rallies, slowly between them."""
    far = player < players / 2
    lane = (0.4, 5.7) if players == 2 else ((0.4, 3.0) if player % 2 == 0 else (3.1, 5.7))
    position_m, place = np.empty((len(times_s), 2)), np.array([np.mean(lane), 3.6])
    start_s = 0.0
    while start_s < times_s[-1]:
        now = min(int(np.searchsorted(times_s, start_s)), len(times_s) - 1)
        fast = bool(in_play[now])
        goal = np.array([random.uniform(*lane), random.uniform(0.6, 6.4)])
        if not fast:
            goal = place + random.normal(0, 0.5, 2)
            goal = np.clip(goal, (lane[0], 0.6), (lane[1], 6.4))
        length = float(np.hypot(*(goal - place)))
        taken_s = max(0.6, length / (random.uniform(1.8, 3.0) if fast else 0.8))
        part = (times_s >= start_s - 1e-9) & (times_s < start_s + taken_s)
        u = (times_s[part] - start_s) / taken_s
        position_m[part] = place + (10 * u**3 - 15 * u**4 + 6 * u**5)[:, None] * (goal - place)
        place, start_s = goal, start_s + taken_s
    from_net = position_m[:, 1]
    y = NET_Y_M - from_net if far else NET_Y_M + from_net
    return np.stack([position_m[:, 0] if not far else COURT_WIDTH_M - position_m[:, 0], y], axis=-1)


def _correlated(random: np.random.Generator, shape: tuple[int, ...], rate_hz: float, noise_m: float) -> np.ndarray:
    """Return errors as a smoother leaves them: Gaussian over time with a width of 0.2 s."""
    white = random.normal(0, 1, shape)
    reach = int(np.ceil(0.6 * rate_hz))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (0.2 * rate_hz)) ** 2)
    kernel /= np.sqrt((kernel**2).sum())
    return noise_m * np.apply_along_axis(lambda row: np.convolve(row, kernel, mode="same"), 1, white)


def _rallies(random: np.random.Generator, times_s: np.ndarray, in_play: np.ndarray, players: int):
    edges = np.flatnonzero(np.diff(np.concatenate(([False], in_play, [False])).astype(np.int8))).reshape(-1, 2)
    rallies = []
    for number, (first, end) in enumerate(edges, 1):
        hit_times = np.arange(times_s[first] + 0.1, times_s[end - 1] - 0.4, 1.1)
        hits = []
        for index, time_s in enumerate(hit_times):
            pair = index % 2
            player = pair if players == 2 else 2 * pair + int(random.integers(2))
            frame = int(np.searchsorted(times_s, time_s))
            hits.append(Hit(frame, float(times_s[frame]), player, 0.93, 0.9, (0.0, 0.0)))
        winner = None if number % 3 == 0 else 0
        rally = Rally(
            *(number, int(first), int(end) - 1, float(times_s[first]), float(times_s[end - 1]), tuple(hits), winner),
            winner_confidence=0.0 if winner is None else 0.8,
            winner_evidence="landing_not_seen" if winner is None else "landed_in",
            confidence=0.91,
            evidence="shuttle",
        )
        rallies.append(rally)
    return tuple(rallies)


def _shuttle(random, camera, times_s, position_m, rallies):
    """Fly the shuttle from hit to hit; leave gaps."""
    place = np.full((len(times_s), 2), np.nan, np.float32)
    placed = {}
    for rally in rallies:
        contacts = [np.append(position_m[hit.player, hit.frame], 2.0) for hit in rally.hits]
        contacts.append(np.append(position_m[0, rally.last_frame] + (0.8, 0.8), 0.0))
        frames = [hit.frame for hit in rally.hits] + [rally.last_frame]
        for start, end, a, b in zip(frames, frames[1:], contacts, contacts[1:], strict=False):
            u = np.linspace(0, 1, end - start + 1)[:, None]
            path = a + u * (b - a)
            path[:, 2:] += 8.0 * u * (1 - u)
            place[start : end + 1] = camera.project(path)
        for hit in rally.hits:
            placed[hit.frame] = (float(place[hit.frame, 0]), float(place[hit.frame, 1]))
    gap = random.random(len(times_s)) < 0.08
    confidence = np.where(np.isfinite(place[:, 0]) & ~gap, random.uniform(0.4, 1.0, len(times_s)), 0).astype(np.float32)
    place[gap] = np.nan
    seen = tuple(replace(hit, shuttle_px=placed[hit.frame]) for rally in rallies for hit in rally.hits)
    by_frame = {hit.frame: hit for hit in seen}
    return (
        ShuttleTrack(place, confidence),
        seen,
        tuple(replace(rally, hits=tuple(by_frame[hit.frame] for hit in rally.hits)) for rally in rallies),
    )


def _figures(camera: Camera, position_m: np.ndarray, times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    stance = np.array(_STANCE)
    swing = np.sin(2 * np.pi * 1.3 * times_s)
    points = np.zeros((*position_m.shape[:2], 17, 3))
    points[..., :2] = position_m[:, :, None, :]
    facing = np.where(position_m[:, :1, 1] < NET_Y_M, -1, 1)[:, :, None]
    points[..., 0] += stance[:, 0] * facing
    points[..., 2] = stance[:, 1]
    points[:, :, 9:11, 2] += 0.25 * swing[:, None]
    points[:, :, 15, 2] += np.maximum(0, 0.15 * swing)
    points[:, :, 16, 2] += np.maximum(0, -0.15 * swing)
    pixels = camera.project(points)
    keypoints = np.concatenate([pixels, np.full((*pixels.shape[:-1], 1), 0.9)], axis=-1).astype(np.float32)
    boxes = np.concatenate([pixels.min(axis=2) - 6, pixels.max(axis=2) + 6], axis=-1).astype(np.float32)
    return keypoints, boxes


def _empty_hall(camera: Camera, size: tuple[int, int]) -> np.ndarray:
    width, height = size
    picture = np.full((height, width, 3), (62, 58, 54), np.uint8)
    picture[: height // 5] = (48, 44, 42)
    surround = np.array([(-2.5, -3), (8.6, -3), (8.6, 16), (-2.5, 16)])

    def pixels(points: np.ndarray) -> np.ndarray:
        floor = np.concatenate([points, np.zeros((len(points), 1))], axis=1)
        return np.rint(camera.project(floor)).astype(np.int32)

    cv2.fillPoly(picture, [pixels(surround)], (70, 92, 60), cv2.LINE_AA)
    cv2.fillPoly(picture, [pixels(np.array(CORNERS_M))], (92, 116, 52), cv2.LINE_AA)
    for start, end in line_segments_m():
        a, b = pixels(np.array([start, end]))
        cv2.line(picture, tuple(map(int, a)), tuple(map(int, b)), (235, 238, 238), max(1, width // 480), cv2.LINE_AA)
    net = camera.project(np.array([(0, NET_Y_M, 1.55), (COURT_WIDTH_M, NET_Y_M, 1.55), (0, NET_Y_M, 0.8)]))
    (left, top), (right, _), (_, bottom) = (tuple(map(round, map(float, point))) for point in net)
    band = picture[top:bottom, left:right]
    band[:] = (band * 0.6 + 40).astype(np.uint8)
    cv2.line(picture, (left, top), (right, top), (240, 240, 240), 2, cv2.LINE_AA)
    return picture


def _paint_player(picture: np.ndarray, keypoints: np.ndarray, box: np.ndarray, player: int) -> None:
    shirts = ((40, 60, 200), (200, 140, 40), (60, 160, 60), (180, 60, 160))
    if np.isfinite(keypoints).all():
        joints = np.rint(keypoints[:, :2]).astype(np.int32)
        thick = max(2, round(float(box[3] - box[1]) / 11))
        for a, b in ((11, 13), (13, 15), (12, 14), (14, 16)):
            cv2.line(picture, tuple(map(int, joints[a])), tuple(map(int, joints[b])), (50, 50, 50), thick, cv2.LINE_AA)
        cv2.fillConvexPoly(picture, cv2.convexHull(joints[[5, 6, 12, 11]]), shirts[player], cv2.LINE_AA)
        for a, b in ((5, 7), (7, 9), (6, 8), (8, 10)):
            cv2.line(
                picture, tuple(map(int, joints[a])), tuple(map(int, joints[b])), (150, 180, 220), thick - 1, cv2.LINE_AA
            )
        cv2.circle(picture, tuple(map(int, joints[0])), thick + 2, (140, 170, 215), -1, cv2.LINE_AA)
    elif np.isfinite(box).all():
        left, top, right, bottom = (round(float(value)) for value in box)
        cv2.rectangle(picture, (left, top), (right, bottom), shirts[player], -1)
