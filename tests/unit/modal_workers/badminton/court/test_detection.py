"""The court found in pictures with known homographies, and refused where there is none or not enough of it."""

from __future__ import annotations

import numpy as np
import pytest

from modal_workers.badminton.court.detection import detect_court, median_grey
from modal_workers.badminton.court.dimensions import CORNERS_M
from modal_workers.badminton.court.homography import CourtNotFound, CourtRefusal, CourtView, project
from tests.harness.vision.court_pictures import BLUE, CAMERAS, WOOD, Camera, Hall, draw_court

SMALL = (1280, 720)


def corner_errors_px(view: CourtView, camera: Camera) -> np.ndarray:
    return np.linalg.norm(view.corners_px - project(camera.image_from_court, CORNERS_M), axis=1)


@pytest.mark.parametrize(
    ("name", "hall"),
    [
        ("broadcast_high", Hall(players=4, crowd=True)),
        ("broadcast_low", Hall(players=4, floor=BLUE, light_gradient=0.5)),
        ("phone_back", Hall(players=2, floor=WOOD, noise=8)),
        ("phone_corner", Hall(players=4, other_courts_x_m=(-7.6,))),
    ],
)
def test_the_court_is_found_to_a_pixel(name: str, hall: Hall) -> None:
    camera = CAMERAS[name]
    view = detect_court([draw_court(camera, hall)])
    assert isinstance(view, CourtView), view
    assert corner_errors_px(view, camera).max() < 3
    assert view.residual_px < 1
    assert view.residual_m < 0.02
    assert view.source == "lines"


def test_a_camera_at_the_side_sees_the_court_across_with_y_towards_it() -> None:
    camera = Camera((14.0, 8.5, 4.0), (3.0, 7.0, 0.0), 0.7, SMALL)
    view = detect_court([draw_court(camera, Hall())])
    assert isinstance(view, CourtView), view
    # The camera stands beyond y = 6.7, so this is the court's own direction and not the other one.
    assert corner_errors_px(view, camera).max() < 3
    opposite = Camera((-8.0, 8.5, 4.0), (3.0, 7.0, 0.0), 0.7, SMALL)
    view = detect_court([draw_court(opposite, Hall())])
    assert isinstance(view, CourtView), view
    assert corner_errors_px(view, opposite).max() < 3


def test_players_disappear_in_the_median_of_several_pictures() -> None:
    camera = Camera((3.05, 24.0, 4.5), (3.05, 6.5, 0.3), 1.45, SMALL)
    empty = draw_court(camera, Hall(noise=0))
    pictures = [draw_court(camera, Hall(players=4, noise=0), seed) for seed in range(9)]
    grey = median_grey(pictures).astype(int)
    difference = np.abs(grey - median_grey([empty]).astype(int))
    assert (difference > 20).mean() < 0.2 * (np.abs(median_grey(pictures[:1]).astype(int) - grey) > 20).mean()


def test_without_pictures_or_lines_there_is_no_court() -> None:
    assert detect_court([]) == CourtNotFound(CourtRefusal.NO_PICTURE, "There is no picture of this scene.")
    black = np.zeros((SMALL[1], SMALL[0], 3), np.uint8)
    found = detect_court([black])
    assert isinstance(found, CourtNotFound)
    assert found.code is CourtRefusal.NO_LINES
