"""The whole job in its own context: artifacts, resumption, stopping, missing backends."""

from __future__ import annotations

import contextlib
import csv
import html
import importlib
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from contracts.errors import ErrorCode, SaccadeError
from contracts.manifest import Artifact
from modal_workers.footage.video_reader import VideoReader
from modal_workers.lap_compare import job
from modal_workers.lap_compare.clips.vehicle_detection import tallest_vehicle
from modal_workers.lap_compare.spec import WORKLOAD, LapCompareParams
from modal_workers.runtime.context import Stopped
from simulators.laps.circuit import make_circuit
from simulators.laps.frame_renderer import CircuitWorld
from simulators.laps.lap_video import true_time_b
from tests.harness.vision.lap_videos import (
    LENGTH_M,
    LapPairVideos,
    render_lap_a,
    render_lap_b,
    small_setting,
    write_clip,
)

SEED = 311


class Desk:
    """A context that keeps everything in a folder."""

    job_id = "job_0198c0de-0000-7000-8000-000000000000"
    device = "cpu"

    def __init__(self, films: LapPairVideos, folder: Path) -> None:
        self.paths = {"reference": films.path_a, "other": films.path_b}
        self.folder = folder
        self.kept: dict[str, Path] = {}
        self.saved: dict[str, tuple[str, bytes]] = {}
        self.titles: dict[str, str] = {}
        self.stages: list[str] = []
        self.fractions: dict[str, list[float]] = {}
        self.stop_in = ""
        self.scratch = folder
        self.begin(0)

    def begin(self, run: int) -> None:
        self.scratch = self.folder / f"run{run}"
        self.scratch.mkdir(parents=True)
        self.stages, self.fractions = [], {}

    def input(self, name: str, index: int = 0) -> Path:  # noqa: ARG002
        return self.paths[name]

    def input_name(self, name: str, index: int = 0) -> str:  # noqa: ARG002
        return f"my {name}.mp4"

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.stages.append(name)
        self.fractions[name] = []
        yield

    def progress(
        self,
        fraction: float,
        message: str = "",  # noqa: ARG002
        *,
        frame: int | None = None,  # noqa: ARG002
        frame_count: int | None = None,  # noqa: ARG002
    ) -> None:
        self.fractions[self.stages[-1]].append(fraction)
        self.check()

    def check(self) -> None:
        if self.stages[-1] == self.stop_in:
            raise Stopped

    def save(
        self, path: Path, name: str, media_type: str, *, title: str = "", units: Mapping[str, str] | None = None
    ) -> Artifact:
        data = path.read_bytes()
        assert name.endswith(".csv") == bool(units)
        self.saved[name] = (media_type, data)
        self.titles[name] = title
        return Artifact(name=name, key=name, bytes=len(data), sha256="0" * 64, media_type=media_type, title=title)

    def checkpoint(self, name: str) -> Path | None:
        return self.kept.get(name)

    def keep(self, path: Path, name: str) -> None:
        kept = self.folder / f"kept_{name}"
        kept.write_bytes(path.read_bytes())
        self.kept[name] = kept


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> LapPairVideos:
    folder, world = tmp_path_factory.mktemp("job"), CircuitWorld(make_circuit(SEED, LENGTH_M), 4.0)
    path_a, truth_a = render_lap_a(folder, SEED, world)
    path_b, truth_b = render_lap_b(folder / "b.mp4", small_setting(SEED, "mild"), world)
    return LapPairVideos(path_a, path_b, truth_a, truth_b)


def test_the_job_writes_its_artifacts_and_resumes_where_it_was_stopped(films: LapPairVideos, tmp_path: Path) -> None:
    desk = Desk(films, tmp_path)
    desk.stop_in = "render"
    with pytest.raises(Stopped):
        job.run(LapCompareParams(overlay_height_px=180), desk)
    assert set(desk.kept) == {"described.npz", "matched.npz"}
    assert desk.saved == {}
    desk.begin(1)
    desk.stop_in = ""
    result = job.run(LapCompareParams(overlay_height_px=180), desk)
    assert desk.stages == [stage.name for stage in WORKLOAD.stages]
    assert desk.fractions["read"] == []
    assert desk.fractions["align"] == []
    needed = {"overlay.mp4", "metrics.json", "delta.csv", "delta.png", "report.html"}
    needed |= {"compat/metrics.csv", "compat/insights.json"}
    clips = {f"opportunity_{opportunity.rank}.mp4" for opportunity in result.opportunities}
    assert set(desk.saved) == needed | clips
    times = np.array([result.start_reference_s, result.end_reference_s])
    true_b = true_time_b(films.truth_a, films.truth_b, times)
    if not np.isnan(true_b).any():
        truth = float(np.diff(true_b)[0] - np.diff(times)[0])
        assert result.delta_s == pytest.approx(truth, abs=max(0.15, 2 * result.delta_error_s))
    assert json.loads(desk.saved["metrics.json"][1])
    old = list(csv.DictReader(io.StringIO(desk.saved["compat/metrics.csv"][1].decode())))
    table = list(csv.DictReader(io.StringIO(desk.saved["delta.csv"][1].decode())))
    assert [(row["distance"], row["deltaT"]) for row in old] == [(row["lap_s"], row["delta_s"]) for row in table]
    insights = json.loads(desk.saved["compat/insights.json"][1])
    assert insights["result"] == result.model_dump(mode="json")
    assert desk.saved["overlay.mp4"][1][4:8] == b"ftyp"
    assert result.reference.filename == "my reference.mp4"
    report = html.unescape(desk.saved["report.html"][1].decode())
    assert all(desk.titles[name].partition(": ")[2] in report for name in clips), desk.titles


