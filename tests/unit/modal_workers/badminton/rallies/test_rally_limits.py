"""Limits of rallies whose flights are made one by one: a service seen late, ends at the net and just behind it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.players.player_tracks import PlayerTracks
from modal_workers.badminton.rallies.hits import judge_contacts
from modal_workers.badminton.rallies.rally import Rally
from modal_workers.badminton.rallies.segmentation import find_rallies
from modal_workers.badminton.shuttle.shuttle_track import ShuttleTrack
from simulators.badminton.match_options import MatchOptions
from simulators.badminton.match_video import match_truth
from simulators.badminton.play.shuttle_flight import ShuttleFlight, aim, fly
from simulators.badminton.truth_from_world import projected
from tests.harness.vision.shuttle_logs import picture_size, whole

Floats = NDArray[np.float64]

FILMED = match_truth(MatchOptions(seed=5, duration_s=6.0))
SIZE = picture_size(FILMED)
#: The far player and the near one.
FAR_M, NEAR_M = (3.3, 2.4), (3.0, 9.4)


def hit(
    start_m: tuple[float, float, float], target_m: tuple[float, float, float], elevation_deg: float
) -> ShuttleFlight:
    """Return the flight of a hit that falls onto a target."""
    velocity = aim(np.array(start_m), np.array(target_m), math.radians(elevation_deg))
    assert velocity is not None
    return fly(np.array(start_m), velocity, target_m[2])


def players(far_m: tuple[float, float]) -> PlayerTracks:
    """Return two players who stand still."""
    count = len(FILMED.time_s)
    feet = np.array([far_m, NEAR_M])
    corners = np.array([[[[x + dx, y, z]] for dx, z in ((-0.4, 0.0), (0.4, 1.75))] for x, y in feet])
    pixels = projected(FILMED.image_from_world[:1], corners.reshape(1, 1, 4, 3))[0].reshape(2, 2, 2)
    boxes = np.array([[low[0], high[1], high[0], low[1]] for low, high in pixels])
    still = np.ones((2, count), np.float32)
    return PlayerTracks(
        position_m=np.repeat(feet[:, None], count, axis=1).astype(np.float32),
        position_error_m=0.1 * still,
        velocity_m_s=np.zeros((2, count, 2), np.float32),
        observed=np.ones((2, count), bool),
        boxes_px=np.repeat(boxes[:, None], count, axis=1).astype(np.float32),
        keypoints_px=np.full((2, count, 17, 3), np.nan, np.float32),
        confidence=still,
        identity_confidence=still,
        side=np.repeat(np.array([[-1], [1]], np.int8), count, axis=1),
        outlier_count=np.zeros(2, np.int64),
    )


def rallies_of(
    flights: list[tuple[float, ShuttleFlight]],
    seen_from_s: float = 0.0,
    *,
    far_m: tuple[float, float] = FAR_M,
    far_lost: bool = False,
) -> list[Rally]:
    """Return the rallies of flights with their start times; frames before ``seen_from_s`` do not show the shuttle.

    ``far_lost``: nobody knows where the far player is.
    """
    times = FILMED.time_s
    places = np.full((len(times), 3), np.nan)
    for start_s, flight in flights:
        for frame in np.flatnonzero((times >= start_s) & (times < start_s + flight.duration_s)):
            places[frame] = flight.at(float(times[frame] - start_s))
    pixels = projected(FILMED.image_from_world, places[None, :, None])[0][0, :, 0]
    pixels += np.random.default_rng(1).normal(0, 1.0, pixels.shape)
    with np.errstate(invalid="ignore"):
        seen = ((pixels > 0) & (pixels < SIZE)).all(1) & (times >= seen_from_s)
    track = ShuttleTrack(np.where(seen[:, None], pixels, np.nan).astype(np.float32), seen.astype(np.float32))
    tracks, segments = players(far_m), whole(FILMED)
    if far_lost:
        tracks.position_m[0], tracks.boxes_px[0], tracks.side[0] = np.nan, np.nan, 0
    contacts = judge_contacts(track, tracks, times, segments, picture_size=SIZE)
    hits = [each.hit for each in contacts if each.hit is not None]
    return find_rallies(hits, track, tracks, times, segments, mode="full", picture_size=SIZE, contacts=contacts)


def test_a_high_service_that_is_seen_a_frame_late_begins_the_rally() -> None:
    service = hit((3.2, 8.9, 1.0), (2.0, 0.4, 0.03), 62.0)
    met_s = float(service.time_s[(service.xyz_m[:, 2] > 2.3).nonzero()[0][-1]])
    answer = hit(tuple(service.at(met_s)), (3.6, 8.9, 0.03), 2.0)
    (rally,) = rallies_of([(1.0, service.until(met_s)), (1.0 + met_s, answer)], seen_from_s=1.05)
    assert abs(rally.start_s - 1.0) < 0.15
    assert abs(rally.end_s - (1.0 + met_s + answer.duration_s)) < 0.15
    assert [each.player for each in rally.hits] == [1, 0]


def test_a_lift_into_the_net_ends_there_and_not_where_the_shuttle_falls() -> None:
    service = hit((3.2, 8.9, 1.0), (3.4, 3.0, 0.03), 24.0)
    met_s = float(service.time_s[(service.xyz_m[:, 2] > 0.5).nonzero()[0][-1]])
    lift = hit(tuple(service.at(met_s)), (4.0, 6.68, 1.2), 35.0)
    fall = fly(lift.xyz_m[-1], np.array([0.0, -0.5, 0.0]), 0.03)
    end_s = 1.0 + met_s + lift.duration_s
    (rally,) = rallies_of([(1.0, service.until(met_s)), (1.0 + met_s, lift), (end_s, fall)])
    assert fall.duration_s > 0.4
    assert abs(rally.end_s - end_s) < 0.15
    assert [each.player for each in rally.hits] == [1, 0]


def test_a_shot_that_falls_just_behind_the_net_ends_on_the_floor() -> None:
    service = hit((3.2, 8.9, 1.0), (3.4, 3.0, 0.03), 24.0)
    met_s = float(service.time_s[(service.xyz_m[:, 2] > 0.8).nonzero()[0][-1]])
    drop = hit(tuple(service.at(met_s)), (3.0, 7.5, 0.03), 60.0)
    end_s = 1.0 + met_s + drop.duration_s
    # In its last moments it is behind the near player.
    (rally,) = rallies_of([(1.0, service.until(met_s)), (1.0 + met_s, drop.until(drop.duration_s - 0.15))])
    assert abs(rally.end_s - end_s) < 0.1


def test_a_soft_shot_over_the_net_is_no_fall_at_the_net() -> None:
    service = hit((3.2, 8.9, 1.0), (1.9, 3.5, 0.03), 18.0)
    met_s = float(service.time_s[(service.xyz_m[:, 1] > 5.4).nonzero()[0][-1]])
    shot = hit(tuple(service.at(met_s)), (1.9, 7.6, 0.03), 50.0)
    flights = [(1.0, service.until(met_s)), (1.0 + met_s, shot)]
    (rally,) = rallies_of(flights, far_m=(1.7, 4.9))
    assert abs(rally.end_s - (1.0 + met_s + shot.duration_s)) < 0.1
    assert [each.player for each in rally.hits] == [1, 0]


def test_a_shot_into_the_net_ends_there_although_its_flight_alone_seems_to_end_far_before_it() -> None:
    service = hit((3.2, 4.3, 1.0), (4.3, 10.6, 0.03), 24.0)
    met_s = float(service.time_s[(service.xyz_m[:, 2] > 0.64).nonzero()[0][-1]])
    shot = hit(tuple(service.at(met_s)), (4.7, 6.72, 1.07), 20.0)
    fall = fly(shot.xyz_m[-1], np.array([0.0, 0.2, 0.0]), 0.03)
    end_s = 1.0 + met_s + shot.duration_s
    (rally,) = rallies_of([(1.0, service.until(met_s)), (1.0 + met_s, shot), (end_s, fall)])
    assert [each.player for each in rally.hits] == [0, 1]
    assert abs(rally.end_s - end_s) < 0.15


def test_somebody_who_is_not_seen_hits_too() -> None:
    service = hit((3.2, 8.9, 1.0), (3.4, 3.0, 0.03), 24.0)
    met_s = float(service.time_s[(service.xyz_m[:, 2] > 0.8).nonzero()[0][-1]])
    lift = hit(tuple(service.at(met_s)), (3.0, 11.5, 0.03), 55.0)
    (rally,) = rallies_of([(1.0, service.until(met_s)), (1.0 + met_s, lift)], far_lost=True)
    assert [each.player for each in rally.hits] == [1, None]
    assert abs(rally.end_s - (1.0 + met_s + lift.duration_s)) < 0.15
