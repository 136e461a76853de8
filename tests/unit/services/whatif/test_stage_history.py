"""States of a pipeline's jobs that its dispatcher may have seen: those of the last second; afterwards the true ones."""

from __future__ import annotations

from datetime import timedelta

from contracts.events.base import EventData, decode, encode
from contracts.events.job import JobCancelRequested, JobQueued, JobSubmitted, PartOf
from contracts.ids import new_id, stage_job_id
from contracts.job import State
from kit.bus.event_store import StoredEvent
from services.dispatcher.jobs.unfinished_jobs import UnfinishedJobs
from services.whatif.stage_history import StageHistory
from services.whatif.virtual_time import BEGIN
from services.whatif.window import RecordedEvent

PIPELINE = new_id("job")
FIRST, SECOND = (stage_job_id(PIPELINE, "shape", shard) for shard in range(2))


class Record:
    """A record that goes on."""

    def __init__(self) -> None:
        self.jobs = UnfinishedJobs()
        self.history = StageHistory(self.jobs)
        self.sequence = 0

    def event(self, job_id: str, data: EventData, at_s: float) -> RecordedEvent:
        message = encode(
            data, tenant="acme", subject_id=job_id, source="/dispatcher", time=BEGIN + timedelta(seconds=at_s)
        )
        self.sequence += 1
        return RecordedEvent(StoredEvent(self.sequence, message.subject, message.body), decode(message.body))

    def add(self, job_id: str, data: EventData, at_s: float) -> None:
        event = self.event(job_id, data, at_s)
        self.history.before(event)
        self.jobs.fold(event.envelope, event.sequence)

    def states(self) -> tuple[State, ...]:
        found = [self.jobs.stage_job(job_id) for job_id in (PIPELINE, FIRST, SECOND)]
        return tuple(job.state for job in found if job)


def submitted(part_of: PartOf | None = None) -> JobSubmitted:
    return JobSubmitted(workload="relay", workload_version="1", inputs={}, params={}, deadline=BEGIN, part_of=part_of)


def test_each_combination_of_the_last_second_is_shown_and_then_the_true_one() -> None:
    record = Record()
    record.add(PIPELINE, submitted(), 0)
    for shard, job_id in enumerate((FIRST, SECOND)):
        record.add(job_id, submitted(PartOf(job_id=PIPELINE, stage="shape", shard=shard, shards=2)), 1)
    record.add(FIRST, JobQueued(position=1), 10.0)
    record.add(SECOND, JobQueued(position=1), 10.2)
    now = record.event(PIPELINE, JobCancelRequested(by="test"), 10.3)
    before = record.states()
    seen = [record.states() for _ in record.history.variants(now)]
    waits, queued = State.SUBMITTED, State.QUEUED
    assert set(seen) == {(waits, waits, queued), (waits, queued, waits), (waits, waits, waits)}
    assert record.states() == before == (waits, queued, queued)
    late = record.event(PIPELINE, JobCancelRequested(by="test"), 11.1)
    assert [record.states() for _ in record.history.variants(late)] == [(waits, queued, waits)]
    own = record.event(SECOND, JobQueued(position=1), 11.1)
    assert list(record.history.variants(own)) == [], "its own state is the one that it was stored after"
