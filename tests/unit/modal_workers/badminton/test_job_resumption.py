"""A badminton job that is killed or stopped: the next run resumes at the last checkpoint and finds the same."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from modal_workers.badminton.detection import detection_pass, detection_stage
from modal_workers.runtime.context import Stopped
from tests.harness.share import Share
from tests.harness.vision.badminton_jobs import film, run_job
from tests.harness.vision.stage_context import Killed

FRAMES = 125
STRETCH_FRAMES = 48
#: A job is killed or stopped at one of so many points, and at all of them in a soak.
SHARE = 2
STRETCHES = tuple(f"detections-motion-classical-{number:04d}" for number in range(3))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("match"), duration_s=5.0)[0]


@pytest.fixture(scope="module", autouse=True)
def _short_stretches() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (detection_pass, detection_stage):
            patch.setattr(module, "STRETCH_FRAMES", STRETCH_FRAMES)
        # Shorter than a stretch, as it is.
        patch.setattr(detection_pass, "WARM_UP_FRAMES", 24)
        yield


@pytest.fixture(scope="module")
def unstopped(video: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    home = tmp_path_factory.mktemp("unstopped")
    return (run_job(video, home, video_height_px=180).context.saved / "results.json").read_bytes()


def ending(point: str, error: type[BaseException]) -> Callable[[str], None]:
    def at(here: str) -> None:
        if here == point:
            raise error

    return at


def results_of(results: bytes) -> tuple[dict[str, Any], np.ndarray]:
    """Return the results, and the players' places [P, N, 2]."""
    document = json.loads(results)
    places = [[track["x_m"], track["y_m"]] for track in document["tracks"]["players"]]
    return document, np.array(places, float).transpose(0, 2, 1)


def test_a_killed_job_goes_on_where_it_was_and_finds_the_same(
    video: Path, unstopped: bytes, tmp_path: Path, share: Share
) -> None:
    # Each run is killed at the next point, with these checkpoints stored.
    court, all_stretches = {"court"}, {"court", *STRETCHES}
    points: list[tuple[str, set[str]]] = [
        ("court 0.50", set()),
        ("keep court.npz", set()),
        ("kept court.npz", court),
        ("detect 0.20", court),
        ("track 0.50", all_stretches),
        ("kept tracks-motion-classical.npz", {*all_stretches, "tracks-motion-classical"}),
        ("render 0.50", {*all_stretches, "tracks-motion-classical"}),
        ("report check", {*all_stretches, "tracks-motion-classical"}),
    ]
    for point, kept in share.of(points, SHARE):
        with pytest.raises(Killed):
            run_job(video, tmp_path, ending(point, Killed), video_height_px=180)
        assert {path.stem for path in (tmp_path / "kept").iterdir()} == kept, point
    done = run_job(video, tmp_path, video_height_px=180)
    assert (done.context.saved / "results.json").read_bytes() == unstopped
    # Nothing that is stored was done again; the analysis is not, because it takes less time than a checkpoint.
    assert {each.stage for each in done.context.progress_told} == {"analyse", "render"}


def test_a_job_that_is_killed_between_two_stretches_repeats_few_frames_and_finds_nearly_the_same(
    video: Path, unstopped: bytes, tmp_path: Path
) -> None:
    """The backends' memory of the scene is made anew from the frames before: what it decides may differ a little."""
    for point in ("detect 0.60", "kept detections-motion-classical-0001.npz"):
        with pytest.raises(Killed):
            run_job(video, tmp_path, ending(point, Killed), video_height_px=180)
    before = {path.name: path.read_bytes() for path in (tmp_path / "kept").iterdir()}
    assert before.keys() == {"court.npz", *(f"{name}.npz" for name in STRETCHES[:2])}
    done = run_job(video, tmp_path, video_height_px=180)
    assert {name: (tmp_path / "kept" / name).read_bytes() for name in before} == before
    detected = [each.frame for each in done.context.progress_told if each.stage == "detect"]
    assert len(detected) <= FRAMES - 2 * STRETCH_FRAMES + detection_pass.WARM_UP_FRAMES
    assert detected[-1] == FRAMES
    (here, places), (there, expected) = (
        results_of((done.context.saved / "results.json").read_bytes()),
        results_of(unstopped),
    )
    assert here["tracks"]["time_s"] == there["tracks"]["time_s"]
    assert places.shape == expected.shape
    apart_m = np.linalg.norm(places - expected, axis=2)
    assert np.nanmedian(apart_m) < 0.02
    assert np.nanmax(apart_m) < 0.5
    assert (np.isfinite(places) == np.isfinite(expected)).mean() > 0.95
    assert len(here["rallies"]) == len(there["rallies"])


def test_a_stopped_job_ends_at_once_and_leaves_no_artifact_and_no_open_file(
    video: Path, tmp_path: Path, share: Share
) -> None:
    me = psutil.Process(os.getpid())
    before = me.children()  # servers of other tests in this process
    for point in share.of(("court 0.50", "detect 0.50", "track 0.50", "render 0.50", "report check"), SHARE):
        reached: list[str] = []

        def at(here: str, point: str = point, reached: list[str] = reached) -> None:
            reached.append(here)
            if point in reached:
                raise Stopped

        with pytest.raises(Stopped):
            run_job(video, tmp_path, at, video_height_px=180)
        assert reached[-1] == point, "nothing is told or stored after the stop"
        saved = {path.name for path in (tmp_path / "saved").rglob("*")}
        assert saved == ({"processed.mp4"} if point == "report check" else set())
        opened = [file.path for file in me.open_files() if str(tmp_path) in file.path or file.path == str(video)]
        assert opened == []
        assert [child for child in me.children() if child not in before] == []
