"""Hits with their hitters and rallies with their limits and winners, on simulated matches with a learned track."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from modal_workers.badminton.rallies.hits import JudgedContact, judge_contacts
from modal_workers.badminton.rallies.rally import Hit, Rally
from modal_workers.badminton.rallies.segmentation import find_rallies
from modal_workers.badminton.shuttle.linking import link_shuttle
from modal_workers.badminton.shuttle.shuttle_track import ShuttleTrack
from modal_workers.runtime.context import Stopped
from simulators.badminton.match_options import MatchOptions
from simulators.badminton.match_truth import MatchTruth
from simulators.badminton.match_video import match_truth
from tests.harness.vision.shuttle_logs import candidate_log, person_log, picture_size, player_tracks, whole

SIZE = (1280, 720)


@dataclass(frozen=True)
class Analysed:
    truth: MatchTruth
    track: ShuttleTrack
    contacts: list[JudgedContact]
    rallies: list[Rally]

    @property
    def hits(self) -> list[Hit]:
        return [hit for rally in self.rallies for hit in rally.hits]


def analyse(options: MatchOptions) -> Analysed:
    truth = match_truth(options)
    segments = whole(truth)
    track = link_shuttle(candidate_log(truth), truth.time_s, picture_size(truth), segments, person_log(truth))
    players = player_tracks(truth)
    contacts = judge_contacts(track, players, truth.time_s, segments, picture_size=picture_size(truth))
    rallies = find_rallies(
        hits_of(contacts),
        track,
        players,
        truth.time_s,
        segments,
        mode="full",
        picture_size=picture_size(truth),
        contacts=contacts,
    )
    return Analysed(truth, track, contacts, rallies)


def hits_of(contacts: list[JudgedContact]) -> list[Hit]:
    return [each.hit for each in contacts if each.hit is not None]


@pytest.fixture(scope="module")
def singles() -> Analysed:
    return analyse(MatchOptions(seed=28, duration_s=26.0, quick_service=True))


@pytest.fixture(scope="module")
def doubles() -> Analysed:
    return analyse(MatchOptions(seed=28, duration_s=20.0, doubles=True, quick_service=True))


def paired(found: list[Hit], truth: MatchTruth) -> list[tuple[Hit, int]]:
    """Return hits with the true hitters of those within 0.15 s; every true hit once."""
    left, pairs = list(truth.hits), []
    for hit in found:
        nearest = min(left, key=lambda true: abs(true.time_s - hit.time_s), default=None)
        if nearest is not None and abs(nearest.time_s - hit.time_s) <= 0.15:
            left.remove(nearest)
            pairs.append((hit, nearest.player))
    return pairs


def f1(analysed: Analysed) -> float:
    seen = [hit for hit in analysed.truth.hits if hit.time_s < analysed.truth.time_s[-1] - 0.2]
    return 2 * len(paired(analysed.hits, analysed.truth)) / (len(analysed.hits) + len(seen))


def test_hits_are_found_with_their_hitters(singles: Analysed, doubles: Analysed) -> None:
    for analysed, least in ((singles, 0.9), (doubles, 0.8)):
        assert f1(analysed) >= least
        named = [(hit.player, true) for hit, true in paired(analysed.hits, analysed.truth) if hit.player is not None]
        assert np.mean([player == true for player, true in named]) >= 0.9
        assert all(0.5 <= hit.confidence <= 1 and 0 <= hit.player_confidence <= 1 for hit in analysed.hits)


def test_hits_are_where_the_shuttle_is(singles: Analysed) -> None:
    for hit, _ in paired(singles.hits, singles.truth):
        assert hit.time_s == pytest.approx(singles.truth.time_s[hit.frame], abs=0.05)
        assert np.hypot(*(singles.truth.shuttle_px[hit.frame] - hit.shuttle_px)) < 90


def test_rallies_have_their_limits(singles: Analysed) -> None:
    complete = [rally for rally in singles.truth.rallies if rally.complete]
    assert len(complete) >= 2
    for true in complete:
        found = [rally for rally in singles.rallies if rally.start_s < true.end_s and rally.end_s > true.start_s]
        assert len(found) == 1
        assert found[0].start_s == pytest.approx(true.start_s, abs=0.3)
        assert found[0].end_s == pytest.approx(true.end_s, abs=0.3)
        assert found[0].evidence == "shuttle"
        assert found[0].first_frame == found[0].hits[0].frame
    # A shuttle that is passed on in a pause is no rally.
    assert len(singles.rallies) <= len(singles.truth.rallies)


def test_a_winner_is_right_or_not_named(singles: Analysed, doubles: Analysed) -> None:
    named = 0
    for analysed in (singles, doubles):
        pair = len(analysed.truth.positions_m) // 2
        for true in (rally for rally in analysed.truth.rallies if rally.complete):
            for rally in analysed.rallies:
                if abs(rally.end_s - true.end_s) < 0.5 and rally.winner is not None:
                    named += 1
                    assert rally.winner // pair == true.winner_team
                    assert rally.winner_confidence >= 0.75
    assert named >= 2


def test_without_players_there_are_hits_without_hitters(singles: Analysed) -> None:
    truth = singles.truth
    segments = [(0, len(truth.time_s) - 1, None)]
    hits = hits_of(judge_contacts(singles.track, None, truth.time_s, segments, picture_size=SIZE))
    assert len(paired(hits, truth)) >= 0.6 * len(truth.hits)
    assert all(hit.player is None and hit.player_confidence == 0 for hit in hits)
    rallies = find_rallies(hits, singles.track, None, truth.time_s, segments, mode="full", picture_size=SIZE)
    assert rallies
    assert all(rally.winner is None for rally in rallies)


def test_a_rally_that_a_cut_ends_is_less_sure(singles: Analysed) -> None:
    truth = singles.truth
    rally = next(rally for rally in singles.rallies if len(rally.hits) > 3)
    cut = rally.hits[2].frame + 4
    kept = ShuttleTrack(singles.track.position_px.copy(), singles.track.confidence.copy())
    kept.position_px[cut + 1 :] = np.nan
    segments = [(0, cut, whole(truth)[0][2])]
    players = player_tracks(truth)
    hits = hits_of(judge_contacts(kept, players, truth.time_s, segments, picture_size=SIZE))
    found = find_rallies(hits, kept, players, truth.time_s, segments, mode="full", picture_size=SIZE)[-1]
    assert found.last_frame <= cut
    assert found.confidence < 0.6 < rally.confidence
    assert found.winner is None


@pytest.mark.parametrize("before_s", [0.1, 0.2, 0.3])
def test_a_rally_does_not_go_on_after_the_last_frame_that_shows_it(singles: Analysed, before_s: float) -> None:
    truth, players = singles.truth, player_tracks(singles.truth)
    true = next(rally for rally in truth.rallies if rally.reason == "landed_in" and rally.complete)
    cut = int(np.searchsorted(truth.time_s, true.end_s - before_s))
    kept = ShuttleTrack(singles.track.position_px.copy(), singles.track.confidence.copy())
    kept.position_px[cut + 1 :] = np.nan
    segments = [(0, cut, whole(truth)[0][2])]
    hits = hits_of(judge_contacts(kept, players, truth.time_s, segments, picture_size=SIZE))
    found = find_rallies(hits, kept, players, truth.time_s, segments, mode="full", picture_size=SIZE)[-1]
    assert found.start_s == pytest.approx(true.start_s, abs=0.3)
    assert found.end_s <= truth.time_s[cut]
    assert found.confidence < 0.6


@pytest.mark.parametrize(("unfilmed_s", "told"), [(5.0, True), (30.0, False)])
def test_who_serves_after_a_long_time_without_the_court_says_nothing_of_the_rally_before(
    singles: Analysed, unfilmed_s: float, told: bool
) -> None:
    truth, players = singles.truth, player_tracks(singles.truth)
    first, second = [rally for rally in truth.rallies if rally.complete][:2]
    cut = int(np.searchsorted(truth.time_s, first.end_s - 0.5))
    again = int(np.searchsorted(truth.time_s, second.start_s - 1.0))
    times_s = truth.time_s + np.where(np.arange(len(truth.time_s)) >= again, unfilmed_s, 0.0)
    kept = ShuttleTrack(singles.track.position_px.copy(), singles.track.confidence.copy())
    kept.position_px[cut + 1 : again] = np.nan
    court = whole(truth)[0][2]
    segments = [(0, cut, court), (again, len(times_s) - 1, court)]
    hits = hits_of(judge_contacts(kept, players, times_s, segments, picture_size=SIZE))
    rallies = find_rallies(hits, kept, players, times_s, segments, mode="full", picture_size=SIZE)
    found = next(rally for rally in rallies if rally.start_s < first.end_s)
    assert (found.winner is not None) == told
    assert (found.winner_evidence == "next_server") == told


def test_an_empty_track_leads_to_movement(singles: Analysed) -> None:
    truth = singles.truth
    empty = ShuttleTrack(np.full_like(singles.track.position_px, np.nan), np.zeros_like(singles.track.confidence))
    players = player_tracks(truth)
    assert hits_of(judge_contacts(empty, players, truth.time_s, whole(truth), picture_size=SIZE)) == []
    for mode, track in (("full", empty), ("rally_only", singles.track)):
        found = find_rallies([], track, players, truth.time_s, whole(truth), mode=mode, picture_size=SIZE)
        assert found
        assert {rally.evidence for rally in found} == {"movement"}
        assert {rally.winner_evidence for rally in found} == {"no_shuttle_track"}
        assert [rally.number for rally in found] == list(range(1, len(found) + 1))
    nobody = replace(
        players, boxes_px=np.full_like(players.boxes_px, np.nan), position_m=np.full_like(players.position_m, np.nan)
    )
    assert find_rallies([], empty, nobody, truth.time_s, whole(truth), mode="full", picture_size=SIZE) == []


def test_the_search_for_hits_tells_how_far_it_is_and_ends_when_it_is_stopped(singles: Analysed) -> None:
    shares: list[float] = []

    def progress(share: float) -> None:
        shares.append(share)
        if share > 0.5:
            raise Stopped("by the test")

    truth = singles.truth
    with pytest.raises(Stopped):
        judge_contacts(
            singles.track, None, truth.time_s, whole(truth), picture_size=picture_size(truth), progress=progress
        )
    assert len(shares) > 1
    assert shares == sorted(shares)
    assert shares[-1] <= 1


def test_a_short_flight_into_the_net_ends_there_although_its_depth_is_hardly_known() -> None:
    # Of a drop that takes 0.3 s a low camera says where the ray ends, and not how far away: 2.6 m before the net.
    found = analyse(MatchOptions(seed=972, duration_s=13.0, camera="phone_back", quick_service=True))
    true = found.truth.rallies[0]
    assert true.reason == "net"
    assert abs(found.rallies[0].end_s - true.end_s) < 0.15
    assert found.rallies[0].hits[-1].time_s < true.end_s - 0.1


def test_a_clear_into_the_net_ends_there_although_the_track_is_cut_elsewhere() -> None:
    # The piece from 0.1 s after the hit until the shuttle lies looks like a shot of the other player, 8 m away.
    found = analyse(MatchOptions(seed=981, duration_s=8.0, camera="broadcast_high", quick_service=True))
    true = found.truth.rallies[0]
    assert true.reason == "net"
    assert [hit.player for hit in found.rallies[0].hits] == [hit.player for hit in found.truth.hits[:2]]
    assert abs(found.rallies[0].end_s - true.end_s) < 0.15
