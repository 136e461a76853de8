"""Reactions to job events: every event class has one, and heartbeats reach the reconciler."""

from __future__ import annotations

from contracts.events.base import ADVISORY, EVENT_CLASSES
from services.dispatcher.scheduling.on_job import ON_JOB, ended, ignored, progressed


def test_every_job_event_has_a_reaction() -> None:
    job_events = {name for name in EVENT_CLASSES if name.startswith("job.")}
    assert set(ON_JOB) == job_events


def test_ends_and_progress_have_their_reactions() -> None:
    assert {name for name, reaction in ON_JOB.items() if reaction is ended} == {
        "job.succeeded",
        "job.failed",
        "job.cancelled",
    }
    advisory = {name for name in ON_JOB if EVENT_CLASSES[name].kind == ADVISORY}
    assert advisory == {name for name, reaction in ON_JOB.items() if reaction is progressed}
    assert {name for name, reaction in ON_JOB.items() if reaction is ignored} == {
        "job.waiting_for_gpu",
        "job.scratch_removed",
        "job.results_retention_changed",
        "job.results_expired",
        "job.results_removed",
    }
