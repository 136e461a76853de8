"""Division of a video into camera segments: cuts to the frame, motion, drift, flashes, dissolves and black."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import cv2
import numpy as np

from modal_workers.badminton.court.camera_segments import STILL_SAMPLES, CameraSegment, CameraSegmenter
from modal_workers.badminton.court.homography import CourtNotFound, CourtRefusal, CourtView, project
from modal_workers.badminton.court.picture_motion import SMALL_PX
from modal_workers.badminton.court.segment_court import SegmentCourt
from modal_workers.badminton.court.segment_courts import SegmentCourts
from tests.harness.vision.court_pictures import CAMERAS, Camera, Hall, draw_court

SIZE = (640, 360)
RATE_HZ = 15
LOW = replace(CAMERAS["broadcast_low"], size_px=SIZE)
CORNER = replace(CAMERAS["phone_corner"], size_px=SIZE)
Pictures = list[np.ndarray]


def noisy(pictures: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(5)
    for picture in pictures:
        noise = rng.normal(0, 3, picture.shape[:2])[..., None]
        yield np.clip(picture + noise, 0, 255).astype(np.uint8)


def still(camera: Camera, seconds: float) -> Pictures:
    """A court on which a player runs from side to side."""
    hall = draw_court(camera, Hall(noise=0))
    pictures = []
    for number in range(round(seconds * RATE_HZ)):
        picture = hall.copy()
        x = int(SIZE[0] * (0.5 + 0.2 * np.sin(number / 5)))
        cv2.rectangle(picture, (x, 150), (x + 30, 230), (40, 40, 190), -1)
        pictures.append(picture)
    return pictures


def close_up(seconds: float) -> Pictures:
    pictures = []
    for number in range(round(seconds * RATE_HZ)):
        picture = np.full((SIZE[1], SIZE[0], 3), (60, 90, 70), np.uint8)
        x = int(SIZE[0] / 2 + 30 * np.sin(number / 4))
        cv2.ellipse(picture, (x, 160), (90, 120), 0, 0, 360, (140, 170, 210), -1)
        cv2.rectangle(picture, (x - 150, 280), (x + 150, 360), (40, 40, 200), -1)
        pictures.append(picture)
    return pictures


def panned(
    camera: Camera, degrees_per_s: float, seconds: float, steady_s: float = 0.0
) -> tuple[Pictures, list[Camera]]:
    cameras = []
    for number in range(round(seconds * RATE_HZ)):
        angle = np.radians(degrees_per_s * max(0.0, number / RATE_HZ - steady_s))
        target = (camera.target_m[0] + 18 * np.tan(angle), *camera.target_m[1:])
        cameras.append(replace(camera, target_m=target))
    return [draw_court(each, Hall(noise=0)) for each in cameras], cameras


def small_picture(picture: np.ndarray) -> np.ndarray:
    """Return a BGR picture as grey, of the size of which segments are made."""
    small = cv2.resize(picture, (SMALL_PX, SMALL_PX * SIZE[1] // SIZE[0]), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)


def segments_of(pictures: Pictures, use: Callable[[CameraSegment], None] = lambda _: None) -> list[CameraSegment]:
    segmenter, segments = CameraSegmenter(), []
    for number, picture in enumerate(noisy(pictures)):
        for segment in segmenter.feed(
            number, number / RATE_HZ, small_picture(picture), lambda picture=picture: picture
        ):
            segments.append(segment)
            use(segment)
    for segment in segmenter.finish():
        segments.append(segment)
        use(segment)
    # Without gaps, whatever happens.
    assert [each.first_frame for each in segments] == [0, *(each.last_frame + 1 for each in segments[:-1])]
    assert segments[-1].last_frame == len(pictures) - 1
    return segments


def courts_of(pictures: Pictures) -> list[SegmentCourt]:
    courts = SegmentCourts(SIZE)
    segments_of(pictures, courts.add)
    return courts.finish()


def test_cuts_are_found_to_the_frame_and_a_cut_back_is_the_same_view() -> None:
    pictures = [*still(LOW, 2), *close_up(1), *still(LOW, 1), *still(CORNER, 2), *still(LOW, 1)]
    courts = courts_of(pictures)
    second = RATE_HZ
    assert [(each.first_frame, each.view) for each in courts] == [
        (0, 0), (2 * second, None), (3 * second, 0), (4 * second, 1), (6 * second, 0)
    ]  # fmt: skip
    truth = project(LOW.image_from_court, [(0, 0), (6.1, 0), (6.1, 13.4), (0, 13.4)])
    for number in (0, 2, 4):
        court = courts[number].court
        assert isinstance(court, CourtView)
        assert np.linalg.norm(court.corners_px - truth, axis=1).max() < 2
    assert isinstance(courts[1].court, CourtNotFound)


def test_a_camera_that_shows_the_court_briefly_is_left_out_as_a_replay() -> None:
    courts = courts_of([*still(LOW, 4), *still(CORNER, 1), *still(LOW, 2)])
    assert [each.view for each in courts] == [0, None, 0]
    assert isinstance(courts[1].court, CourtNotFound)
    assert courts[1].court.code is CourtRefusal.OTHER_CAMERA


def test_a_flash_is_no_cut() -> None:
    pictures = still(LOW, 3)
    pictures[20] = np.minimum(pictures[20].astype(int) + 110, 255).astype(np.uint8)
    assert [each.kind for each in segments_of(pictures)] == ["still"]


def test_black_is_a_segment_of_its_own() -> None:
    black = [np.zeros((SIZE[1], SIZE[0], 3), np.uint8)] * RATE_HZ
    courts = courts_of([*still(LOW, 1), *black, *still(LOW, 1)])
    assert [each.kind for each in courts] == ["still", "black", "still"]
    assert isinstance(courts[1].court, CourtNotFound)
    assert courts[1].court.code is CourtRefusal.BLACK
    assert courts[2].view == courts[0].view == 0


def test_a_camera_that_pans_is_followed() -> None:
    pictures, cameras = panned(LOW, 3, 3, steady_s=1)
    courts = courts_of(pictures)
    assert courts[-1].kind == "moving"
    errors = []
    for court in courts:
        for frame in range(court.first_frame, court.last_frame + 1):
            view = court.view_at(frame)
            if view is not None:
                truth = project(cameras[frame].image_from_court, [(0, 0), (6.1, 0), (6.1, 13.4), (0, 13.4)])
                errors.append(np.linalg.norm(view.corners_px - truth, axis=1).max())
    assert len(errors) > 0.95 * len(pictures)
    assert np.median(errors) < 1
    assert max(errors) < 8


def test_a_slow_drift_adds_up_and_is_noticed() -> None:
    pictures, _ = panned(LOW, 0.12, 4)
    courts = courts_of(pictures)
    assert len(courts) > 1
    assert {each.kind for each in courts} == {"still"}
    assert {each.view for each in courts} == {0}


def test_a_camera_that_moves_without_a_court_in_view_says_so() -> None:
    texture = np.random.default_rng(1).integers(0, 255, (30, 90, 3)).astype(np.uint8)
    crowd = cv2.resize(texture, (1920, 640), interpolation=cv2.INTER_CUBIC)
    pictures = [crowd[100 : 100 + SIZE[1], 5 * number : 5 * number + SIZE[0]] for number in range(2 * RATE_HZ)]
    courts = courts_of(pictures)
    assert {each.kind for each in courts} == {"moving"}
    assert all(isinstance(each.court, CourtNotFound) for each in courts)
    assert courts[-1].court.code is CourtRefusal.CAMERA_MOVES


def test_a_long_segment_keeps_a_bounded_number_of_pictures_spread_over_it() -> None:
    (segment,) = segments_of(still(LOW, 1) * 12)
    times = [sample.time_s for sample in segment.samples]
    assert 4 <= len(times) <= STILL_SAMPLES
    assert times[0] < 1
    assert times[-1] > 0.6 * segment.end_s
