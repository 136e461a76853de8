"""Places of detected persons on the floor, in court metres, and how well they are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.camera import camera_of
from modal_workers.badminton.court.dimensions import COURT_LENGTH_M, COURT_WIDTH_M, NET_Y_M
from modal_workers.badminton.court.homography import CourtView
from modal_workers.badminton.players.persons import KEYPOINTS, PersonLog

Floats = NDArray[np.float64]
#: First and last frame (included) of a stretch with one view of the court.
CourtSegment = tuple[int, int, CourtView]

#: Persons this far from the court are followed: players walk to their bags and around the posts, and come back.
FOLLOWED_M: Final = 4.0
#: A player leaves the lines by this much in play.
PLAYED_M: Final = 0.6

_LEFT_ANKLE: Final = KEYPOINTS.index("left_ankle")
_RIGHT_ANKLE: Final = KEYPOINTS.index("right_ankle")
#: An ankle below this confidence is not used.
_MIN_ANKLE_CONFIDENCE: Final = 0.3
#: An ankle is at most this far outside its person's box, and the lower one so near its bottom (share of the height).
_ANKLE_AWAY_SHARE: Final = 0.2
#: A standing foot's ankle is this high above the floor (0.039 of the body's height, Drillis and Contini, 1966, and the
#: sole); seen from 7 m above and 25 m away that is 0.3 m on the floor.
_ANKLE_HEIGHT_M: Final = 0.08
#: The lowest pixel of a person is a part of the nearer foot: of somebody on the far half, who looks towards the camera,
#: a toe, on the near half a heel. The middle between the feet is this much farther away.
_TOE_TO_MIDDLE_M: Final = 0.17
_HEEL_TO_MIDDLE_M: Final = 0.0
#: One standard deviation of a detected foot, as a share of the person's height in the picture, and at least.
_ANKLE_ERROR_SHARE: Final = 0.018
_BOX_ERROR_SHARE: Final = 0.025
_LEAST_ERROR_PX: Final = 1.0
#: Steps and lunges move the feet around the middle of the body, and lift them.
_GAIT_ERROR_M: Final = 0.05
_BOX_GAIT_ERROR_M: Final = 0.08
LIFT_ERROR_M: Final = 0.045
#: Of the middle between the feet itself, beside the pixels' error: an ankle moves over a foot that rolls.
_FEET_ERROR_M: Final = 0.02


@dataclass(frozen=True, eq=False)
class FloorPoints:
    """Persons near the court: rows of a log with their places.

    Shapes: ``row`` [n] in the log, ``frame`` [n], ``segment`` [n], ``position_m`` [n, 2], ``variance_m2`` [n, 2] along
    x and y. Sorted by frame. ``rise_m`` [n, 2]: how far a point seems to move for each metre that it is higher.
    ``detection_covariance_m2`` [n, 2, 2]: of the middle between the feet as detected, without their lift and without
    what ``variance_m2`` adds for steps of the feet around the body.
    ``feet_m`` [n, 2, 2]: the places of the left and the right foot relative to ``position_m``, if on the floor; NaN
    where they were not seen.
    """

    row: NDArray[np.int64]
    frame: NDArray[np.int64]
    segment: NDArray[np.int32]
    position_m: Floats
    variance_m2: Floats
    rise_m: NDArray[np.float32]
    detection_covariance_m2: NDArray[np.float32]
    feet_m: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.row)


def outside_m(position_m: Floats) -> Floats:
    """Return how far places (…, 2) are outside the court's lines; 0 inside."""
    over_x = np.maximum(np.maximum(-position_m[..., 0], position_m[..., 0] - COURT_WIDTH_M), 0.0)
    over_y = np.maximum(np.maximum(-position_m[..., 1], position_m[..., 1] - COURT_LENGTH_M), 0.0)
    return np.asarray(np.hypot(over_x, over_y))


def half_of(position_m: Floats) -> NDArray[np.int8]:
    """Return the half of places (…, 2): -1 far, 1 near, 0 where the place is unknown."""
    return np.nan_to_num(np.sign(position_m[..., 1] - NET_Y_M), nan=0.0).astype(np.int8)


def floor_points(log: PersonLog, segments: Sequence[CourtSegment], picture_size_px: tuple[int, int]) -> FloorPoints:
    """Return the places of all persons near the court."""
    parts = [_in_segment(log, index, segment, picture_size_px) for index, segment in enumerate(segments)]
    parts.sort(key=lambda part: int(part.frame[0]) if len(part) else -1)
    if not parts:
        none = np.zeros(0, np.int64)
        pairs = np.zeros((0, 2))
        small = pairs.astype(np.float32)
        matrices = small.reshape(0, 2, 2)
        return FloorPoints(none, none, none.astype(np.int32), pairs, pairs, small, matrices, matrices)
    return FloorPoints(
        np.concatenate([part.row for part in parts]),
        np.concatenate([part.frame for part in parts]),
        np.concatenate([part.segment for part in parts]),
        np.concatenate([part.position_m for part in parts]),
        np.concatenate([part.variance_m2 for part in parts]),
        np.concatenate([part.rise_m for part in parts]),
        np.concatenate([part.detection_covariance_m2 for part in parts]),
        np.concatenate([part.feet_m for part in parts]),
    )


