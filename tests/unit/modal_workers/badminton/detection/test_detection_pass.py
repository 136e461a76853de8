"""The pass over the frames stores what the backends find, frame by frame, also after a resumption."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from modal_workers.badminton.court.homography import CourtView
from modal_workers.badminton.detection.analysis_picture import AnalysisSize, Picture
from modal_workers.badminton.detection.detection_log import Detections, load_detections
from modal_workers.badminton.detection.detection_pass import STRETCH_FRAMES, DetectionPass, Detectors
from modal_workers.badminton.match import CameraSegmentResult
from modal_workers.badminton.players.persons import Persons
from modal_workers.badminton.shuttle.shuttle_track import ShuttleCandidates

SIZE = AnalysisSize.of(64, 36)
#: 60 pixels are a metre; brightness as a place in pixels is on the court.
COURT = CourtView(np.diag([60.0, 60.0, 1.0]), 0.01, 1.0, 0.9, "lines", 1.0, 1.0)


class BrightPixels:
    """Both backends at once: a person at column = brightness, a candidate at row = brightness, two frames late."""

    name = "bright pixels"
    has_skeletons = False

    def __init__(self) -> None:
        self._late: list[ShuttleCandidates] = []
        self.seen = 0

    def restart(self) -> None:
        self._late = []

    def detect(self, pictures: Sequence[Picture]) -> list[Persons]:
        self.seen += len(pictures)
        values = [float(picture[0, 0, 0]) for picture in pictures]
        box = np.zeros((1, 4), np.float32)
        keypoints = np.full((1, 17, 3), np.nan, np.float32)
        return [Persons(box + value, np.ones(1, np.float32), keypoints) for value in values]


class LateCandidates(BrightPixels):
    """The shuttle's backend."""

    def detect(self, pictures: Sequence[Picture]) -> list[ShuttleCandidates]:  # type: ignore[override]
        for picture in pictures:
            place = np.full((1, 2), float(picture[0, 0, 0]), np.float32)
            self._late.append(ShuttleCandidates(place, np.ones(1, np.float32)))
        ready, self._late = self._late[:-2], self._late[-2:]
        return ready

    def flush(self) -> list[ShuttleCandidates]:
        ready, self._late = self._late, []
        return ready


def segment(first: int, last: int, court: CourtView | None = COURT) -> CameraSegmentResult:
    return CameraSegmentResult(first, last, first / 30, last / 30, "play" if court else "other", court, "")


def histogram(picture: Picture, persons: Persons) -> np.ndarray:
    return np.full((len(persons), 3), picture[0, 0, 0] / 255, np.float32)


def picture(frame: int) -> Picture:
    return np.full((36, 64, 3), frame % 251, np.uint8)


def run(segments: list[CameraSegmentResult], frames: int, folder: Path, first_frame: int = 0) -> tuple[list[Path], int]:
    """Feed the frames; return the files in order and the number of pictures that the pose backend saw."""
    pose = BrightPixels()
    detectors = Detectors(pose, LateCandidates(), histogram, 3)  # type: ignore[arg-type]
    walk = DetectionPass(segments, SIZE, lambda _: detectors, appearance_length=3, first_frame=first_frame)
    paths = [folder / f"{number}.npz" for number in range(first_frame // STRETCH_FRAMES)]
    for frame in range(walk.next_frame, frames):
        walk.feed(frame, picture(frame) if walk.wanting(frame) else None)
        path = folder / f"{len(paths)}.npz"
        if walk.stored(path):
            paths.append(path)
    walk.finish()
    path = folder / f"{len(paths)}.npz"
    while walk.stored(path, last=True):
        paths.append(path)
        path = folder / f"{len(paths)}.npz"
    return paths, pose.seen


def check(detections: Detections, segments: list[CameraSegmentResult], frames: int) -> None:
    persons, candidates = detections.persons, detections.candidates
    assert len(persons.frame_offsets) == len(candidates.frame_offsets) == frames + 1
    for frame in range(frames):
        analysed = any(one.first_frame <= frame <= one.last_frame and one.analysed for one in segments)
        rows = persons.rows(frame)
        assert rows.stop - rows.start == analysed
        assert candidates.rows(frame).stop - candidates.rows(frame).start == analysed
        if analysed:
            assert persons.boxes_px[rows][0, 0] == frame % 251
            assert persons.appearance[rows][0, 0] == pytest.approx((frame % 251) / 255)
            assert candidates.position_px[candidates.rows(frame)][0, 0] == frame % 251


SEGMENTS = [segment(0, 39), segment(40, 59, None), segment(60, 1000), segment(1005, 2 * STRETCH_FRAMES + 11)]
FRAMES = 2 * STRETCH_FRAMES + 12


def test_every_frame_has_its_own_entry_and_frames_without_a_court_an_empty_one(tmp_path: Path) -> None:
    paths, seen = run(SEGMENTS, FRAMES, tmp_path)
    assert len(paths) == 3
    assert seen == FRAMES - 20 - 4
    check(load_detections(paths), SEGMENTS, FRAMES)


def test_a_resumed_pass_repeats_one_stretch_at_most_and_finds_the_same(tmp_path: Path) -> None:
    whole = [path.read_bytes() for path in run(SEGMENTS, FRAMES, tmp_path)[0]]
    again = tmp_path / "again"
    again.mkdir()
    (again / "0.npz").write_bytes(whole[0])
    paths, seen = run(SEGMENTS, FRAMES, again, first_frame=STRETCH_FRAMES)
    assert seen < FRAMES - STRETCH_FRAMES + 100
    check(load_detections(paths), SEGMENTS, FRAMES)


def test_a_video_that_ends_inside_a_segment_keeps_its_frames(tmp_path: Path) -> None:
    segments = [segment(0, 99)]
    check(load_detections(run(segments, 61, tmp_path)[0]), segments, 61)


def test_persons_far_from_the_court_are_not_stored(tmp_path: Path) -> None:
    far = CourtView(np.array([[60.0, 0, 600.0], [0, 60.0, 0], [0, 0, 1]]), 0.01, 1.0, 0.9, "lines", 1.0, 1.0)
    persons = load_detections(run([segment(0, 99, far)], 100, tmp_path)[0]).persons
    # The court begins 10 m to the right; the frames' persons stand up to 99 px from the left edge, 8.4 m beside it.
    assert len(persons.boxes_px) == 0


def test_points_of_a_reduced_picture_are_those_of_the_full_one() -> None:
    size = AnalysisSize.of(2560, 1440)
    assert (size.width_px, size.height_px) == (1280, 720)
    assert size.to_full(np.array([[0, 0], [1279, 719]], np.float32)) == pytest.approx(
        np.array([[0.5, 0.5], [2558.5, 1438.5]])
    )
