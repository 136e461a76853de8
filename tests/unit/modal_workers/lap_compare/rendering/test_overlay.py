"""The overlay shows both clips at the same place, as an MP4 that browsers play."""

from __future__ import annotations

import struct
import threading
from pathlib import Path

import av
import numpy as np
import pytest

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.footage.h264_writer import H264Writer, shrink_video
from modal_workers.footage.yuv_image import BT601, BT709, YuvImage
from modal_workers.lap_compare.rendering.dashboard import Dashboard, FrameFigures
from modal_workers.lap_compare.rendering.overlay import output_timeline, render_overlay
from modal_workers.lap_compare.rendering.panel import panel_frames
from modal_workers.runtime.context import Stopped
from simulators.laps.lap_video import write_rotation
from tests.harness.vision.lap_comparisons import BRIGHT, DARK, clip, comparison, write_grey_clip, write_place_clip

LENGTH_S = 6.0
RAMPS = 8  # of grey along the lap: nine levels a frame
SPAN = (BRIGHT - DARK) * 219 / 255  # of luma, limited range


def b_of(time_a_s: np.ndarray) -> np.ndarray:
    """B starts 0.7 s later in its clip, is slow in the first half and makes up for it."""
    return 0.7 + time_a_s + 0.8 * np.sin(np.pi * time_a_s / LENGTH_S) ** 2


@pytest.fixture(scope="module")
def warped(tmp_path_factory):
    """Two clips of one road and their true comparison: A at 25 Hz, B at 30 Hz and warped."""
    folder = tmp_path_factory.mktemp("warped")
    time_a_s = np.arange(0, LENGTH_S, 1 / 25)
    write_place_clip(folder / "a.mp4", time_a_s, time_a_s / LENGTH_S, ramps=RAMPS)
    fine_s = np.linspace(0, LENGTH_S, 2000)
    time_b_s = np.arange(0, b_of(fine_s)[-1], 1 / 30)
    write_place_clip(folder / "b.mp4", time_b_s, np.interp(time_b_s, b_of(fine_s), fine_s / LENGTH_S), ramps=RAMPS)
    truth = comparison(
        time_a_s,
        b_of(time_a_s),
        clips=(clip("a.mp4"), clip("b.mp4", rate_hz=30.0)),
        stretches=((1.0, 2.5), (3.63, 4.87)),
    )
    return folder / "a.mp4", folder / "b.mp4", truth


@pytest.fixture(scope="module")
def rendered(warped, tmp_path_factory):
    """The overlay of the warped pair with the clips of the same pass, and what was said of the progress."""
    folder = tmp_path_factory.mktemp("rendered")
    path_a, path_b, truth = warped
    clips = {1: folder / "1.mp4", 2: folder / "2.mp4"}
    said: list[float] = []
    render_overlay(
        path_a,
        path_b,
        truth,
        folder / "overlay.mp4",
        height_px=240,
        clips=clips,
        progress=lambda share, _: said.append(share),
    )
    return folder / "overlay.mp4", clips, said