def _in_segment(log: PersonLog, index: int, segment: CourtSegment, picture_size_px: tuple[int, int]) -> FloorPoints:
    first, last, court = segment
    offsets = log.frame_offsets[first : last + 2]
    part = slice(int(offsets[0]), int(offsets[-1]))
    rows = np.arange(part.start, part.stop)
    frame = np.repeat(np.arange(first, first + len(offsets) - 1), np.diff(offsets))
    places = floor_places(log.boxes_px[part], log.keypoints_px[part], court, picture_size_px)
    near = np.isfinite(places.position_m).all(axis=1) & (outside_m(places.position_m) <= FOLLOWED_M)
    return FloorPoints(
        rows[near],
        frame[near],
        np.full(int(near.sum()), index, np.int32),
        places.position_m[near],
        places.variance_m2[near],
        places.rise_m[near].astype(np.float32),
        places.detection_covariance_m2[near].astype(np.float32),
        places.feet_m[near].astype(np.float32),
    )


@dataclass(frozen=True, eq=False)
class FloorPlaces:
    """Places of n persons as in ``FloorPoints``."""

    position_m: Floats
    variance_m2: Floats
    rise_m: Floats
    detection_covariance_m2: Floats
    feet_m: Floats


def floor_places(
    boxes_px: NDArray[np.float32],
    keypoints_px: NDArray[np.float32],
    court: CourtView,
    picture_size_px: tuple[int, int],
) -> FloorPlaces:
    """Return the places of the persons in pictures with one view of the court."""
    boxes = boxes_px.astype(np.float64)
    height = np.maximum(boxes[:, 3] - boxes[:, 1], 1.0)
    bottom = np.stack([(boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 3]], axis=1)
    ankles = keypoints_px[:, (_LEFT_ANKLE, _RIGHT_ANKLE)].astype(np.float64)
    seen = np.isfinite(ankles).all(axis=2) & (np.nan_to_num(ankles[..., 2]) >= _MIN_ANKLE_CONFIDENCE)
    seen &= _belong(ankles, boxes)
    weights = np.where(seen, np.nan_to_num(ankles[..., 2]), 0.0)
    both = np.asarray(seen.all(axis=1))
    total = np.where(both, weights.sum(axis=1), 1.0)
    middle = (np.nan_to_num(ankles[..., :2]) * weights[..., None]).sum(axis=1) / total[:, None]
    position, jacobian = _to_floor(court, bottom)
    raised = at_height(court, picture_size_px, _ANKLE_HEIGHT_M)
    above, above_jacobian = _to_floor(raised, middle)
    rise = (position - raised.to_court(bottom)) / _ANKLE_HEIGHT_M
    position = np.where(both[:, None], above, position)
    jacobian = np.where(both[:, None, None], above_jacobian, jacobian)
    # One of the two columns is how the place moves with a pixel down: towards the camera.
    towards = jacobian[:, :, 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        towards = towards / np.linalg.norm(towards, axis=1, keepdims=True)
    farther = np.where(half_of(position) < 0, _TOE_TO_MIDDLE_M, _HEEL_TO_MIDDLE_M)
    position = position - np.where(both, 0.0, farther)[:, None] * towards
    error_px = np.maximum(np.where(both, _ANKLE_ERROR_SHARE, _BOX_ERROR_SHARE) * height, _LEAST_ERROR_PX)
    gait = np.where(both[:, None], _GAIT_ERROR_M**2 + (LIFT_ERROR_M * rise) ** 2, _BOX_GAIT_ERROR_M**2)
    of_pixels = jacobian @ jacobian.transpose(0, 2, 1) * error_px[:, None, None] ** 2
    variance = of_pixels[:, (0, 1), (0, 1)] + gait
    feet_error = np.where(both, _FEET_ERROR_M, _BOX_GAIT_ERROR_M)
    covariance = of_pixels + feet_error[:, None, None] ** 2 * np.eye(2)
    feet = np.where(both[:, None, None], raised.to_court(ankles[..., :2]) - position[:, None], np.nan)
    return FloorPlaces(position, variance, rise, covariance, feet)


def _belong(ankles: Floats, boxes: Floats) -> NDArray[np.bool_]:
    """Return which ankles [n, 2, 3] are at the foot of their boxes: a network may report those of somebody in front."""
    margin = _ANKLE_AWAY_SHARE * (boxes[:, 3] - boxes[:, 1])[:, None]
    with np.errstate(invalid="ignore"):
        beside = (ankles[..., 0] < boxes[:, :1] - margin) | (ankles[..., 0] > boxes[:, 2:3] + margin)
        # The higher foot of a runner is above the lower one by more than that.
        lowest = np.nanmax(np.nan_to_num(ankles[..., 1], nan=-np.inf), axis=1, keepdims=True)
        apart = np.abs(lowest - boxes[:, 3:]) > margin
    return np.asarray(~(beside | apart))


def at_height(court: CourtView, picture_size_px: tuple[int, int], height_m: float) -> CourtView:
    """Return the view of the plane at a height above the floor: the floor's own where no camera fits the court."""
    camera = camera_of(court.image_from_court, picture_size_px)
    if camera is None:
        return court
    space = camera.image_from_space
    plane = np.stack([space[:, 0], space[:, 1], space[:, 2] * height_m + space[:, 3]], axis=1)
    return replace(court, image_from_court=plane)


def _to_floor(court: CourtView, points_px: Floats) -> tuple[Floats, Floats]:
    """Return places on the floor and their derivatives by the pixel's coordinates [n, 2, 2]."""
    position = court.to_court(points_px)
    inverse = np.linalg.inv(court.image_from_court)
    depth = points_px @ inverse[2, :2] + inverse[2, 2]
    with np.errstate(invalid="ignore", divide="ignore"):
        jacobian = (inverse[None, :2, :2] - position[:, :, None] * inverse[None, None, 2, :2]) / depth[:, None, None]
    return position, np.asarray(jacobian)
