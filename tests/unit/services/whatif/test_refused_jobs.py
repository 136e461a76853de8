"""Jobs of rules that were refused because something had been deleted: what had been is not in every window."""

from __future__ import annotations

from datetime import timedelta

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import EventData, encode
from contracts.events.job import JobFailed, JobRule, JobSubmitted
from contracts.ids import new_id
from kit.bus.event_store import StoredEvent
from services.whatif.answer import ask
from services.whatif.replay_settings import ReplaySettings
from services.whatif.virtual_time import BEGIN, VirtualLoop
from services.whatif.window import window_of
from tests.harness.dispatch.varied_run import VARIED_WORKLOADS

JOB = new_id("job")


def stored(sequence: int, data: EventData) -> StoredEvent:
    at = BEGIN + timedelta(seconds=0.01 * sequence)
    message = encode(data, tenant="acme", subject_id=JOB, source="/dispatcher", time=at)
    return StoredEvent(sequence, message.subject, message.body)


def test_a_refused_job_is_refused_again_and_costs_nothing() -> None:
    submitted = JobSubmitted(
        workload=next(iter(VARIED_WORKLOADS)),
        workload_version="1",
        inputs={},
        params={},
        deadline=BEGIN + timedelta(hours=1),
        rule=JobRule(rule_id=new_id("rul"), upload_ids=(new_id("upl"),)),
    )
    error = SaccadeError(ErrorCode.UPLOAD_ALREADY_ENDED).body()
    window = window_of([stored(1, submitted), stored(2, JobFailed(attempt=0, failure="user", error=error))])
    answer = ask(VirtualLoop(), window, VARIED_WORKLOADS, ReplaySettings({}), {"slots": 3})
    assert (answer.answer, list(answer.findings)) == ("same", [])
    assert answer.compared == {"job.failed": 1}
    assert answer.money
    assert (answer.money.unfinished, answer.money.modelled_attempts) == (0, 0)
