"""The court found in pictures with known homographies, and refused where there is none or not enough of it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from modal_workers.badminton.court.candidates import best_candidate
from modal_workers.badminton.court.detection import confidence_of, median_grey
from modal_workers.badminton.court.dimensions import CORNERS_M
from modal_workers.badminton.court.homography import CourtNotFound, CourtRefusal, CourtView, project
from tests.harness.vision.court_pictures import BLUE, CAMERAS, WOOD, Camera, Hall, detect_court, draw_court
from tests.harness.vision.random_halls import pointed_aside, random_camera, random_floor

SMALL = (1280, 720)
FLOOR_M = np.array([(x, y) for x in np.linspace(0, 6.1, 6) for y in np.linspace(0, 13.4, 10)])


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


def test_without_lines_there_is_no_court() -> None:
    black = np.zeros((SMALL[1], SMALL[0], 3), np.uint8)
    found = detect_court([black])
    assert isinstance(found, CourtNotFound)
    assert found.code is CourtRefusal.NO_LINES


@pytest.mark.parametrize("kind", ["tennis", "volleyball", "grid", "lines"])
def test_lines_of_another_floor_are_no_court(kind: str) -> None:
    for seed in range(2):
        found = detect_court([random_floor(np.random.default_rng([77, seed]), kind)])
        assert isinstance(found, CourtNotFound), (kind, seed)
        assert found.text


def test_of_two_courts_side_by_side_the_one_in_the_middle_is_taken() -> None:
    camera = Camera((3.05, 24.0, 4.5), (3.05, 6.5, 0.3), 1.1, SMALL)
    view = detect_court([draw_court(camera, Hall(other_courts_x_m=(7.6,)))])
    assert isinstance(view, CourtView), view
    assert corner_errors_px(view, camera).max() < 3


def test_of_two_courts_equally_in_view_none_is_taken() -> None:
    camera = Camera((6.85, 26.0, 6.0), (6.85, 6.5, 0.3), 0.9, SMALL)
    found = detect_court([draw_court(camera, Hall(other_courts_x_m=(7.6,), net=False))])
    assert isinstance(found, CourtNotFound)
    assert found.code is CourtRefusal.AMBIGUOUS


def test_a_court_that_is_cut_off_is_right_or_refused() -> None:
    found = 0
    for seed in range(4):
        rng = np.random.default_rng([78, seed])
        camera = pointed_aside(random_camera(rng, "phone_back", SMALL), rng)
        view = detect_court([draw_court(camera, Hall())])
        if isinstance(view, CourtView):
            found += 1
            inside = view.to_image(FLOOR_M)
            seen = ((inside > 0) & (inside < SMALL)).all(axis=1)
            truth = project(camera.image_from_court, FLOOR_M)
            assert np.linalg.norm(inside - truth, axis=1)[seen].max() < 3
    assert found >= 2


def test_the_confidence_falls_with_what_can_be_seen() -> None:
    camera = CAMERAS["phone_corner"]
    picture = draw_court(camera, Hall(noise=3))
    clear = best_candidate(median_grey([picture]))
    dim = best_candidate(median_grey([cv2.GaussianBlur(picture, (0, 0), 6)]))
    assert clear is not None
    assert confidence_of(clear) > 0.95
    assert dim is None or confidence_of(dim) < confidence_of(clear)


def test_a_court_behind_one_that_is_cut_off_is_not_taken_for_it() -> None:
    camera = Camera((8.4, 16.5, 3.0), (-4.5, 7.5, 0.2), 0.85, SMALL)
    found = detect_court([draw_court(camera, Hall(other_courts_x_m=(-7.6,)))])
    assert isinstance(found, CourtNotFound)
    assert found.code is CourtRefusal.AMBIGUOUS
    assert "cut off" in found.text
