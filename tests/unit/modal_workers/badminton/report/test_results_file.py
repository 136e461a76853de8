"""``results.json``: as its schema says, with null for what is not known, and written without being held in memory."""

from __future__ import annotations

import csv
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modal_workers.badminton.analytics.analysis import analyse
from modal_workers.badminton.court.homography_track import HomographyTrack
from modal_workers.badminton.match import Missing
from modal_workers.badminton.report import tables
from modal_workers.badminton.report.json_stream import Column, write_json
from modal_workers.badminton.report.results_file import write_results
from modal_workers.badminton.report.results_schema import MatchResults
from tests.harness.vision.badminton_matches import known_match, without_court


def test_results_are_as_the_schema_says(tmp_path: Path) -> None:
    known = known_match(duration_s=20)
    match = without_court(known.match, 400, 'a "replay"')
    assert match.segments[0].court is not None
    views = HomographyTrack(0, np.tile(match.segments[0].court.image_from_court, (400, 1, 1)))
    match = replace(match, segments=(replace(match.segments[0], track=views), match.segments[1]))
    analysis = analyse(match)
    write_results(match, analysis, tmp_path / "results.json", video_id="v1")
    text = (tmp_path / "results.json").read_text()
    results = MatchResults.model_validate_json(text)
    assert json.loads(results.model_dump_json()) == json.loads(text), "no field beside those of the schema"
    assert match.tracks is not None
    assert results.video_id == "v1"
    assert [segment.court is not None for segment in results.segments] == [True, False]
    assert np.shape(results.segments[0].frame_views) == (400, 9)
    assert results.segments[1].reason == 'a "replay"'
    for player, track in zip(results.players, results.tracks.players, strict=True):
        figures = analysis.players[player.player_id]
        assert player.motion.distance_m == pytest.approx(figures.motion.distance_m, abs=1e-3)
        assert player.motion.top_speed_kmh == pytest.approx(3.6 * figures.motion.top_speed_m_s, abs=1e-3)
        assert sum(map(sum, player.zones.share)) == pytest.approx(1, abs=1e-3)
        assert track.x_m[400:] == [None] * 100
        assert track.x_m[0] == pytest.approx(float(match.tracks.position_m[player.player_id, 0, 0]), abs=1e-3)
        assert len(track.box_px) == 500
        assert [value is None for value in track.confidence] == [not seen for seen in track.observed]
        assert [value is None for value in track.identity_confidence] == [x is None for x in track.x_m]
    assert results.tracks.shuttle is not None
    shuttle = results.tracks.shuttle
    assert [value is None for value in shuttle.confidence] == [x is None for x in shuttle.x_px]
    assert results.skeletons is not None
    assert np.shape(results.skeletons.players[0].x_px) == (500, 17)
    assert [rally.number for rally in results.rallies] == [1]
    assert results.rallies[0].winner_evidence == "landed_in"


@pytest.mark.parametrize("parts", ["no players", "no shuttle", "no rallies"])
def test_what_is_missing_is_null_or_empty_and_named(parts: str, tmp_path: Path) -> None:
    match = known_match(duration_s=6).match
    missing = (Missing(parts, "It was not found."),)
    if parts == "no players":
        match = replace(match, tracks=None, missing=missing, mode="rally_only")
    elif parts == "no shuttle":
        match = replace(match, shuttle=None, missing=missing)
    else:
        match = replace(match, rallies=(), hits=(), missing=missing)
    write_results(match, analyse(match), tmp_path / "results.json")
    results = MatchResults.model_validate_json((tmp_path / "results.json").read_text())
    assert results.missing[0].part == parts
    assert bool(results.players) == (parts != "no players")
    assert (results.tracks.shuttle is None) == (parts == "no shuttle")
    assert (results.play_time.mean_rally_s is None) == (parts == "no rallies")


def test_without_a_shuttle_the_number_of_hits_is_not_known(tmp_path: Path) -> None:
    match = known_match(duration_s=6).match
    rallies = tuple(replace(rally, hits=(), evidence="movement", winner=None) for rally in match.rallies)
    match = replace(match, shuttle=None, hits=(), rallies=rallies, missing=(Missing("shuttle", "It is too small."),))
    analysis = analyse(match)
    write_results(match, analysis, tmp_path / "results.json")
    results = MatchResults.model_validate_json((tmp_path / "results.json").read_text())
    assert [(player.hit_count, player.won_count) for player in results.players] == [(None, None)] * 2
    assert [rally.hit_counts for rally in results.rallies] == [[]] * len(rallies)
    tables.write_players(analysis, tmp_path / "players.csv")
    tables.write_rallies(analysis, tmp_path / "rallies.csv", match.player_count)
    with (tmp_path / "players.csv").open() as players, (tmp_path / "rallies.csv").open() as listed:
        assert {row["hit_count"] for row in csv.DictReader(players)} == {""}
        assert {row["hit_count"] + row["player_1_hit_count"] for row in csv.DictReader(listed)} == {""}


def test_the_zones_of_a_player_who_was_never_seen_have_no_share(tmp_path: Path) -> None:
    match = known_match(duration_s=6).match
    assert match.tracks is not None
    position_m, observed = match.tracks.position_m.copy(), match.tracks.observed.copy()
    position_m[1], observed[1] = np.nan, False
    match = replace(match, tracks=replace(match.tracks, position_m=position_m, observed=observed))
    write_results(match, analyse(match), tmp_path / "results.json")
    results = MatchResults.model_validate_json((tmp_path / "results.json").read_text())
    assert sum(share or 0 for row in results.players[0].zones.share for share in row) == pytest.approx(1, abs=1e-3)
    assert results.players[1].zones.share == [[None] * 3] * 3


def test_columns_are_written_in_pieces(tmp_path: Path) -> None:
    values = np.arange(60_000, dtype=np.float32).reshape(20_000, 3) / 7
    values[5, 1], values[6, 2] = np.nan, np.inf
    write_json(tmp_path / "a.json", {"x": Column(values, 2), "n": iter([1, float("nan"), None, "ü"])})
    read = json.loads((tmp_path / "a.json").read_text())
    assert read["x"][5][1] is None
    assert read["x"][6][2] is None
    assert np.allclose(read["x"][19_999], np.round(values[19_999], 2))
    assert read["n"] == [1, None, None, "ü"]


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    column = Column(np.random.default_rng(0).normal(size=(120_000, 2)).astype(np.float32))
    tracemalloc.start()
    write_json(tmp_path / "long.json", {"x": column})
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "long.json").stat().st_size > 1.6e6
    assert peak_bytes < 1.5e6


def test_the_tables_hold_the_figures(tmp_path: Path) -> None:
    match = known_match(duration_s=20).match
    analysis = analyse(match)
    tables.write_players(analysis, tmp_path / "players.csv")
    tables.write_rallies(analysis, tmp_path / "rallies.csv", match.player_count)
    with (tmp_path / "players.csv").open() as file:
        players = list(csv.DictReader(file))
    with (tmp_path / "rallies.csv").open() as file:
        rallies = list(csv.DictReader(file))
    assert list(players[0]) == list(tables.PLAYER_UNITS)
    assert list(rallies[0]) == list(tables.rally_units(2))
    assert float(players[1]["distance_m"]) == pytest.approx(analysis.players[1].motion.distance_m, abs=1e-3)
    assert [rally["winner"] for rally in rallies] == ["0", "0", ""]
    assert rallies[2]["winner_evidence"] == "landing_not_seen"
    assert float(rallies[0]["player_1_distance_m"]) > 0
