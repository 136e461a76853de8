"""Checkpoints return what was stored: a resumed run has the same court and tracks."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from modal_workers.badminton.checkpoints import (
    CourtStage,
    TrackStage,
    load_court,
    load_tracks,
    save_court,
    save_tracks,
)
from modal_workers.badminton.court.homography import CourtView
from modal_workers.badminton.court.homography_track import HomographyTrack
from modal_workers.badminton.frame_times import FrameTimes
from modal_workers.badminton.match import CameraSegmentResult
from modal_workers.footage.video_reader import VideoFacts
from tests.harness.vision.badminton_matches import known_match

VIEW = CourtView(np.arange(9.0).reshape(3, 3) + np.eye(3), float("nan"), 1.5, 1.0, "keypoints", float("nan"), 0.9)


def stage() -> CourtStage:
    track = HomographyTrack(6, np.stack([VIEW.image_from_court, np.full((3, 3), np.nan)]))
    picture = cv2.resize(np.random.default_rng(1).integers(0, 255, (9, 16, 3), np.uint8), (160, 90))
    return CourtStage(
        VideoFacts("a match.mp4", 640, 360, 90, 8, 0.35, 20.0, variable_rate=True),
        FrameTimes(np.arange(8) / 20 + 1e-9, np.arange(8, dtype=np.int64) * 2),
        (
            CameraSegmentResult(0, 3, 0.0, 0.2, "play", VIEW, ""),
            CameraSegmentResult(4, 5, 0.2, 0.3, "black", None, "The picture is black."),
            CameraSegmentResult(6, 7, 0.3, 0.35, "play", VIEW, "", track),
        ),
        {0: (picture, picture // 2), 2: (picture,)},
        ("It ends early.",),
    )


def same(found: Any, stored: Any) -> None:
    assert type(found) is type(stored)
    for field in dataclasses.fields(stored):
        here, there = getattr(found, field.name), getattr(stored, field.name)
        if dataclasses.is_dataclass(there):
            same(here, there)
        elif isinstance(there, np.ndarray):
            assert (here.dtype, here.shape) == (there.dtype, there.shape), field.name
            assert np.array_equal(here, there, equal_nan=there.dtype.kind == "f"), field.name
        elif isinstance(there, float):
            assert here == pytest.approx(there, abs=0, nan_ok=True), field.name
        else:
            assert here == there, field.name


def test_the_court_stage_returns_as_it_was(tmp_path: Path) -> None:
    stored = stage()
    save_court(tmp_path / "court.npz", stored)
    found = load_court(tmp_path / "court.npz")
    same(found.facts, stored.facts)
    same(found.times, stored.times)
    assert found.warnings == stored.warnings
    for here, there in zip(found.segments, stored.segments, strict=True):
        same(here, there)
    assert {number: len(pictures) for number, pictures in found.pictures.items()} == {0: 2, 2: 1}
    for number, pictures in stored.pictures.items():
        for here_picture, picture in zip(found.pictures[number], pictures, strict=True):
            assert np.abs(here_picture.astype(int) - picture).mean() < 6
    assert [(first, last) for first, last, _ in found.courts] == [(0, 3), (6, 7)]
    assert found.analysed.tolist() == [True] * 4 + [False] * 2 + [True] * 2
    assert found.picture_size_px == (640, 360)


@pytest.mark.parametrize("skeletons", [True, False])
def test_tracks_return_as_they_were(tmp_path: Path, *, skeletons: bool) -> None:
    match = known_match(duration_s=2, skeletons=skeletons).match
    assert match.tracks is not None
    assert match.shuttle is not None
    stored = TrackStage(match.tracks, match.shuttle, ("Taken for singles.",))
    save_tracks(tmp_path / "tracks.npz", stored)
    found = load_tracks(tmp_path / "tracks.npz")
    same(found.players, stored.players)
    same(found.shuttle, stored.shuttle)
    assert found.warnings == stored.warnings


def test_what_was_not_looked_for_is_none(tmp_path: Path) -> None:
    save_tracks(tmp_path / "tracks.npz", TrackStage(None, None, ()))
    assert load_tracks(tmp_path / "tracks.npz") == TrackStage(None, None, ())


def test_skeletons_that_do_not_exist_take_no_space(tmp_path: Path) -> None:
    tracks = known_match(duration_s=2, skeletons=False).match.tracks
    assert tracks is not None
    none = dataclasses.replace(tracks, keypoints_px=np.broadcast_to(np.float32(np.nan), tracks.keypoints_px.shape))
    save_tracks(tmp_path / "tracks.npz", TrackStage(none, None, ()))
    assert (tmp_path / "tracks.npz").stat().st_size < tracks.keypoints_px.nbytes
    found = load_tracks(tmp_path / "tracks.npz").players
    assert found is not None
    assert found.keypoints_px.shape == tracks.keypoints_px.shape
    assert np.isnan(found.keypoints_px).all()
