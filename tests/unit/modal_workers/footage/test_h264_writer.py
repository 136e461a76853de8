"""The MP4 writer keeps the times of frames whose rate varies."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from modal_workers.footage.h264_writer import H264Writer
from modal_workers.footage.video_reader import VideoReader


def test_frames_of_a_timed_file_keep_their_times(tmp_path: Path) -> None:
    path = tmp_path / "timed.mp4"
    times_s = [0.0, 0.033, 0.1, 0.104, 0.25, 0.2833]
    with H264Writer(path, (64, 36), Fraction(30), timed=True) as writer:
        for time_s in times_s:
            writer.write(np.full((54, 64), 128, np.uint8), time_s)
    assert [time_s for time_s, _ in VideoReader(path, "timed").decoded()] == pytest.approx(times_s, abs=1e-4)


def test_other_frames_follow_each_other_at_the_rate_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "plain.mp4"
    with H264Writer(path, (64, 36), Fraction(25)) as writer:
        for _ in range(4):
            writer.write(np.full((54, 64), 128, np.uint8))
    assert [time_s for time_s, _ in VideoReader(path, "plain").decoded()] == pytest.approx([0, 0.04, 0.08, 0.12])
