"""The capture stage as a job: its outputs, resumption after a kill, and errors on bad input."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from contracts.errors import SaccadeError
from contracts.prices import price_usd_per_s
from modal_workers.nerf.capture import job
from modal_workers.nerf.capture.cost_estimate import estimate_later_stages
from modal_workers.nerf.capture.spec import CaptureReport
from modal_workers.nerf.capture.working_copies import make_working_copies
from modal_workers.nerf.params import NerfParams
from tests.harness.vision.hostile_archives import HOSTILE, zipped
from tests.harness.vision.simulated_captures import CaptureContext, take

JUDGE = NerfParams(preflight_only=True)
GO_ON = NerfParams(ignore_verdict=True)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Eighteen good photos of a scene."""
    return take("good", tmp_path_factory.mktemp("good"), 40, count=18, size_px=(320, 240))


def report_of(desk: CaptureContext) -> dict:
    return json.loads(desk.saved["preflight.json"])


def codes(report: dict, severity: str = "refusal") -> set[str]:
    assert all(one["fix"] and one["message"] for one in report["verdict"]["reasons"])
    return {one["code"] for one in report["verdict"]["reasons"] if one["severity"] == severity}


def written(folder: Path, photos: dict[str, bytes]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in photos.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in photos]


@pytest.fixture(scope="module")
def finished(good: list[Path], tmp_path_factory: pytest.TempPathFactory) -> CaptureContext:
    """Context of a finished run with good photos."""
    desk = CaptureContext(tmp_path_factory.mktemp("finished"), photos=good)
    result = job.run(NerfParams(), desk)
    assert CaptureReport.model_validate(report_of(desk)) == result
    return desk


def test_good_photos_are_handed_over(good: list[Path], finished: CaptureContext):
    desk, result = finished, CaptureReport.model_validate(report_of(finished))
    assert result.goes_on
    assert result.spared_usd == 0
    assert result.pieces == [18]
    with (
        zipfile.ZipFile(desk.kept["capture.zip"]) as handed,
        zipfile.ZipFile(io.BytesIO(desk.saved["images.zip"])) as shown,
    ):
        index = json.loads(handed.read("capture.json"))
        assert handed.namelist() == ["capture.json", *shown.namelist()]
        assert [f"images/{one['name']}.jpg" for one in index["photos"]] == shown.namelist()
        assert {one.compress_type for one in handed.infolist()} == {zipfile.ZIP_STORED}
        for one, path in zip(index["photos"], good, strict=True):
            picture = cv2.imdecode(np.frombuffer(handed.read(f"images/{one['name']}.jpg"), np.uint8), cv2.IMREAD_COLOR)
            assert picture.shape == (one["height_px"], one["width_px"], 3) == (240, 320, 3)
            assert np.abs(picture.astype(int) - cv2.imread(str(path)).astype(int)).mean() < 3
            assert one["original_name"] == path.name
    assert index["ordered"] is True
    assert index["verdict"]["accept"] == result.verdict.accept
    assert desk.fractions == sorted(desk.fractions)


def test_a_finished_stage_does_nothing_again(good: list[Path], tmp_path: Path, finished: CaptureContext):
    desk = CaptureContext(tmp_path, photos=good)
    desk.kept = dict(finished.kept)
    assert job.run(NerfParams(), desk).model_dump(mode="json") == report_of(finished)
    assert desk.opened == []
    assert desk.saved == {}


