"""A camera that shakes: its pictures, warped to one view, are those of a still camera, and what is found goes back."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from modal_workers.badminton.court.dimensions import CORNERS_M
from modal_workers.badminton.court.homography import CourtView, project
from modal_workers.badminton.court.homography_track import HomographyTrack
from modal_workers.badminton.detection.stabilisation import (
    can_be_stabilised,
    players_in_frames,
    shuttle_in_frames,
    stabilised,
    view_from_frame,
)
from modal_workers.badminton.match import CameraSegmentResult
from modal_workers.badminton.players.player_tracks import PlayerTracks
from modal_workers.badminton.shuttle.shuttle_track import ShuttleTrack
from tests.harness.vision.court_pictures import CAMERAS, Camera, Hall, draw_court

SIZE = (640, 360)
FIRST = 10
STILL = replace(CAMERAS["broadcast_low"], size_px=SIZE)
FRAMES = 7


def shaking(centimetres: float = 12.0) -> list[Camera]:
    """The same camera, whose aim moves to and fro by this much on the court."""
    aims = np.random.default_rng(4).normal(0, centimetres / 100, (FRAMES, 2))
    aims[FRAMES // 2] = 0
    x, y, z = STILL.target_m
    return [replace(STILL, target_m=(x + right, y + along, z)) for right, along in aims]


def court(homography: np.ndarray) -> CourtView:
    return CourtView(homography, 0.01, 1.0, 0.9, "lines", 0.9, 1.0)


def segment_of(cameras: list[Camera], unknown: tuple[int, ...] = ()) -> CameraSegmentResult:
    homographies = np.stack([camera.image_from_court for camera in cameras])
    homographies[list(unknown)] = np.nan
    track = HomographyTrack(FIRST, homographies)
    return CameraSegmentResult(
        FIRST, FIRST + len(cameras) - 1, 0.4, 0.7, "play", court(STILL.image_from_court), "", track
    )


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_each_picture_is_what_the_still_camera_sees(scale: float) -> None:
    cameras = shaking()
    segment = segment_of(cameras)
    size = (round(SIZE[0] * scale), round(SIZE[1] * scale))

    def seen(camera: Camera) -> np.ndarray:
        return cv2.resize(draw_court(camera, Hall(noise=0, net=False)), size, interpolation=cv2.INTER_AREA)

    wanted = cv2.cvtColor(seen(STILL), cv2.COLOR_BGR2GRAY).astype(float)
    inner = (slice(round(0.1 * size[1]), round(0.9 * size[1])), slice(round(0.1 * size[0]), round(0.9 * size[0])))
    for number, camera in enumerate(cameras):
        picture = seen(camera)
        before = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(float)
        warped = stabilised(picture, segment, FIRST + number, SIZE)
        assert warped.shape == picture.shape
        after = cv2.cvtColor(warped, cv2.COLOR_BGR2GRAY).astype(float)
        error, unstabilised = (np.abs(each - wanted)[inner].mean() for each in (after, before))
        assert error < 2
        if number != FRAMES // 2:
            assert error < 0.6 * unstabilised


def test_a_still_segment_is_left_as_it_is() -> None:
    segment = replace(segment_of(shaking()), track=None)
    picture = np.zeros((4, 6, 3), np.uint8)
    assert stabilised(picture, segment, FIRST, SIZE) is picture
    assert view_from_frame(segment, FIRST) is None


def test_a_frame_whose_court_is_unknown_takes_the_nearest_one() -> None:
    cameras = shaking()
    segment = segment_of(cameras, unknown=(3, 4))
    for frame, nearest in ((3, 2), (4, 5)):
        expected = STILL.image_from_court @ np.linalg.inv(cameras[nearest].image_from_court)
        assert view_from_frame(segment, FIRST + frame) == pytest.approx(expected)


def test_boxes_skeletons_and_shuttle_go_back_to_the_pixels_of_their_frames() -> None:
    cameras = shaking()
    segment = segment_of(cameras)
    still = CameraSegmentResult(0, FIRST - 1, 0, 0.4, "play", court(STILL.image_from_court), "")
    count = FIRST + FRAMES
    place_m = (2.0, 9.0)
    in_view = project(STILL.image_from_court, place_m).astype(np.float32)
    x, y = in_view.tolist()
    boxes = np.tile(np.array([x - 8, y - 30, x + 8, y + 30], np.float32), (1, count, 1))
    keypoints = np.full((1, count, 17, 3), 0.8, np.float32)
    keypoints[..., :2] = in_view
    unknown = np.zeros((1, count), np.float32)
    tracks = PlayerTracks(
        np.tile(np.float32(place_m), (1, count, 1)), unknown, np.zeros((1, count, 2), np.float32),
        np.ones((1, count), bool), boxes, keypoints, unknown, unknown, np.ones((1, count), np.int8), np.zeros(1, int),
    )  # fmt: skip
    shuttle = ShuttleTrack(np.tile(in_view, (count, 1)), np.ones(count, np.float32))
    moved, flown = players_in_frames(tracks, [still, segment]), shuttle_in_frames(shuttle, [still, segment])
    for frame in range(count):
        camera = STILL if frame < FIRST else cameras[frame - FIRST]
        expected = project(camera.image_from_court, place_m)
        assert moved.keypoints_px[0, frame, :, :2] == pytest.approx(np.tile(expected, (17, 1)), abs=0.01)
        assert moved.keypoints_px[0, frame, :, 2] == pytest.approx(0.8)
        assert flown.position_px[frame] == pytest.approx(expected, abs=0.01)
        box = moved.boxes_px[0, frame]
        assert (box[:2] + box[2:]) / 2 == pytest.approx(expected, abs=0.01)
        assert box[2:] - box[:2] == pytest.approx((16, 60), abs=0.01)
    assert np.array_equal(moved.position_m, tracks.position_m)
    assert np.array_equal(tracks.boxes_px, boxes), "the tracks that were given are as before"


def test_tracks_of_still_cameras_are_not_copied() -> None:
    count = 3
    none = np.broadcast_to(np.float32(np.nan), (2, count, 17, 3))
    values = np.zeros((2, count), np.float32)
    tracks = PlayerTracks(
        np.zeros((2, count, 2), np.float32), values, np.zeros((2, count, 2), np.float32), values > 0,
        np.zeros((2, count, 4), np.float32), none, values, values, values.astype(np.int8), np.zeros(2, int),
    )  # fmt: skip
    still = CameraSegmentResult(0, 2, 0, 0.1, "play", court(np.eye(3)), "")
    assert players_in_frames(tracks, [still]).keypoints_px is none


def test_a_camera_that_turns_too_far_or_is_lost_too_often_is_not_stabilised() -> None:
    view = court(STILL.image_from_court)

    def answer(cameras: list[Camera], unknown: tuple[int, ...] = ()) -> bool:
        track = segment_of(cameras, unknown).track
        assert track is not None
        return can_be_stabilised(track, view, SIZE)

    many = shaking() * 3
    assert answer(many)
    assert answer(many, unknown=(4,))
    assert not answer(many, unknown=(4, 5, 6))
    x, y, z = STILL.target_m
    turned = replace(STILL, target_m=(x + 4, y, z))
    far = np.linalg.norm(project(turned.image_from_court, CORNERS_M) - view.corners_px, axis=1).max()
    assert far > 0.12 * SIZE[0]
    assert not answer([*many, turned])
