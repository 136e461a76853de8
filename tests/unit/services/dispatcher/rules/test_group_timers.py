"""Timers of groups: each waiting group is looked at in time, and what is gone is forgotten."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from services.dispatcher.rules.group_timers import GroupTimers

NOW = datetime(2026, 11, 23, tzinfo=UTC)
WEEK = timedelta(days=7)


def test_groups_that_have_ended_leave_no_entries() -> None:
    waiting: set[str] = set()
    timers = GroupTimers(waiting.__contains__)
    for number in range(20_000):
        waiting.add(f"grp_{number}")
        timers.add(f"grp_{number}", NOW + WEEK)
        waiting.discard(f"grp_{number}")
    assert len(timers) < 200


def test_many_looks_at_one_group_leave_few_entries() -> None:
    timers = GroupTimers({"grp_1"}.__contains__)
    for second in range(5_000):
        timers.add("grp_1", NOW + timedelta(seconds=second))
    assert len(timers) < 200
    assert timers.first == NOW
    assert "grp_1" in timers.take_due(NOW)


def test_no_waiting_group_is_looked_at_too_late() -> None:
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    due: dict[str, datetime] = {}
    timers = GroupTimers(due.__contains__)
    now = NOW
    for _ in range(5_000):
        group_id, at = f"grp_{rng.randrange(300)}", now + timedelta(seconds=rng.randrange(1, 500))
        due[group_id] = min(at, due.get(group_id, at))
        timers.add(group_id, at)
        if rng.random() < 0.2:
            due.pop(rng.choice(sorted(due)))
        now += timedelta(seconds=rng.random())
        taken = set(timers.take_due(now))
        late = {group_id for group_id, at in due.items() if at <= now}
        assert late <= taken, f"seed {seed}"
        for group_id in taken & due.keys():
            if group_id in late:
                del due[group_id]
            else:  # it was looked at too early: it waits on
                timers.add(group_id, due[group_id])
    assert timers.first is None or timers.first > now, f"seed {seed}"