def test_a_killed_run_goes_on_where_it_was(
    good: list[Path], tmp_path: Path, finished: CaptureContext, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("modal_workers.nerf.capture.working_copies._CHECKPOINT_EVERY_S", 0.0)
    desk = CaptureContext(tmp_path, photos=good)
    # Kills: during decoding (three times), during matching, and after the verdict was saved.
    for calls in (7, 12, 15, 24, 32):
        desk.begin()
        desk.lost_after = calls
        with pytest.raises(KeyboardInterrupt):
            job.run(NerfParams(), desk)
    assert sorted(desk.saved) == ["preflight.json"]
    desk.begin()
    result = job.run(NerfParams(), desk)
    assert desk.opened == []
    expected = report_of(finished) | {"checking_s": result.checking_s}
    assert result.model_dump(mode="json") == expected
    assert desk.saved["images.zip"] == finished.saved["images.zip"]


@pytest.mark.parametrize("count", [9, 10, 14])
def test_ten_to_fourteen_photos_are_accepted_with_a_warning(good: list[Path], tmp_path: Path, count: int):
    desk = CaptureContext(tmp_path, photos=good[:count])
    if count < 10:
        with pytest.raises(SaccadeError, match="At least 10 sharp photos"):
            job.run(NerfParams(), desk)
        return
    result = job.run(JUDGE, desk)
    assert "few_photos" in codes(report_of(desk), "warning")
    assert "too_few_photos" not in codes(report_of(desk))
    if count == 14:  # ten of them show half of the circle only, which is refused for that
        assert result.verdict.accept == "usable"


def test_a_refusal_is_saved_before_it_is_raised_and_shows_what_it_spared(good: list[Path], tmp_path: Path):
    desk = CaptureContext(tmp_path, photos=good[:1])
    with pytest.raises(SaccadeError) as refused:
        job.run(NerfParams(), desk)
    assert refused.value.code == "capture_refused"
    assert "too_few_photos" in refused.value.message
    assert "40 photos" in refused.value.hint
    report = report_of(desk)
    assert report["verdict"]["accept"] == "refused"
    stages = {one["stage"]: one for one in report["later_stages"]["stages"]}
    assert list(stages) == ["poses", "training", "rendering"]
    assert stages["rendering"]["jobs"] == NerfParams().batches
    for one in stages.values():
        assert one["usd"] == pytest.approx(one["seconds"] * price_usd_per_s(one["device"]), abs=1e-6)
    assert report["spared_usd"] == report["later_stages"]["usd"] > 0.1
    assert desk.kept == {}


def test_the_estimate_is_of_the_stages_of_the_backend() -> None:
    """With nerfstudio, training and rendering were priced as those of gsplat."""
    for backend, ending in (("gsplat", ""), ("nerfstudio", "_nerfstudio")):
        for only in (False, True):
            later = estimate_later_stages(NerfParams(backend=backend, preflight_only=only))
            assert [stage.stage for stage in later.stages] == ["poses", f"training{ending}", f"rendering{ending}"]


def test_a_refusal_is_a_result_when_it_is_all_that_was_asked_for_and_can_be_ignored(good: list[Path], tmp_path: Path):
    judged, forced = CaptureContext(tmp_path / "a", photos=good[:3]), CaptureContext(tmp_path / "b", photos=good[:3])
    result = job.run(JUDGE, judged)
    assert (result.verdict.accept, result.goes_on) == ("refused", False)
    assert result.spared_usd > 0
    result = job.run(GO_ON, forced)
    assert (result.verdict.accept, result.goes_on, result.spared_usd) == ("refused", True, 0.0)
    assert "capture.zip" in forced.kept


def noise(seed: int) -> bytes:
    values = np.random.default_rng(seed).integers(0, 256, (80, 107, 3), dtype=np.uint8)
    return cv2.imencode(".jpg", cv2.resize(values, (320, 240), interpolation=cv2.INTER_NEAREST))[1].tobytes()


def test_bad_captures_are_refused_with_a_reason(good: list[Path], tmp_path: Path):
    blank = cv2.imencode(".jpg", np.full((240, 320, 3), 128, np.uint8))[1].tobytes()
    black = cv2.imencode(".jpg", np.zeros((240, 320, 3), np.uint8))[1].tobytes()
    blurred = [cv2.GaussianBlur(cv2.imread(str(path)), (0, 0), 4.0) for path in good[:5]]
    cases: dict[str, tuple[dict[str, bytes], str]] = {
        "one": ({"1.jpg": good[0].read_bytes()}, "too_few_photos"),
        "five blurred": (
            {f"{n}.jpg": cv2.imencode(".jpg", one)[1].tobytes() for n, one in enumerate(blurred)},
            "blurred",
        ),
        "all identical": ({f"{n}.jpg": good[0].read_bytes() for n in range(20)}, "too_few_photos"),
        "noise": ({f"{n}.jpg": noise(n) for n in range(16)}, "low_overlap"),
        "blank": ({f"{n}.jpg": blank for n in range(16)}, "textureless"),
        "black": ({f"{n}.jpg": black for n in range(16)}, "too_dark"),
        "none opens": ({"1.jpg": b"x", "2.jpg": b"y"}, "too_few_photos"),
    }
    for name, (photos, code) in cases.items():
        desk = CaptureContext(tmp_path / name, photos=written(tmp_path / f"{name} sent", photos))
        with pytest.raises(SaccadeError) as refused:
            job.run(NerfParams(), desk)
        assert refused.value.code == "capture_refused", name
        assert code in codes(report_of(desk)), name


def test_files_that_cannot_be_used_are_named_and_the_others_go_on(good: list[Path], tmp_path: Path):
    whole = good[5].read_bytes()
    photos = {path.name: path.read_bytes() for path in good}
    photos["photo_0007b.jpg"] = whole[: len(whole) // 2]
    photos["panorama.jpg"] = cv2.imencode(".jpg", np.zeros((100, 12_500, 3), np.uint8))[1].tobytes()
    file = io.BytesIO()
    Image.open(good[3]).convert("CMYK").save(file, "JPEG", quality=95)
    photos["photo_0003.jpg"] = file.getvalue()
    deep = cv2.imread(str(good[4])).astype(np.uint16) * 257
    photos["photo_0004.jpg"] = cv2.imencode(".png", deep)[1].tobytes()
    desk = CaptureContext(tmp_path, photos=written(tmp_path / "sent", photos))
    result = job.run(NerfParams(), desk)
    assert {one.name for one in result.skipped} == {"photo_0007b.jpg", "panorama.jpg"}
    assert result.photos == 18
    assert result.pieces == [18]
    reason = next(one for one in result.verdict.reasons if one.code == "files_skipped")
    assert reason.severity == "warning"
    assert reason.photos == ["panorama.jpg", "photo_0007b.jpg"]
    assert "panorama.jpg: 12500 x 100 pixels are a panorama" in reason.message


def test_a_zip_is_read_in_natural_order_with_its_masks(good: list[Path], tmp_path: Path):
    mask = cv2.imencode(".png", cv2.circle(np.zeros((240, 320), np.uint8), (160, 120), 100, 255, -1))[1].tobytes()
    photos = {f"shoe/{number}.jpg": path.read_bytes() for number, path in enumerate(good)}
    masks = {f"shoe/masks/{number}.png": mask for number in range(17)} | {"shoe/masks/17.jpg.png": mask}
    archive = written(tmp_path, {"photos.zip": zipped({**photos, **masks, "notes.txt": b"hello"})})
    desk = CaptureContext(tmp_path / "desk", archive=archive)
    result = job.run(GO_ON, desk)
    assert (result.source, result.photos, result.masks) == ("archive", 18, 18)
    assert [one.name for one in result.skipped] == ["notes.txt"]
    with zipfile.ZipFile(desk.kept["capture.zip"]) as handed:
        index = json.loads(handed.read("capture.json"))
        assert [one["name"] for one in index["photos"]] == [f"{number:04d}_{number}" for number in range(18)]
        found = cv2.imdecode(np.frombuffer(handed.read("masks/0017_17.png"), np.uint8), cv2.IMREAD_UNCHANGED)
        assert set(np.unique(found)) == {0, 255}
        assert (found > 0).mean() == pytest.approx(np.pi * 100**2 / (320 * 240), rel=0.02)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_zip_never_gets_past_the_first_look(name: str, tmp_path: Path):
    make, code = HOSTILE[name]
    desk = CaptureContext(tmp_path / "desk", archive=written(tmp_path, {"photos.zip": make()}))
    with pytest.raises(SaccadeError) as refused:
        job.run(GO_ON, desk)
    assert refused.value.code == code
    assert refused.value.kind.status < 500
    assert list(desk.scratch.rglob("*")) == []


def test_one_source_must_be_sent_and_only_one(good: list[Path], tmp_path: Path):
    with pytest.raises(SaccadeError) as none:
        job.run(NerfParams(), CaptureContext(tmp_path / "a"))
    assert none.value.code == "missing_input"
    archive = written(tmp_path, {"photos.zip": zipped({"1.jpg": good[0].read_bytes()})})
    with pytest.raises(SaccadeError) as both:
        job.run(NerfParams(), CaptureContext(tmp_path / "b", photos=good, archive=archive))
    assert both.value.code == "invalid_parameter"


def film(path: Path, pictures: list[np.ndarray], rate_hz: int = 24) -> Path:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=rate_hz)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        for picture in pictures:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        output.mux(stream.encode())
    return path


def test_of_a_video_the_sharp_frames_are_taken_spread_over_its_way(good: list[Path], tmp_path: Path):
    wide = cv2.resize(cv2.imread(str(good[0])), (960, 480), interpolation=cv2.INTER_NEAREST)
    wide = np.hstack([wide, wide[:, ::-1]])
    # The camera rests for a second, then pans; every other frame is out of focus.
    at = [0] * 24 + [round(1500 * step / 95) for step in range(96)]
    frames = [np.ascontiguousarray(wide[100:340, x : x + 320]) for x in at]
    blurred = [cv2.GaussianBlur(one, (0, 0), 3.0) if number % 2 else one for number, one in enumerate(frames)]
    desk = CaptureContext(tmp_path / "desk", video=[film(tmp_path / "round.mp4", blurred)])
    result = job.run(GO_ON, desk)
    assert (result.source, result.ordered) == ("video", True)
    assert 40 <= result.photos <= 60
    with zipfile.ZipFile(desk.kept["capture.zip"]) as handed:
        times = [float(one["original_name"].split()[-2]) for one in json.loads(handed.read("capture.json"))["photos"]]
    assert times == sorted(times)
    assert sum(time < 0.95 for time in times) <= 6
    assert all(round(time * 24) % 2 == 0 for time in times)


def test_a_video_that_is_none_is_refused(tmp_path: Path):
    for name, data in {"text.mp4": b"no video" * 100, "empty.mp4": b""}.items():
        with pytest.raises(SaccadeError) as refused:
            job.run(GO_ON, CaptureContext(tmp_path / f"{name} desk", video=written(tmp_path, {name: data})))
        assert refused.value.code == "input_unreadable"


def test_photos_are_never_held_all_at_once(good: list[Path], tmp_path: Path):
    """At any moment at most four photos have been read and not yet written."""
    held = 0

    class Counting(CaptureContext):
        def input(self, name: str, index: int = 0) -> Path:
            nonlocal held
            done = len(list((self.scratch / "capture" / "images").glob("*.jpg")))
            held = max(held, index + 1 - done)
            return super().input(name, index)

    from modal_workers.nerf.capture.inputs.sources import open_input

    desk = Counting(tmp_path, photos=good)
    with open_input(desk) as intake:
        make_working_copies(intake, desk, desk.scratch / "capture", share=0.5)
    assert 1 <= held <= 4
