"""Players' tracks on detections of invented matches: places, identities and what is said about them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from modal_workers.badminton.court.dimensions import NET_Y_M
from modal_workers.badminton.players.persons import PersonLog
from modal_workers.badminton.players.player_tracks import PlayerTracks
from modal_workers.badminton.players.tracking import track_players
from tests.harness.vision.badminton_persons import CAMERAS, SIZE_PX, Match, camera, observe, play


def _errors_m(match: Match, tracks: PlayerTracks) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance of each track from its own player, and whether another player is nearer than that one."""
    count = tracks.player_count
    distance = np.linalg.norm(tracks.position_m[:, None] - match.places_m[None, :count], axis=3)
    teams = [(0, 1)] if count == 2 else [(0, 1, 2, 3), (1, 0, 2, 3), (0, 1, 3, 2), (1, 0, 3, 2)]
    # Of a pair, who is the left one at the beginning is noise where they stand one behind the other.
    order = min(
        teams, key=lambda team: np.nansum([np.minimum(distance[one, other], 2) for one, other in enumerate(team)])
    )
    own = np.stack([distance[one, other] for one, other in enumerate(order)])
    others = np.nan_to_num(distance, nan=9.0).min(axis=1)
    return own, np.isfinite(own) & (others < own - 0.2)


@pytest.mark.share(every=3)
@pytest.mark.parametrize(("doubles", "name"), list(itertools.product([False, True], CAMERAS)))
def test_players_are_followed_through_a_change_of_ends_and_a_cut(doubles: bool, name: str) -> None:
    random = np.random.default_rng(5)
    match = play(random, doubles=doubles, bystanders=True, change_of_ends_s=25.0)
    match.cuts = [(1400, 1550)]
    view = camera(name)
    log = observe(random, match, view).log
    courts = [(0, 1399, view.court), (1551, 1799, view.court)]
    tracks, warnings = track_players(
        log, match.times_s, courts, picture_size_px=SIZE_PX, players="auto", has_skeletons=True
    )
    assert tracks.player_count == match.players
    own, wrong = _errors_m(match, tracks)
    assert np.nanmedian(own) < 0.1
    assert np.nanpercentile(own, 95) < 0.25
    assert wrong.sum() < 0.01 * np.isfinite(own).sum()
    assert np.isnan(own[:, 1400:1551]).all()
    assert np.isfinite(own[:, match.in_rally]).mean() > 0.85
    assert warnings == ()


def test_a_player_alone_on_the_near_half_is_the_second_one() -> None:
    random = np.random.default_rng(5)
    match, view = play(random), camera()
    log = observe(random, match, view).log
    near = log.boxes_px[:, 3] > view.court.to_image((3.05, NET_Y_M))[1]
    frames = np.repeat(np.arange(len(match.times_s)), np.diff(log.frame_offsets))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(frames[near], minlength=len(match.times_s)))])
    alone = PersonLog(offsets, log.boxes_px[near], log.confidence[near], log.keypoints_px[near], log.appearance[near])
    courts = [(0, len(match.times_s) - 1, view.court)]
    tracks, _ = track_players(
        alone, match.times_s, courts, picture_size_px=SIZE_PX, players="singles", has_skeletons=True
    )
    assert tracks.observed.mean(axis=1)[0] < 0.05
    assert tracks.observed.mean(axis=1)[1] > 0.7
