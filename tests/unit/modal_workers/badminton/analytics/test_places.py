"""Zones, heat maps and footwork of players whose places are known."""

from __future__ import annotations

import numpy as np
import pytest

from modal_workers.badminton.analytics import heat_map
from modal_workers.badminton.analytics.footwork import hull_area_m2, measure_footwork
from modal_workers.badminton.analytics.own_half import own_half
from modal_workers.badminton.analytics.zones import measure_zones, zone_of
from modal_workers.badminton.court.dimensions import COURT_LENGTH_M, COURT_WIDTH_M, NET_Y_M
from tests.harness.vision.badminton_matches import Camera


def _half(x_m: float, y_m: float, side: int):
    return own_half(np.array([[x_m, y_m]]), np.array([side], np.int8))


@pytest.mark.parametrize(
    ("x_m", "y_m", "side", "row", "column"),
    [
        # The near player sees the camera's left on the left; the far player faces the camera.
        *((0.5, 7.0, 1, 0, 0), (5.8, 7.0, 1, 0, 2), (3.0, 10.0, 1, 1, 1), (0.5, 13.0, 1, 2, 0)),
        *((0.5, 6.4, -1, 0, 2), (5.8, 6.4, -1, 0, 0), (3.0, 3.4, -1, 1, 1), (5.8, 0.2, -1, 2, 0)),
        *((-0.6, 14.1, 1, 2, 0), (3.0, 6.5, 1, 0, 1)),  # behind the lines, and a foot under the net
    ],
)
def test_a_place_lies_in_the_third_of_the_half_that_the_player_sees(
    x_m: float, y_m: float, side: int, row: int, column: int
) -> None:
    zones = measure_zones(_half(x_m, y_m, side), np.array([0.04]), np.zeros(1))
    assert zones.time_s[row, column] == zones.total_s == pytest.approx(0.04)
    assert zones.camera_time_s[row, column if side > 0 else 2 - column] == pytest.approx(0.04)


def test_zones_count_time_and_not_frames() -> None:
    half = own_half(np.array([[3.0, 7.0], [3.0, 13.0], [np.nan, np.nan], [3.0, 13.0]]), np.ones(4, np.int8))
    zones = measure_zones(half, np.array([0.3, 0.1, 5.0, 0.0]), np.zeros(4))
    assert zones.time_s[0, 1] == pytest.approx(0.3)
    assert zones.time_s[2, 1] == pytest.approx(0.1)
    assert zones.position_count == 2
    assert zones.mean_from_net_m == pytest.approx(0.75 * 0.3 + 0.25 * 6.3)


def test_time_near_an_edge_between_zones_is_told_where_the_error_of_the_place_reaches_the_edge() -> None:
    # From the net 2.20 and 2.20 m (edge at 2.23), 5.5 m; from the left 2.9, 2.05 (edge at 2.03) and 3.0 m.
    half = own_half(np.array([[2.9, 8.9], [3.0, 8.9], [2.05, 12.2], [3.0, 12.2]]), np.ones(4, np.int8))
    zones = measure_zones(half, np.array([0.1, 0.2, 0.4, 0.8]), np.array([0.02, 0.05, 0.05, 0.3]))
    assert zones.near_edge_s == pytest.approx(0.2 + 0.4)


def test_court_zones_are_right_where_thirds_of_the_picture_are_not() -> None:
    """The replaced system divides the picture at a third and two thirds, for both players."""
    random = np.random.default_rng(8)
    camera = Camera.behind(1280, 720)
    count = 4000
    right = {"ours": 0, "theirs": 0}
    for side in (-1, 1):
        from_net = random.uniform(0.3, 6.6, count)
        true_m = np.stack([random.uniform(0.2, 5.9, count), NET_Y_M + side * from_net], axis=-1)
        measured_m = true_m + random.normal(0, 0.04, true_m.shape)
        true, ours = (own_half(places, np.full(count, side, np.int8)) for places in (true_m, measured_m))
        row, column = zone_of(true.from_net_m, true.from_camera_left_m)
        our_row, our_column = zone_of(ours.from_net_m, ours.from_camera_left_m)
        pixels = camera.project(np.concatenate([true_m, np.zeros((count, 1))], axis=1))
        their_row, their_column = (
            np.searchsorted((0.33, 0.67), pixels[:, 1] / 720),
            np.searchsorted((0.33, 0.67), pixels[:, 0] / 1280),
        )
        right["ours"] += int(((row == our_row) & (column == our_column)).sum())
        right["theirs"] += int(((row == their_row) & (column == their_column)).sum())
    assert right["ours"] >= 0.95 * 2 * count
    assert right["theirs"] < 0.5 * 2 * count


def test_a_heat_map_holds_the_time_and_its_maximum_is_the_place() -> None:
    places = np.tile((4.5, 10.0), (200, 1))
    places[:50] = np.nan
    cells = heat_map.heat_map(places, np.full(200, 0.02))
    assert cells.shape == (heat_map.ROWS, heat_map.COLUMNS)
    assert cells.sum() == pytest.approx(150 * 0.02)
    row, column = np.unravel_index(int(cells.argmax()), cells.shape)
    assert (column + 0.5) * heat_map.CELL_M - heat_map.MARGIN_M == pytest.approx(4.5, abs=0.2)
    assert (row + 0.5) * heat_map.CELL_M - heat_map.MARGIN_M == pytest.approx(10.0, abs=0.2)


def test_the_map_covers_the_court_and_its_surroundings() -> None:
    corners = np.array([[-0.9, -0.9], [COURT_WIDTH_M + 0.9, COURT_LENGTH_M + 0.9], [20.0, 20.0]])
    assert heat_map.heat_map(corners, np.ones(3)).sum() == pytest.approx(2.0, abs=1.2)


def test_footwork_is_the_share_of_the_half_and_the_area_around_it() -> None:
    across, along = np.meshgrid(np.linspace(0.05, 6.05, 120), np.linspace(NET_Y_M + 0.05, 13.35, 120))
    whole = own_half(np.stack([across.ravel(), along.ravel()], axis=-1), np.ones(across.size, np.int8))
    footwork = measure_footwork(whole, np.ones(across.size))
    assert footwork.covered_share == 1
    assert footwork.hull_area_m2 == pytest.approx(6.0 * 6.6, rel=0.01)
    quarter = measure_footwork(whole, (across.ravel() < 3.0).astype(float) * (along.ravel() < 10.0))
    assert quarter.covered_share == pytest.approx(0.25, abs=0.03)


def test_the_hull_of_a_line_has_no_area() -> None:
    line = np.stack([np.linspace(0, 5, 40), np.linspace(0, 5, 40)], axis=-1)
    assert hull_area_m2(line) == pytest.approx(0, abs=1e-9)
    assert hull_area_m2(line[:2]) == 0
