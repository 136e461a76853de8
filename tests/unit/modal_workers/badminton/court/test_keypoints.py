"""The court from the user's points: exact, refined on lines that agree, and refused with the point that is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.badminton.court.homography import project
from modal_workers.badminton.court.keypoints import CORNERS, KEYPOINTS_M, court_from_keypoints
from modal_workers.badminton.spec import KEYPOINT_NAMES
from tests.harness.vision.court_pictures import CAMERAS, Hall, draw_court

CAMERA = CAMERAS["broadcast_low"]
SIZE = CAMERA.size_px
Points = dict[str, tuple[float, float]]


def clicked(names: list[str], error_px: float = 0.0, seed: int = 3) -> Points:
    places = project(CAMERA.image_from_court, [KEYPOINTS_M[name] for name in names])
    places = places + np.random.default_rng(seed).uniform(-error_px, error_px, places.shape)
    return {name: (float(x), float(y)) for name, (x, y) in zip(names, places, strict=True)}


def corner_error_px(homography: np.ndarray) -> float:
    truth = project(CAMERA.image_from_court, list(CORNERS.values()))
    return float(np.linalg.norm(project(homography, list(CORNERS.values())) - truth, axis=1).max())


def refused(points: Points) -> SaccadeError:
    with pytest.raises(SaccadeError) as caught:
        court_from_keypoints(points, SIZE)
    assert caught.value.code is ErrorCode.COURT_KEYPOINTS_INVALID
    return caught.value


def test_names_are_those_of_the_declaration() -> None:
    assert tuple(KEYPOINTS_M) == KEYPOINT_NAMES


@pytest.mark.parametrize("names", [list(CORNERS), list(KEYPOINTS_M)])
def test_exact_points_give_the_court_exactly(names: list[str]) -> None:
    view = court_from_keypoints(clicked(names), SIZE)
    assert corner_error_px(view.image_from_court) < 1e-6
    assert view.source == "keypoints"
    assert np.isnan(view.inlier_share)
    # Four points always fit: their residual says nothing.
    assert np.isnan(view.residual_px) == (len(names) == 4)


def test_more_points_than_needed_average_the_clicks_and_say_how_far_they_are_off() -> None:
    view = court_from_keypoints(clicked(list(KEYPOINTS_M), error_px=6), SIZE)
    assert corner_error_px(view.image_from_court) < 12
    assert 1 < view.residual_px < 8
    assert 0 < view.residual_m < 0.3


def test_lines_that_agree_make_clicks_exact() -> None:
    picture = draw_court(CAMERA, Hall(players=2))
    points = clicked(list(CORNERS), error_px=8)
    assert corner_error_px(court_from_keypoints(points, SIZE).image_from_court) > 5
    view = court_from_keypoints(points, SIZE, [picture])
    assert corner_error_px(view.image_from_court) < 1
    assert view.inlier_share > 0.8


def test_a_picture_without_lines_leaves_the_clicks_as_they_are() -> None:
    points = clicked(list(CORNERS), error_px=8)
    blank = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
    view = court_from_keypoints(points, SIZE, [blank])
    assert np.array_equal(view.image_from_court, court_from_keypoints(points, SIZE).image_from_court)


def exchanged(one: str, other: str) -> Points:
    points = clicked(list(CORNERS))
    return points | {one: points[other], other: points[one]}


def test_three_corners_are_refused() -> None:
    points = clicked(list(CORNERS))
    del points["bottom_left"]
    error = refused(points)
    assert error.extra == {"point": "bottom_left", "reason": "missing"}
    assert "bottom_left" in error.message


@pytest.mark.parametrize("place", [(-200.0, 500.0), (960.0, 1400.0), (float("nan"), 5.0)])
def test_a_corner_outside_of_the_picture_is_refused(place: tuple[float, float]) -> None:
    error = refused(clicked(list(CORNERS)) | {"top_right": place})
    assert error.extra["point"] == "top_right"
    assert error.extra["reason"] in ("outside", "not_finite")


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        (exchanged("bottom_left", "bottom_right"), "crossed"),
        (exchanged("top_right", "bottom_right"), "crossed"),
        (exchanged("top_left", "bottom_right"), "mirrored"),
        (exchanged("top_right", "bottom_left"), "mirrored"),
        (clicked(list(CORNERS)) | {"top_left": clicked(list(CORNERS))["top_right"]}, "coincident"),
        (clicked(["net_left"]), "missing"),
        (clicked(list(CORNERS)) | {"umpire": (3.0, 4.0)}, "unknown"),
    ],
)
def test_impossible_corners_are_refused(points: Points, reason: str) -> None:
    assert refused(points).extra["reason"] == reason


def test_a_corner_between_its_neighbours_is_refused() -> None:
    points = clicked(list(CORNERS))
    middle = np.mean([points["top_left"], points["bottom_right"]], axis=0)
    error = refused(points | {"top_right": (float(middle[0]), float(middle[1]))})
    assert error.extra == {"point": "top_right", "reason": "collinear"}
    inner = 0.7 * middle + 0.3 * np.array(points["bottom_left"])
    error = refused(points | {"top_right": (float(inner[0]), float(inner[1]))})
    assert error.extra == {"point": "top_right", "reason": "not_convex"}


def test_far_and_near_exchanged_is_refused() -> None:
    names = list(CORNERS)
    turned = dict(zip(names, [clicked(names)[name] for name in (*names[2:], *names[:2])], strict=True))
    assert refused(turned).extra["reason"] == "upside_down"


def test_the_point_that_contradicts_the_others_is_named() -> None:
    points = clicked(list(KEYPOINTS_M), error_px=4)
    x, y = points["service_line_far_left"]
    error = refused(points | {"service_line_far_left": (x + 20, y + 90)})
    assert error.extra == {"point": "service_line_far_left", "reason": "contradiction"}
