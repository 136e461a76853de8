"""Players of simulated matches, as a pose network reports them: places and identities in all cameras.

No picture is rendered: the simulator's truth gets noise that lasts, misses, mix-ups and false detections.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest

from modal_workers.badminton.players.player_tracks import PlayerTracks
from modal_workers.badminton.players.tracking import track_players
from simulators.badminton.match_options import CameraName, MatchOptions
from simulators.badminton.match_truth import MatchTruth
from simulators.badminton.match_video import match_truth
from tests.harness.vision.badminton_persons import shirts
from tests.harness.vision.simulated_detections import Detector, court_segments, detections

DURATION_S = 50.0
#: A place that is nearer to another player than to one's own, and that far away from it, is an exchange.
EXCHANGED_M = 0.6


@dataclass(frozen=True)
class Followed:
    truth: MatchTruth
    tracks: PlayerTracks
    warnings: tuple[str, ...]
    own_m: np.ndarray
    exchanged: np.ndarray

    def rallies(self) -> list[np.ndarray]:
        times = self.truth.time_s
        return [(times >= rally.start_s) & (times <= rally.end_s) for rally in self.truth.rallies]


def _follow(options: MatchOptions, *, detector: Detector | None = None, partners_same: bool = False) -> Followed:
    truth = match_truth(options)
    random = np.random.default_rng(options.seed)
    count = len(truth.positions_m)
    colours = shirts(random, count, similarity=0.3)
    if options.doubles:
        # Partners wear the same shirt; their shorts differ, or nothing does.
        share = 1.0 if partners_same else 0.6
        colours[1] = share * colours[0] + (1 - share) * colours[1]
        colours[3] = share * colours[2] + (1 - share) * colours[3]
    log, _ = detections(random, truth, colours, detector)
    tracks, warnings = track_players(
        log,
        truth.time_s,
        court_segments(truth),
        picture_size_px=(options.width_px, options.height_px),
        players="auto",
        has_skeletons=detector is None or detector.skeletons,
    )
    assert tracks.player_count == count
    away = np.linalg.norm(tracks.position_m[:, None] - truth.positions_m[None], axis=3)
    teams = [(0, 1)] if count == 2 else [a + b for a, b in itertools.product([(0, 1), (1, 0)], [(2, 3), (3, 2)])]
    order = min(teams, key=lambda team: np.nansum([np.minimum(away[one, two], 3) for one, two in enumerate(team)]))
    own = np.stack([away[one, two] for one, two in enumerate(order)])
    nearest = np.nan_to_num(away, nan=9.0).min(axis=1)
    exchanged = np.isfinite(own) & (own > EXCHANGED_M) & (nearest < own - 0.2)
    return Followed(truth, tracks, warnings, own, exchanged)


@pytest.mark.share(every=2)
@pytest.mark.parametrize(
    ("camera", "doubles", "seed"),
    # Of seed 31 from behind, partners wear nearly the same colour and are exchanged once, which a warning says.
    [("broadcast_low", False, 31), ("phone_corner", False, 31), ("broadcast_high", True, 31), ("phone_back", True, 32)],
)
def test_everybody_is_followed_through_changes_of_ends_and_cuts(camera: CameraName, doubles: bool, seed: int) -> None:
    options = MatchOptions(
        seed=seed,
        duration_s=DURATION_S,
        camera=camera,
        doubles=doubles,
        bystanders=True,
        change_of_ends_after=2,
        cuts=camera.startswith("broadcast"),
    )
    found = _follow(options)
    assert len(found.truth.changes_of_ends_s) == 1
    known = np.isfinite(found.own_m)
    assert np.median(found.own_m[known]) < 0.25
    assert np.percentile(found.own_m[known], 95) < 0.6
    for rally in found.rallies():
        shown = rally & np.isfinite(found.truth.image_from_court[:, 0, 0])
        assert found.exchanged[:, shown].sum() <= 0.01 * shown.sum() * len(found.own_m)
        assert known[:, shown].mean() > 0.9


def test_partners_who_look_the_same_are_followed_within_a_rally_and_said_to_be_unsure() -> None:
    found = _follow(
        MatchOptions(seed=33, duration_s=DURATION_S, camera="broadcast_high", doubles=True, bystanders=True, cuts=True),
        partners_same=True,
    )
    assert any("same colour" in warning for warning in found.warnings)
    for rally in found.rallies():
        wrong = found.exchanged[:, rally]
        # Exchanged before the rally or not: within it, nothing changes.
        assert all(share < 0.02 or share > 0.9 for share in wrong.mean(axis=1))


def test_without_skeletons_the_box_gives_the_place() -> None:
    found = _follow(
        MatchOptions(seed=34, duration_s=25.0, camera="broadcast_high", bystanders=True),
        detector=Detector(skeletons=False),
    )
    assert np.isnan(found.tracks.keypoints_px).all()
    assert np.nanmedian(found.own_m) < 0.25
    assert np.nanpercentile(found.own_m, 95) < 0.6
    assert found.exchanged.sum() == 0


def test_the_error_of_a_place_is_what_it_is_said_to_be() -> None:
    found = _follow(MatchOptions(seed=35, duration_s=25.0, camera="broadcast_low", bystanders=True))
    ratio = found.own_m / found.tracks.position_error_m
    assert 0.5 < float(np.sqrt(np.nanmean(ratio**2))) < 1.6
    assert float((ratio[np.isfinite(ratio)] < 2.0).mean()) > 0.8
