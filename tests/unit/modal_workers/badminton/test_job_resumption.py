"""A badminton job that is killed or stopped: the next run resumes at the last checkpoint and finds the same."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from modal_workers.badminton.detection import detection_pass, detection_stage
from modal_workers.runtime.context import Stopped
from tests.harness.vision.badminton_jobs import film, run_job
from tests.harness.vision.stage_context import Killed

#: Stretches of the 200 frames.
STRETCH_FRAMES = 64


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("match"))[0]


@pytest.fixture(autouse=True)
def _short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (detection_pass, detection_stage):
        monkeypatch.setattr(module, "STRETCH_FRAMES", STRETCH_FRAMES)


@pytest.fixture(scope="module")
def unstopped(video: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    home = tmp_path_factory.mktemp("unstopped")
    return (run_job(video, home, video_height_px=180).context.saved / "results.json").read_bytes()


def ending(point: str, error: type[BaseException]) -> Callable[[str], None]:
    def at(here: str) -> None:
        if here == point:
            raise error

    return at


@pytest.mark.parametrize(
    ("points", "kept"),
    [
        # Each run is killed at the next point; ``kept`` are the checkpoints after the last one.
        (["court 0.50", "keep court.npz"], []),
        (["detect 0.60", "kept detections-0001.npz"], ["court", "detections-0000", "detections-0001"]),
        (["track 0.50", "kept tracks.npz", "render 0.50", "report check"], ["court", "detections-0003", "tracks"]),
    ],
)
def test_a_killed_job_goes_on_where_it_was_and_finds_the_same(
    video: Path, unstopped: bytes, tmp_path: Path, points: list[str], kept: list[str]
) -> None:
    for point in points:
        with pytest.raises(Killed):
            run_job(video, tmp_path, ending(point, Killed), video_height_px=180)
    stored = {path.stem for path in (tmp_path / "kept").iterdir()}
    assert set(kept) <= stored
    assert bool(kept) == bool(stored)
    done = run_job(video, tmp_path, video_height_px=180)
    assert (done.context.saved / "results.json").read_bytes() == unstopped
    # Nothing that is stored is done again.
    told = [each.stage for each in done.context.progress_told]
    assert ("court" in told) == ("court" not in stored)
    assert told.count("track") == ("tracks" not in stored)
    detected = [each.frame for each in done.context.progress_told if each.stage == "detect"]
    if "tracks" in stored:
        assert detected == []
    elif "detections-0001" in stored:
        assert min(frame for frame in detected if frame is not None) > 128 - detection_pass.WARM_UP_FRAMES


@pytest.mark.parametrize("point", ["court 0.50", "detect 0.50", "track 0.50", "render 0.50", "report check"])
def test_a_stopped_job_ends_at_once_and_leaves_no_artifact_and_no_open_file(
    video: Path, tmp_path: Path, point: str
) -> None:
    reached: list[str] = []

    def at(here: str) -> None:
        reached.append(here)
        if point in reached:
            raise Stopped

    with pytest.raises(Stopped):
        run_job(video, tmp_path, at, video_height_px=180)
    assert reached[-1] == point, "nothing is told or stored after the stop"
    stage = point.split()[0]
    saved = {path.name for path in (tmp_path / "saved").rglob("*")} if (tmp_path / "saved").exists() else set()
    assert saved == ({"processed.mp4"} if stage == "report" else set())
    me = psutil.Process(os.getpid())
    assert [file.path for file in me.open_files() if str(tmp_path) in file.path or file.path == str(video)] == []
    assert me.children() == []
