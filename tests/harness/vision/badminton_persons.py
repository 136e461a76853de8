"""Detected persons of an invented match: movement, camera, misses, noise and bystanders, without any picture."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.homography import CourtView
from modal_workers.badminton.players.persons import PersonLog

Floats = NDArray[np.float64]
SIZE_PX = (1280, 720)
SHIRT_BINS = 32
#: COCO's keypoints of somebody who stands upright and looks to the camera: metres to the right, and above the floor.
STANDING_M = np.array(
    [
        (0.0, 1.62), (0.03, 1.65), (-0.03, 1.65), (0.08, 1.62), (-0.08, 1.62), (0.19, 1.42), (-0.19, 1.42),
        (0.27, 1.15), (-0.27, 1.15), (0.3, 0.92), (-0.3, 0.92), (0.13, 0.92), (-0.13, 0.92), (0.14, 0.5),
        (-0.14, 0.5), (0.15, 0.09), (-0.15, 0.09),
    ]
)  # fmt: skip
CAMERAS = {
    "broadcast": ((3.05, 24.0, 7.5), (3.05, 6.0, 0.0), 1500.0),
    "phone": ((3.4, 18.5, 2.6), (3.05, 7.5, 0.6), 900.0),
    "corner": ((9.0, 18.0, 3.5), (3.0, 7.0, 0.2), 900.0),
}
BYSTANDERS_M = ((-1.3, 6.7), (-1.6, 0.2), (7.7, 0.4), (-1.5, 13.0), (7.6, 13.2), (7.4, 6.9), (1.0, -2.6), (5.0, -2.7))


@dataclass(frozen=True)
class SpaceCamera:
    """A camera in the hall: 3x4 matrix from metres to pixels."""

    image_from_space: Floats

    def to_image(self, points_m: Floats) -> Floats:
        mapped = points_m @ self.image_from_space[:, :3].T + self.image_from_space[:, 3]
        return np.asarray(mapped[..., :2] / mapped[..., 2:])

    @property
    def court(self) -> CourtView:
        return CourtView(self.image_from_space[:, (0, 1, 3)].copy(), 0.01, 0.5, 1.0, "lines", 1.0, 1.0)


def camera(name: str = "broadcast") -> SpaceCamera:
    position, target, focal = (np.asarray(part, float) for part in CAMERAS[name])
    forward = (target - position) / np.linalg.norm(target - position)
    # x to the right, y towards the camera and z up are a left-handed system.
    right = np.cross(np.array([0.0, 0.0, 1.0]), forward)
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    down *= -np.sign(down[2])
    rotation = np.stack([right, down, forward])
    centre = np.array([[focal, 0, (SIZE_PX[0] - 1) / 2], [0, focal, (SIZE_PX[1] - 1) / 2], [0, 0, 1]])
    return SpaceCamera(centre @ np.concatenate([rotation, -(rotation @ position)[:, None]], axis=1))


@dataclass
class Match:
    """Who is where: ``places_m`` [persons, N, 2], players first; ``half`` [players, N]."""

    times_s: Floats
    places_m: Floats
    players: int
    shirts: Floats
    in_rally: NDArray[np.bool_]
    #: Stretches without a court: first and last frame.
    cuts: list[tuple[int, int]] = field(default_factory=list)


def shirts(
    random: np.random.Generator, count: int, *, same: bool = False, partners_same: bool = False, similarity: float = 0.0
) -> Floats:
    """Colour histograms of shirts: a few bins each. ``similarity``: share of a common background in all."""
    first = random.dirichlet(np.full(SHIRT_BINS, 0.12), count)
    if partners_same:
        first[1], first[3] = first[0], first[2]
    if same:
        first[1:] = first[0]
    common = random.dirichlet(np.full(SHIRT_BINS, 0.3))
    return (1 - similarity) * first + similarity * common


def play(
    random: np.random.Generator,
    *,
    duration_s: float = 60.0,
    rate_hz: float = 30.0,
    doubles: bool = False,
    bystanders: bool = False,
    change_of_ends_s: float | None = None,
    colours: Floats | None = None,
) -> Match:
    """Move two or four players: rallies of about 8 s with goals of a second, pauses of about 5 s."""
    count = 4 if doubles else 2
    frames = round(duration_s * rate_hz)
    half = np.array([-1, -1, 1, 1] if doubles else [-1, 1])
    place = np.array([[3.05 + random.normal(0, 0.7), 6.7 + side * 3.3] for side in half])
    velocity, goal = np.zeros((count, 2)), place.copy()
    until = np.zeros(count)
    places, in_rally = np.zeros((count, frames, 2)), np.zeros(frames, bool)
    stage_until, rally, walking = 3.0, False, 0.0
    for frame in range(frames):
        now = frame / rate_hz
        if change_of_ends_s is not None and now >= change_of_ends_s and walking == 0.0:
            walking, rally, stage_until = now, False, now + 13.0
            half = -half
        elif now >= stage_until:
            rally = not rally
            stage_until = now + random.uniform(*((5, 11) if rally else (3, 6)))
        for player in range(count):
            if walking and now - walking < 12.0:
                goal[player] = _around_post(now - walking, player, half[player])
            elif now >= until[player]:
                depth = random.uniform(0.6, 6.3) if rally else random.uniform(2, 5)
                goal[player] = (random.uniform(0.4, 5.7), 6.7 + half[player] * depth)
                until[player] = now + (random.uniform(0.7, 1.3) if rally else random.uniform(1.5, 3.0))
        fastest, limit = (5.0, 7.0) if rally else (1.6, 3.0)
        away = goal - place
        distance = np.linalg.norm(away, axis=1, keepdims=True)
        wanted = away / np.maximum(distance, 0.05) * np.minimum(fastest, np.sqrt(1.5 * limit * distance))
        change = wanted - velocity
        size = np.linalg.norm(change, axis=1, keepdims=True)
        velocity += change * np.minimum(1.0, limit / rate_hz / np.maximum(size, 1e-9))
        place = place + velocity / rate_hz
        places[:, frame], in_rally[frame] = place, rally
    if bystanders:
        still = np.array(BYSTANDERS_M)[:, None] + random.normal(0, 0.03, (len(BYSTANDERS_M), frames, 2))
        coach = np.stack([3 + 3 * np.sin(np.arange(frames) / rate_hz / 5), np.full(frames, 16.3)], axis=1)[None]
        places = np.concatenate([places, still, coach])
    colours = shirts(random, len(places)) if colours is None else colours
    if len(colours) < len(places):
        colours = np.concatenate([colours, shirts(random, len(places) - len(colours))])
    return Match(np.arange(frames) / rate_hz, places, count, colours, in_rally)


def _around_post(since_s: float, player: int, half: int) -> tuple[float, float]:
    """Where to walk to at a time of a change of ends: around the left post to the new half."""
    aside = -0.9 - 0.5 * player
    if since_s < 4.0:
        return aside, 6.7 - half * 1.8
    if since_s < 8.0:
        return aside, 6.7 + half * 1.8
    return 2.0 + player, 6.7 + half * 3.0


@dataclass
class Observed:
    """Detections of a match, and which person each row shows (-1: a false detection)."""

    log: PersonLog
    person: NDArray[np.int64]


def observe(
    random: np.random.Generator,
    match: Match,
    view: SpaceCamera,
    *,
    skeletons: bool = True,
    missed: float = 0.03,
    false_rate: float = 0.02,
    noise: float = 1.0,
    shirt_sharpness: float = 60.0,
) -> Observed:
    """Detect persons: those who are mostly hidden behind somebody nearer are missed."""
    frames = match.places_m.shape[1]
    boxes_of, keypoints_of = _projected(match, view)
    hidden = _hidden(boxes_of, match.places_m)
    seen = ~((random.random(hidden.shape) < missed) | (hidden & (random.random(hidden.shape) < 0.9)))
    for first, last in match.cuts:
        seen[:, first : last + 1] = False
    frame, person = np.nonzero(seen.T)
    boxes, keypoints = boxes_of[person, frame], keypoints_of[person, frame]
    height = (boxes[:, 3] - boxes[:, 1])[:, None]
    boxes = boxes + noise * 0.015 * height * random.normal(size=boxes.shape)
    keypoints[..., :2] += noise * 0.015 * height[..., None] * random.normal(size=keypoints[..., :2].shape)
    false = np.flatnonzero(random.random(frames) < false_rate)
    if len(false):
        left, top = random.uniform(0, 1100, len(false)), random.uniform(150, 500, len(false))
        extra = np.stack([left, top, left + 60, top + 150], axis=1)
        boxes, frame = np.concatenate([boxes, extra]), np.concatenate([frame, false])
        keypoints = np.concatenate([keypoints, np.full((len(false), 17, 3), np.nan)])
        person = np.concatenate([person, np.full(len(false), -1)])
    order = np.argsort(frame, kind="stable")
    frame, person = frame[order], person[order]
    shirt = match.shirts[person] * shirt_sharpness + 0.05
    appearance = random.standard_gamma(shirt)
    appearance /= appearance.sum(axis=1, keepdims=True)
    if not skeletons:
        keypoints = np.full_like(keypoints, np.nan)
    log = PersonLog(
        frame_offsets=np.searchsorted(frame, np.arange(frames + 1)).astype(np.int64),
        boxes_px=boxes[order].astype(np.float32),
        confidence=random.uniform(0.5, 0.95, len(frame)).astype(np.float32),
        keypoints_px=keypoints[order].astype(np.float32),
        appearance=appearance.astype(np.float32),
    )
    return Observed(log, person)


def _projected(match: Match, view: SpaceCamera) -> tuple[Floats, Floats]:
    """Return boxes [persons, N, 4] and keypoints [persons, N, 17, 3]."""
    persons, frames, _ = match.places_m.shape
    body = np.zeros((persons, frames, 17, 3))
    body[..., :2] = match.places_m[:, :, None]
    body[..., 0] += STANDING_M[:, 0]
    body[..., 2] = STANDING_M[:, 1]
    joints = view.to_image(body)
    floor = np.concatenate([match.places_m, np.zeros((persons, frames, 1))], axis=2)
    near, top = floor.copy(), floor.copy()
    near[..., 1] += 0.14
    top[..., 2] = 1.78
    feet, heads = view.to_image(near), view.to_image(top)
    wide = 0.35 * (feet[..., 1] - heads[..., 1])[..., None] / 2
    middle = (feet[..., :1] + heads[..., :1]) / 2
    boxes = np.concatenate([middle - wide, heads[..., 1:], middle + wide, feet[..., 1:]], axis=2)
    return boxes, np.concatenate([joints, np.full((persons, frames, 17, 1), 0.9)], axis=3)


def _hidden(boxes: Floats, places_m: Floats) -> NDArray[np.bool_]:
    """Return who is covered by more than half by somebody nearer to the camera."""
    persons, frames, _ = boxes.shape
    hidden = np.zeros((persons, frames), bool)
    for one in range(persons):
        for other in range(persons):
            if one == other:
                continue
            low = np.maximum(boxes[one, :, :2], boxes[other, :, :2])
            high = np.minimum(boxes[one, :, 2:], boxes[other, :, 2:])
            common = np.maximum(high - low, 0).prod(axis=1)
            own = (boxes[one, :, 2:] - boxes[one, :, :2]).prod(axis=1)
            hidden[one] |= (common > 0.55 * own) & (places_m[other, :, 1] > places_m[one, :, 1])
    return hidden
