"""Places of the body's centre over the floor, from the hips and the feet of somebody with a skeleton.

A player's way is that of the body, not that of the feet: in a lunge the hips go farther than the middle between the
feet. One camera sees the hips on a ray, so across its view their place is known whatever their height; along its view
that place is known only as well as the height, and a low camera turns 0.1 m of height into 1 m of floor.

So the way in which the hips move over the feet is learned across the view, where both are seen well, from the match
itself: the offset is a linear filter of the feet's path. It gives the offset in the other direction. The hips' ray, at
the player's own hip height (that of the moments in which the player stands), is used in both, weighted by its errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.camera import camera_of
from modal_workers.badminton.court.homography import CourtView
from modal_workers.badminton.players.persons import KEYPOINTS, PersonLog
from modal_workers.badminton.players.trajectory_smoothing import Trajectory, smooth_trajectory

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

_HIPS: Final = (KEYPOINTS.index("left_hip"), KEYPOINTS.index("right_hip"))
_MIN_HIP_CONFIDENCE: Final = 0.3
#: One standard deviation of the middle between the detected hips, as a share of the person's height in the picture.
_HIP_ERROR_SHARE: Final = 0.013
#: One standard deviation of the hips' height in play: knees bend, lunges and jumps.
_HEIGHT_ERROR_M: Final = 0.08
#: Heights of hips that belong to players; beyond them a detection is none of this person.
_HEIGHTS_M: Final = (0.4, 1.3)
#: Height of the hips of somebody of whom no standing moment was seen: 0.52 of 1.7 m, less bent knees.
_ANY_HEIGHT_M: Final = 0.78
#: A player stands below this speed of the feet.
_STANDING_M_S: Final = 0.6
_FEWEST: Final = 30
#: Times over which the feet's path is averaged for the filter.
_WIDTHS_S: Final = (0.1, 0.2, 0.4)
#: The paths are filtered at this rate.
_RATE_HZ: Final = 30.0
#: The filter is held at "the hips are above the feet" as by so much of a squared movement in each of its features.
_HELD_M2: Final = 1.0
#: Hips are never farther beside the middle between the feet, across the view: beyond, somebody else's were found.
_MOST_BESIDE_M: Final = 0.6
#: What is not known of the offset along an axis, as an error of each frame: one standard deviation. Chosen, as the next
#: one, on simulated matches (seeds 1100, 1101 and 1103) for ways of the right length.
_OFFSET_ERROR_M: Final = 0.12
#: Share of the feet's error along the view that the filter takes for movement.
_ERROR_SHARE: Final = 0.5


@dataclass(frozen=True, eq=False)
class HipRays:
    """Hips of one player in n frames: where their rays meet the floor, and how that point moves with their height.

    ``frame`` [n]; ``floor_m`` [n, 2]; ``by_height`` [n, 2]: metres on the floor for each metre of height;
    ``error_m`` [n, 2]: one standard deviation of the pixel's error across and along the view, at the hips.
    """

    frame: Indices
    floor_m: Floats
    by_height: Floats
    error_m: Floats

    @property
    def along(self) -> Floats:
        """Unit vectors [n, 2] along the camera's view, towards it."""
        return np.asarray(self.by_height / np.maximum(np.linalg.norm(self.by_height, axis=1, keepdims=True), 1e-9))

    @property
    def across(self) -> Floats:
        """Unit vectors [n, 2] across the camera's view."""
        along = self.along
        return np.stack([along[:, 1], -along[:, 0]], axis=1)

    def turned(self, view_from_court: Floats) -> HipRays:
        """Return the rays in the axes of a view [N, 2, 2] of each frame."""
        turn = view_from_court[self.frame]
        floor_m = (turn @ self.floor_m[..., None])[..., 0]
        return HipRays(self.frame, floor_m, (turn @ self.by_height[..., None])[..., 0], self.error_m)


@dataclass(frozen=True, eq=False)
class MeasuredFeet:
    """Measured places [N, 2] of the middle between one player's feet and their variances; NaN where not seen."""

    position_m: Floats
    variance_m2: Floats


@dataclass(frozen=True, eq=False)
class _FeetTrack:
    """The same, smoothed, in the axes across and along the view; NaN where it is not known.

    ``stretch`` [N] numbers the stretches without a long gap or a cut; -1 where nothing is known.
    """

    position_m: Floats
    error_m: Floats
    times_s: Floats
    stretch: Indices


