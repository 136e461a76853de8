"""Distance and speed from tracks whose true motion is known."""

from __future__ import annotations

import numpy as np
import pytest

from modal_workers.badminton.analytics.motion import KMH_PER_M_S, CourtTrack, Motion, measure_motion
from modal_workers.badminton.players.trajectory_smoothing import smooth_trajectory

Floats = np.ndarray


def _measured(
    position_m: Floats,
    rate_hz: float = 30.0,
    error_m: Floats | float = 0.05,
    segment: Floats | None = None,
    velocity_m_s: Floats | None = None,
) -> Motion:
    count = len(position_m)
    errors = np.broadcast_to(error_m, count)
    parts = np.zeros(count, np.int32) if segment is None else segment.astype(np.int32)
    seen = np.isfinite(position_m[:, 0])
    velocities = np.gradient(position_m, 1 / rate_hz, axis=0) if velocity_m_s is None else velocity_m_s
    times_s = np.arange(count) / rate_hz
    return measure_motion(
        CourtTrack.of(times_s, (position_m, errors, velocities), seen, np.ones(count, np.bool_), parts)
    )


def _smoothed(true_m: Floats, rate_hz: float, scatter_m: float) -> tuple[Floats, Floats, Floats]:
    """Return places, errors and velocities as the players' stage makes them of detections whose errors last."""
    random = np.random.default_rng(3)
    noise = random.normal(size=true_m.shape)
    for frame in range(1, len(noise)):
        noise[frame] = 0.8 * noise[frame - 1] + 0.6 * noise[frame]
    times_s, variances = np.arange(len(true_m)) / rate_hz, np.full(true_m.shape, scatter_m**2)
    smooth = smooth_trajectory(true_m + scatter_m * noise, variances, times_s, np.zeros(len(true_m), np.int64))
    return smooth.position_m, smooth.error_m, smooth.velocity_m_s


