"""Joint positions at a moment: interpolated between samples, by the sender's clock."""

from __future__ import annotations

import random

import pytest

from contracts.telemetry import Clock, JointBatch
from modal_workers.runtime.sessions.clock_offsets import ClockOffsets
from modal_workers.runtime.sessions.joint_track import JointTrack


def batch(
    *samples: tuple[float, float], unit: str = "rad", clock: Clock | None = None, source: str = "arm"
) -> JointBatch:
    rows = [(number, time_s, [value]) for number, (time_s, value) in enumerate(samples)]
    return JointBatch.model_validate(
        {"source": source, "names": ["pan"], "unit": unit, "samples": rows, "clock": clock and clock.model_dump()}
    )


def at(track: JointTrack, time_s: float) -> float | None:
    joints = track.at(time_s)
    return None if joints is None else joints.positions[0]


def test_positions_are_interpolated_and_never_the_latest() -> None:
    track = JointTrack(ClockOffsets())
    track.add(batch((100.0, 0.0), (100.1, 1.0), (100.2, 3.0)), 100.2)
    assert at(track, 100.05) == pytest.approx(0.5)
    assert at(track, 100.15) == pytest.approx(2.0)
    assert at(track, 100.1) == pytest.approx(1.0)
    joints = track.at(100.12)
    assert joints is not None
    assert joints.gap_s == pytest.approx(0.02)
    assert (track.covers(100.2), track.covers(100.21)) == (True, False)


def test_no_positions_in_a_long_gap_or_far_from_samples() -> None:
    track = JointTrack(ClockOffsets())
    assert at(track, 100.0) is None
    track.add(batch((100.0, 1.0), (101.0, 2.0)), 101.0)
    assert at(track, 100.1) == 1.0, "the nearest, not a guess over a second"
    assert at(track, 100.5) is None
    assert at(track, 101.2) == 2.0
    assert at(track, 101.3) is None


def test_late_and_repeated_samples_are_inserted_in_order() -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)
    times = [100 + step / 50 for step in range(40)]
    shuffled = times * 2
    rng.shuffle(shuffled)
    track = JointTrack(ClockOffsets())
    for time_s in shuffled:
        track.add(batch((time_s, 10 * (time_s - 100)), clock=Clock(offset_s=0.0, error_s=0.0)), time_s)
    for _ in range(50):
        moment_s = rng.uniform(times[0], times[-1])
        assert at(track, moment_s) == pytest.approx(10 * (moment_s - 100), abs=1e-6)


def test_a_stated_clock_is_used_and_an_unstated_one_is_estimated_from_the_least_delay() -> None:
    stated = JointTrack(ClockOffsets())
    stated.add(batch((100.0, 1.0), (100.1, 2.0), clock=Clock(offset_s=5.0, error_s=0.001)), 110.0)
    assert at(stated, 105.05) == pytest.approx(1.5)
    estimated = JointTrack(ClockOffsets())
    for step, delay_s in enumerate((0.03, 0.004, 0.2, 0.01)):
        own_s = 100.0 + step / 10
        estimated.add(batch((own_s, float(step))), own_s - 7.0 + delay_s)
    assert at(estimated, 100.1 - 7.0 + 0.004) == pytest.approx(1.0)


def test_native_units_and_another_robot() -> None:
    track = JointTrack(ClockOffsets())
    track.add(batch((100.0, 55.0), unit="native"), 100.0)
    assert (track.samples, at(track, 100.0)) == (0, None)
    track.add(batch((100.0, 1.0)), 100.0)
    track.add(batch((100.1, 9.0), source="other"), 100.1)
    assert at(track, 100.1) == 9.0
    assert at(track, 100.0) == 9.0, "the first robot's samples are discarded"


def test_memory_is_bounded() -> None:
    track = JointTrack(ClockOffsets())
    for first in range(0, 30_000, 500):
        track.add(batch(*((100 + (first + step) / 200, 0.0) for step in range(500))), 0.0)
    assert len(track._times) <= 8500
