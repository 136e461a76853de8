"""Which frames are analysed: all up to 60 Hz whatever their jitter, evenly spaced ones of faster videos."""

from __future__ import annotations

import numpy as np
import pytest

from modal_workers.badminton.frame_times import AnalysedFrames, FrameTimes


def analysed(times_s: np.ndarray) -> FrameTimes:
    frames = AnalysedFrames()
    assert [frames.admit(float(time_s)) for time_s in times_s].count(True) == len(frames.times)
    return frames.times


@pytest.mark.parametrize("rate_hz", [15.0, 25.0, 29.97, 59.94, 60.0])
@pytest.mark.parametrize("jitter", [0.0, 0.4])
def test_every_frame_of_a_usual_video_is_analysed(rate_hz: float, jitter: float) -> None:
    random = np.random.default_rng(7)
    times_s = (np.arange(600) + jitter * random.uniform(-0.5, 0.5, 600)) / rate_hz
    found = analysed(times_s - times_s[0])
    assert len(found) == 600
    assert found.rate_hz == pytest.approx(rate_hz, rel=0.1 if jitter else 0.01)


@pytest.mark.parametrize(("rate_hz", "every"), [(120.0, 2), (119.88, 2), (240.0, 4), (239.76, 4), (960.0, 16)])
def test_of_slow_motion_every_nth_frame_is_analysed(rate_hz: float, every: int) -> None:
    found = analysed(np.arange(1200) / rate_hz)
    steps = np.diff(found.source_frame)
    assert (steps == every).mean() > 0.99
    assert abs(steps - every).max() <= 1


def test_between_60_and_120_hz_the_frames_are_as_even_as_they_can_be() -> None:
    found = analysed(np.arange(900) / 90)
    assert 580 <= len(found) <= 601
    assert np.diff(found.source_frame).max() == 2


def test_after_a_gap_no_frames_are_caught_up() -> None:
    times_s = np.concatenate([np.arange(240) / 240, 5 + np.arange(240) / 240])
    found = analysed(times_s)
    assert np.diff(found.time_s).min() > 0.7 / 60
    assert len(found) <= 122
