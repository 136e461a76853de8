"""The videos of a match: their times, their sizes, what is drawn on them, and what is left behind after an error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from modal_workers.badminton.analytics.analysis import analyse
from modal_workers.badminton.rendering.labels import Labels
from modal_workers.badminton.rendering.picture_source import output_size
from modal_workers.badminton.rendering.videos import RenderedVideos, render
from tests.harness.vision.badminton_matches import KnownMatch, film, known_match, without_court

RATE_HZ = 20.0


def _frames(path: Path) -> tuple[list[float], list[np.ndarray]]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        return [float(frame.pts * frame.time_base) for frame in frames], [f.to_ndarray(format="rgb24") for f in frames]


@pytest.fixture(scope="module")
def known() -> KnownMatch:
    """A match whose frames come at uneven times, as phones record them, and which ends with a replay."""
    match = known_match(duration_s=12, rate_hz=RATE_HZ, size=(426, 240))
    jitter_s = np.random.default_rng(2).uniform(-0.015, 0.015, match.match.frame_count)
    jitter_s[0] = 0
    times_s = match.match.times_s + jitter_s
    uneven = replace(match.match, times_s=times_s)
    return replace(match, match=without_court(uneven, 200, "a replay"))


@pytest.fixture(scope="module")
def rendered(known: KnownMatch, tmp_path_factory: pytest.TempPathFactory) -> RenderedVideos:
    folder = tmp_path_factory.mktemp("videos")
    film(known, folder / "source.mp4")
    told: list[str] = []
    videos = render(
        known.match,
        analyse(known.match),
        folder / "source.mp4",
        folder,
        height_px=181,
        rally_clips=True,
        play_video=True,
        progress=lambda share, text: told.append(f"{share:.2f} {text}"),
    )
    assert told[0] == "0.00 frame 1 of 240"
    assert told[-1] == "1.00 frame 240 of 240"
    return videos


def test_every_frame_keeps_its_time(known: KnownMatch, rendered: RenderedVideos) -> None:
    times_s, frames = _frames(rendered.processed)
    assert times_s == pytest.approx(known.match.times_s.tolist(), abs=1e-3)
    assert frames[0].shape == (180, 320, 3)
    assert rendered.plain is not None
    assert _frames(rendered.plain)[0] == pytest.approx(known.match.times_s.tolist(), abs=1e-3)


def test_a_browser_can_start_before_the_file_is_complete(rendered: RenderedVideos) -> None:
    for path in (rendered.processed, rendered.play, *rendered.rally_clips.values()):
        assert path is not None
        head = path.read_bytes()
        assert head.index(b"moov") < head.index(b"mdat")
        with av.open(str(path)) as container:
            context = container.streams.video[0].codec_context
            assert (context.name, context.pix_fmt) == ("h264", "yuv420p")


def test_players_are_marked_where_they_were_measured_and_nowhere_else(
    known: KnownMatch, rendered: RenderedVideos
) -> None:
    assert rendered.plain is not None
    (_, drawn), (_, plain) = _frames(rendered.processed), _frames(rendered.plain)
    tracks = known.match.tracks
    assert tracks is not None
    scale = 180 / 240
    for frame in (40, 120):
        changed = np.abs(drawn[frame].astype(int) - plain[frame]).max(axis=2) > 60
        for left, top, right, bottom in (tracks.boxes_px[:, frame] * scale).round().astype(int):
            assert changed[max(0, top) : bottom, left:right].mean() > 0.08
        assert changed[40:-8, :20].mean() < 0.01
    replay = np.abs(drawn[230].astype(int) - plain[230]).max(axis=2) > 60
    assert replay[: int(0.8 * 180)].mean() < 0.002, "nothing is drawn on what was not analysed"
    assert replay[int(0.8 * 180) : -6].mean() > 0.01, "but it says so"


def test_clips_hold_their_rally_and_a_second_around_it(known: KnownMatch, rendered: RenderedVideos) -> None:
    rallies = known.match.rallies
    assert list(rendered.rally_clips) == [rally.number for rally in rallies] == [1]
    assert rendered.rally_clips[1].name == "rally_001.mp4"
    times_s, _ = _frames(rendered.rally_clips[1])
    assert times_s[0] == pytest.approx(0, abs=0.06)
    assert times_s[-1] == pytest.approx(rallies[0].end_s - rallies[0].start_s + 2.0, abs=0.1)


def test_the_play_video_leaves_out_the_pauses(tmp_path: Path) -> None:
    known = known_match(duration_s=20, rate_hz=10, size=(96, 64))
    film(known, tmp_path / "source.mp4")
    videos = render(known.match, analyse(known.match), tmp_path / "source.mp4", tmp_path, height_px=64, play_video=True)
    assert videos.play is not None
    times_s, _ = _frames(videos.play)
    inside = [
        any(rally.start_s - 1 <= time_s <= rally.end_s + 1 for rally in known.match.rallies)
        for time_s in known.match.times_s
    ]
    assert len(times_s) == sum(inside) < len(inside)
    assert np.diff(times_s) == pytest.approx(0.1, abs=0.02)


def test_what_stops_the_work_leaves_no_unfinished_file(known: KnownMatch, tmp_path: Path) -> None:
    film(known, tmp_path / "source.mp4")

    def stop(share: float, text: str) -> None:
        if share > 0.3:
            raise KeyboardInterrupt(text)

    analysis = analyse(known.match)
    with pytest.raises(KeyboardInterrupt):
        render(
            known.match,
            analysis,
            tmp_path / "source.mp4",
            tmp_path / "out",
            rally_clips=True,
            play_video=True,
            progress=stop,
        )
    assert list((tmp_path / "out").rglob("*.mp4")) == []


def test_a_match_without_players_has_a_video_too(tmp_path: Path) -> None:
    known = known_match(duration_s=3, rate_hz=10, size=(64, 96))
    film(known, tmp_path / "source.mp4")
    match = replace(known.match, tracks=None, mode="rally_only")
    videos = render(match, analyse(match), tmp_path / "source.mp4", tmp_path)
    assert len(_frames(videos.processed)[0]) == 30
    assert videos.size == (64, 96)


def test_only_analysed_frames_are_shown(tmp_path: Path) -> None:
    known = known_match(duration_s=3, rate_hz=20, size=(96, 64))
    film(known, tmp_path / "source.mp4")
    tracks, shuttle = known.match.tracks, known.match.shuttle
    assert tracks is not None
    assert shuttle is not None
    names = ("position_m", "position_error_m", "velocity_m_s", "observed", "boxes_px", "keypoints_px", "confidence")
    every = {name: getattr(tracks, name)[:, ::2] for name in (*names, "identity_confidence", "side")}
    match = replace(
        known.match,
        times_s=known.match.times_s[::2],
        source_frame=known.match.source_frame[::2],
        tracks=replace(tracks, **every),
        shuttle=replace(shuttle, position_px=shuttle.position_px[::2], confidence=shuttle.confidence[::2]),
        segments=(replace(known.match.segments[0], last_frame=29),),
        rallies=(),
        hits=(),
    )
    videos = render(match, analyse(match), tmp_path / "source.mp4", tmp_path)
    assert _frames(videos.processed)[0] == pytest.approx(match.times_s.tolist(), abs=1e-3)


def test_a_long_reason_is_cut_off_where_the_picture_ends() -> None:
    labels = Labels(20)
    text = "Not analysed: " + "another camera shows the court here, " * 4
    assert labels.label(text).width > 600
    assert 500 < labels.label(labels.fitting(text, 600)).width <= 600
    assert labels.fitting("Not analysed: black", 600) == "Not analysed: black"


@pytest.mark.parametrize(
    ("video", "wanted", "size"),
    [((1920, 1080), 720, (1280, 720)), ((640, 361), 720, (638, 360)), ((720, 1280), 481, (270, 480))],
)
def test_the_output_is_even_and_not_larger_than_the_video(
    video: tuple[int, int], wanted: int, size: tuple[int, int]
) -> None:
    assert output_size(*video, wanted) == size
