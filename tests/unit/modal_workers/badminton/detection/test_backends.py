"""Which backend a job gets, and the errors of a worker that lacks what the job asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.badminton.checkpoints import CourtStage
from modal_workers.badminton.court.homography import CourtView
from modal_workers.badminton.detection.analysis_picture import AnalysisSize
from modal_workers.badminton.detection.backends import DetectionBackends, chosen_pose
from modal_workers.badminton.frame_times import FrameTimes
from modal_workers.badminton.match import CameraSegmentResult
from modal_workers.badminton.players import ultralytics_backend
from modal_workers.badminton.settings import BadmintonSettings
from modal_workers.badminton.spec import BadmintonParams
from modal_workers.footage.video_reader import VideoFacts
from tests.harness.vision.onnx_files import write_red_patch_network, write_white_network

SIDE_PX = 160


@pytest.fixture
def without_ultralytics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ultralytics_backend, "PACKAGE", "ultralytics_of_another_worker")


@pytest.fixture
def with_ultralytics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name a package that is always there: the choice looks only whether there is one."""
    monkeypatch.setattr(ultralytics_backend, "PACKAGE", "json")


def settings(folder: Path, **values: Any) -> BadmintonSettings:
    return BadmintonSettings(weights_folder=folder, yolo_image_px=SIDE_PX, **values)


def network(folder: Path) -> Path:
    path = folder / "pose.onnx"
    write_red_patch_network(path, SIDE_PX, [(0.0, 0.0, 0.9)])
    return path


@pytest.mark.usefixtures("with_ultralytics")
def test_auto_takes_ultralytics_where_its_weights_of_that_size_are(tmp_path: Path) -> None:
    (tmp_path / "yolo26s-pose.pt").touch()
    onnx = network(tmp_path)
    assert chosen_pose(BadmintonParams(yolo="s"), settings(tmp_path, pose_onnx=onnx)) == "ultralytics"
    assert chosen_pose(BadmintonParams(yolo="n"), settings(tmp_path, pose_onnx=onnx)) == "onnx"
    assert chosen_pose(BadmintonParams(yolo="n"), settings(tmp_path)) == "motion"
    assert chosen_pose(BadmintonParams(yolo="s", mode="rally_only"), settings(tmp_path)) == "motion"
    assert chosen_pose(BadmintonParams(yolo="s", pose="motion"), settings(tmp_path)) == "motion"


@pytest.mark.usefixtures("without_ultralytics")
def test_weights_without_the_package_are_not_taken(tmp_path: Path) -> None:
    (tmp_path / "yolo26n-pose.pt").touch()
    assert chosen_pose(BadmintonParams(), settings(tmp_path)) == "motion"
    with pytest.raises(SaccadeError) as refused:
        DetectionBackends(BadmintonParams(pose="ultralytics"), settings(tmp_path))
    assert refused.value.code is ErrorCode.BACKEND_NOT_INSTALLED
    assert "badminton-yolo" in refused.value.hint
    assert "pose=motion" in refused.value.hint


@pytest.mark.usefixtures("with_ultralytics")
def test_a_worker_without_the_weights_says_which_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SaccadeError) as refused:
        DetectionBackends(BadmintonParams(pose="ultralytics", yolo="m"), settings(tmp_path))
    assert refused.value.code is ErrorCode.MODEL_FILE_INVALID
    assert "yolo26m-pose.pt" in refused.value.message
    assert "BADMINTON_WEIGHTS_FOLDER" in refused.value.hint


def test_a_worker_without_an_onnx_file_says_which_setting_names_it(tmp_path: Path) -> None:
    with pytest.raises(SaccadeError) as refused:
        DetectionBackends(BadmintonParams(pose="onnx"), settings(tmp_path))
    assert refused.value.code is ErrorCode.MODEL_FILE_INVALID
    assert "BADMINTON_POSE_ONNX" in refused.value.hint
    with pytest.raises(SaccadeError) as refused:
        DetectionBackends(BadmintonParams(pose="onnx"), settings(tmp_path, pose_onnx=tmp_path / "gone.onnx"))
    assert refused.value.code is ErrorCode.MODEL_FILE_INVALID
    assert "gone.onnx" in refused.value.message


