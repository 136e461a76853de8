"""Progress of a job from the progress of its stages."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from contracts.workload import Stage
from modal_workers.runtime.jobs.progress import ProgressMeter

STAGES = [Stage("read", "Read", 1.0), Stage("align", "Align", 2.0), Stage("draw", "Draw", 1.0)]


def test_shares_count_relative_to_their_sum() -> None:
    meter = ProgressMeter(STAGES, 0.0)
    assert meter.enter("align", 1.0).fraction == pytest.approx(0.25)
    assert meter.set(0.5, "half", 2.0).fraction == pytest.approx(0.5)
    assert meter.enter("draw", 3.0).fraction == pytest.approx(0.75)
    newest = meter.set(1.0, "", 4.0)
    assert (newest.fraction, newest.stage, newest.stage_fraction) == (pytest.approx(1.0), "draw", 1.0)


def test_the_total_never_decreases_and_stays_in_range() -> None:
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    meter = ProgressMeter(STAGES, 0.0)
    last = 0.0
    for step in range(500):
        if rng.random() < 0.1:
            progress = meter.enter(rng.choice(STAGES).name, step / 10)
        else:
            progress = meter.set(rng.choice([rng.uniform(-1, 2), math.nan, math.inf]), "", step / 10)
        assert last <= progress.fraction <= 1, f"seed {seed}"
        assert 0 <= progress.stage_fraction <= 1, f"seed {seed}"
        assert progress.eta_s is None or progress.eta_s >= 0, f"seed {seed}"
        last = progress.fraction


def test_the_estimate_is_right_for_constant_speed_and_counts_down_without_reports() -> None:
    meter = ProgressMeter([Stage("only", "Only", 1.0)], 0.0)
    progress = meter.newest
    for second in range(1, 41):
        progress = meter.set(second / 100, "", float(second))
    assert progress.eta_s == pytest.approx(60.0)
    assert progress.eta_at(50.0) == pytest.approx(50.0)
    assert progress.eta_at(500.0) == 0.0


def test_the_estimate_forgets_a_jump_to_a_checkpoint() -> None:
    meter = ProgressMeter([Stage("only", "Only", 1.0)], 0.0)
    progress = meter.newest
    for tenth in range(1, 500):
        progress = meter.set(0.6 + tenth / 10 / 1000, "", tenth / 10)  # 0.001 a second from 0.6 on
    assert progress.eta_s == pytest.approx((1 - progress.fraction) * 1000, rel=0.05)


def test_there_is_no_estimate_without_progress() -> None:
    meter = ProgressMeter(STAGES, 0.0)
    assert meter.set(0.5, "", 0.1).eta_s is None
    meter = ProgressMeter(STAGES, 0.0)
    assert meter.set(0.0, "", 100.0).eta_s is None


def test_an_unknown_stage_is_rejected() -> None:
    with pytest.raises(ValueError, match="no stage 'paint'"):
        ProgressMeter(STAGES, 0.0).enter("paint", 1.0)


def test_a_long_message_is_cut() -> None:
    assert len(ProgressMeter(STAGES, 0.0).set(0.1, "x" * 10_000, 1.0).message) == 200


def test_the_first_percents_give_no_estimate() -> None:
    meter = ProgressMeter([Stage("only", "Only", 1.0)], 0.0)
    assert meter.set(0.07, "", 5.0).eta_s is None
    assert meter.set(0.1, "", 10.0).eta_s == pytest.approx(90.0)


def test_frames_belong_to_one_report_and_stay_when_the_stage_is_left() -> None:
    meter = ProgressMeter(STAGES, 0.0)
    newest = meter.set(0.5, "half", 1.0, frame=900, frame_count=1800)
    assert (newest.frame, newest.frame_count) == (900, 1800)
    left = meter.leave(2.0)
    assert (left.stage_fraction, left.message, left.frame, left.frame_count) == (1.0, "half", 900, 1800)
    assert meter.enter("align", 3.0).frame is None
    assert meter.set(0.1, "", 4.0).frame_count is None


def test_frames_fit_into_the_event_whatever_integer_a_job_reports() -> None:
    newest = ProgressMeter(STAGES, 0.0).set(0.5, "", 1.0, frame=-1, frame_count=np.int64(7))
    assert (newest.frame, newest.frame_count) == (0, 7)
    assert type(newest.frame_count) is int
