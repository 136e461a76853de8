"""Heat maps in another size."""

from __future__ import annotations

import pytest

from services.gateway.compat.badminton.heat_map import resized, resized_heat_map


def test_the_same_size_changes_nothing() -> None:
    grid = [[0, 128, 255], [3, 4, 5]]
    assert resized(grid, 3, 2) == grid


@pytest.mark.parametrize(("width", "height"), [(1, 1), (7, 5), (128, 96)])
def test_a_constant_stays_constant_and_a_slope_a_slope(width: int, height: int) -> None:
    assert resized([[200] * 64] * 48, width, height) == [[200] * width] * height
    (row,) = resized([[x * 4 for x in range(64)]], width, 1)
    assert row == sorted(row)
    assert row[0] >= 0
    assert row[-1] <= 252
    assert sum(row) / width == pytest.approx(126, abs=1), "the mean stays where it was"


def test_one_player_only() -> None:
    found = {"colormap": "turbo", "combined_heatmap": [[9]], "player_heatmaps": {"0": [[1]], "1": [[2]]}}
    assert resized_heat_map(found, 2, 1, "1") == {
        "colormap": "turbo", "width": 2, "height": 1, "combined_heatmap": [[2, 2]], "player_heatmaps": {"1": [[2, 2]]},
    }  # fmt: skip
