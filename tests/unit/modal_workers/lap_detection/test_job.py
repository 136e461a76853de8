"""Lap detection on videos whose laps are known: what is found, what is not, and why."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.footage.video_reader import VideoReader
from modal_workers.lap_detection import job
from modal_workers.lap_detection.spec import WORKLOAD, LapDetectionParams, LapDetectionResult
from modal_workers.runtime.context import Stopped
from tests.harness.vision.lap_sessions import AROUND_PX, SlidingSession, slide
from tests.harness.vision.lap_videos import moving_pictures, write_clip
from tests.harness.vision.stage_context import FolderContext

PARAMS = LapDetectionParams(min_lap_s=5, max_lap_s=60)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> SlidingSession:
    """A bit more than three laps with a stop in the second."""
    return slide(tmp_path_factory.mktemp("session") / "<b>three.mp4", 3.4, seed=3, rest_at_lap=1.6)


def context_with(folder: Path, video: Path) -> FolderContext:
    return FolderContext(folder, inputs={"video": [video]})


def assert_true_laps(result: LapDetectionResult, session: SlidingSession, tolerance_s: float = 0.1) -> None:
    """Every lap starts and ends where the camera passes the line that was chosen, and none is missing."""
    assert result.start_line_s is not None
    place = float(np.interp(result.start_line_s, session.time_s, session.place_px)) % AROUND_PX
    crossings = session.crossings_s(place)
    assert [lap.start_s for lap in result.laps] == pytest.approx(crossings[:-1], abs=tolerance_s)
    assert [lap.end_s for lap in result.laps] == pytest.approx(crossings[1:], abs=tolerance_s)


def test_every_lap_is_found_with_its_time_and_pictures(session: SlidingSession, tmp_path: Path) -> None:
    context = context_with(tmp_path, session.path)
    result = job.run(PARAMS, context)
    assert result.lap_count == 3
    assert_true_laps(result, session)
    assert (result.reason, result.start_line_chosen) == (None, "automatic")
    rests = [lap.rest_s for lap in result.laps]
    assert (max(rests), sorted(rests)[1]) == (pytest.approx(3.0, abs=0.5), pytest.approx(0, abs=0.2))
    assert [lap.slow for lap in result.laps] == [rest > 1 for rest in rests]
    assert result.fastest is not None
    assert not result.laps[result.fastest - 1].slow
    assert min(lap.matched for lap in result.laps) > 0.6
    assert min(lap.confidence for lap in result.laps) > 0.3
    rows = list(csv.DictReader(context.artifact("laps.csv").read_text().splitlines()))
    assert [float(row["start_s"]) for row in rows] == pytest.approx([lap.start_s for lap in result.laps], abs=1e-3)
    stored = json.loads(context.artifact("laps.json").read_text())
    assert [lap["number"] for lap in stored["laps"]] == [1, 2, 3]
    assert {"confidence", "matched", "similarity", "error_s"} <= stored["laps"][0].keys() & stored["units"].keys()
    sheet = cv2.imread(str(context.artifact("crossings.jpg")))
    assert sheet is not None
    report = context.artifact("report.html").read_text()
    assert report.count("data:image/jpeg;base64,") == 4
    assert "&lt;b&gt;three.mp4" in report
    assert "<b>three" not in report
    assert "3 laps found" in WORKLOAD.headline(result)


def test_the_pictures_of_all_crossings_show_one_place(session: SlidingSession, tmp_path: Path) -> None:
    result = job.run(PARAMS, context_with(tmp_path, session.path))
    times = [crossing.time_s for crossing in result.crossings]
    frames = [frame.grey.astype(float) for frame in VideoReader(session.path, "x").frames(wanted_s=times)]
    assert len(frames) == 4
    for one, other in pairwise(frames):
        assert np.corrcoef(one[:, 8:-8].ravel(), other[:, 8:-8].ravel())[0, 1] > 0.5


def test_laps_begin_where_the_user_says(session: SlidingSession, tmp_path: Path) -> None:
    line_s = session.crossings_s(700.0)[1]
    result = job.run(PARAMS.model_copy(update={"start_line_s": line_s}), context_with(tmp_path, session.path))
    assert result.start_line_chosen == "given"
    crossings = session.crossings_s(700.0)
    assert [lap.start_s for lap in result.laps] == pytest.approx(crossings[:-1], abs=0.15)


def test_a_second_attempt_decodes_only_the_pictures(
    session: SlidingSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = job.run(PARAMS, context_with(tmp_path, session.path))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("described again")

    monkeypatch.setattr(job, "extract_clip", refuse)
    assert job.run(PARAMS, context_with(tmp_path, session.path)) == first


def test_a_run_stops_when_it_is_told_to(session: SlidingSession, tmp_path: Path) -> None:
    context = context_with(tmp_path, session.path)

    def progress(*_: object, **__: object) -> None:
        raise Stopped

    context.progress = progress  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        job.run(PARAMS, context)


@pytest.mark.parametrize(
    ("laps", "options", "params", "reason"),
    [
        (0.9, {}, {}, "no_repeat"),
        (1.5, {}, {"min_lap_s": 100, "max_lap_s": 200}, "shorter_than_a_lap"),
        (1.6, {"gain": 0.02}, {}, "too_dark"),
    ],
)
def test_a_video_without_laps_says_why(
    laps: float, options: dict[str, float], params: dict[str, float], reason: str, tmp_path: Path
) -> None:
    session = slide(tmp_path / "video.mp4", laps, seed=8, **options)  # type: ignore[arg-type]
    context = context_with(tmp_path, session.path)
    result = job.run(PARAMS.model_copy(update=params), context)
    assert (result.laps, result.reason, result.fastest) == ((), reason, None)
    assert result.explanation
    assert result.explanation.rstrip(".") in WORKLOAD.headline(result)
    assert len(context.artifact("laps.csv").read_text().splitlines()) == 1
    assert json.loads(context.artifact("laps.json").read_text())["reason"] == reason


def test_a_standing_camera_has_no_laps(tmp_path: Path) -> None:
    frame = moving_pictures(1, 160, 90, 4)[0]
    path = write_clip(tmp_path / "still.mp4", [frame] * 150, [number / 15 for number in range(150)])
    assert job.run(PARAMS, context_with(tmp_path, path)).reason == "standing_camera"


def test_a_line_that_is_passed_once_has_no_laps(tmp_path: Path) -> None:
    """1.7 laps: the places from 0.7 to 1.0 are passed once."""
    session = slide(tmp_path / "video.mp4", 1.7, seed=9)
    line_s = float(np.interp(session.place_px[0] + 0.85 * AROUND_PX, session.place_px, session.time_s))
    context = context_with(tmp_path, session.path)
    result = job.run(PARAMS.model_copy(update={"start_line_s": line_s}), context)
    assert (result.laps, result.reason) == ((), "start_line_seen_once")
    assert job.run(PARAMS, context_with(tmp_path, session.path)).lap_count == 1


def test_a_lap_is_the_shortest_repeat(tmp_path: Path) -> None:
    """Two laps match two laps later as well."""
    session = slide(tmp_path / "video.mp4", 4.3, seed=10, speed=1.3)
    result = job.run(PARAMS, context_with(tmp_path, session.path))
    assert result.lap_count == 4
    assert_true_laps(result, session)


def test_parameters_that_exclude_every_lap_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max_lap_s"):
        LapDetectionParams(min_lap_s=30, max_lap_s=31)
    fault = WORKLOAD.check_durations(LapDetectionParams(start_line_s=50), {"video": 40.0})
    assert fault is not None
    assert fault[0] == ("start_line_s",)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(SaccadeError) as refused:
        job.run(PARAMS, context_with(tmp_path, tmp_path / "broken.mp4"))
    assert refused.value.code == ErrorCode.INPUT_UNREADABLE
