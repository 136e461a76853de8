"""Pictures of the empty hall: enough for each camera, and never more than memory holds."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from modal_workers.badminton.checkpoints import CourtStage, load_court, save_court
from modal_workers.badminton.court.homography import CourtView
from modal_workers.badminton.detection.analysis_picture import AnalysisSize
from modal_workers.badminton.detection.hall_pictures import MOST_PICTURES, SAMPLES, HallPictures, Picture
from modal_workers.badminton.frame_times import FrameTimes
from modal_workers.badminton.match import CameraSegmentResult
from modal_workers.footage.video_reader import DecodedFrame, VideoFacts

COURT = CourtView(np.diag([6.0, 2.0, 1.0]), 0.01, 1.0, 0.9, "lines", 1.0, 1.0)
SIZE = AnalysisSize.of(64, 36)


def hall_of(count: int, frames: int) -> tuple[HallPictures, list[CameraSegmentResult]]:
    """Return the pictures of segments, one frame every 0.5 s; each segment is as bright as its number."""
    hall, segments = HallPictures(SIZE), []
    for number in range(count):
        picture = av.VideoFrame.from_ndarray(np.full((36, 64, 3), number % 250, np.uint8), format="bgr24")
        first, last = number * frames, (number + 1) * frames - 1
        for frame in range(first, last + 1):
            hall.take(frame, DecodedFrame(0.5 * frame, np.zeros((36, 64), np.uint8), picture, 0))
        hall.end_segment(last)
        segments.append(CameraSegmentResult(first, last, 0.5 * first, 0.5 * last, "play", COURT, ""))
    return hall, segments


def distinct(pictures: dict[int, tuple[Picture, ...]]) -> int:
    return len({id(picture) for each in pictures.values() for picture in each})


def brightness(pictures: tuple[Picture, ...]) -> list[int]:
    return sorted({round(float(picture.mean())) for picture in pictures})


def test_a_few_segments_have_their_own_pictures() -> None:
    hall, segments = hall_of(3, 40)
    found = hall.of_segments(segments, [0, 0, 0])
    assert [len(found[number]) for number in range(3)] == [SAMPLES] * 3
    assert [brightness(found[number]) for number in range(3)] == [[0], [1], [2]]


def test_a_short_segment_shares_those_of_its_view() -> None:
    hall, segments = hall_of(3, 4)
    found = hall.of_segments(segments, [0, 1, 0])
    assert brightness(found[0]) == brightness(found[2]) == [0, 2]
    assert brightness(found[1]) == [1]


def test_hundreds_of_cuts_take_no_more_memory_than_the_limit(tmp_path: Path) -> None:
    hall, segments = hall_of(200, 30)
    found = hall.of_segments(segments, [number % 2 for number in range(200)])
    assert len(found) == 200
    assert distinct(found) <= MOST_PICTURES
    # Of all the time of a view, and of no other view.
    assert len(found[0]) == SAMPLES
    assert brightness(found[0])[0] < 10
    assert brightness(found[0])[-1] > 190
    assert all(each % 2 == 0 for each in brightness(found[0]))
    times = FrameTimes(np.arange(6000, dtype=np.float64) * 0.5, np.arange(6000))
    facts = VideoFacts("a.mp4", 64, 36, 0, 6000, 3000.0, 2.0, variable_rate=False)
    save_court(tmp_path / "court.npz", CourtStage(facts, times, tuple(segments), found, ()))
    stored = load_court(tmp_path / "court.npz").pictures
    assert distinct(dict(stored)) == distinct(found)
    assert {number: len(pictures) for number, pictures in stored.items()} == {
        number: len(pictures) for number, pictures in found.items()
    }