def test_a_stop_while_reading_ends_both_decoders(films: LapPairVideos, tmp_path: Path) -> None:
    desk = Desk(films, tmp_path)
    desk.stop_in = "read"
    with pytest.raises(Stopped):
        job.run(LapCompareParams(), desk)
    assert desk.kept == {}


def test_a_truncated_clip_is_compared_up_to_its_end(films: LapPairVideos, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mp4"
    whole = films.path_b.read_bytes()
    cut.write_bytes(whole[: len(whole) * 7 // 10])
    desk = Desk(films, tmp_path)
    desk.paths["other"] = cut
    result = job.run(LapCompareParams(overlay_height_px=180, flow="off"), desk)
    assert any("my other.mp4" in warning for warning in result.warnings), result.warnings
    assert result.other.duration_s < 0.85 * films.truth_b.duration_s
    overlay = tmp_path / "overlay.mp4"
    overlay.write_bytes(desk.saved["overlay.mp4"][1])
    with av.open(str(overlay)) as container:
        times_s = [frame.time for frame in container.decode(video=0)]
    assert times_s[-1] == pytest.approx(result.total_reference_s, abs=0.1)


def test_two_laps_of_one_video_are_compared_like_two_videos(films: LapPairVideos, tmp_path: Path) -> None:
    pictures, times_s, splits_s = [], [], []
    for path in (films.path_a, films.path_b):
        start_s = times_s[-1] + 0.05 if times_s else 0.0
        splits_s.append(start_s)
        for frame in VideoReader(path, path.name).frames():
            pictures.append(cv2.cvtColor(frame.grey, cv2.COLOR_GRAY2BGR))
            times_s.append(start_s + frame.time_s)
    both = write_clip(tmp_path / "both.mp4", pictures, times_s, g="250")
    desk = Desk(films, tmp_path)
    whole = job.run(LapCompareParams(overlay_height_px=180, flow="off"), desk)
    desk = Desk(films, tmp_path / "cut")
    desk.paths = {"reference": both, "other": both}
    segments = {"reference": {"end_s": splits_s[1] - 0.02}, "other": {"start_s": splits_s[1], "end_s": 0}}
    params = LapCompareParams.model_validate({"overlay_height_px": 180, "flow": "off", "segments": segments})
    cut = job.run(params, desk)
    assert cut.delta_s == pytest.approx(whole.delta_s, abs=0.1)
    assert cut.other.filename == f"my other.mp4 ({round(splits_s[1], 2):g} s to the end)"
    assert abs(cut.other.frame_count - whole.other.frame_count) <= 1


@pytest.mark.parametrize("params", [{"flow": "raft"}, {"detect": "yolo"}])
def test_a_missing_backend_is_reported_before_any_work(
    films: LapPairVideos, tmp_path: Path, params: dict[str, str]
) -> None:
    backend = next(backend for backend in WORKLOAD.backends if backend.parameter in params)
    with contextlib.suppress(ImportError, OSError, RuntimeError):
        importlib.import_module(backend.package)
        pytest.skip(f"{backend.package} is installed here, and loads")
    desk = Desk(films, tmp_path)
    with pytest.raises(SaccadeError) as caught:
        job.run(LapCompareParams.model_validate(params), desk)
    assert caught.value.code == ErrorCode.BACKEND_NOT_INSTALLED
    assert backend.package in caught.value.message
    assert desk.fractions["read"] == []


def test_the_tallest_vehicle_is_read_from_a_network() -> None:
    output = np.zeros((1, 300, 6), np.float32)
    output[0, 0] = (0, 100, 50, 280, 0.9, 2)
    output[0, 1] = (0, 0, 50, 360, 0.9, 0)  # a person does not drive
    output[0, 2] = (0, 0, 50, 360, 0.1, 7)  # nobody is sure of this lorry
    assert tallest_vehicle(output, 360) == pytest.approx(0.5)
    assert tallest_vehicle(np.zeros((1, 300, 6), np.float32), 360) == 0
