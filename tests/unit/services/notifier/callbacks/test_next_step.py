"""Which request follows from a callback's record, its job's events and the time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contracts.callback import Callback
from contracts.errors import ErrorBody, ErrorCode
from contracts.events.base import EventData, encode
from contracts.events.job import (
    JobCancelled,
    JobFailed,
    JobInterrupted,
    JobProgressed,
    JobRetrying,
    JobStageCompleted,
    JobStarted,
    JobStarting,
    JobSubmitted,
    JobWaitingForGpu,
)
from contracts.events.upload import UploadFailed
from kit.bus.event_store import StoredEvent
from services.notifier.callbacks.job_facts import JobFacts, log_entries
from services.notifier.callbacks.next_step import (
    AdvisoryState,
    SendFailure,
    SendLog,
    SendResults,
    SendStatus,
    StoreArtifact,
    Wait,
    next_step,
)
from services.notifier.callbacks.site_requests import RESULTS_FILE, VIDEO_FILE
from tests.harness.streams.notifier import RUN_ID, succeeded

NOW = datetime(2026, 3, 22, 12, tzinfo=UTC)
JOB, UPLOAD = "job_0198c0de-0000-7000-8000-000000000003", "upl_0198c0de-0000-7000-8000-000000000003"
ERROR = ErrorBody(code=ErrorCode.CLIP_TOO_SHORT, message="Too short.", hint="Send more.")


def callback(**changes: Any) -> Callback:
    return Callback(
        tenant="local",
        video_id="v",
        site_url="https://x.convex.site",
        dialect=changes.pop("dialect", "site"),
        generation=changes.pop("generation", 1),
        fingerprint="f",
        job_id=JOB,
        upload_ids=(UPLOAD,),
        accepted_at=NOW,
        **changes,
    )


def facts(record: Callback, *events: EventData) -> JobFacts:
    found = JobFacts(JOB)
    for sequence, data in enumerate(events, 1):
        message = encode(
            data,
            tenant="local",
            subject_id=UPLOAD if data.type.startswith("upload.") else JOB,
            source="/test",
        )
        found.on_event(StoredEvent(sequence, message.subject, message.body), record)
    return found


def running() -> list[EventData]:
    submitted = JobSubmitted(workload="badminton", workload_version="1", inputs={}, params={}, deadline=NOW)
    starting = JobStarting(attempt=1, run_id=RUN_ID, executor="local", device="cpu")
    return [submitted, starting, JobStarted(attempt=1, run_id=RUN_ID, device="cpu", worker="w")]


def progress(fraction: float, run_id: str = RUN_ID) -> JobProgressed:
    return JobProgressed(attempt=1, run_id=run_id, stage="s", fraction=fraction, stage_fraction=0, frame=4)


def test_logs_come_first_then_progress_at_most_every_two_seconds() -> None:
    record, advisory = callback(), AdvisoryState()
    found = facts(record, *running())
    first = next_step(record, found, advisory, NOW)
    assert isinstance(first, SendLog)
    assert first.sequence == 2
    found.log.clear()
    assert next_step(record, found, advisory, NOW) == Wait()
    found.on_progress(progress(0.123456, "run_of_before"))
    assert next_step(record, found, advisory, NOW) == Wait(), "progress of another run does not count"
    found.on_progress(progress(0.123456))
    status = next_step(record, found, advisory, NOW)
    assert status == SendStatus(12.3, 4, None)
    advisory.status_at, advisory.sent = NOW, status
    assert next_step(record, found, advisory, NOW) == Wait(), "the same again is not sent"
    found.on_progress(progress(0.2))
    assert next_step(record, found, advisory, NOW) == Wait(NOW + timedelta(seconds=2))
    assert next_step(record, found, advisory, NOW + timedelta(seconds=2)) == SendStatus(20, 4, None)


def test_advisory_requests_pause_longer_and_longer_for_a_site_that_fails_and_never_delay_the_end() -> None:
    record, advisory = callback(), AdvisoryState()
    pauses = []
    for _ in range(8):
        advisory.failed(NOW)
        assert advisory.allowed_at
        pauses.append((advisory.allowed_at - NOW).total_seconds())
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]
    assert next_step(record, facts(record, *running()), advisory, NOW) == Wait(advisory.allowed_at)
    assert next_step(record, facts(record, *running(), succeeded()), advisory, NOW) == StoreArtifact(RESULTS_FILE)
    advisory.succeeded()
    assert isinstance(next_step(record, facts(record, *running(), succeeded()), advisory, NOW), SendLog)


def test_what_was_recorded_is_not_repeated() -> None:
    stored: dict[str, str] = {}
    for name in (RESULTS_FILE, VIDEO_FILE):
        record = callback(logged=99, stored=dict(stored))
        found = facts(record, *running(), succeeded())
        assert not found.log
        assert next_step(record, found, AdvisoryState(), NOW) == StoreArtifact(name)
        stored[name] = "" if name == VIDEO_FILE else "kg1"
    record = callback(logged=99, stored=stored)
    assert next_step(record, facts(record, *running(), succeeded()), AdvisoryState(), NOW) == SendResults()
    plan = callback(dialect="plan", stored={VIDEO_FILE: ""})
    found = facts(plan, *running(), succeeded())
    assert not found.log, "the plan has no log"
    assert next_step(plan, found, AdvisoryState(), NOW) == SendResults()


def test_an_attempt_waits_until_it_is_due() -> None:
    due = NOW + timedelta(minutes=5)
    record = callback(logged=99, attempts=2, due=due)
    found = facts(record, *running(), succeeded())
    assert next_step(record, found, AdvisoryState(), NOW) == Wait(due)
    assert next_step(record, found, AdvisoryState(), due) == StoreArtifact(RESULTS_FILE)


@pytest.mark.parametrize(
    ("events", "error"),
    [
        ([*running(), JobFailed(attempt=1, failure="user", error=ERROR)], "Too short. Send more."),
        ([*running(), JobCancelled(attempt=1)], "The analysis was cancelled."),
        ([UploadFailed(reason="refused", error=ERROR)], "Too short. Send more."),
        ([UploadFailed(reason="expired")], "The video was expired."),
    ],
)
def test_every_end_without_results_is_a_failure(events: list[EventData], error: str) -> None:
    record = callback(logged=99)
    assert next_step(record, facts(record, *events), AdvisoryState(), NOW) == SendFailure(error)


def test_results_that_cannot_be_delivered_are_a_failure_and_a_retried_job_goes_on() -> None:
    record = callback(logged=99, undeliverable="why")
    assert next_step(record, facts(record, *running(), succeeded()), AdvisoryState(), NOW) == SendFailure("why")
    retrying = JobRetrying(attempt=2, after="asked", delay_s=0, not_before=NOW, deadline=NOW)
    record = callback(logged=99)
    found = facts(record, *running(), JobFailed(attempt=1, failure="user", error=ERROR), retrying)
    assert next_step(record, found, AdvisoryState(), NOW) == Wait()


def test_every_entry_of_the_log_says_what_happened() -> None:
    events: dict[EventData, tuple[str, str, str]] = {
        JobStageCompleted(attempt=1, run_id="r", stage="court", duration_s=2): ("Stage court", "success", "court"),
        JobStageCompleted(attempt=1, run_id="r", stage="track", duration_s=2): ("Stage track", "success", "detection"),
        JobWaitingForGpu(attempt=1, run_id="r", device="T4", waited_s=30): ("Waiting for T4", "info", "modal"),
        JobInterrupted(attempt=1, run_id="r", failure="lost", error=ERROR): ("Attempt 1 ended", "warning", "modal"),
        JobRetrying(attempt=2, after="lost", delay_s=5, not_before=NOW, deadline=NOW): (
            "Attempt 2",
            "warning",
            "modal",
        ),
        JobFailed(attempt=1, failure="user", error=ERROR): ("Analysis failed", "error", "processing"),
    }
    for data, (start, level, category) in events.items():
        (entry,) = log_entries(data)
        assert (entry.message.startswith(start), entry.level, entry.category) == (True, level, category)


def test_warnings_of_a_result_and_its_missing_parts_are_entries_of_the_log() -> None:
    missing = [{"part": "shuttle", "reason": "15 frames per second are too few"}]
    data = succeeded().model_copy(update={"result": {"warnings": ["one", "two"], "missing": missing}})
    texts = [entry.message for entry in log_entries(data) if entry.level == "warning"]
    assert texts == ["one", "two", "No shuttle: 15 frames per second are too few"]
    assert len(log_entries(data.model_copy(update={"result": {"warnings": ["w"] * 999}}))) == 21


def test_a_broken_event_is_passed_over() -> None:
    record = callback()
    found = facts(record, *running())
    found.on_event(StoredEvent(9, f"saccade.evt.local.job.{JOB}.failed", b"{"), record)
    assert found.read_to == 9
    assert found.running
