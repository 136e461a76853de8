"""Errors against the ground truth of laps: signs, interpolation, loser of a loss."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.demo.ground_truth import TrueLapTimes, curve_errors, figures, true_loss_s

# B drives the first 10 s of A's lap as A does, then takes 1.1 s for each of A's; its clip starts 3 s earlier.
TRUTH = TrueLapTimes([0.0, 10.0, 20.0], [3.0, 13.0, 24.0])


@pytest.mark.parametrize(
    ("start_s", "end_s", "delta_s"),
    [(0.0, 20.0, 1.0), (0.0, 10.0, 0.0), (5.0, 15.0, 0.5), (10.0, 20.5, 1.05), (-1.0, 10.0, 0.0)],
)
def test_delta_between_two_places(start_s: float, end_s: float, delta_s: float) -> None:
    assert TRUTH.delta_s(start_s, end_s) == pytest.approx(delta_s)


def test_truth_is_read_from_what_the_simulator_writes(tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text(json.dumps({"seed": 1, "time_a_s": [0.0, 1.0], "time_b_s": [0.5, 1.75]}))
    assert TrueLapTimes.read(tmp_path / "truth.json").delta_s(0.0, 1.0) == pytest.approx(0.25)


def test_the_whole_lap_comes_first_then_each_sector() -> None:
    sector = {"name": "S1", "delta_s": 0.02, "error_s": 0.05, "start_reference_s": 0.0, "end_reference_s": 10.0}
    result = {
        "start_reference_s": 0.0,
        "end_reference_s": 20.0,
        "delta_s": 0.9,
        "delta_error_s": 0.1,
        "sectors": [sector, sector | {"name": "S2", "start_reference_s": 10.0, "end_reference_s": 20.0}],
    }
    whole, first, second = figures(result, TRUTH)
    assert (whole.name, first.name, second.name) == ("whole lap", "S1", "S2")
    assert whole.true_s == pytest.approx(1.0)
    assert whole.error_s == pytest.approx(0.1)
    assert first.true_s == pytest.approx(0.0)
    assert second.true_s == pytest.approx(1.0)


def test_a_loss_counts_for_its_loser() -> None:
    stretch = {"start_reference_s": 10.0, "end_reference_s": 20.0}
    assert true_loss_s(stretch | {"loser": "other"}, TRUTH) == pytest.approx(1.0)
    assert true_loss_s(stretch | {"loser": "reference"}, TRUTH) == pytest.approx(-1.0)


def test_errors_along_the_curve_are_counted_from_its_first_sample(tmp_path: Path) -> None:
    curve = tmp_path / "delta.csv"
    curve.write_text("time_a_s,time_b_s,delta_s\n5,8,0.0\n10,13,0.02\n20,24,0.9\n")
    median_s, largest_s = curve_errors(curve, TRUTH)
    assert median_s == pytest.approx(0.02)
    assert largest_s == pytest.approx(0.1)
