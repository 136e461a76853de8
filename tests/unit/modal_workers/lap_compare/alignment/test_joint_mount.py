"""The mount of a camera, fitted to frames that are systematically late: turn and zoom are told from the delay."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from modal_workers.lap_compare.alignment.camera_mount import CENTRE_PX, Matrix, corner_shift, intrinsics
from modal_workers.lap_compare.alignment.joint_mount import PlaceMatches, fit_mount, match_places
from modal_workers.road_video.descriptors import THUMBNAIL_PX

PLACES, POINTS = 20, 60
FOCAL_A_PX = 0.8 * THUMBNAIL_PX[0]
SPEED_MPS = 25.0


def late_matches(warp: Matrix, late_s: float, up_m: float, seed: int = 4) -> PlaceMatches:
    """Return matches of a road with depth: B's camera is turned and zoomed by ``warp``, its frames late, and higher."""
    random = np.random.default_rng(seed)
    place = np.repeat(np.arange(PLACES), POINTS)
    count = len(place)
    across, down = random.uniform(-14, 14, count), random.uniform(-6, 1.3, count)
    ahead = random.uniform(12, 90, count)

    def seen(late: float, up: float) -> Matrix:
        points = np.stack([across, down + up, ahead - late * SPEED_MPS], axis=1)
        return points[:, :2] / points[:, 2:] * FOCAL_A_PX + CENTRE_PX

    points_a = seen(0, 0)
    motion = (seen(0.1, 0) - points_a) / 0.1
    points_b = cv2.perspectiveTransform(seen(late_s, up_m)[None], warp)[0] + random.normal(0, 0.4, (count, 2))
    wrong = random.random(count) < 0.15
    points_b[wrong] += random.uniform(-40, 40, (int(wrong.sum()), 2))
    inside = (np.abs(points_a - CENTRE_PX) < np.array(THUMBNAIL_PX) / 2).all(axis=1)
    return PlaceMatches(place[inside], points_a[inside], points_b[inside], motion[inside])


def turned(zoom: float, angles_rad: tuple[float, float, float]) -> Matrix:
    rotation = np.asarray(cv2.Rodrigues(np.array(angles_rad))[0])
    warp = intrinsics(zoom * FOCAL_A_PX) @ rotation @ np.linalg.inv(intrinsics(FOCAL_A_PX))
    return np.asarray(warp / warp[2, 2])


@pytest.mark.parametrize(("late_s", "up_m"), [(0.08, 0.0), (-0.06, 0.25), (0.1, -0.25)])
def test_turn_and_zoom_are_found_though_all_frames_are_late(late_s: float, up_m: float) -> None:
    true = turned(0.88, (0.03, -0.05, 0.03))
    matches = late_matches(true, late_s, up_m)
    off = corner_shift(fit_mount(matches), true)
    assert off < 0.015
    # a fit of the warp alone takes the delay for zoom or tilt
    alone, _ = cv2.findHomography(matches.points_a, matches.points_b, cv2.RANSAC, 3.0)
    assert corner_shift(alone, true) > 2 * off


def test_matches_of_places_carry_the_motion_of_the_picture() -> None:
    random = np.random.default_rng(8)
    wide = cv2.GaussianBlur(random.integers(0, 255, (200, 400)).astype(np.uint8), (0, 0), 1.5)
    a, later = wide[10:190, 20:340].copy(), wide[8:188, 17:337].copy()  # moved by 3 px right and 2 px down
    matches = match_places([a] * 4, [later] * 4, [0.1] * 4, [a] * 4)
    assert matches is not None
    assert set(matches.place.tolist()) == {0, 1, 2, 3}
    assert np.median(matches.motion, axis=0) == pytest.approx([30, 20], abs=0.5)
    assert matches.points_a == pytest.approx(matches.points_b)


def test_too_few_matches_give_no_estimate() -> None:
    grey = np.full(THUMBNAIL_PX[::-1], 90, np.uint8)
    assert match_places([grey] * 4, [grey] * 4, [0.1] * 4, [grey] * 4) is None
