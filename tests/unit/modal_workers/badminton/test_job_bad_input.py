"""Videos that show no match, half of one or a damaged one: a typed error, or a result that says what it lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.badminton.court.dimensions import CORNERS_M, NET_Y_M
from modal_workers.badminton.court.homography import project
from modal_workers.badminton.report.results_schema import MatchResults
from simulators.badminton.comparison import compare_with_truth
from tests.harness.vision.badminton_jobs import film, run_job

#: Half the frames, for tests that are not about the shuttle: at this rate it is not found.
FEW_HZ = 12.5


def refused(video: Path, home: Path, **params: Any) -> SaccadeError:
    """Return the error of a job, which leaves no artifact."""
    with pytest.raises(SaccadeError) as caught:
        run_job(video, home, **params)
    assert not (home / "saved").exists()
    assert caught.value.hint
    return caught.value


@pytest.mark.share(every=2)
@pytest.mark.parametrize(
    ("scene", "said"),
    [
        ({"scene": "plain"}, "lines"),
        ({"scene": "tennis"}, "lines were found at"),
        ({"pan_deg": 30.0}, "the camera moves"),
        ({"pan_deg": 10.0}, "pans too far"),
    ],
)
def test_a_video_without_a_court_that_stands_still_is_refused_with_the_reason(
    tmp_path: Path, scene: dict[str, Any], said: str
) -> None:
    video, _ = film(tmp_path, duration_s=3.0, rate_hz=FEW_HZ, **scene)
    error = refused(video, tmp_path / "home")
    assert error.code is ErrorCode.COURT_NOT_FOUND
    assert said in error.message.lower()


@pytest.mark.soak
def test_a_court_that_is_half_out_of_view_is_right_and_says_how_much_is_seen(tmp_path: Path, soak_runs: int) -> None:
    if soak_runs <= 12:
        pytest.skip("the court alone is tested in its own file: in a soak of more than 12 runs")
    video, truth = film(tmp_path, duration_s=3.0, half_out_of_view=True)
    done = run_job(video, tmp_path / "home", video_height_px=180)
    assert compare_with_truth(done.results, truth).corner_error_px.max() < 5
    assert done.results["segments"][0]["court"]["visible_share"] < 0.75


def test_one_player_alone_gets_figures_and_no_rally_is_invented(tmp_path: Path) -> None:
    video, truth = film(tmp_path, duration_s=6.0, persons="one")
    done = run_job(video, tmp_path / "home", players="singles", video_height_px=180)
    missing = {part.part: part.reason for part in done.result.missing}
    assert "rallies" in missing
    assert done.results["rallies"] == []
    assert done.result.rally_count is None
    (alone,) = [player for player in done.result.players if player.observed_share > 0.5]
    assert alone.player == int(truth.positions_m[0, 0, 1] > NET_Y_M)
    track = done.results["tracks"]["players"][alone.player]
    found = np.array([track["x_m"], track["y_m"]], float).T
    error_m = np.linalg.norm(found - truth.positions_m[0, done.results["tracks"]["source_frame"]], axis=1)
    assert np.nanmedian(error_m) < 0.3


def test_a_court_with_nobody_on_it_has_no_figures_and_says_so(tmp_path: Path) -> None:
    video, _ = film(tmp_path, duration_s=3.0, persons="none")
    done = run_job(video, tmp_path / "home", video_height_px=180)
    assert {part.part for part in done.result.missing} == {"players", "skeletons", "shuttle", "rallies"}
    assert all(part.reason for part in done.result.missing)
    assert (done.result.rally_count, done.result.play_s, done.result.hit_count) == (None, None, None)
    assert all(player.distance_m is None for player in done.result.players)
    assert done.results["hits"] == []
    MatchResults.model_validate(done.results)


def test_a_clip_of_a_phone_is_analysed_upright_and_at_its_own_times(tmp_path: Path) -> None:
    """15 Hz, every tenth frame is missing, the intervals vary, and the frames are stored turned by 90 degrees."""
    video, truth = film(
        tmp_path, duration_s=5.0, rate_hz=15.0, rotation_deg=90, rate_jitter=0.4, dropped=0.1, shake_px=0.0
    )
    done = run_job(video, tmp_path / "home", video_height_px=180)
    facts = done.result.video
    assert (facts.width_px, facts.height_px, facts.variable_rate) == (640, 360, True)
    assert facts.rotation_deg != 0
    assert facts.frame_count == facts.analysed_frame_count == len(truth.time_s)
    assert done.results["tracks"]["time_s"] == pytest.approx(truth.time_s.tolist(), abs=0.002)
    compared = compare_with_truth(done.results, truth)
    assert compared.corner_error_px.max() < 1
    assert all(np.nanmedian(player.position_error_m) < 0.4 for player in compared.players)
    with av.open(str(done.context.saved / "processed.mp4")) as container:
        times_s = [float(frame.time) for frame in container.decode(video=0)]
    assert times_s == pytest.approx(truth.time_s.tolist(), abs=0.002)


@pytest.mark.soak
def test_slow_motion_of_240_hz_is_analysed_at_60_hz(tmp_path: Path, soak_runs: int) -> None:
    if soak_runs <= 12:
        pytest.skip("which frames are taken is tested without a video: in a soak of more than 12 runs")
    video, truth = film(tmp_path, duration_s=2.2, rate_hz=240.0)
    done = run_job(video, tmp_path / "home", video_height_px=180)
    assert done.result.video.frame_count == len(truth.time_s) == 528
    frames = done.results["tracks"]["source_frame"]
    assert frames == list(range(0, 528, 4))
    assert done.results["tracks"]["time_s"] == pytest.approx(truth.time_s[frames].tolist(), abs=0.001)


def test_a_black_stretch_is_left_out_and_the_players_are_the_same_after_it(tmp_path: Path) -> None:
    video, truth = film(tmp_path, duration_s=6.4, black_s=(2.4, 4.0))
    done = run_job(video, tmp_path / "home", video_height_px=180)
    kinds = [(each["kind"], each["start_s"], each["end_s"]) for each in done.results["segments"]]
    assert kinds == [("play", 0.0, 2.4), ("black", 2.4, 4.0), ("play", 4.0, pytest.approx(6.36))]
    assert done.result.left_out_s == pytest.approx(1.6)
    black = slice(60, 100)
    for track in done.results["tracks"]["players"]:
        assert set(track["x_m"][black]) == {None}
    assert not any(60 <= hit["frame"] < 100 for hit in done.results["hits"])
    assert [player.switch_count for player in compare_with_truth(done.results, truth).players] == [0, 0]


def test_a_hand_that_shakes_is_taken_out(tmp_path: Path) -> None:
    video, truth = film(tmp_path, duration_s=4.0, rate_hz=FEW_HZ, shake_px=2.0)
    done = run_job(video, tmp_path / "home", video_height_px=180)
    assert done.result.left_out_s < 0.5
    compared = compare_with_truth(done.results, truth)
    (segment,) = done.results["segments"]
    views = np.array(segment["frame_views"], float).reshape(-1, 3, 3)
    here, there = (
        np.stack([project(homography, CORNERS_M) for homography in homographies])
        for homographies in (views, truth.image_from_court)
    )
    assert np.median(np.linalg.norm(here - there, axis=2)) < 1.2
    # A camera taken for a still one would be wrong by the shake itself.
    assert np.median(np.linalg.norm(there - np.median(there, axis=0), axis=2)) > 1.7
    assert all(np.nanmedian(player.position_error_m) < 0.4 for player in compared.players)
    boxes = done.results["tracks"]["players"][1]
    assert sum(value is not None for value in boxes["x_m"]) > 0.7 * len(boxes["x_m"])


def test_a_replay_and_the_crowd_are_left_out_and_named(tmp_path: Path) -> None:
    video, truth = film(tmp_path, seed=26, duration_s=17.0, rate_hz=10.0, cuts=True)
    done = run_job(video, tmp_path / "home", video_height_px=180)
    away = [each for each in truth.segments if each.kind != "play"]
    assert {each.kind for each in away} == {"crowd", "replay"}
    for each in away:
        inside = [one for one in done.results["segments"] if each.start_s <= one["start_s"] < each.end_s - 0.2]
        assert inside, each
        assert all(one["court"] is None and one["reason"] for one in inside), each
    assert done.result.left_out_s == pytest.approx(sum(each.end_s - each.start_s for each in away), abs=0.5)
    assert [player.switch_count for player in compare_with_truth(done.results, truth).players] == [0, 0]


@pytest.mark.soak
def test_a_player_keeps_the_number_through_a_change_of_ends(tmp_path: Path, soak_runs: int) -> None:
    if soak_runs <= 12:
        pytest.skip("half a minute of match: in a soak of more than 12 runs")
    video, truth = film(tmp_path, duration_s=40.0, change_of_ends_after=1)
    assert truth.changes_of_ends_s
    done = run_job(video, tmp_path / "home", video_height_px=180)
    compared = compare_with_truth(done.results, truth)
    assert [player.switch_count for player in compared.players] == [0, 0]
    assert [player.player for player in compared.players] == [0, 1]


def clip(path: Path, frames: int) -> Path:
    """Write a grey clip at 25 frames a second."""
    with av.open(str(path), "w") as container:
        track: Any = container.add_stream("libx264", rate=25)
        track.width, track.height, track.pix_fmt = 320, 180, "yuv420p"
        container.start_encoding()
        for _ in range(frames):
            grey = np.full((180, 320, 3), 128, np.uint8)
            container.mux(track.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(track.encode())
    return path


def sound_only(path: Path, duration_s: int) -> Path:
    """Write a file with a tone and no video."""
    rate_hz = 44_100
    with av.open(str(path), "w", format="mp4") as container:
        track: Any = container.add_stream("aac", rate=rate_hz, layout="mono")
        tone = np.sin(2 * np.pi * 440 * np.arange(duration_s * rate_hz) / rate_hz).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
        frame.sample_rate = rate_hz
        container.mux(track.encode(frame))
        container.mux(track.encode())
    return path


def test_files_that_hold_no_video_worth_the_name_are_refused(tmp_path: Path) -> None:
    sound = sound_only(tmp_path / "sound.m4a", 3)
    short = clip(tmp_path / "short.mp4", 25)
    text = tmp_path / "text.mp4"
    text.write_text("no video at all")
    cut_off = tmp_path / "cut_off.mp4"
    cut_off.write_bytes(short.read_bytes()[:600])
    empty = clip(tmp_path / "empty.mp4", 0)
    codes = {path.stem: refused(path, tmp_path / path.stem).code for path in (sound, short, text, cut_off, empty)}
    assert codes.pop("sound") is ErrorCode.MEDIA_NO_VIDEO
    assert codes.pop("short") is ErrorCode.CLIP_TOO_SHORT
    assert codes.pop("empty") in (ErrorCode.MEDIA_NO_VIDEO, ErrorCode.INPUT_UNREADABLE)
    assert set(codes.values()) == {ErrorCode.INPUT_UNREADABLE}


def test_wrong_keypoints_are_refused_before_anything_is_analysed(tmp_path: Path) -> None:
    video, truth = film(tmp_path, duration_s=2.4, rate_hz=FEW_HZ)
    homography = truth.image_from_court[0]
    corners = {}
    for name, (x, y) in {
        "top_left": (0, 0), "top_right": (6.1, 0), "bottom_right": (6.1, 13.4), "bottom_left": (0, 13.4),
    }.items():  # fmt: skip
        place = homography @ (x, y, 1.0)
        corners[name] = (float(place[0] / place[2]), float(place[1] / place[2]))
    mirrored = {
        name: corners[name.replace("left", "*").replace("right", "left").replace("*", "right")] for name in corners
    }
    crossed = corners | {"bottom_left": corners["bottom_right"], "bottom_right": corners["bottom_left"]}
    outside = corners | {"top_right": (2000.0, 50.0)}
    for number, (points, said) in enumerate(((mirrored, "mirrored"), (crossed, "crossed"), (outside, "outside"))):
        error = refused(video, tmp_path / f"home-{number}", court_keypoints=points)
        assert error.code is ErrorCode.COURT_KEYPOINTS_INVALID
        assert error.extra["reason"] == said
    clicked = {name: (x + 3, y - 2) for name, (x, y) in corners.items()}
    done = run_job(video, tmp_path / "right", court_keypoints=clicked, video_height_px=180)
    assert done.result.court is not None
    assert done.result.court.source == "keypoints"
    assert compare_with_truth(done.results, truth).corner_error_px.max() < 1
