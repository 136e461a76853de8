"""The court stage refuses what is no picture of a court before it looks for one."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.badminton.court_stage import find_courts
from tests.harness.vision.badminton_jobs import film

KEYPOINTS = {
    "top_left": (10.0, 2.0),
    "top_right": (90.0, 2.0),
    "bottom_right": (99.0, 14.0),
    "bottom_left": (2.0, 14.0),
}


def write_video(path: Path, width_px: int, height_px: int, *, fragmented: bool = False) -> None:
    options = {"movflags": "frag_keyframe+empty_moov"} if fragmented else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = width_px, height_px, "yuv420p"
        for _ in range(25):
            picture = np.full((height_px, width_px, 3), 90, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode(None))


def refused(path: Path, *, keypoints: bool) -> SaccadeError:
    with pytest.raises(SaccadeError) as caught:
        find_courts(path, path.name, KEYPOINTS if keypoints else None, progress=lambda _share, _text: None)
    return caught.value


@pytest.mark.parametrize("keypoints", [False, True])
def test_a_recording_that_was_broken_off_before_its_first_frame_is_unreadable(tmp_path: Path, keypoints: bool) -> None:
    write_video(tmp_path / "whole.mp4", 128, 72, fragmented=True)
    content = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "head.mp4").write_bytes(content[: content.index(b"moof") - 4])
    assert refused(tmp_path / "head.mp4", keypoints=keypoints).code == ErrorCode.INPUT_UNREADABLE


@pytest.mark.parametrize("size", [(4096, 16), (16, 2048)])
def test_a_strip_is_no_picture_of_a_court(tmp_path: Path, size: tuple[int, int]) -> None:
    write_video(tmp_path / "strip.mp4", *size)
    error = refused(tmp_path / "strip.mp4", keypoints=False)
    assert error.code == ErrorCode.COURT_NOT_FOUND
    assert f"{size[0]} × {size[1]}" in str(error)


@pytest.mark.parametrize(("rate_hz", "warned"), [(8.0, True), (12.5, False)])
def test_a_video_of_few_frames_a_second_says_what_that_does(tmp_path: Path, rate_hz: float, warned: bool) -> None:
    video, _ = film(tmp_path, duration_s=2.5, rate_hz=rate_hz)
    found = find_courts(video, video.name, None, progress=lambda _share, _text: None)
    assert [text[:42] for text in found.warnings] == ["The video has 8 frames a second: below 10,"] * warned
