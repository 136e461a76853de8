"""Thumbnails on disk replace a second decode of the clip."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modal_workers.lap_compare.alignment.camera_mount import frames_at
from modal_workers.lap_compare.clips.feature_extraction import extract_pair, recompute_descriptors
from modal_workers.road_video.thumbnail_cache import ThumbnailCache
from tests.harness.vision.lap_videos import ignore_progress, moving_pictures, write_clip


@pytest.fixture
def kept(tmp_path):
    """Ten thumbnails, 0.1 s apart, each of one grey level."""
    pictures = ThumbnailCache(tmp_path / "pictures")
    for number in range(10):
        pictures.add(number / 10, np.full((180, 320), 20 * number, np.uint8))
    pictures.close()
    return pictures


def test_the_nearest_thumbnail_is_returned(kept):
    asked = [-5.0, 0.0, 0.04, 0.06, 0.56, 0.9, 7.0]
    assert [round(float(picture.mean()) / 20) for picture in kept.at(asked)] == [0, 0, 0, 1, 6, 9, 9]


def test_a_single_thumbnail_is_nearest_to_every_time(tmp_path):
    pictures = ThumbnailCache(tmp_path / "pictures")
    pictures.add(3.0, np.full((180, 320), 100, np.uint8))
    pictures.close()
    assert [round(float(picture.mean())) for picture in pictures.at([0.0, 3.0, 9.0])] == [100] * 3


def test_descriptors_from_thumbnails_equal_those_from_the_clip(tmp_path):
    """Also after the clip was removed: nothing is decoded twice."""
    paths = [
        write_clip(tmp_path / name, moving_pictures(60, 640, 360, seed), np.arange(60) / 20)
        for seed, name in enumerate(("a.mp4", "b.mp4"))
    ]
    (tmp_path / "kept").mkdir()
    pair, _ = extract_pair(
        (paths[0], paths[1]), ("a", "b"), (None, None), progress=ignore_progress, scratch=tmp_path / "kept"
    )
    warp = np.array([[1.02, 0.01, -4.0], [-0.01, 1.02, 3.0], [0.0, 0.0, 1.0]])
    decoded = recompute_descriptors(replace(pair[1], thumbnails=None), warp, progress=ignore_progress)
    seen = frames_at(replace(pair[1], thumbnails=None), [0.5, 2.0], lambda: None)
    paths[1].unlink()
    again = recompute_descriptors(pair[1], warp, progress=ignore_progress)
    assert again.time_s.tolist() == decoded.time_s.tolist()
    difference = again.cells.astype(np.float32) - decoded.cells.astype(np.float32)
    assert np.abs(difference).mean() < 0.05 * np.abs(decoded.cells.astype(np.float32)).mean()
    for one, other in zip(frames_at(pair[1], [0.5, 2.0], lambda: None), seen, strict=True):
        assert np.abs(one.astype(float) - other).mean() < 3
