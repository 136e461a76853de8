"""Check of slots: jobs that began to wait together may have been known in either order; other orders differ."""

from __future__ import annotations

from datetime import timedelta

import pytest

from contracts.copies import copied
from contracts.events.job import JobSubmitted
from contracts.job import Job, State
from services.dispatcher.scheduling.fair_queue import Limits
from services.whatif.slot_check import SlotCheck
from services.whatif.virtual_time import BEGIN


def queued(number: int, priority: int = 0) -> Job:
    submitted = JobSubmitted(
        workload="laps", workload_version="1", inputs={}, params={}, deadline=BEGIN, priority=priority
    )
    return Job(
        f"job_{number}", "acme", submitted, BEGIN, state=State.QUEUED, first_sequence=number, sequence=10 + number
    )


@pytest.mark.parametrize(("apart_s", "younger_priority", "same"), [(0.1, 0, True), (5.0, 0, False), (5.0, 1, True)])
def test_the_younger_of_two_jobs_gets_the_slot(apart_s: float, younger_priority: int, same: bool) -> None:
    check = SlotCheck(Limits(slots=1, tenant=1, workload=1), lambda _: False, lambda _: None)
    busy, older, younger = queued(1), queued(2), queued(3, younger_priority)
    check.fold(copied(busy, state=State.RUNNING), BEGIN)
    check.fold(older, BEGIN)
    end = BEGIN + timedelta(seconds=apart_s)
    check.fold(younger, end)
    check.fold(copied(busy, state=State.SUCCEEDED, sequence=30), end)
    assert check.is_chosen(younger, end) is same
    if same:
        check.fold(copied(younger, state=State.STARTING, sequence=31), end)
        assert list(check.granted) == [], "the older one waits on, and nobody took its slot"
