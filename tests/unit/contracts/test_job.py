"""Job aggregate: folding all events gives the same state as folding the newest event of each type."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Envelope, EventData, decode_at, encode
from contracts.events.job import (
    Cost,
    JobArtifactReady,
    JobCancelled,
    JobFailed,
    JobInterrupted,
    JobLaunched,
    JobQueued,
    JobResultsRetentionChanged,
    JobScratchRemoved,
    JobStageCompleted,
    JobStarted,
    JobStarting,
    JobSubmitted,
    JobSucceeded,
    JobWaitingForGpu,
)
from contracts.ids import new_id
from contracts.job import Job, State, fold, fold_stored, request_cancel, retry
from contracts.job_files import change_retention
from contracts.manifest import Artifact

BEGIN = datetime(2026, 7, 1, tzinfo=UTC)
ERROR = SaccadeError(ErrorCode.WORKER_LOST).body()
History = list[tuple[int, Envelope]]


class RandomJob:
    """Job with random events under the rules of its publishers; each step is one event."""

    def __init__(self) -> None:
        self.events: History = []
        self.job: Job | None = None
        self.publish(JobSubmitted(workload="echo", workload_version="1", inputs={}, params={}, deadline=BEGIN))

    def publish(self, data: EventData, gap: int = 0) -> None:
        sequence = (self.events[-1][0] if self.events else 10) + 1 + gap
        envelope = Envelope(
            id=f"evt{sequence}",
            source="/test",
            type=data.type,
            subject="job_1",
            time=BEGIN + timedelta(seconds=sequence),
            tenant="acme",
            data=data.model_dump(mode="json"),
        )
        self.events.append((sequence, envelope))
        self.job = fold(self.job, envelope, sequence)

    @property
    def run(self) -> dict[str, Any]:
        assert self.job
        return {"attempt": self.job.attempt, "run_id": self.job.run_id or "none"}

    def moves(self) -> list[str]:
        """Return the events that the rules allow now."""
        assert self.job
        match self.job.state:
            case State.SUBMITTED:
                return ["queued", "cancel_requested", "cancelled", "failed"]
            case State.QUEUED | State.RETRYING:
                return ["starting", "cancel_requested", "cancelled", "failed"]
            case State.STARTING | State.WAITING_FOR_GPU:
                return ["launched", "waiting_for_gpu", "started", "interrupted", "cancel_requested", "cancelled"]
            case State.RUNNING:
                return [
                    "launched", "stage_completed", "artifact_ready", "interrupted", "succeeded", "cancel_requested",
                ]  # fmt: skip
            case State.INTERRUPTED:
                return ["retrying", "failed", "cancelled", "succeeded", "cancel_requested"]
            case State.FAILED | State.CANCELLED:
                return ["asked", "retention_changed", "scratch_removed"]
            case State.SUCCEEDED:
                return ["retention_changed", "scratch_removed"]
            case _:
                return []

    def move(self, name: str, number: int) -> None:
        """Publish the event if the rules allow it in the current state."""
        job = self.job
        assert job
        now = BEGIN + timedelta(minutes=number)
        cost = Cost(device="T4", seconds=number, usd=number)
        starting = JobStarting(
            attempt=job.attempt + 1,
            run_id=f"run{len(self.events)}",
            executor="modal",
            device=f"gpu{number % 3}",
            rung=number,
        )
        waiting = JobWaitingForGpu(**self.run, device="T4", waited_s=number)
        artifact = Artifact(name="a", key="k", bytes=1, sha256="0" * 64, media_type="text/plain")
        events: dict[str, EventData | None] = {
            "queued": JobQueued(position=number),
            "starting": None if job.cancel_requested else starting,
            "launched": JobLaunched(**self.run, call_id=f"call{number}"),
            "waiting_for_gpu": waiting,
            "started": None if job.cancel_requested else JobStarted(**self.run, device=f"real{number}", worker="w"),
            "stage_completed": JobStageCompleted(**self.run, stage=f"stage{number}", duration_s=1),
            "artifact_ready": JobArtifactReady(**self.run, artifact=artifact),
            "interrupted": JobInterrupted(**self.run, failure="lost", error=ERROR, cost=cost if number % 2 else None),
            "succeeded": JobSucceeded(**self.run, result={}, manifest_key="k", duration_s=1, cost=cost),
            "failed": JobFailed(attempt=job.attempt, failure="lost", error=ERROR),
            "cancelled": JobCancelled(attempt=job.attempt) if job.cancel_requested else None,
            "cancel_requested": None if job.state.ended else request_cancel(job, by="user"),
            "retrying": None
            if job.cancel_requested
            else retry(job, after="lost", delay_s=number, now=now, deadline_s=0, rung=number),
            "retention_changed": change_retention(job, now, "user") if _is_kept(job) else None,
            "scratch_removed": JobScratchRemoved(files=number) if _is_kept(job) else None,
            "asked": retry(job, after=None, delay_s=0, now=now, deadline_s=600)
            if job.state in (State.FAILED, State.CANCELLED)
            else None,
        }
        if data := events[name]:
            self.publish(data, gap=number % 3)


def _is_kept(job: Job) -> bool:
    return job.state.ended and job.scratch_removed_at is None


def newest_of_each_type(history: History) -> History:
    newest = {envelope.type: (sequence, envelope) for sequence, envelope in history}
    return sorted(newest.values(), key=lambda entry: entry[0])


def folded(history: History) -> Job | None:
    job: Job | None = None
    for sequence, envelope in history:
        job = fold(job, envelope, sequence)
    return job


def without_earlier_costs(job: Job | None) -> Job | None:
    """Remove what only the full history contains."""
    return job and replace(job, costs={run: cost for run, cost in job.costs.items() if run == job.run_id})


@settings(max_examples=600)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=45))
def test_the_newest_event_of_each_type_gives_the_same_state_as_all_events(choices: list[tuple[int, int]]) -> None:
    random_job = RandomJob()
    for choice, number in choices:
        moves = random_job.moves()
        if not moves:
            break
        random_job.move(moves[choice % len(moves)], number)
    whole, newest = folded(random_job.events), folded(newest_of_each_type(random_job.events))
    assert without_earlier_costs(newest) == without_earlier_costs(whole)


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=30),
    st.lists(st.integers(0, 29), min_size=1, max_size=10),
)
def test_a_repeated_event_counts_once(choices: list[tuple[int, int]], again: list[int]) -> None:
    random_job = RandomJob()
    for choice, number in choices:
        if moves := random_job.moves():
            random_job.move(moves[choice % len(moves)], number)
    job = random_job.job
    for index in again:
        sequence, envelope = random_job.events[index % len(random_job.events)]
        job = fold(job, envelope, sequence)
    assert job == random_job.job


def test_the_full_history_sums_the_costs_of_all_attempts() -> None:
    random_job = RandomJob()
    for name, number in [("queued", 0), ("starting", 1), ("started", 1), ("interrupted", 3), ("retrying", 1)]:
        random_job.move(name, number)
    for name, number in [("starting", 1), ("started", 1), ("succeeded", 4)]:
        random_job.move(name, number)
    assert random_job.job
    assert random_job.job.actual_usd == 7.0
    assert random_job.job.state is State.SUCCEEDED


def test_an_outdated_attempt_changes_nothing() -> None:
    random_job = RandomJob()
    for name, number in [("queued", 0), ("starting", 1), ("started", 1), ("interrupted", 3), ("retrying", 1)]:
        random_job.move(name, number)
    late = JobSucceeded(
        attempt=1, run_id="run2", result={}, manifest_key="k", duration_s=1, cost=Cost(device="T4", seconds=1, usd=1)
    )
    before = random_job.job
    random_job.publish(late)
    assert before
    assert random_job.job
    assert random_job.job == replace(before, sequence=random_job.job.sequence, updated_at=random_job.job.updated_at)


def test_a_job_that_has_ended_takes_no_later_state() -> None:
    events = RandomJob()
    events.publish(JobQueued(position=0))
    events.publish(JobFailed(attempt=0, failure="user", error=ERROR))
    assert events.job
    ended = events.job
    events.publish(JobCancelled(attempt=0))
    assert replace(events.job, sequence=ended.sequence, updated_at=ended.updated_at) == ended


def test_a_users_retry_clears_the_cancel_request() -> None:
    """Found by the first test above: cancelled, retried by the user, lost, retried must not be folded as cancelled."""
    random_job = RandomJob()
    moves = ["queued", "starting", "started", "cancel_requested", "interrupted", "cancelled", "asked"]
    moves += ["starting", "started", "interrupted", "retrying"]
    for name in moves:
        random_job.move(name, 1)
    newest = folded(newest_of_each_type(random_job.events))
    assert newest
    assert (newest.state, newest.cancel_requested, newest.attempt, newest.first_attempt) == (
        State.RETRYING,
        False,
        2,
        2,
    )


@pytest.mark.parametrize("ending", ["succeeded", "failed", "cancelled"])
def test_a_limit_of_results_that_passed_during_a_retry_counts_no_more(ending: str) -> None:
    """The new results were removed as soon as the job had ended."""
    for keep_s, kept in ((10, False), (3600, True)):
        random_job = RandomJob()
        for name in ("queued", "starting", "started", "interrupted", "failed"):
            random_job.move(name, 1)
        assert random_job.job
        keep_until = random_job.job.updated_at + timedelta(seconds=keep_s)
        random_job.publish(JobResultsRetentionChanged(keep_until=keep_until, by="user"))
        random_job.move("asked", 1)
        for name in ("starting", "started", "cancel_requested"):
            random_job.move(name, 1)
        assert random_job.job.results_keep_until == keep_until
        random_job.publish(JobStageCompleted(**random_job.run, stage="last", duration_s=1), gap=30)
        for name in ("succeeded",) if ending == "succeeded" else ("interrupted", ending):
            random_job.move(name, 1)
        assert random_job.job.state == ending
        assert random_job.job.results_keep_until == (keep_until if kept else None)


def test_an_event_of_a_newer_version_advances_the_sequence() -> None:
    random_job = RandomJob()
    before = random_job.job
    assert before
    newer = random_job.events[0][1].model_copy(update={"type": "job.admired", "data": {"by": "all"}})
    job = fold(before, newer, before.sequence + 5)
    assert job == replace(before, sequence=before.sequence + 5)


def test_an_event_on_another_subject_changes_only_the_sequence() -> None:
    """Permissions are granted by subject: an event of another job on a worker's own subject must be ignored."""
    job_id, other = new_id("job"), new_id("job")
    failed = JobFailed(attempt=1, failure="broken", error=ERROR)
    begun = JobSubmitted(workload="echo", workload_version="1", inputs={}, params={}, deadline=BEGIN)
    liar = encode(failed, tenant="acme", subject_id=other, source="/dispatcher")
    right = encode(begun, tenant="acme", subject_id=job_id, source="/gateway")
    job = fold_stored(None, right.subject, right.body, 3)
    assert job is not None
    for place in (f"saccade.evt.acme.job.{job_id}.failed", right.subject, f"saccade.evt.rival.job.{other}.failed"):
        with pytest.raises(ValueError, match="does not belong"):
            decode_at(place, liar.body)
        after = fold_stored(job, place, liar.body, 4)
        assert after is not None
        assert (after.state, after.sequence) == (State.SUBMITTED, 4), "the next conditional publish can succeed"
    after = fold_stored(job, f"saccade.evt.acme.job.{job_id}.started", b"not an event", 5)
    assert after is not None
    assert (after.state, after.sequence) == (State.SUBMITTED, 5)
    assert decode_at(f"live.{liar.subject}", liar.body).subject == other