def frames(path: Path) -> list[np.ndarray]:
    """Decode the luma of every frame, [height, width]."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray()[: frame.height] for frame in container.decode(video=0)]


def panel_levels(path: Path) -> np.ndarray:
    """Measure the grey level in the middle of both panels of a 480-high overlay whose panels are 240 high: [N, 2]."""
    pictures = frames(path)
    quarter = pictures[0].shape[1] // 4
    rows = slice(105, 135)
    return np.array(
        [[p[rows, x - 20 : x + 20].mean() for x in (quarter, 3 * quarter)] for p in pictures],
    )


def boxes(path: Path) -> list[str]:
    """List the top-level boxes of an MP4 in order."""
    data, at, names = path.read_bytes(), 0, []
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        names.append(name.decode())
        at += size
    return names


def test_both_halves_show_the_same_place(warped, rendered):
    levels, plan = panel_levels(rendered[0]), output_timeline(warped[2])
    assert len(levels) == len(plan.time_a_s) == 150
    ramp_s = LENGTH_S / RAMPS
    apart = (levels[:, 1] - levels[:, 0]) / SPAN
    apart_s = (apart - np.rint(apart)) * ramp_s
    # the nearest frame of B is at most half a frame off; where B is fast that is more of the road
    assert np.abs(apart_s).max() < 0.5 / 30 * 1.8 + 0.012
    assert np.median(np.abs(apart_s)) < 0.012
    # the clips' own clocks differ by 0.7 to 1.5 s at the same place: played by time they would be ramps apart
    assert np.ptp(plan.time_b_s - plan.time_a_s) > ramp_s


def test_grey_levels_survive(warped, rendered):
    source = [picture.mean() for picture in frames(warped[0])]
    assert np.abs(panel_levels(rendered[0])[:, 0] - source).max() < 2.5


def test_browsers_can_play_it(rendered):
    names = boxes(rendered[0])
    assert names.index("moov") < names.index("mdat")
    with av.open(str(rendered[0])) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert float(stream.average_rate) == 25.0
        assert float(stream.duration * stream.time_base) == pytest.approx(LENGTH_S, abs=0.05)
        assert stream.width % 2 == stream.height % 2 == 0


def test_opportunity_clips_contain_their_stretch(warped, rendered, tmp_path):
    overlay, clips, said = rendered
    whole, first, second = panel_levels(overlay), panel_levels(clips[1]), panel_levels(clips[2])
    # the stretch with a second on either side, of which the first has nothing before the lap
    assert len(first) == 88  # 0 to 3.48 s
    assert len(second) == 81  # 2.64 to 5.84 s
    assert np.abs(first - whole[: len(first)]).max() < 4
    assert np.abs(second - whole[66:147]).max() < 4
    assert said == sorted(said)
    assert said[-1] == 1.0
    alone = tmp_path / "alone.mp4"
    render_overlay(*warped, tmp_path / "overlay.mp4", height_px=240, clips={2: alone})
    assert np.abs(panel_levels(alone) - second).max() < 4


def test_the_delta_bar_has_the_right_side_and_colour():
    times_s = np.arange(0, 4, 0.1)
    size = (128, 72)
    dashboard = Dashboard(comparison(times_s, times_s * 1.1, clips=(clip(size=size), clip(size=size))), 240, BT601)
    panel = YuvImage.filled(*dashboard.size_a, (128, 128, 128), BT601)

    def sides(delta_s: float) -> tuple[int, int]:
        """Draw one frame, and give V of the bar just left and right of its middle."""
        picture = YuvImage(dashboard.draw(FrameFigures(1.0, delta_s, 0.05, 0.9, 1.0), panel, panel).copy())
        rows, middle = np.s_[268 // 2 : 274 // 2], picture.width // 4
        left, right = picture.v[rows, middle - 8 : middle - 3], picture.v[rows, middle + 3 : middle + 8]
        return round(float(left.mean())), round(float(right.mean()))

    assert sides(0.0) == sides(0.001)
    empty_left, empty_right = sides(0.0)
    behind_left, behind_right = sides(0.3)
    ahead_left, ahead_right = sides(-0.3)
    assert (behind_left, ahead_right) == (empty_left, empty_right)
    assert behind_right > 170  # red
    assert ahead_left < 100  # green
    within = sides(0.04)
    assert abs(within[1] - 128) < 12  # plain while it is within the error


def test_an_unknown_rank_is_refused(warped, tmp_path):
    path_a, path_b, truth = warped
    with pytest.raises(ValueError, match="rank"):
        render_overlay(path_a, path_b, truth, tmp_path / "overlay.mp4", clips={7: tmp_path / "7.mp4"})


def test_a_stop_leaves_no_file_and_no_thread(warped, tmp_path):
    path_a, path_b, truth = warped

    def stop(share: float, _: str) -> None:
        if share > 0.2:
            raise Stopped

    before = threading.active_count()
    with pytest.raises(Stopped):
        render_overlay(path_a, path_b, truth, tmp_path / "o.mp4", clips={1: tmp_path / "1.mp4"}, progress=stop)
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == before


@pytest.mark.parametrize("name", ["a.mp4", "b.mp4"])
def test_a_missing_clip_is_named(warped, tmp_path, name):
    path_a, path_b, truth = warped
    (tmp_path / name).write_bytes(b"not a video at all")
    paths = (tmp_path / name, path_b) if name == "a.mp4" else (path_a, tmp_path / name)
    with pytest.raises(SaccadeError, match=name) as caught:
        render_overlay(*paths, truth, tmp_path / "o.mp4")
    assert caught.value.code == ErrorCode.INPUT_UNREADABLE
    assert not (tmp_path / "o.mp4").exists()


@pytest.mark.parametrize("sizes", [((97, 61), (96, 64)), ((64, 120), (160, 90)), ((640, 64), (64, 64))])
def test_odd_portrait_and_wide_clips(tmp_path, sizes):
    times_s = np.arange(0, 1.2, 0.04)
    clips = []
    for name, size in zip(("a.mp4", "b.mp4"), sizes, strict=True):
        write_place_clip(tmp_path / name, times_s, times_s / 1.2, size=size)
        clips.append(clip(name, size=size, duration_s=1.2))
    truth = comparison(times_s, times_s, clips=tuple(clips))
    render_overlay(tmp_path / "a.mp4", tmp_path / "b.mp4", truth, tmp_path / "o.mp4", height_px=240)
    levels = panel_levels(tmp_path / "o.mp4")
    assert len(levels) == len(times_s)
    assert np.abs(levels[:, 0] - levels[:, 1]).max() < 4


@pytest.mark.parametrize("turn_deg", [90, 180, 270])
def test_rotation_metadata_is_applied(tmp_path, turn_deg):
    picture = np.full((64, 96), float(DARK))
    picture[:, :48] = BRIGHT  # stored: the left half is bright
    times_s = np.arange(0, 0.4, 0.04)
    write_grey_clip(tmp_path / "a.mp4", times_s, [picture] * len(times_s))
    write_rotation(tmp_path / "a.mp4", turn_deg)
    size = (48, 72) if turn_deg != 180 else (72, 48)
    shot = next(panel_frames(tmp_path / "a.mp4", "a.mp4", times_s, size, BT601))
    assert (shot.image.width, shot.image.height) == size
    # turned clockwise: the bright left half goes to the top, the right, the bottom
    bright = {
        90: shot.image.y[: size[1] // 2 - 2],
        180: shot.image.y[:, size[0] // 2 + 2 :],
        270: shot.image.y[size[1] // 2 + 2 :],
    }[turn_deg]
    assert bright.mean() > shot.image.y.mean() + 40


def test_the_nearest_frame_of_an_uneven_clip_is_shown(tmp_path):
    rng = np.random.default_rng(5)
    times_s = np.round(np.cumsum(rng.uniform(0.01, 0.12, 60)), 3)
    write_place_clip(tmp_path / "v.mp4", times_s, np.linspace(0, 1, 60))
    wanted_s = np.sort(rng.uniform(-0.1, times_s[-1] + 0.3, 200))
    got = [shot.time_s for shot in panel_frames(tmp_path / "v.mp4", "v.mp4", wanted_s, (96, 64), BT601)]
    own_s = times_s - times_s[0]
    best = np.abs(own_s[:, None] - wanted_s).min(axis=0)
    assert np.abs(np.array(got) - wanted_s) == pytest.approx(best, abs=1e-6)


def test_colours_are_preserved(tmp_path):
    for matrix in (BT601, BT709):
        with H264Writer(
            tmp_path / "red.mp4",
            (64, 64),
            output_timeline(comparison(np.arange(3.0), np.arange(3.0))).rate_hz,
            matrix=matrix,
            quality=4,
        ) as movie:
            for _ in range(3):
                movie.write(YuvImage.filled(64, 64, (220, 40, 90), matrix).pixels)
        with av.open(str(tmp_path / "red.mp4")) as container:
            frame = next(container.decode(video=0))
            assert (int(frame.colorspace), int(frame.color_range)) == (matrix.tag, 1)
            rgb = frame.to_ndarray(format="rgb24", src_colorspace=matrix.scaler).mean(axis=(0, 1))
        assert rgb == pytest.approx([220, 40, 90], abs=4)


def test_a_video_is_shrunk_to_fit(tmp_path):
    rng = np.random.default_rng(3)
    noise = [rng.integers(0, 255, (128, 160)).astype(float) for _ in range(50)]
    write_grey_clip(tmp_path / "large.mp4", np.arange(50) / 25, noise)
    large = (tmp_path / "large.mp4").stat().st_size
    limit = large // 6
    small = shrink_video(tmp_path / "large.mp4", tmp_path / "small.mp4", limit)
    assert small.stat().st_size <= limit
    with av.open(str(small)) as container:
        stream = container.streams.video[0]
        assert float(stream.duration * stream.time_base) == pytest.approx(2.0, abs=0.1)
    assert shrink_video(tmp_path / "large.mp4", tmp_path / "same.mp4", large) == tmp_path / "large.mp4"
    with pytest.raises(ValueError, match="fit"):
        shrink_video(tmp_path / "large.mp4", tmp_path / "none.mp4", 2000)
    assert not (tmp_path / "none.mp4").exists()
