"""The pre-flight check on a few captures with known flaws; ``bench/nerf_preflight.py`` checks two hundred."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.nerf.capture import job
from modal_workers.nerf.capture.checks.findings import MeasuredPhoto, find_problems
from modal_workers.nerf.capture.checks.image_quality import blur_px, measure_quality
from modal_workers.nerf.capture.checks.matching import PhotoPair
from modal_workers.nerf.capture.spec import CaptureReport
from modal_workers.nerf.params import NerfParams
from simulators.toy.photos import take_photos
from simulators.toy.room_scene import BRIGHT
from tests.harness.vision.simulated_captures import KINDS, CaptureContext, take

SEED, SCENE, SIZE_PX = 7, 5, (320, 240)
#: Number of photos per kind; kinds that are refused in any case need fewer.
COUNTS = {"good": 26, "blurred": 26, "duplicates": 26, "mixed_sizes": 26, "corrupt": 26}


def judged(folder: Path, photos: list[Path]) -> CaptureReport:
    return job.run(NerfParams(preflight_only=True), CaptureContext(folder, photos=photos))


@pytest.mark.share(every=2)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "wrong_subject"])
def test_a_flaw_is_found_and_named_and_a_good_capture_is_good(kind: str, tmp_path: Path):
    photos = take(kind, tmp_path / "photos", SEED, scene=SCENE, count=COUNTS.get(kind, 15), size_px=SIZE_PX)
    report = judged(tmp_path / "desk", photos)
    named = {one.code for one in report.verdict.reasons if one.severity != "note"}
    expected = KINDS[kind]
    if not expected.codes:
        assert (report.verdict.accept, named) == ("good", set()), f"seed {SEED}"
        assert report.verdict.score > 0.9
        assert report.orbit
        assert report.orbit.closed
    else:
        assert named & {*expected.codes}, f"seed {SEED}: {report.verdict}"
        assert report.verdict.accept != "good"
        if expected.refused is not None:
            assert (report.verdict.accept == "refused") == expected.refused
    assert all(one.fix for one in report.verdict.reasons)


def test_photos_of_something_else_are_named(tmp_path: Path):
    photos = take("good", tmp_path / "photos", SEED, scene=SCENE, count=26, size_px=SIZE_PX)
    random = np.random.default_rng(SEED)
    for name in ("photo_0003.jpg", "photo_0011.jpg"):
        values = random.integers(0, 256, (80, 107, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / "photos" / name), cv2.resize(values, SIZE_PX, interpolation=cv2.INTER_NEAREST))
    report = judged(tmp_path / "desk", photos)
    assert report.verdict.accept == "usable"
    named = {one.code: one.photos for one in report.verdict.reasons}
    assert named["outliers"] == ["photo_0003.jpg", "photo_0011.jpg"]


def test_the_width_of_edges_is_measured_whatever_their_contrast():
    random = np.random.default_rng(SEED)
    blocks = cv2.resize(random.integers(0, 256, (25, 33), dtype=np.uint8), (400, 300), interpolation=cv2.INTER_NEAREST)
    for sigma_px in (1.5, 2.5, 4.0):
        soft = cv2.GaussianBlur(blocks.astype(np.float32), (0, 0), sigma_px)
        found = [blur_px((128 + (soft - 128) * contrast).round().astype(np.uint8)) for contrast in (0.5, 1.0)]
        assert found == [pytest.approx(sigma_px, rel=0.35)] * 2
    assert blur_px(np.full((300, 400), 128, np.uint8)) is None


@pytest.mark.parametrize("along", [0, 1])
def test_a_moved_camera_is_found_though_edges_along_its_way_stay_sharp(along: int):
    random = np.random.default_rng(SEED)
    values = random.integers(0, 256, (25, 33), dtype=np.uint8)
    sharp = cv2.resize(values, (400, 300), interpolation=cv2.INTER_NEAREST)
    way = np.full((1, 11) if along else (11, 1), 1 / 11, np.float32)
    sharp_px, moved_px = blur_px(sharp), blur_px(cv2.filter2D(sharp, -1, way))
    assert sharp_px is not None
    assert moved_px is not None
    assert sharp_px < 1.0
    assert moved_px > 2.0


def tie(first: int, second: int, agreeing: int, matches: int) -> PhotoPair:
    return PhotoPair(first, second, matches, agreeing, 0, 0.1, 0.0, np.zeros((agreeing, 4), np.float32))


def test_one_doubtful_tie_joins_nothing_and_harms_nothing():
    def shot(number: int) -> MeasuredPhoto:
        grey = np.random.default_rng(number).integers(0, 256, (240, 320, 3), dtype=np.uint8)
        return MeasuredPhoto(f"{number}.jpg", measure_quality(grey), (320, 240), None, "")

    sure = [tie(one, other, 60, 70) for one, other in ((0, 1), (1, 2), (2, 3), (0, 3), (4, 5), (5, 6), (4, 6))]
    shots = [shot(number) for number in range(7)]
    assert find_problems(shots, [*sure, tie(1, 5, 21, 40)]).components == [[0, 1, 2, 3], [4, 5, 6]]
    assert find_problems(shots, [*sure, tie(1, 5, 21, 40), tie(2, 4, 21, 40)]).components == [[0, 1, 2, 3, 4, 5, 6]]
    assert find_problems(shots, [*sure, tie(1, 5, 18, 20)]).components == [[0, 1, 2, 3, 4, 5, 6]]


def test_a_side_without_photos_is_reported_though_both_ends_show_the_same_room(tmp_path: Path):
    """At 180 degrees the outermost photos share 22 of 43 matches, by chance: that is no overlap."""
    take_photos(tmp_path / "photos", photos=24, arc_deg=180.0, bounced=BRIGHT)
    report = judged(tmp_path / "desk", sorted((tmp_path / "photos").glob("*.jpg")))
    assert report.orbit
    assert not report.orbit.closed
    assert [(one.code, one.severity) for one in report.verdict.reasons] == [("open_round", "warning")]


def test_photos_of_less_than_half_the_object_are_refused_unless_told_otherwise(tmp_path: Path):
    take_photos(tmp_path / "photos", photos=20, arc_deg=110.0, bounced=BRIGHT)
    photos = sorted((tmp_path / "photos").glob("*.jpg"))
    with pytest.raises(SaccadeError) as caught:
        job.run(NerfParams(), CaptureContext(tmp_path / "desk", photos=photos))
    assert caught.value.code is ErrorCode.CAPTURE_REFUSED
    assert "open_round" in caught.value.message
    assert "ignore_verdict" in caught.value.hint
    assert job.run(NerfParams(ignore_verdict=True), CaptureContext(tmp_path / "other", photos=photos)).goes_on