@pytest.mark.parametrize("wrong_s", [-7200.0, 0.0, 7200.0])
def test_a_run_is_timed_by_the_servers_stamp_when_its_workers_clock_is_wrong(wrong_s: float) -> None:
    """A clock that was ahead or behind made timeouts and costs of hours out of seconds."""
    wrong = timedelta(seconds=wrong_s)
    run = {"attempt": 1, "run_id": "run_1"}
    steps: list[tuple[EventData, int, timedelta]] = [
        (JobSubmitted(workload="echo", workload_version="1", inputs={}, params={}, deadline=BEGIN), 0, timedelta()),
        (JobQueued(position=1), 1, timedelta()),
        (JobStarting(**run, executor="local", device="cpu", usd_per_s=0.001), 10, timedelta()),
        (
            JobStarted(**run, device="cpu", worker="w", billed_since=BEGIN + timedelta(seconds=12) + wrong),
            15,
            wrong,
        ),
    ]
    job: Job | None = None
    for sequence, (data, at_s, error) in enumerate(steps, 1):
        stored_at = BEGIN + timedelta(seconds=at_s)
        envelope = Envelope(
            id=f"evt{sequence}", source="/test", type=data.type, subject="job_1", time=stored_at + error, tenant="acme",
            data=data.model_dump(mode="json"),
        )  # fmt: skip
        job = fold(job, envelope, sequence, stored_at)
    assert job
    assert (job.started_at, job.billed_since) == (BEGIN + timedelta(seconds=15), BEGIN + timedelta(seconds=12))
    assert job.starting_at == BEGIN + timedelta(seconds=10)


def test_billed_time_does_not_begin_before_the_attempt() -> None:
    """The clock jumped between the beginning of the billed time and the event."""
    run = {"attempt": 1, "run_id": "run_1"}
    stored_at = BEGIN + timedelta(seconds=15)
    job = Job(
        id="job_1", tenant="acme", created_at=BEGIN, first_sequence=1, sequence=1, updated_at=BEGIN,
        submitted=JobSubmitted(workload="echo", workload_version="1", inputs={}, params={}, deadline=BEGIN),
        attempt=1, run_id="run_1", starting_at=BEGIN + timedelta(seconds=10),
    )  # fmt: skip
    data = JobStarted(**run, device="cpu", worker="w", billed_since=BEGIN + timedelta(seconds=12))
    envelope = Envelope(
        id="evt", source="/test", type=data.type, subject="job_1", time=stored_at + timedelta(hours=2), tenant="acme",
        data=data.model_dump(mode="json"),
    )  # fmt: skip
    after = fold(job, envelope, 2, stored_at)
    assert after
    assert (after.started_at, after.billed_since) == (stored_at, BEGIN + timedelta(seconds=10))
