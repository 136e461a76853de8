"""Failures that the replaced system's own documents admit: each on its rule, and our result beside it."""

from __future__ import annotations

import numpy as np

from modal_workers.badminton.players.player_tracks import PlayerTracks
from modal_workers.badminton.players.skeleton_smoothing import smooth_skeleton
from modal_workers.badminton.players.tracking import track_players
from modal_workers.badminton.players.trajectory_smoothing import smooth_trajectory
from tests.harness.vision.badminton_persons import SIZE_PX, Match, Observed, camera, observe, play, shirts
from tests.unit.modal_workers.badminton.players import replaced_rules

KMH = 3.6


def _tracked(match: Match, observed: Observed, view_name: str) -> PlayerTracks:
    court = camera(view_name).court
    last = len(match.times_s) - 1
    tracks, _ = track_players(
        observed.log, match.times_s, [(0, last, court)], picture_size_px=SIZE_PX, players="singles", has_skeletons=True
    )
    return tracks


def _wrong_share(match: Match, tracks: PlayerTracks) -> float:
    """Return the share of known places that are another person's."""
    away = np.linalg.norm(tracks.position_m - match.places_m[:2], axis=2)
    return float((away > 0.8).sum() / np.isfinite(away).sum())


def test_judges_are_not_players() -> None:
    """Their rule: the two largest boxes in the court's corners and 2 % around, or in the middle of the frame."""
    random = np.random.default_rng(11)
    match = play(random, duration_s=40, bystanders=True)
    # A line judge half a metre behind the far line: 2 % of the picture's court are more than that there. Another one
    # beside the near corner is larger in the picture than the far player.
    match.places_m[3] = np.array([1.5, -0.5]) + random.normal(0, 0.02, (len(match.times_s), 2))
    match.places_m[4] = np.array([-0.6, 12.0]) + random.normal(0, 0.02, (len(match.times_s), 2))
    view = camera("phone")
    observed = observe(random, match, view, missed=0.15, false_rate=0.0)
    log = observed.log
    theirs_in_polygon = theirs_in_frame = frames = 0
    for frame in np.flatnonzero(match.in_rally)[::5].tolist():
        rows = log.rows(frame)
        boxes = log.boxes_px[rows].astype(float)
        person = observed.person[rows]
        in_polygon = replaced_rules.largest_boxes_in_polygon(boxes, view.court.corners_px)
        in_frame = replaced_rules.largest_boxes_in_frame(boxes, SIZE_PX)
        theirs_in_polygon += bool((person[in_polygon] > 1).any())
        theirs_in_frame += bool((person[in_frame] > 1).any())
        frames += 1
    assert theirs_in_polygon > 0.1 * frames
    assert theirs_in_frame > 0.2 * frames
    tracks = _tracked(match, observed, "phone")
    assert _wrong_share(match, tracks) < 0.005
    assert np.isfinite(tracks.position_m[:, match.in_rally, 0]).mean() > 0.95


def test_a_change_of_ends_is_not_corrected_into_the_wrong_person() -> None:
    """Their rule swaps the players back when both have been on the "wrong" half for two frames."""
    random = np.random.default_rng(12)
    match = play(random, duration_s=50, change_of_ends_s=15.0)
    view = camera("broadcast")
    observed = observe(random, match, view)
    feet = view.to_image(np.concatenate([match.places_m, np.zeros((2, len(match.times_s), 1))], axis=2))
    player_0 = replaced_rules.identities_by_side(feet.transpose(1, 0, 2), float(view.court.to_image((3.05, 6.7))[1]))
    after = match.times_s > 30
    assert (player_0[after] != 0).mean() > 0.95, "detection 0 is person 0 throughout"
    tracks = _tracked(match, observed, "broadcast")
    assert _wrong_share(match, tracks) < 0.005
    assert (tracks.side[0, after] == 1).mean() > 0.95, "person 0 began on the far half and is on the near one now"
    assert tracks.identity_confidence[0, -1] > 0.9


def test_a_mix_up_gives_no_impossible_speed_and_a_sprint_is_not_cut() -> None:
    """Their speeds: 1300 km/h after a mix-up; then limits, where the maxima sit, and a limit of steps."""
    rate_hz = 25.0
    times = np.arange(200) / rate_hz
    # A player who runs 2 m at up to 7 m/s and stops; in three frames the opponent's place is taken for the player's.
    way = np.interp(times, [0, 3, 3.4, 8], [0, 0, 2.8, 2.8])
    way = np.convolve(np.pad(way, 3, mode="edge"), np.ones(7) / 7, mode="valid")
    truth = np.stack([1.5 + way, np.full(200, 11.0)], axis=1)
    top_kmh = float(np.linalg.norm(np.gradient(truth, times, axis=0), axis=1).max() * KMH)
    seen = truth + np.random.default_rng(13).normal(0, 0.03, truth.shape)
    mixed_up = (40, 41, 150)
    seen[list(mixed_up)] = (3.0, 2.5)
    assert replaced_rules.speeds_kmh(seen, rate_hz).max() > 700
    for limit in (43.0, 36.0, 30.0, 25.0):
        assert replaced_rules.speeds_kmh(seen, rate_hz, limit).max() == limit, "the maximum is the limit"
    assert replaced_rules.speeds_without_jumps_kmh(seen, rate_hz).max() < 0.93 * top_kmh, "the sprint is cut off"
    motion = smooth_trajectory(seen, np.full(truth.shape, 0.03**2), times, np.zeros(200, np.int64))
    assert np.flatnonzero(motion.rejected).tolist() == list(mixed_up), "rejected by evidence, and counted"
    ours_kmh = np.linalg.norm(motion.velocity_m_s, axis=1).max() * KMH
    assert abs(ours_kmh - top_kmh) < 0.12 * top_kmh
    assert np.linalg.norm(motion.position_m - truth, axis=1).max() < 0.25