def test_a_worker_without_a_shuttle_network_says_so_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(SaccadeError) as refused:
        DetectionBackends(BadmintonParams(pose="motion", shuttle="onnx"), settings(tmp_path))
    assert refused.value.code is ErrorCode.MODEL_FILE_INVALID
    assert "BADMINTON_SHUTTLE_ONNX" in refused.value.hint


def test_names_say_what_found_the_players_and_the_shuttle(tmp_path: Path) -> None:
    motion = DetectionBackends(BadmintonParams(pose="motion"), settings(tmp_path))
    assert (motion.pose_name, motion.has_skeletons) == ("motion", False)
    assert (motion.shuttle_name, motion.finds_shuttle) == ("classical", True)
    onnx = DetectionBackends(BadmintonParams(pose="onnx"), settings(tmp_path, pose_onnx=network(tmp_path)))
    assert onnx.pose_name.startswith("onnx pose")
    assert onnx.has_skeletons
    rallies = DetectionBackends(BadmintonParams(pose="motion", mode="rally_only"), settings(tmp_path))
    assert (rallies.shuttle_name, rallies.finds_shuttle) == ("", False)


def test_each_segment_gets_backends_that_have_seen_nothing(tmp_path: Path) -> None:
    view = CourtView(np.eye(3), 0.01, 1.0, 0.9, "lines", 1.0, 1.0)
    segments = tuple(CameraSegmentResult(first, first + 9, 0, 1, "play", view, "") for first in (0, 10))
    hall = np.full((90, 160, 3), 90, np.uint8)
    facts = VideoFacts("match.mp4", 160, 90, 0, 20, 0.8, 25.0, variable_rate=False)
    court = CourtStage(
        facts, FrameTimes(np.arange(20) / 25, np.arange(20)), segments, {0: (hall,) * 15, 1: (hall // 2,) * 15}, ()
    )
    size = AnalysisSize.of(160, 90)
    backends = DetectionBackends(BadmintonParams(pose="motion"), settings(tmp_path))
    first, second = (backends.of_segment(segment, court, size) for segment in segments)
    assert first.pose is not second.pose
    assert first.shuttle is not second.shuttle
    # The second camera's hall is darker: to each, its own hall is empty.
    for detectors, empty in ((first, hall), (second, hall // 2)):
        assert detectors.pose is not None
        assert [len(persons) for persons in detectors.pose.detect([empty])] == [0]
    rallies = DetectionBackends(BadmintonParams(pose="motion", mode="rally_only"), settings(tmp_path))
    assert rallies.of_segment(segments[0], court, size).shuttle is None


def test_the_shuttle_network_s_background_is_of_the_last_seconds_at_the_rate_of_the_video(tmp_path: Path) -> None:
    """A lamp goes on: it is no background before it is in most of nine pictures, half a second apart."""
    write_white_network(tmp_path / "net.onnx", pictures=3, background=True, maps=3)
    rate_hz, count = 120, 360
    view = CourtView(np.eye(3), 0.01, 1.0, 0.9, "lines", 1.0, 1.0)
    segment = CameraSegmentResult(0, 2 * count - 1, 0, 1, "play", view, "")
    dark = np.full((72, 128, 3), 40, np.uint8)
    lit = dark.copy()
    lit[20:24, 60:64] = 255
    facts = VideoFacts("match.mp4", 128, 72, 0, 2 * count, 6.0, float(rate_hz), variable_rate=False)
    times = FrameTimes(np.arange(2 * count) / rate_hz, np.arange(2 * count))
    court = CourtStage(facts, times, (segment,), {0: (dark,) * 15}, ())
    chosen = settings(tmp_path, shuttle_onnx=tmp_path / "net.onnx")
    backends = DetectionBackends(BadmintonParams(pose="motion", shuttle="onnx"), chosen)
    shuttle = backends.of_segment(segment, court, AnalysisSize.of(128, 72)).shuttle
    assert shuttle is not None
    found = [each for number in range(2 * count) for each in shuttle.detect([lit if number >= count else dark])]
    lamp_s = sum(len(each.score) > 0 for each in [*found, *shuttle.flush()][count:]) / rate_hz
    assert 1.5 < lamp_s < 2.9