def hip_rays(
    log: PersonLog,
    rows: Indices,
    frames: Indices,
    courts: Sequence[tuple[int, int, CourtView]],
    picture_size_px: tuple[int, int],
) -> HipRays:
    """Return the rays of one player's hips: ``rows`` of the log in ``frames``, in the order of time."""
    parts: list[tuple[Indices, Floats, Floats, Floats]] = []
    for first, last, court in courts:
        camera = camera_of(court.image_from_court, picture_size_px)
        low, high = np.searchsorted(frames, [first, last + 1])
        if camera is None or high <= low:
            continue
        mine = rows[low:high]
        hips = log.keypoints_px[mine][:, _HIPS].astype(np.float64)
        seen = (np.isfinite(hips).all(axis=2) & (np.nan_to_num(hips[..., 2]) >= _MIN_HIP_CONFIDENCE)).all(axis=1)
        pixel = hips[seen, :, :2].mean(axis=1)
        floor_m = court.to_court(pixel)
        towards = (camera.position_m[:2] - floor_m) / camera.position_m[2]
        place = floor_m + _ANY_HEIGHT_M * towards
        away = np.hypot(np.linalg.norm(camera.position_m[:2] - place, axis=1), camera.position_m[2] - _ANY_HEIGHT_M)
        boxes = log.boxes_px[mine[seen]].astype(np.float64)
        across_m = _HIP_ERROR_SHARE * (boxes[:, 3] - boxes[:, 1]) * away / camera.focal_px
        slant = away / max(camera.position_m[2] - _ANY_HEIGHT_M, 0.1)
        parts.append((frames[low:high][seen], floor_m, towards, np.stack([across_m, across_m * slant], axis=1)))
    if not parts:
        none = np.zeros((0, 2))
        return HipRays(np.zeros(0, np.int64), none, none, none)
    return HipRays(*(np.concatenate([part[number] for part in parts]) for number in range(4)))


def body_tracks(
    players: Sequence[tuple[HipRays, MeasuredFeet]], times_s: Floats, segment: Indices
) -> list[Trajectory] | None:
    """Return the motion of each player's body over the floor; None where nobody's hips were seen by a known camera.

    ``segment`` [N]: the number of each frame's view of the court, -1 without one.
    """
    if not any(len(rays.frame) for rays, _ in players):
        return None
    views = [view_axes(rays, segment) for rays, _ in players]
    seen = [(rays.turned(view), _in_view(feet, view)) for (rays, feet), view in zip(players, views, strict=True)]
    tracks = [_feet_track(feet, times_s, segment) for _, feet in seen]
    features = [_features(track) for track in tracks]
    weights = _learned([(rays, track, each) for (rays, _), track, each in zip(seen, tracks, features, strict=True)])
    found: list[Trajectory] = []
    for (rays, feet), track, each, view in zip(seen, tracks, features, views, strict=True):
        offset = each.transpose(0, 2, 1) @ weights
        offset[:, 1] *= _sure_share(offset, track)
        centre = _centre_places(rays, hip_height_m(rays, track), feet, offset)
        body = smooth_trajectory(centre.position_m, centre.variance_m2, times_s, segment)
        back = view.transpose(0, 2, 1)
        position_m, velocity_m_s = (
            (back @ values[..., None])[..., 0] for values in (body.position_m, body.velocity_m_s)
        )
        found.append(replace(body, position_m=position_m, velocity_m_s=velocity_m_s))
    return found


def hip_height_m(rays: HipRays, feet: _FeetTrack) -> float:
    """Return the height of a player's hips in the moments in which the player stands."""
    place, speed = feet.position_m[rays.frame], _speeds(feet)[rays.frame]
    with np.errstate(invalid="ignore", divide="ignore"):
        height = ((place - rays.floor_m) * rays.by_height).sum(axis=1) / (rays.by_height**2).sum(axis=1)
        standing = (speed < _STANDING_M_S) & (height > _HEIGHTS_M[0]) & (height < _HEIGHTS_M[1])
    return float(np.median(height[standing])) if standing.sum() >= _FEWEST else _ANY_HEIGHT_M


def view_axes(rays: HipRays, segment: Indices) -> Floats:
    """Return for each frame the turn [N, 2, 2] from the court's axes to those across and along the view.

    The mean view of a player in each segment: a smoother works along fixed axes.
    """
    turns = np.tile(np.eye(2), (len(segment), 1, 1))
    of_ray = segment[rays.frame]
    for number in np.unique(of_ray).tolist():
        along = rays.along[of_ray == number].mean(axis=0)
        along /= max(float(np.linalg.norm(along)), 1e-9)
        turns[segment == number] = [[along[1], -along[0]], along]
    return turns


def _in_view(feet: MeasuredFeet, view: Floats) -> MeasuredFeet:
    return MeasuredFeet((view @ feet.position_m[..., None])[..., 0], ((view**2) @ feet.variance_m2[..., None])[..., 0])


def _feet_track(feet: MeasuredFeet, times_s: Floats, segment: Indices) -> _FeetTrack:
    smooth = smooth_trajectory(feet.position_m, feet.variance_m2, times_s, segment)
    known = np.isfinite(smooth.error_m)
    begins = (known != np.roll(known, 1)) | (segment != np.roll(segment, 1))
    return _FeetTrack(smooth.position_m, smooth.error_m, times_s, np.where(known, np.cumsum(begins), -1))