def test_a_skeleton_is_smooth_and_does_not_lag() -> None:
    """Their skeleton is the raw one: it trembles, and blinks where a frame has no detection."""
    random = np.random.default_rng(14)
    times = np.arange(300) / 30
    course = np.stack([400 + 150 * np.sin(2 * times), 300 + 40 * np.cos(5 * times)], axis=1)
    truth = course[:, None] + random.uniform(-60, 60, (17, 2))
    found = np.concatenate([truth + random.normal(0, 3, truth.shape), np.full((300, 17, 1), 0.9)], axis=2)
    missing = random.random(300) < 0.05
    missing[[0, -1]] = False
    found[missing] = np.nan
    theirs = replaced_rules.raw_skeleton(found)
    ours = found.astype(np.float32)
    smooth_skeleton(ours, times, np.zeros(300, np.int64))

    def trembling(skeleton: np.ndarray) -> float:
        return float(np.nanmedian(np.abs(np.diff(skeleton[..., :2], n=2, axis=0) - np.diff(truth, n=2, axis=0))))

    assert np.isnan(theirs[missing]).all()
    assert np.isfinite(ours).all()
    assert trembling(ours) < 0.35 * trembling(theirs)
    assert np.median(np.abs(ours[..., :2] - truth)) < 0.75 * np.nanmedian(np.abs(theirs[..., :2] - truth))
    # The shift in time at which the result fits the truth best is none.
    x = ours[:, 0, 0] - ours[:, 0, 0].mean()
    fits = {shift: np.abs(np.roll(truth[:, 0, 0], shift) - ours[:, 0, 0])[5:-5].mean() for shift in (-2, -1, 0, 1, 2)}
    assert x.std() > 50
    assert min(fits, key=fits.__getitem__) == 0
    assert (ours[missing, :, 2] < 0.5).all(), "bridged joints are less sure"


def test_a_place_belongs_to_its_own_frame() -> None:
    """Their times are those of the frame before: an overlay by time shows the skeleton one frame late."""
    random = np.random.default_rng(15)
    # A phone's clock: no two frames are equally far apart.
    presented = np.cumsum(random.uniform(0.025, 0.045, 600)) - 0.03
    presented -= presented[0]
    theirs = replaced_rules.frame_times_s(presented)
    assert theirs[0] == theirs[1] == 0.0
    assert (theirs[1:] == presented[:-1]).all(), "each frame has the time of the one before"
    places = np.stack([3 + 2 * np.sin(2 * presented), 10 + np.cos(2 * presented)], axis=1)
    true_speed = np.stack([4 * np.cos(2 * presented), -2 * np.sin(2 * presented)], axis=1)
    seen = places + random.normal(0, 0.02, places.shape)
    motion = smooth_trajectory(seen, np.full(places.shape, 0.02**2), presented, np.zeros(600, np.int64))
    late = np.stack([np.interp(presented, theirs + 1e-9 * np.arange(600), seen[:, axis]) for axis in (0, 1)], axis=1)
    assert np.median(np.linalg.norm(late - places, axis=1)) > 0.05
    assert np.median(np.linalg.norm(motion.position_m - places, axis=1)) < 0.03
    assert np.median(np.linalg.norm(motion.velocity_m_s - true_speed, axis=1)) < 0.4


def test_shirts_of_one_colour_are_said_to_be_so() -> None:
    """After a cut, only the side of the net tells players in the same clothes apart: said, with low confidence."""
    random = np.random.default_rng(16)
    match = play(random, duration_s=40, doubles=True, colours=shirts(random, 4, same=True))
    match.cuts = [(500, 700)]
    view = camera("broadcast")
    tracks, warnings = track_players(
        observe(random, match, view).log,
        match.times_s,
        [(0, 499, view.court), (701, 1199, view.court)],
        picture_size_px=SIZE_PX,
        players="doubles",
        has_skeletons=True,
    )
    assert len(warnings) == 1
    assert "same colour" in warnings[0]
    assert tracks.identity_confidence[:, 480].min() > 0.7
    assert tracks.identity_confidence[:, 900].max() < 0.6
