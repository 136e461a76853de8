"""The track follows the shuttle, never leaves the candidates, and is not taken by lamps, limbs or other cameras."""

from __future__ import annotations

import numpy as np
import pytest

from modal_workers.badminton.shuttle.linking import link_shuttle
from modal_workers.badminton.shuttle.shuttle_track import CandidateLog, ShuttleTrack
from simulators.badminton.match_options import MatchOptions
from simulators.badminton.match_truth import MatchTruth
from simulators.badminton.match_video import match_truth
from tests.harness.vision.shuttle_logs import (
    IN_FLIGHT,
    LEARNED,
    DetectorQuality,
    candidate_log,
    person_log,
    picture_size,
    whole,
)

SIZE = (1280, 720)


@pytest.fixture(scope="module")
def truth() -> MatchTruth:
    return match_truth(MatchOptions(seed=21, duration_s=16.0))


def log_of(frames: list[list[tuple[float, float, float]]]) -> CandidateLog:
    """Return a log from lists of (x, y, score), one a frame."""
    rows = np.array([row for frame in frames for row in frame], np.float32).reshape(-1, 3)
    offsets = np.concatenate([[0], np.cumsum([len(frame) for frame in frames])]).astype(np.int64)
    return CandidateLog(offsets, rows[:, :2], rows[:, 2])


def falling(count: int, start: tuple[float, float], step: tuple[float, float]) -> list[tuple[float, float, float]]:
    """Return places of a shuttle on a curved path."""
    return [(start[0] + step[0] * k, start[1] + step[1] * k + 0.6 * k**2, 0.9) for k in range(count)]


def track_of(frames: list[list[tuple[float, float, float]]], rate_hz: float = 30.0) -> ShuttleTrack:
    times_s = np.arange(len(frames)) / rate_hz
    return link_shuttle(log_of(frames), times_s, SIZE, [(0, len(frames) - 1, None)])


def share_found(track: ShuttleTrack, truth: MatchTruth) -> tuple[float, float]:
    """Return precision and recall within 8 px."""
    found = np.isfinite(track.position_px[:, 0])
    right = found & (np.hypot(*(track.position_px - truth.shuttle_px).T) < 8)
    visible = truth.shuttle_visible & (truth.shuttle_state == IN_FLIGHT)
    return float(right.sum() / found.sum()), float(right.sum() / visible.sum())


def test_the_shuttle_is_followed_among_lamps_and_limbs(truth: MatchTruth) -> None:
    noisy = DetectorQuality(recall=0.9, anywhere=0.5, fixed=0.8, limbs=0.4)
    for quality, least in ((LEARNED, (0.98, 0.88)), (noisy, (0.85, 0.8))):
        log = candidate_log(truth, quality)
        track = link_shuttle(log, truth.time_s, picture_size(truth), whole(truth), person_log(truth))
        precision, recall = share_found(track, truth)
        assert precision >= least[0]
        assert recall >= least[1]


def test_every_position_is_a_candidate_of_its_own_frame(truth: MatchTruth) -> None:
    """The replaced system read positions counted from 0 by frame numbers counted from 1, and filled gaps."""
    log = candidate_log(truth, DetectorQuality(recall=0.6))
    track = link_shuttle(log, truth.time_s, picture_size(truth), whole(truth))
    found = np.flatnonzero(np.isfinite(track.position_px[:, 0]))
    assert len(found) > 50
    for frame in found:
        assert (log.position_px[log.rows(frame)] == track.position_px[frame]).all(1).any()
    one_early = np.full_like(track.position_px, np.nan)
    one_early[:-1] = track.position_px[1:]
    error = np.hypot(*(track.position_px - truth.shuttle_px).T)
    theirs = np.hypot(*(one_early - truth.shuttle_px).T)
    assert np.nanmedian(error) < 3
    assert np.nanmedian(theirs) > 6
    assert (track.confidence[found] > 0).all()
    assert (np.delete(track.confidence, found) == 0).all()


def lamps_kept_by_the_replaced_rule(frames: list[list[tuple[float, float, float]]]) -> int:
    """Return how many lamps pass their filter: a place counts once seen three times, but old places go each frame."""
    clusters: dict[tuple[int, int], int] = {}
    kept = 0
    for frame in frames:
        for x, y, _score in frame:
            cell = (round(x / 10), round(y / 10))
            clusters[cell] = clusters.get(cell, 0) + 1
            kept += clusters[cell] < 3
        seen = {(round(x / 10), round(y / 10)) for x, y, _ in frame}
        # What was not seen in this very frame is dropped before it can count to three.
        clusters = {cell: count for cell, count in clusters.items() if cell in seen}
    return kept


def test_a_lamp_that_flickers_is_never_a_shuttle() -> None:
    random = np.random.default_rng(4)
    lamps = [(300.0, 80.0), (900.0, 60.0)]
    frames: list[list[tuple[float, float, float]]] = [
        [(x + random.normal(0, 0.5), y + random.normal(0, 0.5), 0.9) for x, y in lamps if (number + int(x)) % 3 == 0]
        for number in range(300)
    ]
    assert lamps_kept_by_the_replaced_rule(frames) > 150
    assert not np.isfinite(track_of(frames).position_px).any()
    # A shuttle that passes right beside one is followed all the same.
    for number, place in enumerate(falling(25, (250.0, 40.0), (9.0, -2.0))):
        frames[100 + number].append(place)
    found = np.flatnonzero(np.isfinite(track_of(frames).position_px[:, 0]))
    assert set(range(102, 123)) <= set(found.tolist()) <= set(range(100, 125))


def test_a_gap_stays_a_gap() -> None:
    path = falling(40, (200.0, 300.0), (12.0, -12.0))
    frames = [[] if 15 <= number < 22 else [place] for number, place in enumerate(path)]
    found = np.isfinite(track_of(frames).position_px[:, 0])
    assert found.tolist() == [not 15 <= number < 22 for number in range(40)]


def test_nothing_is_linked_over_a_cut() -> None:
    path = falling(24, (200.0, 300.0), (12.0, -12.0))
    frames = [[place] for place in path]
    times_s = np.arange(24) / 30
    both = link_shuttle(log_of(frames), times_s, SIZE, [(0, 22, None), (23, 23, None)])
    assert np.isfinite(both.position_px[:23]).all()
    assert np.isnan(both.position_px[23]).all()
    outside = link_shuttle(log_of(frames), times_s, SIZE, [(0, 11, None)])
    assert np.isfinite(outside.position_px[:12]).all()
    assert np.isnan(outside.position_px[12:]).all()


@pytest.mark.parametrize("rate_hz", [15.0, 60.0, 240.0])
def test_the_rate_of_the_frames_does_not_matter(rate_hz: float) -> None:
    count = round(1.2 * rate_hz)
    time_s = np.arange(count) / rate_hz
    frames = [[(150 + 500 * t, 500 - 700 * t + 500 * t**2, 0.9)] for t in time_s]
    found = np.isfinite(track_of(frames, rate_hz).position_px[:, 0])
    assert found.mean() > 0.95


def test_no_candidates_give_an_empty_track(truth: MatchTruth) -> None:
    log = log_of([[] for _ in range(50)])
    for persons in (None, person_log(truth)):
        track = link_shuttle(log, np.arange(50) / 30, SIZE, [(0, 49, None)], persons)
        assert np.isnan(track.position_px).all()
        assert (track.confidence == 0).all()