def _shuttle_run(rate_hz: float, duration_s: float = 40.0) -> Floats:
    """Run 3 m forth and back with 1.2 s for a way and 1.8 s of rest."""
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    way = np.clip((time_s % 3.0) / 1.2, 0, 1)
    smooth = 10 * way**3 - 15 * way**4 + 6 * way**5
    forth = (time_s // 3.0) % 2 == 0
    return np.stack([np.full_like(time_s, 3.0), 7.5 + 3 * np.where(forth, smooth, 1 - smooth)], axis=-1)


@pytest.mark.parametrize("rate_hz", [15.0, 25.0, 60.0])
@pytest.mark.parametrize("scatter_m", [0.03, 0.06])
def test_distance_and_top_speed_are_those_of_the_run(rate_hz: float, scatter_m: float) -> None:
    true_m = _shuttle_run(rate_hz)
    length_m = float(np.hypot(*np.diff(true_m, axis=0).T).sum())
    top_m_s = 3 * 1.875 / 1.2  # of this profile, the mean speed times 15 / 8
    places_m, errors_m, velocities = _smoothed(true_m, rate_hz, scatter_m)
    motion = _measured(places_m, rate_hz, errors_m, velocity_m_s=velocities)
    assert motion.distance_m == pytest.approx(length_m, rel=0.1)
    assert abs(motion.distance_m - length_m) <= motion.distance_error_m
    assert motion.top_speed_m_s == pytest.approx(top_m_s, rel=0.15)
    assert abs(motion.top_speed_m_s - top_m_s) <= motion.top_speed_error_m_s
    assert motion.mean_speed_m_s == pytest.approx(motion.distance_m / motion.known_s)


def test_a_player_at_rest_covers_no_distance() -> None:
    still_m, errors_m, velocities = _smoothed(np.tile((2.0, 9.0), (1800, 1)), 30.0, 0.08)
    summed_m = float(np.hypot(*np.diff(still_m, axis=0).T).sum())
    assert summed_m > 12, "the sum of all steps would be a walk through the hall"
    assert _measured(still_m, error_m=errors_m, velocity_m_s=velocities).distance_m < 0.65 * summed_m


def test_a_player_who_seems_to_stand_may_have_moved_by_less_than_the_places_scatter() -> None:
    standing = _measured(np.tile((2.0, 9.0), (60, 1)), error_m=np.full(60, 0.2))
    assert standing.distance_m == 0
    assert 0.1 < standing.distance_error_m < 0.7
    assert standing.mean_speed_error_m_s > 0


def test_what_is_not_seen_is_not_walked() -> None:
    run_m = _shuttle_run(30.0, 12.0)
    velocities = np.gradient(run_m, 1 / 30.0, axis=0)
    run_m[90:180] = np.nan
    run_m[180:, 0] += 2.0  # out of view the player has moved
    whole = _measured(run_m, velocity_m_s=velocities)
    parts = [_measured(run_m[part], velocity_m_s=velocities[part]) for part in (slice(90), slice(180, None))]
    assert whole.distance_m == pytest.approx(sum(part.distance_m for part in parts))
    assert whole.known_s == pytest.approx(12.0 - 3.0, abs=0.1)
    assert whole.observed_share == pytest.approx(0.75)


def test_no_step_leads_from_one_camera_to_the_next() -> None:
    places_m = np.concatenate([np.tile((1.0, 8.0), (60, 1)), np.tile((5.0, 12.0), (60, 1))])
    motion = _measured(places_m, segment=np.repeat([0, 1], 60), velocity_m_s=np.zeros((120, 2)))
    assert motion.distance_m == 0
    assert motion.top_speed_m_s == 0


def test_a_top_speed_that_nobody_saw_does_not_count() -> None:
    run_m = _shuttle_run(30.0, 12.0)
    count = len(run_m)
    seen = np.ones(count, np.bool_)
    seen[80:140] = False  # interpolated, while the player runs
    track = CourtTrack.of(
        np.arange(count) / 30.0,
        (run_m, np.full(count, 0.05), np.gradient(run_m, 1 / 30.0, axis=0)),
        seen,
        np.ones(count, np.bool_),
        np.zeros(count, np.int32),
    )
    assert not 80 / 30 + 0.3 < measure_motion(track).top_speed_at_s < 140 / 30 - 0.3


def test_nothing_is_known_of_a_player_who_was_never_found() -> None:
    motion = _measured(np.full((90, 2), np.nan))
    assert motion.known_s == 0
    assert motion.observed_share == 0
    assert np.isnan([motion.distance_m, motion.mean_speed_m_s, motion.top_speed_m_s]).all()


def _replaced_rule(position_m: Floats, rate_hz: float) -> tuple[float, float]:
    """Return distance and top speed (km/h) by the rule of the system that is replaced: limits instead of evidence."""
    speeds, window, distance_m, place = [], [], 0.0, position_m[0]
    for following in position_m[1:]:
        step_m = float(np.hypot(*(following - place)))
        kmh = step_m * rate_hz * KMH_PER_M_S
        place = following
        if step_m > 0.25 or kmh > 8.5 * KMH_PER_M_S:
            continue
        if len(window) >= 3 and kmh > 3 * sorted(window)[len(window) // 2] and sorted(window)[len(window) // 2] > 2:
            continue
        window = [*window, kmh][-5:]
        distance_m += step_m
        speeds.append(kmh)
    kept = sorted(speed for speed in speeds if speed <= 25)
    low, high = kept[len(kept) // 4], kept[3 * len(kept) // 4]
    kept = [speed for speed in kept if speed <= min(high + 1.5 * (high - low), 20)]
    return distance_m, kept[: int(0.95 * len(kept))][-1]


def test_a_true_sprint_is_reported_where_limits_cut_it() -> None:
    rate_hz = 25.0
    time_s = np.arange(75) / rate_hz
    way = np.clip((time_s - 0.8) / 1.5, 0, 1)
    dash_m = np.stack([np.full(75, 3.0), 13.0 - 6.0 * (10 * way**3 - 15 * way**4 + 6 * way**5)], axis=-1)
    top_kmh = 6.0 * 1.875 / 1.5 * KMH_PER_M_S
    theirs_m, theirs_kmh = _replaced_rule(dash_m, rate_hz)
    places_m, errors_m, velocities = _smoothed(dash_m, rate_hz, 0.06)
    ours = _measured(places_m, rate_hz, errors_m, velocity_m_s=velocities)
    assert theirs_kmh < 0.8 * top_kmh
    assert theirs_m < 0.6 * 6.0, "steps of the sprint are thrown away"
    assert ours.top_speed_m_s * KMH_PER_M_S == pytest.approx(top_kmh, rel=0.1)
    assert ours.distance_m == pytest.approx(6.0, abs=max(0.5, ours.distance_error_m))
