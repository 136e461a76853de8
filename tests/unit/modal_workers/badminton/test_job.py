"""The whole badminton job on a rendered match: its artifacts, its progress, and its figures near the truth."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import av
import numpy as np
import pytest

from modal_workers.badminton.report.results_schema import MatchResults
from modal_workers.badminton.spec import WORKLOAD
from simulators.badminton.comparison import compare_with_truth
from simulators.badminton.match_truth import MatchTruth
from tests.harness.vision.badminton_jobs import JobRun, film, run_job

ARTIFACTS = {
    "results.json": "application/json",
    "processed.mp4": "video/mp4",
    "report.html": "text/html",
    "report.pdf": "application/pdf",
    "players.csv": "text/csv",
    "rallies.csv": "text/csv",
    "play.mp4": "video/mp4",
    "rallies/rally_001.mp4": "video/mp4",
    "compat/results.json": "application/json",
    "compat/summary.json": "application/json",
    "compat/speed.json": "application/json",
    "compat/zones.json": "application/json",
    "compat/heatmap.json": "application/json",
}


@pytest.fixture(scope="module")
def match(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MatchTruth]:
    return film(tmp_path_factory.mktemp("match"))


@pytest.fixture(scope="module")
def whole(match: tuple[Path, MatchTruth], tmp_path_factory: pytest.TempPathFactory) -> JobRun:
    home = tmp_path_factory.mktemp("whole")
    return run_job(match[0], home, rally_clips=True, play_video=True, video_id="k57match", video_height_px=360)


def test_every_artifact_is_there_with_its_type_and_a_title(whole: JobRun) -> None:
    assert whole.context.media_types == ARTIFACTS
    assert all(whole.context.titles.values())
    saved = whole.context.saved
    for name in ARTIFACTS:
        if name.endswith(".json"):
            json.loads((saved / name).read_text())
    assert (saved / "report.pdf").read_bytes()[:5] == b"%PDF-"
    assert "</html>" in (saved / "report.html").read_text()
    assert len(_rows(saved / "players.csv")) == 2
    assert len(_rows(saved / "rallies.csv")) == whole.result.rally_count


def _rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_the_processed_video_has_every_frame_at_its_time(whole: JobRun, match: tuple[Path, MatchTruth]) -> None:
    times_s = []
    with av.open(str(whole.context.saved / "processed.mp4")) as container:
        for frame in container.decode(video=0):
            assert frame.height == 360
            times_s.append(float(frame.time))
    assert len(times_s) == len(match[1].time_s)
    assert np.abs(np.array(times_s) - match[1].time_s).max() < 0.002


def test_progress_rises_through_all_stages_and_counts_frames(whole: JobRun) -> None:
    assert whole.context.stages == [stage.name for stage in WORKLOAD.stages]
    for stage in ("court", "detect", "render"):
        told = [each for each in whole.context.progress_told if each.stage == stage]
        fractions = [each.fraction for each in told]
        assert fractions == sorted(fractions)
        assert fractions[0] < 0.1
        assert 0.9 < fractions[-1] <= 1
        assert all(each.message for each in told)
    for stage in ("detect", "render"):
        told = [each for each in whole.context.progress_told if each.stage == stage]
        frames = [each.frame for each in told if each.frame is not None]
        assert len(frames) == len(told)
        assert frames == sorted(frames)
        assert frames[-1] == 200
        assert {each.frame_count for each in told} == {200}


def test_results_are_those_of_the_schema(whole: JobRun) -> None:
    results = MatchResults.model_validate(whole.results)
    assert (results.video_id, results.mode) == ("k57match", "full")
    assert json.loads((whole.context.saved / "compat" / "results.json").read_text())["video_id"] == "k57match"


def test_court_and_players_are_near_the_truth(whole: JobRun, match: tuple[Path, MatchTruth]) -> None:
    compared = compare_with_truth(whole.results, match[1])
    assert compared.corner_error_px.shape == (1, 4)
    assert compared.corner_error_px.max() < 1
    assert len(compared.players) == 2
    for player in compared.players:
        assert player.known_share > 0.6
        assert np.nanmedian(player.position_error_m) < 0.3
        assert player.switch_count == 0
    # The clip ends in its rally.
    assert compared.rally_count == len(match[1].rallies) == 1


def test_the_headline_figures_are_those_of_the_results(whole: JobRun) -> None:
    result, results = whole.result, whole.results
    assert result.rally_count == len(results["rallies"])
    assert result.video.analysed_frame_count == len(results["tracks"]["source_frame"]) == 200
    assert [player.distance_m for player in result.players] == pytest.approx(
        [player["motion"]["distance_m"] for player in results["players"]], abs=0.01
    )
    assert result.left_out_s == 0
    assert result.court is not None
    assert result.court.time_share == pytest.approx(1, abs=0.02)
    assert WORKLOAD.headline is not None
    assert WORKLOAD.headline(result).startswith("1 rally, ")


def test_rallies_only_takes_less_and_says_what_it_left_out(match: tuple[Path, MatchTruth], tmp_path: Path) -> None:
    done = run_job(match[0], tmp_path, mode="rally_only", video_height_px=180)
    assert done.result.players == ()
    assert {"players", "shuttle", "skeletons"} <= {part.part for part in done.result.missing}
    assert done.results["hits"] == []
    MatchResults.model_validate(done.results)
