"""Views for clients of the replaced system, checked as its page reads them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modal_workers.badminton.analytics.analysis import analyse
from modal_workers.badminton.court.homography_track import HomographyTrack
from modal_workers.badminton.match import Match
from modal_workers.badminton.players.persons import KEYPOINTS
from modal_workers.badminton.report import compat_files
from modal_workers.badminton.report.compat_files import write_compat_files
from tests.harness.vision.badminton_matches import known_match, without_court

COVERAGE = ("front", "mid", "back", "left", "center", "right")


def _refuse(name: str) -> Any:
    raise AssertionError(f"{name} is no JSON")


def _written(match: Match, folder: Path) -> dict[str, Any]:
    paths = write_compat_files(match, analyse(match), folder, video_id="k57a")
    return {name: json.loads(path.read_text(), parse_constant=_refuse) for name, path in paths.items()}


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_players(players: object) -> None:
    assert isinstance(players, list)
    for player in players:
        assert all(_number(player[name]) for name in ("avg_speed", "max_speed", "total_distance"))
        assert isinstance(player["player_id"], int)
        assert player["keypoints_history"] == []
        frames = [place["frame"] for place in player["positions"]]
        assert frames == sorted(set(frames))
        assert all(frame >= 1 for frame in frames)
        assert all(_number(place["x"]) and _number(place["y"]) for place in player["positions"])


def _check_rows(rows: object, total_frames: int) -> None:
    assert isinstance(rows, list)
    assert all(1 <= row["frame"] <= total_frames for row in rows)
    for before, after in pairwise(rows):
        assert before["timestamp"] < after["timestamp"]
        assert before["frame"] < after["frame"]
    for row in rows:
        assert isinstance(row["players"], list)
        for player in row["players"]:
            assert _number(player["center"]["x"])
            assert _number(player["center"]["y"])
            assert _number(player["current_speed"])
            assert [point["name"] for point in player["keypoints"]] == list(KEYPOINTS)
            for point in player["keypoints"]:
                assert _number(point["confidence"])
                assert (_number(point["x"]) and _number(point["y"])) or point["confidence"] < 0.3
        detections = row["badminton_detections"]
        if detections is not None:
            assert all(isinstance(detections[name], list) for name in ("players", "shuttlecocks", "rackets", "other"))
            for box in detections["players"]:
                assert all(_number(box[name]) for name in ("x", "y", "width", "height", "confidence"))
        place = row["shuttle_position"]
        assert place is None or (_number(place["x"]) and place["source"] in ("tracknet", "classical"))


def _check_results(results: dict[str, Any]) -> None:
    assert list(results) == [
        *("video_id", "duration", "fps", "total_frames", "processed_frames", "video_width", "video_height", "players"),
        *("skeleton_data", "shuttle", "court_detection", "shuttle_analytics", "player_zone_analytics", "rallies"),
        "rally_stats",
    ]
    assert all(_number(results[name]) for name in ("duration", "fps", "total_frames", "processed_frames"))
    _check_players(results["players"])
    _check_rows(results["skeleton_data"], results["total_frames"])
    assert results["processed_frames"] == len(results["skeleton_data"])
    court = results["court_detection"]
    if court is not None:
        assert court["detected"] is True
        assert len(court["court_corners"]) == 4
        assert all(_number(x) and _number(y) for x, y in court["court_corners"])
        assert len(court["keypoints"]) == 12
    zones = results["player_zone_analytics"]
    assert zones is None or zones
    for zone in (zones or {}).values():
        assert set(zone["zone_coverage"]) == set(COVERAGE)
        assert all(_number(share) for share in zone["zone_coverage"].values())
        assert _number(zone["position_count"])
        assert _number(zone["avg_distance_to_net_m"])
    if results["rallies"] is None:
        assert results["rally_stats"] is None
    else:
        for rally in results["rallies"]:
            assert rally["start_frame"] >= 1
            assert _number(rally["duration_seconds"])
        assert len(results["rally_stats"]) == 7
        assert all(_number(figure) for figure in results["rally_stats"].values())


def _check_speed(speed: dict[str, Any]) -> None:
    assert isinstance(speed["manual_keypoints_used"], bool)
    assert isinstance(speed["detection_source"], str)
    for row in speed["speed_data"]["frame_data"]:
        assert row["frame"] >= 1
        assert all(_number(player["speed_kmh"]) for player in row["players"])
    for figures in speed["speed_data"]["statistics"].values():
        assert _number(figures["avg"]["speed_kmh"])
        assert _number(figures["max"]["speed_kmh"])
        assert _number(figures["total_distance_m"])


def _check_heat_map(heat: dict[str, Any]) -> None:
    for cells in (heat["combined_heatmap"], *heat["player_heatmaps"].values()):
        assert len(cells) == heat["height"] == 48
        assert all(len(row) == heat["width"] == 64 for row in cells)
        assert all(0 <= cell <= 255 for row in cells for cell in row)


def _matches() -> dict[str, Match]:
    singles = known_match(duration_s=12, rate_hz=10).match
    tracks, shuttle = singles.tracks, singles.shuttle
    assert tracks is not None
    assert shuttle is not None
    never = replace(
        tracks,
        **{
            name: np.full_like(getattr(tracks, name), np.nan)
            for name in ("position_m", "position_error_m", "velocity_m_s", "boxes_px", "keypoints_px")
        },
        observed=np.zeros_like(tracks.observed),
    )
    jitter = np.sort(np.random.default_rng(1).uniform(0, 12, singles.frame_count))
    return {
        "singles": singles,
        "doubles": known_match(duration_s=12, rate_hz=10, players=4).match,
        "boxes": known_match(duration_s=12, rate_hz=10, skeletons=False).match,
        "cut": without_court(singles, 60, "a replay"),
        "nothing seen": replace(singles, tracks=never, rallies=(), hits=(), shuttle=None),
        "rally only": replace(singles, tracks=None, mode="rally_only"),
        "no court": replace(without_court(singles, 1, "no lines"), tracks=None, rallies=(), hits=()),
        "variable rate": replace(singles, times_s=jitter - jitter[0]),
    }


@pytest.mark.parametrize("name", list(_matches()))
def test_every_guard_of_the_page_is_kept(name: str, tmp_path: Path) -> None:
    match = _matches()[name]
    views = _written(match, tmp_path)
    _check_results(views["results.json"])
    _check_speed(views["speed.json"])
    _check_heat_map(views["heatmap.json"])
    assert all(view.get("video_id", view.get("videoId")) == "k57a" for view in views.values())
    assert views["zones.json"]["player_zone_analytics"] == (views["results.json"]["player_zone_analytics"] or {})
    summary = views["summary.json"]
    assert {"totalFrames", "processedFrames", "videoWidth", "videoHeight", "courtDetection"} <= set(summary)
    assert summary["courtDetection"] == views["results.json"]["court_detection"]
    assert summary["rallyCount"] == len(match.rallies)


def test_frames_count_from_one_and_carry_the_time_of_their_own_picture(tmp_path: Path) -> None:
    """The replaced system reads the container's time before each frame: its frames 1 and 2 are both at 0."""
    match = replace(known_match(duration_s=12, rate_hz=10).match, source_frame=np.arange(120) * 4)
    rows = _written(match, tmp_path)["results.json"]["skeleton_data"]
    assert [row["frame"] for row in rows[:3]] == [1, 5, 9]
    assert [row["timestamp"] for row in rows[:3]] == pytest.approx([0.0, 0.1, 0.2])