def _learned(players: Sequence[tuple[HipRays, _FeetTrack, Floats]]) -> Floats:
    """Return the weights of the features of the feet's paths that give how far the hips are beside the feet.

    Learned across the view from all players of a match; zeros where nothing was seen.
    """
    normal, right = _HELD_M2 * np.eye(len(_WIDTHS_S)), np.zeros(len(_WIDTHS_S))
    for rays, feet, every in players:
        known = np.isfinite(feet.position_m[rays.frame, 0])
        if not known.any():
            continue
        frame, across = rays.frame[known], rays.across[known]
        features = np.einsum("nka,na->nk", every[frame], across)
        beside = ((rays.floor_m[known] - feet.position_m[frame]) * across).sum(axis=1)
        # A detector's hips are not above the middle of its ankles to the centimetre: that part is no movement.
        beside = beside - np.median(beside)
        sure = np.abs(beside) < _MOST_BESIDE_M
        normal += features[sure].T @ features[sure]
        right += features[sure].T @ beside[sure]
    return np.asarray(np.linalg.solve(normal, right))


def _sure_share(offset: Floats, feet: _FeetTrack) -> float:
    """Return the share of an offset along the view that is movement, by how much there is across it."""
    speeds = _speeds(feet)  # infinite where a stretch has a single frame, which has no offset either
    moving = np.isfinite(speeds) & (speeds > _STANDING_M_S)
    if not moving.any():
        return 0.0
    moved = float(np.var(offset[moving, 0]))
    wrong = (_ERROR_SHARE * float(np.median(feet.error_m[moving]))) ** 2
    return moved / max(moved + wrong, 1e-12)


def _centre_places(rays: HipRays, height_m: float, feet: MeasuredFeet, offset: Floats) -> MeasuredFeet:
    """Return measured places of the body's centre and their variances, in the axes of the view."""
    centre = feet.position_m + offset
    variance = feet.variance_m2 + _OFFSET_ERROR_M**2
    chosen = np.isfinite(centre[rays.frame, 0])
    frame, errors = rays.frame[chosen], rays.error_m[chosen]
    cotangent = np.linalg.norm(rays.by_height[chosen], axis=1)
    spread_along = errors[:, 1] ** 2 + (_HEIGHT_ERROR_M * cotangent) ** 2
    seen = rays.floor_m[chosen] + height_m * rays.by_height[chosen]
    information = _outer(rays.across[chosen]) / (errors[:, 0] ** 2)[:, None, None]
    information += _outer(rays.along[chosen]) / spread_along[:, None, None]
    of_feet = np.zeros((len(frame), 2, 2))
    of_feet[:, (0, 1), (0, 1)] = 1 / variance[frame]
    covariance = np.linalg.inv(information + of_feet)
    mean = information @ seen[..., None] + of_feet @ centre[frame][..., None]
    centre[frame] = (covariance @ mean)[..., 0]
    variance[frame] = covariance[:, (0, 1), (0, 1)]
    return MeasuredFeet(centre, variance)


def _outer(vectors: Floats) -> Floats:
    return np.asarray(vectors[:, :, None] * vectors[:, None, :])


def _stretches(feet: _FeetTrack) -> Iterator[Indices]:
    known = np.flatnonzero(feet.stretch >= 0)
    yield from (part for part in np.split(known, np.flatnonzero(np.diff(feet.stretch[known])) + 1) if len(part) > 1)


def _speeds(feet: _FeetTrack) -> Floats:
    speed = np.full(len(feet.times_s), np.inf)
    for part in _stretches(feet):
        velocity = np.gradient(feet.position_m[part], feet.times_s[part], axis=0)
        speed[part] = np.hypot(velocity[:, 0], velocity[:, 1])
    return speed


def _features(feet: _FeetTrack) -> Floats:
    """Return how far the feet are from the averages of their path over some times, [N, widths, 2]."""
    found = np.zeros((len(feet.times_s), len(_WIDTHS_S), 2))
    for part in _stretches(feet):
        at_s = feet.times_s[part]
        grid_s = np.arange(at_s[0], at_s[-1] + 1 / _RATE_HZ, 1 / _RATE_HZ)
        for axis in (0, 1):
            path = np.interp(grid_s, at_s, feet.position_m[part, axis])
            for number, width_s in enumerate(_WIDTHS_S):
                away = path - _averaged(path, width_s * _RATE_HZ)
                found[part, number, axis] = np.interp(at_s, grid_s, away)
    return found


def _averaged(path: Floats, width: float) -> Floats:
    """Return a path averaged with Gaussian weights of a width in samples."""
    reach = int(4 * width) + 1
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    return np.convolve(np.pad(path, reach, mode="edge"), weights / weights.sum(), mode="valid")
