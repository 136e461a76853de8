"""Figures derived from an alignment: delta, sectors, opportunities, result."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.footage.video_reader import VideoFacts
from modal_workers.lap_compare.comparison import Alignment, Comparison
from modal_workers.lap_compare.lap_delta import compare
from modal_workers.lap_compare.result import build_result
from modal_workers.lap_compare.spec import LapCompareParams

CLIP = VideoFacts("a.mp4", 640, 360, 0, 900, 30.0, 30.0, variable_rate=False)


def lap(delta_of_a: np.ndarray | None = None, error_s: float = 0.01) -> Alignment:
    time_a = np.arange(1.0, 28.0, 1 / 30)
    delta = np.zeros(len(time_a)) if delta_of_a is None else delta_of_a
    count = len(time_a)
    return Alignment(
        time_a_s=time_a,
        time_b_s=time_a + 3.0 + delta,
        error_s=np.full(count, error_s),
        confidence=np.full(count, 0.9),
        path_cost=0.3,
        overlap=0.98,
        mount_corrected=False,
        piecewise_s=0.02,
    )


def ramp(start: float, end: float, height: float) -> np.ndarray:
    return np.clip((np.arange(1.0, 28.0, 1 / 30) - start) / (end - start), 0, 1) * height


def figures(alignment: Alignment, **changed: object) -> Comparison:
    options = {"sectors": 3, "opportunities": 3} | changed
    return compare((CLIP, CLIP), alignment, np.ones(len(alignment.time_a_s)), **options)  # type: ignore[arg-type]


def test_delta_starts_at_zero_and_ends_with_the_difference_of_totals() -> None:
    comparison = figures(lap(ramp(5, 8, 0.5)))
    assert comparison.delta_s[0] == 0
    assert comparison.delta_s[-1] == pytest.approx(comparison.total_b_s - comparison.total_a_s)
    assert comparison.delta_s[-1] == pytest.approx(0.5)


@pytest.mark.parametrize("sectors", [1, 3, 12, (4.0, 9.5, 20.0)])
def test_sectors_add_up_to_the_whole(sectors: object) -> None:
    comparison = figures(lap(ramp(5, 8, 0.5) - ramp(15, 17, 0.2)), sectors=sectors)
    assert len(comparison.sectors) == (sectors if isinstance(sectors, int) else 4)
    assert sum(sector.time_a_s for sector in comparison.sectors) == pytest.approx(comparison.total_a_s)
    assert sum(sector.delta_s for sector in comparison.sectors) == pytest.approx(comparison.delta_s[-1])
    for before, after in zip(comparison.sectors[:-1], comparison.sectors[1:], strict=True):
        assert before.end_a_s == after.start_a_s


def test_given_sectors_start_at_the_requested_times() -> None:
    comparison = figures(lap(), sectors=(4.0, 9.5))
    assert comparison.sectors[1].start_a_s == pytest.approx(4.0, abs=1 / 30)
    assert comparison.sectors[1].end_a_s == pytest.approx(9.5, abs=1 / 30)


def test_a_sector_outside_the_common_stretch_is_refused() -> None:
    with pytest.raises(SaccadeError) as caught:
        figures(lap(), sectors=(4.0, 95.0))
    assert caught.value.code == ErrorCode.INVALID_PARAMETER


@pytest.mark.parametrize("given", [(10.01, 10.02), (10.0, 10.0), (5.0, 27.96), (27.95, 27.96)])
def test_sectors_of_no_length_are_refused(given: tuple[float, ...]) -> None:
    with pytest.raises(SaccadeError, match="closer together") as caught:
        figures(lap(), sectors=given)
    assert caught.value.code == ErrorCode.INVALID_PARAMETER


def test_automatic_boundaries_avoid_places_where_time_is_lost() -> None:
    comparison = figures(lap(ramp(8.5, 11.5, 0.8)), sectors=3)
    boundary = comparison.sectors[0].end_a_s
    assert not 8.6 < boundary < 11.4


def test_opportunities_are_ranked_and_name_the_loser() -> None:
    comparison = figures(lap(ramp(5, 8, 0.50) - ramp(12, 14, 0.30) + ramp(20, 23, 0.15)))
    found = [(stretch.rank, stretch.loser, round(stretch.lost_s, 2)) for stretch in comparison.opportunities]
    assert found == [(1, "b", 0.5), (2, "a", 0.3), (3, "b", 0.15)]
    first = comparison.opportunities[0]
    assert (first.start_a_s, first.end_a_s) == (pytest.approx(5, abs=0.1), pytest.approx(8, abs=0.1))
    assert first.end_b_s - first.start_b_s == pytest.approx(first.end_a_s - first.start_a_s + 0.5, abs=0.02)


def test_a_loss_within_the_error_is_no_opportunity() -> None:
    assert figures(lap(ramp(5, 8, 0.05), error_s=0.06)).opportunities == ()


def test_at_most_the_requested_number_of_opportunities() -> None:
    alignment = lap(ramp(5, 8, 0.50) - ramp(12, 14, 0.30))
    assert len(figures(alignment, opportunities=1).opportunities) == 1
    assert figures(alignment, opportunities=0).opportunities == ()


def test_low_confidence_is_in_the_warnings() -> None:
    doubtful = replace(lap(), confidence=np.full(810, 0.2), overlap=0.5)
    warnings = " ".join(figures(doubtful).warnings)
    assert "low confidence" in warnings
    assert "50 %" in warnings


def test_the_result_equals_the_comparison() -> None:
    comparison = figures(lap(ramp(5, 8, 0.5)))
    result = build_result(comparison)
    assert result.delta_s == pytest.approx(0.5)
    assert result.delta_error_s == pytest.approx(0.01 * 2**0.5)
    assert [opportunity.loser for opportunity in result.opportunities] == ["other"]
    assert result.start_reference_s == pytest.approx(1.0)
    assert type(result).model_validate_json(result.model_dump_json()) == result


@pytest.mark.parametrize(
    "wrong",
    [
        {"sectors": 0},
        {"sectors": 13},
        {"sectors": []},
        {"sectors": [9.0, 4.0]},
        {"sectors": [-1.0]},
        {"opportunities": 4},
        {"overlay_height_px": 99},
        {"flow": "farneback"},
        {"turbo": True},
    ],
)
def test_wrong_parameters_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        LapCompareParams.model_validate(wrong)
