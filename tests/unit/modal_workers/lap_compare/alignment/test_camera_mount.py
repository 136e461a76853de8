"""Estimation of a camera mount: from matched pixels, and from the places at which frames are compared."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from modal_workers.lap_compare.alignment.camera_mount import Matrix, corner_shift, fit_rotation
from modal_workers.lap_compare.alignment.matching import choose_places
from modal_workers.lap_compare.clips.descriptors import THUMBNAIL_PX


def turned_camera(focal_a: float, focal_b: float, angles_rad: tuple[float, float, float]) -> Matrix:
    """Return the homography of a camera that is turned and zoomed; focal lengths in widths."""

    def intrinsics(focal: float) -> Matrix:
        width, height = THUMBNAIL_PX
        return np.array([[focal * width, 0, (width - 1) / 2], [0, focal * width, (height - 1) / 2], [0, 0, 1]])

    rotation = np.asarray(cv2.Rodrigues(np.array(angles_rad))[0])
    warp = intrinsics(focal_b) @ rotation @ np.linalg.inv(intrinsics(focal_a))
    return np.asarray(warp / warp[2, 2])


@pytest.mark.parametrize("focal_a", [0.6, 0.77, 1.1])
def test_a_turned_and_zoomed_camera_is_found_with_its_perspective(focal_a: float) -> None:
    random = np.random.default_rng(7)
    true = turned_camera(focal_a, 0.95 * focal_a, (0.01, -0.03, 0.015))
    points_a = random.uniform((0, 0), (THUMBNAIL_PX[0], 0.78 * THUMBNAIL_PX[1]), (600, 2)).astype(np.float32)
    points_b = cv2.perspectiveTransform(points_a[None], true)[0] + random.normal(0, 0.6, (600, 2))
    points_b[:60] += random.uniform(-3, 3, (60, 2))
    found = fit_rotation(points_a, points_b.astype(np.float32))
    assert corner_shift(found, true) * THUMBNAIL_PX[0] < 1.0
    # A similarity leaves the perspective out and is several pixels off at the edges.
    similarity, _ = cv2.estimateAffinePartial2D(points_a, points_b.astype(np.float32), ransacReprojThreshold=3.0)
    assert corner_shift(np.vstack([similarity, [0, 0, 1]]), true) * THUMBNAIL_PX[0] > 1.5


def test_frames_are_compared_where_a_sample_of_b_shows_the_very_place() -> None:
    sampled_s = np.arange(0.0, 10.0, 0.04)
    time_b_s = np.sort(np.random.default_rng(3).uniform(0.5, 9.5, 300))
    places = choose_places(time_b_s, sampled_s, 28)
    distance_s = np.abs(time_b_s[places][:, None] - sampled_s).min(axis=1)
    assert len(places) == 28
    assert (np.diff(places) > 0).all()
    assert distance_s.max() < 0.008
    # places taken without a choice are up to half a sample away
    assert np.abs(time_b_s[:, None] - sampled_s).min(axis=1).max() > 0.015
