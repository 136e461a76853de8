"""Log of a video from the events of its job."""

from __future__ import annotations

from typing import Any, get_args

from contracts.errors import ErrorBody
from contracts.events import EventData, decode, encode
from contracts.events import job as events
from contracts.events.base import EVENT_CLASSES
from contracts.ids import new_id
from modal_workers.badminton.spec import WORKLOAD
from services.gateway.compat.badminton.videos.video_log import HANDLERS, LOG_ENTRIES, job_entries, newest
from tests.harness.badminton_job import result

JOB_ID = new_id("job")
LEVELS = {"info", "success", "warning", "error", "debug"}
CATEGORIES = {"processing", "detection", "model", "court", "modal"}
ERROR = ErrorBody(code="clip_too_short", message="x" * 9999, hint="", retryable=False)  # type: ignore[arg-type]
COST = events.Cost(device="cpu", seconds=1, usd=0)


def entries(data: EventData, sequence: int = 1) -> list[dict[str, Any]]:
    message = encode(data, tenant="local", subject_id=JOB_ID, source="/test")
    return job_entries(decode(message.body), sequence, WORKLOAD.stages)


def completed(stage: str) -> events.JobStageCompleted:
    return events.JobStageCompleted(attempt=1, run_id="r", stage=stage, duration_s=2)


def test_every_entry_is_one_that_the_page_knows() -> None:
    told = [
        events.JobLaunched(attempt=1, run_id="r", call_id="c"),
        events.JobWaitingForGpu(attempt=1, run_id="r", device="T4", waited_s=12),
        events.JobStarted(attempt=1, run_id="r", device="T4", worker="w"),
        completed("court"),
        completed("detect"),
        completed("unknown"),
        events.JobInterrupted(attempt=1, run_id="r", failure="lost", error=ERROR),
        events.JobCancelRequested(by="tenant:local"),
        events.JobSucceeded(attempt=1, run_id="r", result=result(), manifest_key="k", duration_s=1, cost=COST),
        events.JobSucceeded(attempt=1, run_id="r", result={"of": "before"}, manifest_key="k", duration_s=1, cost=COST),
        events.JobFailed(attempt=1, failure=get_args(events.FailureClass)[0], error=ERROR),
        events.JobCancelled(attempt=1),
    ]
    found = [entry for number, data in enumerate(told) for entry in entries(data, number)]
    assert {entry["level"] for entry in found} <= LEVELS
    assert {entry["category"] for entry in found} <= CATEGORIES
    assert len({entry["_id"] for entry in found}) == len(found)
    assert max(len(entry["message"]) for entry in found) == 500
    assert HANDLERS.keys() <= EVENT_CLASSES.keys()


def test_a_stage_begins_when_the_one_before_it_is_completed() -> None:
    titles = [stage.title for stage in WORKLOAD.stages]
    assert [entry["message"] for entry in entries(completed("court"))] == [
        f"{titles[0]}: done in 2.0 s",
        f"{titles[1]}...",
    ]
    assert [entry["message"] for entry in entries(completed("report"))] == [f"{titles[-1]}: done in 2.0 s"]


def test_the_newest_entries_are_kept_not_the_first() -> None:
    several = [entry for number in range(LOG_ENTRIES + 50) for entry in entries(events.JobCancelled(attempt=1), number)]
    for number, entry in enumerate(several):
        entry["timestamp"] = number
    kept = newest(reversed(several))
    assert [entry["timestamp"] for entry in kept] == list(range(50, LOG_ENTRIES + 50))
