"""Decoding of clips: timestamps, rotation, odd sizes, and all kinds of invalid files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.footage.video_reader import MIN_DURATION_S, VideoReader, VideoSpan
from modal_workers.lap_compare.spec import SEGMENT_S
from modal_workers.road_video.clip_description import extract_clip
from simulators.laps.lap_video import write_rotation
from tests.harness.vision.lap_videos import ignore_progress, moving_pictures, write_clip


def read(path: Path) -> tuple[VideoReader, list[float], list[np.ndarray]]:
    reader = VideoReader(path, path.name)
    frames = list(reader.frames())
    return reader, [frame.time_s for frame in frames], [frame.grey for frame in frames]


def test_times_are_those_of_the_container_from_the_first_frame(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    times = np.cumsum(random.uniform(0.02, 0.08, 60))
    path = write_clip(tmp_path / "phone.mp4", moving_pictures(60), (times + 3.0).tolist())
    reader, seen, _ = read(path)
    assert np.allclose(seen, times - times[0], atol=2e-4)
    assert reader.facts.variable_rate
    assert reader.facts.duration_s == pytest.approx(times[-1] - times[0], abs=1e-3)
    assert reader.facts.frame_count == 60


def test_a_constant_rate_clip_is_not_variable(tmp_path: Path) -> None:
    reader, _, _ = read(write_clip(tmp_path / "steady.mp4", moving_pictures(60), (np.arange(60) / 30).tolist()))
    assert not reader.facts.variable_rate
    assert reader.facts.mean_rate_hz == pytest.approx(30, rel=0.01)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_in_metadata_is_undone(tmp_path: Path, degrees: int) -> None:
    upright = moving_pictures(20, 160, 90)
    times = (np.arange(20) / 10).tolist()
    plain = write_clip(tmp_path / "plain.mp4", upright, times, crf="10")
    stored = [np.rot90(picture, degrees // 90) for picture in upright]
    turned = write_clip(tmp_path / "turned.mp4", stored, times, crf="10")
    write_rotation(turned, degrees)
    reader, _, pictures = read(turned)
    _, _, expected = read(plain)
    assert (reader.facts.width_px, reader.facts.height_px) == (160, 90)
    assert reader.facts.rotation_deg != 0
    apart = [np.mean(cv2.absdiff(a, b)) for a, b in zip(pictures, expected, strict=True)]
    assert max(apart) < 12.0
    assert np.mean(cv2.absdiff(np.ascontiguousarray(pictures[0][::-1]), expected[0])) > 20.0


def test_odd_dimensions_are_read(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "odd.mp4", moving_pictures(30, 161, 91), (np.arange(30) / 10).tolist())
    reader, times, pictures = read(path)
    assert (reader.facts.width_px, reader.facts.height_px) == (161, 91)
    assert len(times) == 30
    assert pictures[0].shape == (180, 320)


def test_a_fast_clip_is_sampled_at_the_requested_rate(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "fast.mp4", moving_pictures(240), (np.arange(240) / 120).tolist())
    times = [frame.time_s for frame in VideoReader(path, "fast").frames(rate_hz=30)]
    assert np.allclose(np.diff(times), 1 / 30, atol=2e-3)
    assert len(times) == 60


def test_frames_at_wanted_times_are_found_across_long_gaps(tmp_path: Path) -> None:
    count = 900
    pictures = [np.full((90, 160, 3), 20 + index * 200 // count, np.uint8) for index in range(count)]
    path = write_clip(tmp_path / "long.mp4", pictures, (np.arange(count) / 20 + 1.0).tolist())
    wanted = [1.0, 20.0, 21.0, 44.0]
    found = list(VideoReader(path, "long").frames(wanted_s=wanted))
    assert [frame.time_s for frame in found] == pytest.approx(wanted, abs=0.051)
    shown = [20 + int(time * 20) * 200 // count for time in wanted]
    levels = [16 + level * 219 / 255 for level in shown]  # luma of video runs from 16 to 235
    assert [float(frame.grey.mean()) for frame in found] == pytest.approx(levels, abs=3)
    assert np.all(np.diff([float(frame.grey.mean()) for frame in found]) > 0)


def refusal(path: Path) -> SaccadeError:
    with pytest.raises(SaccadeError) as caught:
        extract_clip(path, path.name, progress=ignore_progress)
    assert path.name in caught.value.message
    return caught.value


def test_text_renamed_to_mp4_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "letter.mp4"
    path.write_text("Dear driver, this is no video.\n" * 50)
    assert refusal(path).code == ErrorCode.INPUT_UNREADABLE


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.mp4"
    path.touch()
    assert refusal(path).code == ErrorCode.INPUT_UNREADABLE


def test_audio_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44_100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44_100), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 44_100, 0, Fraction(1, 44_100)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert refusal(path).code == ErrorCode.MEDIA_NO_VIDEO


@pytest.mark.parametrize("count", [1, 20])
def test_a_clip_shorter_than_two_seconds_is_refused(tmp_path: Path, count: int) -> None:
    path = write_clip(tmp_path / "blink.mp4", moving_pictures(count), (np.arange(count) / 30).tolist())
    assert refusal(path).code == ErrorCode.CLIP_TOO_SHORT


def test_a_still_picture_is_refused(tmp_path: Path) -> None:
    still = moving_pictures(1)[0]
    path = write_clip(tmp_path / "still.mp4", [still] * 120, (np.arange(120) * 2.0).tolist())
    assert refusal(path).code == ErrorCode.CLIP_STATIC


def test_a_noisy_still_picture_is_refused(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    still = moving_pictures(1, 320, 180)[0].astype(np.int16)
    noisy = [np.clip(still + random.normal(0, 6, still.shape), 0, 255).astype(np.uint8) for _ in range(60)]
    path = write_clip(tmp_path / "parked.mp4", noisy, (np.arange(60) / 15).tolist())
    assert refusal(path).code == ErrorCode.CLIP_STATIC


def test_a_truncated_clip_is_used_up_to_its_end_with_a_warning(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "cut.mp4", moving_pictures(300), (np.arange(300) / 30).tolist())
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    clip, description, warnings = extract_clip(path, path.name, progress=ignore_progress)
    assert 3.0 < clip.duration_s < 8.0
    assert description.time_s[-1] == pytest.approx(clip.duration_s, abs=0.05)
    assert len(warnings) == 1
    assert "cut.mp4" in warnings[0]


def test_a_truncated_clip_of_less_than_two_seconds_is_refused(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "cut.mp4", moving_pictures(300), (np.arange(300) / 30).tolist())
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 7])
    assert refusal(path).code in {ErrorCode.CLIP_TOO_SHORT, ErrorCode.INPUT_UNREADABLE}


@pytest.mark.parametrize(("start_s", "end_s"), [(3.35, 9.05), (14.02, None), (0.0, 4.0), (17.0, 25.0)])
def test_a_span_has_exactly_its_frames_wherever_the_keyframes_are(
    tmp_path: Path, start_s: float, end_s: float | None
) -> None:
    times = np.cumsum(np.random.default_rng(7).uniform(0.05, 0.15, 200))
    path = write_clip(tmp_path / "two laps.mp4", moving_pictures(200), (times + 1.5).tolist(), g="77")
    _, every, pictures = read(path)
    reader = VideoReader(VideoSpan(path, start_s, end_s), "lap")
    found = list(reader.frames())
    inside = [at for at, time_s in enumerate(every) if start_s <= time_s <= (end_s or np.inf)]
    assert np.allclose([frame.time_s for frame in found], np.array(every)[inside] - start_s, atol=2e-4)
    assert all(np.array_equal(frame.grey, pictures[at]) for frame, at in zip(found, inside, strict=True))
    assert reader.duration_s == pytest.approx(min(every[-1], end_s or np.inf) - start_s, abs=0.2)
    wanted = [float(found[at].time_s) for at in (2, len(found) // 2, -2)]
    near = VideoReader(VideoSpan(path, start_s, end_s), "lap").frames(wanted_s=wanted)
    assert [frame.time_s for frame in near] == pytest.approx(wanted, abs=2e-3)


def test_a_span_after_the_end_is_named(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "short.mp4", moving_pictures(40), (np.arange(40) / 10).tolist())
    reader = VideoReader(VideoSpan(path, 30.0), "short.mp4 (30 s to the end)")
    assert list(reader.frames()) == []
    with pytest.raises(SaccadeError) as refused:
        reader.reject_short()
    assert refused.value.code is ErrorCode.CLIP_TOO_SHORT
    assert "ends before" in refused.value.message


def test_the_shortest_segment_is_the_shortest_clip() -> None:
    assert SEGMENT_S == MIN_DURATION_S
