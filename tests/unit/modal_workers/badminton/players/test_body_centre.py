"""The body's centre from hips and feet: somebody who lunges goes farther than the middle between the feet."""

from __future__ import annotations

import numpy as np
import pytest

from modal_workers.badminton.analytics.motion import CourtTrack, measure_motion
from modal_workers.badminton.players import body_centre
from modal_workers.badminton.players.body_centre import MeasuredFeet, body_tracks, hip_rays
from modal_workers.badminton.players.persons import PersonLog
from modal_workers.badminton.players.trajectory_smoothing import smooth_trajectory
from tests.harness.vision.badminton_persons import SIZE_PX, SpaceCamera, camera

COUNT, RATE_HZ, SIGMA_PX = 900, 30.0, 1.0
TIMES_S = np.arange(COUNT) / RATE_HZ
SEGMENT = np.zeros(COUNT, np.int64)
HIP_M = 0.85


def lunging(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the ways [N, 2] of the hips and of the middle between the feet: lunges to all sides."""
    feet = np.tile([3.0, 9.5], (COUNT, 1))
    hips = feet.copy()
    for begin in range(30, COUNT - 60, 60):
        angle = random.uniform(0, 2 * np.pi)
        bump = np.exp(-0.5 * ((np.arange(COUNT) - begin - 30) / 9.0) ** 2)[:, None]
        way = np.array([np.cos(angle), np.sin(angle)])
        feet += 0.9 * bump * way
        hips += 1.15 * bump * way
    return hips, feet


def filmed(random: np.random.Generator, hips_m: np.ndarray, view: SpaceCamera, *, seen: bool = True) -> PersonLog:
    """Return one person a frame, with hips of a pixel of noise; the rest of the skeleton does not matter here."""
    keypoints = np.full((COUNT, 17, 3), np.nan)
    if seen:
        for joint, aside_m in ((11, -0.1), (12, 0.1)):
            place = np.column_stack([hips_m[:, 0] + aside_m, hips_m[:, 1], np.full(COUNT, HIP_M)])
            keypoints[:, joint, :2] = view.to_image(place) + SIGMA_PX * random.normal(size=(COUNT, 2))
            keypoints[:, joint, 2] = 0.9
    head = view.to_image(np.column_stack([hips_m, np.full(COUNT, 1.75)]))
    foot = view.to_image(np.column_stack([hips_m, np.zeros(COUNT)]))
    boxes = np.concatenate([head - np.array([20, 0]), foot + np.array([20, 0])], axis=1)
    return PersonLog(
        np.arange(COUNT + 1),
        boxes.astype(np.float32),
        np.ones(COUNT, np.float32),
        keypoints.astype(np.float32),
        np.zeros((COUNT, 0), np.float32),
    )


def measured_feet(random: np.random.Generator, feet_m: np.ndarray) -> MeasuredFeet:
    return MeasuredFeet(
        feet_m + random.normal(size=feet_m.shape) * (0.02, 0.03), np.tile([0.02**2, 0.03**2], (COUNT, 1))
    )


def distance_m(position: np.ndarray, error: np.ndarray, velocity: np.ndarray) -> float:
    seen = np.ones(COUNT, bool)
    track = CourtTrack.of(TIMES_S, (position, error, velocity), seen, seen, SEGMENT.astype(np.int32))
    return measure_motion(track).distance_m


@pytest.mark.parametrize("name", ["broadcast", "phone", "corner"])
def test_the_way_of_somebody_who_lunges_is_that_of_the_hips(name: str) -> None:
    random = np.random.default_rng(7)
    view = camera(name)
    hips_m, feet_m = lunging(random)
    log = filmed(random, hips_m, view)
    rays = hip_rays(log, np.arange(COUNT), np.arange(COUNT), [(0, COUNT - 1, view.court)], SIZE_PX)
    bodies = body_tracks([(rays, measured_feet(random, feet_m))], TIMES_S, SEGMENT)
    assert bodies is not None
    body = bodies[0]
    way_m = np.linalg.norm(np.diff(hips_m, axis=0), axis=1).sum()
    feet = measured_feet(random, feet_m)
    only = smooth_trajectory(feet.position_m, feet.variance_m2, TIMES_S, SEGMENT)
    of_feet = distance_m(only.position_m, only.error_m, only.velocity_m_s) / way_m - 1
    of_body = distance_m(body.position_m, body.error_m, body.velocity_m_s) / way_m - 1
    assert of_feet < -0.15, "the feet go less far"
    assert abs(of_body) < 0.7 * abs(of_feet), (of_body, of_feet)
    off = np.linalg.norm(body.position_m - hips_m, axis=1)
    assert np.median(off) < 0.1
    # Also at the outermost places, where the feet are a quarter of a metre behind.
    far = np.linalg.norm(hips_m - feet_m, axis=1) > 0.15
    assert np.median(off[far]) < 0.7 * np.median(np.linalg.norm(hips_m - feet_m, axis=1)[far])


def test_without_hips_no_body_is_claimed() -> None:
    random = np.random.default_rng(8)
    view = camera()
    hips_m, feet_m = lunging(random)
    log = filmed(random, hips_m, view, seen=False)
    rays = hip_rays(log, np.arange(COUNT), np.arange(COUNT), [(0, COUNT - 1, view.court)], SIZE_PX)
    assert not len(rays.frame)
    assert body_tracks([(rays, measured_feet(random, feet_m))], TIMES_S, SEGMENT) is None


def test_where_nobody_is_known_the_body_is_not_either() -> None:
    random = np.random.default_rng(9)
    view = camera()
    hips_m, feet_m = lunging(random)
    frames = np.concatenate([np.arange(300), np.arange(400, COUNT)])
    log = filmed(random, hips_m, view)
    rays = hip_rays(log, frames, frames, [(0, COUNT - 1, view.court)], SIZE_PX)
    feet = measured_feet(random, feet_m)
    feet.position_m[300:400] = feet.variance_m2[300:400] = np.nan
    bodies = body_tracks([(rays, feet)], TIMES_S, SEGMENT)
    assert bodies is not None
    assert (np.isfinite(bodies[0].position_m[:, 0]) == np.isin(np.arange(COUNT), frames)).all()


def test_a_stretch_of_one_frame_does_not_count_as_movement() -> None:
    """It has no speed and an offset of 0, so it made the offsets of the others less sure."""
    random = np.random.default_rng(10)
    _, feet_m = lunging(random)
    error_m, offset = np.full(COUNT, 0.05), random.normal(0, 0.2, (COUNT, 2))
    single = np.isin(np.arange(COUNT), np.arange(60, COUNT, 90))
    offset[single] = 0.0
    stretch = np.cumsum(single | np.roll(single, 1))
    found, expected = (
        body_centre._sure_share(offset, body_centre._FeetTrack(feet_m, error_m, TIMES_S, numbers))
        for numbers in (stretch, np.where(single, -1, stretch))
    )
    assert 0 < expected < 1
    assert found == expected
