"""What takes minutes in a long match asks whether to stop; what another worker's backends found is not used."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from modal_workers.badminton.detection.backends import DetectionBackends
from modal_workers.badminton.players.tracking import track_players
from modal_workers.badminton.rallies.hits import judge_contacts
from modal_workers.badminton.settings import BadmintonSettings
from modal_workers.badminton.shuttle.linking import link_shuttle
from modal_workers.badminton.spec import BadmintonParams
from simulators.badminton.match_options import MatchOptions
from simulators.badminton.match_video import match_truth
from tests.harness.vision.badminton_persons import SIZE_PX, camera, observe, play
from tests.harness.vision.shuttle_logs import candidate_log, picture_size, player_tracks, whole


class StoppedError(Exception):
    """Raised by the caller of the stages."""


def stopping_after(count: int) -> tuple[Callable[[float], None], list[float]]:
    """Return a ``progress`` that raises when it is called for the ``count``-th time, and what it was told."""
    told: list[float] = []

    def progress(share: float) -> None:
        told.append(share)
        if len(told) == count:
            raise StoppedError

    return progress, told


@pytest.mark.parametrize("count", [1, 3])
def test_tracking_stops_and_tells_a_rising_share(count: int) -> None:
    random = np.random.default_rng(3)
    match, view = play(random, duration_s=3.0), camera()
    log = observe(random, match, view).log
    progress, told = stopping_after(count)
    with pytest.raises(StoppedError):
        track_players(
            log,
            match.times_s,
            [(0, len(match.times_s) - 1, view.court)],
            picture_size_px=SIZE_PX,
            players="singles",
            has_skeletons=True,
            progress=progress,
        )
    assert len(told) == count
    assert told == sorted(told)


def test_linking_and_the_search_for_hits_stop() -> None:
    truth = match_truth(MatchOptions(seed=12, duration_s=8.0, quick_service=True))
    size, segments = picture_size(truth), whole(truth)
    progress, told = stopping_after(1)
    with pytest.raises(StoppedError):
        link_shuttle(candidate_log(truth), truth.time_s, size, segments, progress=progress)
    track = link_shuttle(candidate_log(truth), truth.time_s, size, segments)
    told.clear()

    def at_explanations(share: float) -> None:
        told.append(share)
        if share == 1.0:
            raise StoppedError

    with pytest.raises(StoppedError):
        judge_contacts(track, player_tracks(truth), truth.time_s, segments, picture_size=size, progress=at_explanations)
    assert told[:-1], "flights were searched before"


def test_checkpoints_of_other_backends_have_other_names() -> None:
    full = DetectionBackends(BadmintonParams(pose="motion"), BadmintonSettings())
    only_players = DetectionBackends(BadmintonParams(pose="motion", mode="rally_only"), BadmintonSettings())
    assert (full.key, only_players.key) == ("motion-classical", "motion")