def test_the_centre_is_between_the_feet_and_the_corners_are_those_of_the_picture(tmp_path: Path) -> None:
    known = known_match(duration_s=12, rate_hz=10)
    tracks = known.match.tracks
    assert tracks is not None
    results = _written(known.match, tmp_path)["results.json"]
    feet = known.camera.project(np.append(tracks.position_m[1, 30], 0.0))
    assert list(results["skeleton_data"][30]["players"][1]["center"].values()) == pytest.approx(feet.tolist(), abs=0.06)
    top_left, top_right, bottom_right, bottom_left = results["court_detection"]["court_corners"]
    assert top_left[0] < top_right[0]
    assert bottom_left[0] < bottom_right[0]
    assert max(top_left[1], top_right[1]) < min(bottom_left[1], bottom_right[1])
    points = {point["name"]: point["y"] for point in results["court_detection"]["keypoints"]}
    assert points["service_line_near_left"] < points["net_left"] < points["service_line_far_left"], "near is at the top"
    assert points["center_near"] < points["center_far"]


def test_a_moving_camera_has_a_view_for_each_frame(tmp_path: Path) -> None:
    known = known_match(duration_s=12, rate_hz=10)
    (segment,) = known.match.segments
    assert segment.court is not None
    views = np.tile(segment.court.image_from_court, (120, 1, 1))
    shift_px = np.arange(120) * 0.5
    views[:, 0] += shift_px[:, None] * views[:, 2]
    views[7] = np.nan  # not followed there: the segment's own court holds
    moving = replace(segment, track=HomographyTrack(0, views))
    still = _written(known.match, tmp_path / "still")["results.json"]["skeleton_data"]
    moved = _written(replace(known.match, segments=(moving,)), tmp_path / "moved")["results.json"]["skeleton_data"]
    for frame in (0, 7, 50, 119):
        was, here = (rows[frame]["players"][0]["center"] for rows in (still, moved))
        assert here["y"] == pytest.approx(was["y"], abs=0.2)
        assert here["x"] - was["x"] == pytest.approx(0.0 if frame == 7 else shift_px[frame], abs=0.2)


def test_zones_have_the_left_of_the_picture_and_each_triple_is_the_whole(tmp_path: Path) -> None:
    known = known_match(duration_s=12, rate_hz=10)
    tracks = known.match.tracks
    assert tracks is not None
    places = np.zeros_like(tracks.position_m)
    places[0], places[1] = (0.5, 6.0), (0.5, 13.0)
    match = replace(known.match, tracks=replace(tracks, position_m=places))
    zones = _written(match, tmp_path)["zones.json"]["player_zone_analytics"]
    for player, depth in (("0", "front"), ("1", "back")):
        coverage = zones[player]["zone_coverage"]
        assert coverage[depth] == coverage["left"] == 100
        assert sum(coverage[name] for name in COVERAGE[:3]) == pytest.approx(100)


def test_a_long_match_keeps_fewer_skeletons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat_files, "MAX_SKELETONS", 100)
    results = _written(known_match(duration_s=12, rate_hz=10).match, tmp_path)["results.json"]
    _check_results(results)
    assert results["processed_frames"] == 40
    assert results["total_frames"] == 120
    assert [row["frame"] for row in results["skeleton_data"][:3]] == [1, 4, 7]
