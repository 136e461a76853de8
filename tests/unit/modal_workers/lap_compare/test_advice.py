"""Advice on filming: each measured property of the clips gives its own advice, and good clips give none of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from modal_workers.lap_compare.advice import MIN_SHARPNESS, PictureQuality, advise, find_advice, measure_quality
from modal_workers.lap_compare.alignment.matching import AlignedClips
from modal_workers.lap_compare.checkpoints import load_alignment, save_alignment
from modal_workers.lap_compare.clips.feature_extraction import ClipFeatures
from modal_workers.lap_compare.report.report import write_report
from modal_workers.lap_compare.report.tables import metrics
from modal_workers.lap_compare.result import build_result
from modal_workers.road_video.descriptors import ClipDescriptors
from tests.harness.vision.lap_comparisons import clip, comparison
from tests.harness.vision.lap_videos import moving_pictures, write_clip

TIMES_S = np.arange(0.2, 2.8, 0.04)
GOOD = PictureQuality(brightness=110, white_share=0.01, sharpness=0.7, textured_share=0.8)
CLIP = clip("lap.mp4", size=(640, 360), rate_hz=30.0)


def scene(seed: int = 5) -> NDArray[np.uint8]:
    """Return a picture with as much detail at each scale, as photos have."""
    random, picture = np.random.default_rng(seed), np.zeros((180, 320))
    for size in (4, 8, 16, 32, 64, 128):
        noise = random.normal(size=(max(2, 180 * size // 320), size))
        picture += cv2.resize(noise, (320, 180), interpolation=cv2.INTER_NEAREST) * 40 / size**0.5
    return np.clip(120 + picture, 0, 255).astype(np.uint8)


def codes(quality: PictureQuality) -> list[tuple[str, str]]:
    found = find_advice((CLIP, CLIP), (GOOD, quality), comparison(TIMES_S, TIMES_S).alignment)
    return [(advice.code, advice.clip) for advice in found]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("dark", {"brightness": 30}),
        ("overexposed", {"white_share": 0.4}),
        ("blurred", {"sharpness": 0.55}),
        ("little_texture", {"textured_share": 0.2, "sharpness": 0.55}),
    ],
)
def test_each_property_of_the_pictures_gives_its_own_advice(name: str, change: dict[str, float]) -> None:
    assert codes(replace(GOOD, **change)) == [(name, "other")]


def test_small_and_slow_clips_and_another_mount_are_named_with_their_figures() -> None:
    alignment = replace(comparison(TIMES_S, TIMES_S).alignment, mount_shift=0.12)
    clips = (clip("small.mp4", size=(320, 160), rate_hz=30.0), clip("slow.mp4", size=(640, 360), rate_hz=12.0))
    found = find_advice(clips, (GOOD, GOOD), alignment)
    said = {advice.code: (advice.clip, advice.text) for advice in found}
    assert set(said) == {"low_resolution", "low_frame_rate", "mount_differs"}
    assert said["low_resolution"][0] == "reference"
    assert "small.mp4 has 320 x 160" in said["low_resolution"][1]
    assert said["low_frame_rate"][0] == "other"
    assert "12.0" in said["low_frame_rate"][1]
    assert said["mount_differs"][0] == "both"
    assert "12%" in said["mount_differs"][1]


def test_a_cause_that_was_not_measured_is_said_to_be_unknown() -> None:
    assert codes(GOOD) == [("cause_not_found", "both")]


def test_blur_darkness_glare_and_fog_are_measured() -> None:
    sharp = scene()
    blurred = cv2.GaussianBlur(sharp, (0, 0), 2)
    assert measure_quality([sharp]).sharpness > MIN_SHARPNESS > measure_quality([blurred]).sharpness
    # exposure and contrast are no blur
    faint = (120 + 0.4 * (sharp.astype(np.float32) - 120)).astype(np.uint8)
    assert measure_quality([faint]).sharpness == pytest.approx(measure_quality([sharp]).sharpness, abs=0.03)
    assert measure_quality([sharp // 6]).brightness < 30
    assert measure_quality([np.where(np.arange(320) < 160, 255, sharp).astype(np.uint8)]).white_share > 0.4
    fog = np.full_like(sharp, 180)
    fog[100:] = sharp[100:]
    assert measure_quality([fog]).textured_share < 0.6 < measure_quality([sharp]).textured_share


def test_one_bad_frame_among_many_changes_nothing() -> None:
    pictures = [scene(seed) for seed in range(5)]
    black = np.zeros_like(pictures[0])
    assert measure_quality([*pictures, black]).brightness == pytest.approx(measure_quality(pictures).brightness, abs=8)


def test_confident_alignments_get_no_advice_and_read_no_frames(tmp_path: Path) -> None:
    alignment = replace(comparison(TIMES_S, TIMES_S).alignment, confidence=np.full(len(TIMES_S), 0.8))
    features = ClipFeatures(tmp_path / "absent.mp4", CLIP, empty_descriptors())
    assert advise((features, features), alignment, lambda: None) == []


def empty_descriptors() -> ClipDescriptors:
    nothing = np.empty(0, np.float32)
    return ClipDescriptors(np.empty(0), np.empty((0, 400), np.float16), nothing, nothing)


def test_clips_with_low_confidence_are_measured_and_the_advice_is_in_result_tables_and_report(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "dim.mp4", [picture // 8 for picture in moving_pictures(75)], np.arange(75) / 25)
    facts = clip("<dim>.mp4", size=(160, 90), rate_hz=25.0)
    features = ClipFeatures(path, facts, empty_descriptors())
    compared = comparison(TIMES_S, TIMES_S, clips=(facts, facts))
    found = advise((features, features), compared.alignment, lambda: None)
    assert [(advice.code, advice.clip) for advice in found if advice.code in {"low_resolution", "dark"}] == [
        (code, side) for side in ("reference", "other") for code in ("low_resolution", "dark")
    ]
    compared = replace(compared, advice=tuple(found))
    result = build_result(compared)
    assert [(advice.code, advice.text) for advice in result.advice] == [(a.code, a.text) for a in found]
    assert [advice["code"] for advice in metrics(compared)["advice"]] == [advice.code for advice in found]
    report = tmp_path / "report.html"
    write_report(compared, report, overlay=None, clips={}, scratch=tmp_path)
    page = report.read_text()
    assert page.count("data-advice=") == len(found)
    assert "&lt;dim&gt;.mp4 is dark" in page
    write_report(replace(compared, advice=()), report, overlay=None, clips={}, scratch=tmp_path)
    assert "What would make it more certain" not in report.read_text()


def test_an_alignment_kept_by_an_earlier_version_is_read(tmp_path: Path) -> None:
    aligned = AlignedClips(comparison(TIMES_S, TIMES_S).alignment, np.ones(len(TIMES_S)))
    save_alignment(tmp_path / "new.npz", aligned)
    with np.load(tmp_path / "new.npz") as stored:
        np.savez(tmp_path / "old.npz", **{name: stored[name] for name in stored.files if name != "mount_shift"})
    assert load_alignment(tmp_path / "old.npz").alignment.mount_shift == 0.0
    assert load_alignment(tmp_path / "new.npz").alignment.overlap == aligned.alignment.overlap
