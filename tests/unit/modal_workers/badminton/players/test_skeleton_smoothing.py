"""Skeletons over time: long videos, gaps, cuts and doubtful joints."""

from __future__ import annotations

import numpy as np

from modal_workers.badminton.players.skeleton_smoothing import MIN_CONFIDENCE, smooth_skeleton


def _moving(frames: int, rate_hz: float = 30.0) -> tuple[np.ndarray, np.ndarray]:
    times = np.arange(frames) / rate_hz
    keypoints = np.full((frames, 17, 3), 0.8, np.float32)
    keypoints[..., 0] = (300 + 100 * np.sin(3 * times))[:, None] + np.arange(17)
    keypoints[..., 1] = (200 + 50 * np.cos(2 * times))[:, None]
    return keypoints, times


def test_a_long_video_is_smoothed_as_its_parts_are() -> None:
    frames = 20_000
    random = np.random.default_rng(1)
    keypoints, times = _moving(frames)
    truth = keypoints[..., :2].copy()
    keypoints[..., :2] += random.normal(0, 3, truth.shape)
    part = keypoints[8000:8400].copy()
    smooth_skeleton(keypoints, times, np.zeros(frames, np.int64))
    smooth_skeleton(part, times[8000:8400], np.zeros(400, np.int64))
    np.testing.assert_allclose(keypoints[8020:8380], part[20:380], atol=0.01)
    assert np.abs(keypoints[..., :2] - truth).mean() < 0.8 * 3 * np.sqrt(2 / np.pi)


def test_short_gaps_are_bridged_with_less_confidence_and_long_ones_are_not() -> None:
    keypoints, times = _moving(120)
    truth = keypoints[..., :2].copy()
    keypoints[30:34] = np.nan
    keypoints[60:80] = np.nan
    smooth_skeleton(keypoints, times, np.zeros(120, np.int64))
    assert np.abs(keypoints[30:34, :, :2] - truth[30:34]).max() < 2
    assert (keypoints[30:34, :, 2] < 0.5).all()
    assert np.isnan(keypoints[60:80]).all()


def test_a_doubtful_joint_is_left_out_and_the_others_stay() -> None:
    keypoints, times = _moving(60)
    keypoints[:, 9, 2] = MIN_CONFIDENCE - 0.1
    smooth_skeleton(keypoints, times, np.zeros(60, np.int64))
    assert np.isnan(keypoints[:, 9]).all()
    assert np.isfinite(np.delete(keypoints, 9, axis=1)).all()


def test_nothing_is_bridged_or_smoothed_over_a_cut() -> None:
    keypoints, times = _moving(60)
    keypoints[30:, :, 0] += 500
    keypoints[29:31] = np.nan
    segment = (np.arange(60) >= 30).astype(np.int64)
    before = keypoints.copy()
    smooth_skeleton(keypoints, times, segment)
    assert np.isnan(keypoints[29:31]).all()
    known = np.isfinite(before)
    assert np.abs(keypoints[known] - before[known]).max() < 3
