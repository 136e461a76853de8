"""Alignment against the ground truth of generated laps, and refusal of clips that cannot be compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.footage.video_reader import VideoFacts, VideoReader
from modal_workers.lap_compare.alignment.matching import AlignedClips, align_clips
from modal_workers.lap_compare.clips.feature_extraction import ClipFeatures
from modal_workers.lap_compare.lap_delta import compare
from modal_workers.road_video.descriptors import LENGTH, ClipDescriptors
from simulators.laps.circuit import make_circuit
from simulators.laps.degradation import Degradation
from simulators.laps.frame_renderer import CircuitWorld
from simulators.laps.lap_video import LapTruth, true_time_b
from tests.harness.vision.lap_videos import (
    LENGTH_M,
    SIZE,
    LapPairVideos,
    features_of,
    ignore_progress,
    render_lap_a,
    render_lap_b,
    small_setting,
    write_clip,
)

FRAME_S = 1 / 20
SEED = 301
STOP_M = 70.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("laps")


@pytest.fixture(scope="module")
def world() -> CircuitWorld:
    return CircuitWorld(make_circuit(SEED, LENGTH_M), 4.0)


@pytest.fixture(scope="module")
def reference(folder: Path, world: CircuitWorld) -> tuple[Path, LapTruth]:
    return render_lap_a(folder, SEED, world)


@pytest.fixture(scope="module")
def clean(folder: Path, world: CircuitWorld, reference: tuple[Path, LapTruth]) -> LapPairVideos:
    return with_reference(reference, render_lap_b(folder / "clean.mp4", small_setting(SEED, "clean"), world))


def with_reference(reference: tuple[Path, LapTruth], other: tuple[Path, LapTruth]) -> LapPairVideos:
    return LapPairVideos(reference[0], other[0], reference[1], other[1])


def align(films: LapPairVideos, *, correct_mount: bool = True) -> AlignedClips:
    return align_clips(*features_of(films.path_a, films.path_b), correct_mount=correct_mount, progress=ignore_progress)


def errors(films: LapPairVideos, matched: AlignedClips) -> np.ndarray:
    """Return errors in seconds [N], without moments that only one lap shows."""
    alignment = matched.alignment
    error = alignment.time_b_s - true_time_b(films.truth_a, films.truth_b, alignment.time_a_s)
    assert np.isnan(error).mean() < 0.05
    return error


def test_clean_laps_are_aligned_to_the_frame(clean: LapPairVideos) -> None:
    matched = align(clean)
    error = np.abs(errors(clean, matched))
    assert np.nanmedian(error) < FRAME_S
    assert np.nanquantile(error, 0.95) < 3 * FRAME_S
    known = ~np.isnan(error)
    assert np.mean(error[known] <= matched.alignment.error_s[known]) > 0.7
    assert matched.alignment.overlap > 0.7


@pytest.mark.share(every=2)
@pytest.mark.parametrize("kind", ["strong", "perspective"])
def test_a_different_mount_is_corrected(
    folder: Path, world: CircuitWorld, reference: tuple[Path, LapTruth], kind: Degradation
) -> None:
    films = with_reference(reference, render_lap_b(folder / f"{kind}.mp4", small_setting(SEED, kind), world))
    corrected, plain = align(films), align(films, correct_mount=False)
    assert corrected.alignment.mount_corrected
    assert corrected.alignment.path_cost < plain.alignment.path_cost
    error = np.abs(errors(films, corrected))
    assert np.nanmedian(error) < FRAME_S
    good = corrected.alignment.confidence >= 0.5
    assert np.nanquantile(error[good], 0.95) < 3 * FRAME_S
    assert np.nanmedian(error) < np.nanmedian(np.abs(errors(films, plain))) + 0.005


def test_a_clip_against_itself_has_no_delta(clean: LapPairVideos) -> None:
    pair = features_of(clean.path_a, clean.path_a)
    matched = align_clips(*pair, correct_mount=True, progress=ignore_progress)
    comparison = compare(
        (pair[0].clip, pair[1].clip), matched.alignment, matched.relative_speed, sectors=3, opportunities=3
    )
    assert np.max(np.abs(comparison.delta_s)) < 0.005
    assert np.allclose(matched.alignment.time_a_s, matched.alignment.time_b_s, atol=0.005)
    assert np.max(np.abs(comparison.relative_speed - 1)) < 0.05  # a slope, widest at the ends
    assert comparison.opportunities == ()
    assert comparison.confidence > 0.9
    assert matched.alignment.overlap > 0.99


def test_different_circuits_are_refused(clean: LapPairVideos, folder: Path) -> None:
    other = CircuitWorld(make_circuit(SEED + 1, LENGTH_M), 4.0)
    elsewhere, _ = render_lap_b(folder / "elsewhere.mp4", small_setting(SEED + 1, "mild"), other)
    with pytest.raises(SaccadeError) as caught:
        align_clips(*features_of(clean.path_a, elsewhere), correct_mount=True, progress=ignore_progress)
    assert caught.value.code == ErrorCode.CLIPS_DIFFERENT_PLACES
    assert clean.path_a.name in caught.value.message


def test_a_reversed_clip_is_refused_as_opposite_direction(clean: LapPairVideos, folder: Path) -> None:
    pictures = [frame.colour() for frame in VideoReader(clean.path_b, "b").frames()]
    backwards = write_clip(folder / "backwards.mp4", pictures[::-1], (np.arange(len(pictures)) * FRAME_S).tolist())
    with pytest.raises(SaccadeError) as caught:
        align_clips(*features_of(clean.path_a, backwards), correct_mount=True, progress=ignore_progress)
    assert caught.value.code == ErrorCode.CLIPS_OPPOSITE_DIRECTIONS


@pytest.mark.parametrize("reversed_b", [False, True])
def test_clips_of_which_a_single_moment_matches_are_refused(reversed_b: bool) -> None:
    """Such a path cannot be refined: the job failed as a broken worker."""
    random = np.random.default_rng(5)
    cells = random.uniform(size=(2, 120, LENGTH)).astype(np.float16)
    if reversed_b:
        cells[1] = cells[0, ::-1]
    a, b = (unmoved(name, of_clip) for name, of_clip in zip("ab", cells, strict=True))
    with pytest.raises(SaccadeError) as caught:
        align_clips(a, b, correct_mount=True, progress=ignore_progress)
    assert caught.value.code == (
        ErrorCode.CLIPS_OPPOSITE_DIRECTIONS if reversed_b else ErrorCode.CLIPS_DIFFERENT_PLACES
    )


def unmoved(name: str, cells: np.ndarray) -> ClipFeatures:
    """Return a clip, without a file, of which every frame shows another place."""
    count = len(cells)
    descriptors = ClipDescriptors(
        np.arange(count) * FRAME_S, cells, np.full(count, 9, np.float32), np.full(count, np.nan, np.float32)
    )
    facts = VideoFacts(name, 640, 360, 0, count, count * FRAME_S, 1 / FRAME_S, variable_rate=False)
    return ClipFeatures(Path(name), facts, descriptors)


def test_a_stop_is_time_lost_at_one_place(folder: Path, world: CircuitWorld, reference: tuple[Path, LapTruth]) -> None:
    plan = small_setting(SEED, "clean")
    driver = replace(plan.driver_b, stops=((STOP_M, 2.5),), slow_places=(), start_m=0.0)
    films = with_reference(reference, render_lap_b(folder / "stop.mp4", replace(plan, driver_b=driver), world, 12.0))
    matched = align(films)
    alignment = matched.alignment
    # where B stands still every moment of the stop is right: leave out the place itself
    place = films.truth_a.drive.place_at(alignment.time_a_s)
    error = np.abs(errors(films, matched))
    assert np.nanquantile(error[np.abs(place - STOP_M) > 12.0], 0.95) < 3 * FRAME_S
    crawling = (np.abs(place - STOP_M) < 8.0) & (np.abs(place - STOP_M) > 1.0)
    assert np.median(alignment.error_s[crawling]) > 2 * np.median(alignment.error_s)  # and the band says so
    at = int(np.argmin(np.abs(place - STOP_M)))
    window = slice(max(0, at - 12), at + 12)
    assert np.ptp(alignment.time_b_s[window]) - np.ptp(alignment.time_a_s[window]) > 2.0


def test_variable_rate_and_rotation_do_not_matter(folder: Path, world: CircuitWorld, clean: LapPairVideos) -> None:
    plan = small_setting(SEED, "clean")
    camera = replace(plan.camera_b, rate_jitter=0.6, dropped=0.15, rotation_deg=90, first_timestamp_s=2.0)
    other = render_lap_b(folder / "phone.mp4", replace(plan, camera_b=camera), world)
    films = LapPairVideos(clean.path_a, other[0], clean.truth_a, other[1])
    pair = features_of(films.path_a, films.path_b)
    assert pair[1].clip.variable_rate
    assert (pair[1].clip.width_px, pair[1].clip.height_px) == SIZE
    matched = align_clips(*pair, correct_mount=True, progress=ignore_progress)
    assert np.nanmedian(np.abs(errors(films, matched))) < FRAME_S


def test_an_exception_from_progress_stops_the_work(clean: LapPairVideos) -> None:
    class StopError(Exception):
        pass

    def stop(share: float) -> None:
        if share > 0.2:
            raise StopError

    with pytest.raises(StopError):
        align_clips(*features_of(clean.path_a, clean.path_b), correct_mount=True, progress=stop)
