"""Rules of the replaced system, written again in their plain form, to show where they fail.

From its worker and its documents (see docs and the issue): who is a player, which player is who, what a speed is, how a
skeleton is drawn, and which time a frame has.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def largest_boxes_in_polygon(boxes_px: Floats, corners_px: Floats, count: int = 2, share: float = 1.02) -> list[int]:
    """Return the largest boxes whose foot is in the court's corners, enlarged by 2 % about their middle."""
    middle = corners_px.mean(axis=0)
    polygon = middle + share * (corners_px - middle)
    feet = np.stack([(boxes_px[:, 0] + boxes_px[:, 2]) / 2, boxes_px[:, 3]], axis=1)
    inside = [index for index, foot in enumerate(feet) if _inside(foot, polygon)]
    area = (boxes_px[:, 2] - boxes_px[:, 0]) * (boxes_px[:, 3] - boxes_px[:, 1])
    return sorted(inside, key=lambda index: -area[index])[:count]


def largest_boxes_in_frame(boxes_px: Floats, size_px: tuple[int, int], count: int = 2) -> list[int]:
    """Return the largest boxes in the middle 76 % x 90 % of the frame: the rule without corners."""
    feet = np.stack([(boxes_px[:, 0] + boxes_px[:, 2]) / 2, boxes_px[:, 3]], axis=1) / np.array(size_px)
    inside = np.flatnonzero((np.abs(feet[:, 0] - 0.5) < 0.38) & (np.abs(feet[:, 1] - 0.5) < 0.45)).tolist()
    area = (boxes_px[:, 2] - boxes_px[:, 0]) * (boxes_px[:, 3] - boxes_px[:, 1])
    return sorted(inside, key=lambda index: -area[index])[:count]


def _inside(point: Floats, polygon: Floats) -> bool:
    following = np.roll(polygon, -1, axis=0)
    side = (following - polygon)[:, 0] * (point - polygon)[:, 1] - (following - polygon)[:, 1] * (point - polygon)[:, 0]
    return bool((side > 0).all() or (side < 0).all())


def identities_by_side(feet_px: Floats, middle_y_px: float) -> NDArray[np.int64]:
    """Return which of two detections is player 0 in each frame, for feet [N, 2 detections, 2].

    The upper one at first, then the nearest to the last place; whenever both have been on the other half than at the
    beginning for two frames, they are taken for exchanged and swapped back.
    """
    first = int(feet_px[0, 1, 1] < feet_px[0, 0, 1])
    places = feet_px[0, [first, 1 - first]]
    wrong = 0
    chosen = [first]
    for frame in feet_px[1:]:
        kept = np.linalg.norm(frame - places, axis=1).sum()
        crossed = np.linalg.norm(frame[::-1] - places, axis=1).sum()
        player_0 = 0 if kept <= crossed else 1
        on_wrong_side = frame[player_0, 1] > middle_y_px and frame[1 - player_0, 1] < middle_y_px
        wrong = wrong + 1 if on_wrong_side else 0
        if wrong >= 2:
            player_0, wrong = 1 - player_0, 0
        places = frame[[player_0, 1 - player_0]]
        chosen.append(player_0)
    return np.array(chosen)


def speeds_kmh(places_m: Floats, rate_hz: float, limit_kmh: float | None = None) -> Floats:
    """Return speeds between frames, clamped to a limit if there is one: 43, then 36, 30 and 25 km/h."""
    speed = np.linalg.norm(np.diff(places_m, axis=0), axis=1) * rate_hz * 3.6
    return speed if limit_kmh is None else np.minimum(speed, limit_kmh)


def speeds_without_jumps_kmh(places_m: Floats, rate_hz: float, longest_step_m: float = 0.25) -> Floats:
    """Return speeds of the steps up to a fixed length: 6.2 m/s at 25 frames per second, 15 m/s at 60."""
    step = np.linalg.norm(np.diff(places_m, axis=0), axis=1)
    return np.asarray(step[step <= longest_step_m] * rate_hz * 3.6)


def raw_skeleton(keypoints_px: Floats) -> Floats:
    """Return what is drawn: each frame's keypoints as they were detected, and nothing where they were not."""
    return keypoints_px


def frame_times_s(presented_s: Floats) -> Floats:
    """Return the times that frames get: the container's clock is read before the frame is."""
    return np.concatenate([[0.0], presented_s[:-1]])
