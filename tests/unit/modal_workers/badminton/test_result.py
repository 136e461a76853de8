"""The result of a job: headline figures of known matches, what is missing and why, and the sentence for people."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modal_workers.badminton.analytics.analysis import analyse
from modal_workers.badminton.checkpoints import CourtStage, TrackStage
from modal_workers.badminton.detection.backends import DetectionBackends
from modal_workers.badminton.frame_times import FrameTimes
from modal_workers.badminton.headline import headline
from modal_workers.badminton.match import Match, Missing
from modal_workers.badminton.match_building import build_match
from modal_workers.badminton.missing import missing_parts
from modal_workers.badminton.players.player_tracks import PlayerTracks
from modal_workers.badminton.result import build_result
from modal_workers.badminton.settings import BadmintonSettings
from modal_workers.badminton.shuttle.shuttle_track import ShuttleTrack
from modal_workers.badminton.spec import WORKLOAD, BadmintonParams
from tests.harness.vision.badminton_matches import known_match, without_court


@pytest.fixture(scope="module")
def match() -> Match:
    return known_match(duration_s=20).match


def parts(match: Match, **changes: object) -> dict[str, str]:
    said: dict[str, object] = {
        "pose_backend": match.pose_backend,
        "has_skeletons": True,
        "players": match.tracks,
        "shuttle": match.shuttle,
        "rallies": match.rallies,
        "analysed": np.ones(match.frame_count, bool),
    }
    found = missing_parts(match.mode, **(said | changes))  # type: ignore[arg-type]
    return {each.part: each.reason for each in found}


def seen(tracks: PlayerTracks, shares: tuple[float, ...]) -> PlayerTracks:
    frames = tracks.observed.shape[1]
    return replace(tracks, observed=np.stack([np.arange(frames) < share * frames for share in shares]))


def built(match: Match, players: PlayerTracks | None, shuttle: ShuttleTrack | None) -> Match:
    """Return the match that the stages make of tracks."""
    court = CourtStage(match.facts, FrameTimes(match.times_s, match.source_frame), match.segments, {}, ())
    backends = DetectionBackends(BadmintonParams(pose="motion"), BadmintonSettings())
    return build_match("full", court, TrackStage(players, shuttle, ()), backends)


def test_nothing_is_missing_of_a_whole_match(match: Match) -> None:
    assert parts(match) == {}


def test_a_player_who_is_hardly_seen_is_named(match: Match) -> None:
    assert match.tracks is not None
    assert set(parts(match, players=seen(match.tracks, (0.9, 0.02)))) == {"player 1"}
    assert set(parts(match, players=seen(match.tracks, (0.01, 0.02)))) == {"players"}
    assert set(parts(match, players=None)) == {"players"}
    # Only frames with a court count: in the others nobody is looked for.
    half = np.arange(match.frame_count) < match.frame_count / 2
    assert parts(match, players=seen(match.tracks, (0.06, 0.06)), analysed=half) == {}


def test_a_player_who_is_missing_has_no_figures(match: Match) -> None:
    assert match.tracks is not None
    one = built(match, seen(match.tracks, (0.9, 0.02)), None)
    result = build_result(one, analyse(one))
    assert "player 1" in {part.part for part in result.missing}
    known, unknown = result.players
    assert known.distance_m is not None
    assert (unknown.observed_share, unknown.identity_confidence) == (0, None)
    assert (unknown.distance_m, unknown.mean_speed_m_s, unknown.top_speed_m_s) == (None, None, None)
    assert WORKLOAD.headline is not None
    assert " and " not in WORKLOAD.headline(result)
    nobody = built(match, seen(match.tracks, (0.01, 0.02)), None)
    assert build_result(nobody, analyse(nobody)).players == ()
    assert match.tracks.observed.mean() > 0.9, "the tracks themselves stay as they were"


def test_a_shuttle_that_is_missing_names_no_hit_and_the_players_show_the_rallies(match: Match) -> None:
    """Three places of a lamp in 20 s are no shuttle: the rallies were looked for in them and nowhere else."""
    place = np.full((match.frame_count, 2), np.nan, np.float32)
    place[100:103] = [[640, 200], [640, 201], [640, 202]]
    lamp = ShuttleTrack(place, np.where(np.isfinite(place[:, 0]), 0.5, 0).astype(np.float32))
    found = built(match, match.tracks, lamp)
    assert "shuttle" in {part.part for part in found.missing}
    assert (found.shuttle, found.hits) == (None, ())
    assert found.rallies
    assert {rally.evidence for rally in found.rallies} == {"movement"}


def test_no_rally_was_found_in_what_was_looked_at(match: Match) -> None:
    assert "shuttle's track" in parts(match, rallies=())["rallies"]
    assert "movement" in parts(match, rallies=(), shuttle=None)["rallies"]
    assert "movement" in parts(replace(match, mode="rally_only"), rallies=())["rallies"]


def test_missing_skeletons_shuttle_and_rallies_have_their_reasons(match: Match) -> None:
    count = match.frame_count
    assert "synthetic" in parts(match, has_skeletons=False)["skeletons"]
    assert "shuttle" in parts(match, shuttle=None)
    assert "shuttle" in parts(match, shuttle=ShuttleTrack.none(count))
    assert set(parts(match, rallies=())) == {"rallies"}


def test_rallies_only_is_the_reason_where_it_was_asked_for(match: Match) -> None:
    found = parts(replace(match, mode="rally_only"), players=None, shuttle=None, has_skeletons=False)
    assert set(found) == {"players", "skeletons", "shuttle"}
    assert all("rally_only" in reason for reason in found.values())


def test_the_result_has_the_figures_of_the_analysis(match: Match) -> None:
    analysis = analyse(match)
    result = build_result(match, analysis)
    assert result.rally_count == len(match.rallies) == 3
    assert result.hit_count == sum(len(rally.hits) for rally in match.rallies)
    assert result.play_s == pytest.approx(sum(rally.end_s - rally.start_s for rally in match.rallies), abs=0.2)
    assert result.longest_rally_s == pytest.approx(max(r.end_s - r.start_s for r in match.rallies), abs=0.1)
    assert result.video.analysed_frame_count == match.frame_count
    assert result.court is not None
    assert result.court.time_share == 1
    assert len(result.court.corners_px) == 4
    assert [player.distance_m for player in result.players] == [
        figures.motion.distance_m for figures in analysis.players
    ]
    assert all(player.distance_error_m is not None and player.distance_error_m > 0 for player in result.players)
    assert result.left_out_s == 0


def test_what_is_missing_is_null_and_not_zero(match: Match) -> None:
    reasons = parts(match, players=None, shuttle=None, rallies=())
    nothing = replace(match, tracks=None, shuttle=None, rallies=(), hits=())
    nothing = replace(nothing, missing=tuple(Missing(part, reason) for part, reason in reasons.items()))
    result = build_result(nothing, analyse(nothing))
    assert (result.rally_count, result.play_s, result.longest_rally_s, result.hit_count) == (None,) * 4
    assert result.players == ()
    assert {part.part for part in result.missing} == {"players", "shuttle", "rallies"}
    assert WORKLOAD.headline is not None
    assert WORKLOAD.headline(result) == "missing: players, shuttle, rallies"


def test_time_without_a_court_is_left_out(match: Match) -> None:
    frame = round(0.6 * match.frame_count)
    cut = without_court(match, frame, "A replay.")
    result = build_result(cut, analyse(cut))
    assert result.left_out_s == pytest.approx(match.times_s[-1] - match.times_s[frame], abs=0.01)
    assert result.court is not None
    assert result.court.time_share == pytest.approx(0.6, abs=0.01)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ((12, 84.4, [512.3, 498.8], []), "12 rallies, 84 s of play; players ran 512 m and 499 m"),
        ((1, 6.0, [40.0, None], ["skeletons"]), "1 rally, 6 s of play; players ran 40 m; missing: skeletons"),
        ((None, None, [1.0, 2.0, 3.0, 4.0], []), "players ran 1 m, 2 m, 3 m and 4 m"),
        ((0, 0.0, [], []), "0 rallies"),
        ((None, None, [], []), "Nothing of a match was found"),
    ],
)
def test_the_headline_is_one_sentence(values: tuple, sentence: str) -> None:
    assert headline(*values) == sentence
