"""Handlers that the fold calls for each job event (``ON_JOB`` lists all types)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from contracts.events import job as events
from contracts.events.base import Envelope, decode_at
from contracts.job import Job
from kit.bus.event_store import StoredEvent
from services.dispatcher.jobs.unfinished_jobs import is_job_event
from services.dispatcher.scheduling.reconciler import Reconciler

#: Called with the event and the job after it; None when the job is not in memory.
Handler = Callable[[Reconciler, Envelope, Job | None], None]


def enqueue(reconciler: Reconciler, _: Envelope, job: Job | None) -> None:
    """Queue the job: its state decides the next step."""
    if job is not None and not job.state.ended:
        reconciler.enqueue(job)


def heartbeat(reconciler: Reconciler, envelope: Envelope, _: Job | None) -> None:
    """Record a heartbeat: the event comes from the job's worker."""
    _record_heartbeat(reconciler, envelope)


def started(reconciler: Reconciler, envelope: Envelope, job: Job | None) -> None:
    """Record a heartbeat and queue the job: its timeout and cost cap apply from now on."""
    _record_heartbeat(reconciler, envelope)
    enqueue(reconciler, envelope, job)


def progressed(reconciler: Reconciler, envelope: Envelope, _: Job | None) -> None:
    """Record a heartbeat with the fraction and message of the progress."""
    fraction, message = envelope.data.get("fraction"), envelope.data.get("message")
    valid = isinstance(fraction, int | float) and 0 <= fraction <= 1
    _record_heartbeat(reconciler, envelope, (float(fraction or 0.0), str(message or "")) if valid else None)


def retrying(reconciler: Reconciler, envelope: Envelope, job: Job | None) -> None:
    """Queue the job; a user may have retried it long after its end, so it may have to be loaded first."""
    reconciler.on_retention_changed(envelope.subject)
    if job is None:
        reconciler.enqueue_unloaded(envelope.subject, envelope.tenant)
    else:
        enqueue(reconciler, envelope, job)


def ended(reconciler: Reconciler, envelope: Envelope, job: Job | None) -> None:
    """Free the job's slot."""
    reconciler.on_ended(envelope.subject, job)


def retention_changed(reconciler: Reconciler, envelope: Envelope, _: Job | None) -> None:
    """Update the time at which the job's scratch files are removed."""
    reconciler.on_retention_changed(envelope.subject)


def ignored(_: Reconciler, __: Envelope, ___: Job | None) -> None:
    """Do nothing: the event changes nothing that the scheduler decides by."""


def _record_heartbeat(reconciler: Reconciler, envelope: Envelope, progress: tuple[float, str] | None = None) -> None:
    run_id = envelope.data.get("run_id")
    if isinstance(run_id, str):
        reconciler.record_heartbeat(envelope.subject, run_id, progress)


ON_JOB: Final[Mapping[str, Handler]] = {
    events.JobSubmitted.type: enqueue,
    events.JobQueued.type: enqueue,
    events.JobStarting.type: enqueue,
    events.JobLaunched.type: enqueue,
    events.JobWaitingForGpu.type: ignored,
    events.JobStarted.type: started,
    events.JobProgressed.type: progressed,
    events.JobStageCompleted.type: heartbeat,
    events.JobArtifactReady.type: heartbeat,
    events.JobInterrupted.type: enqueue,
    events.JobRetrying.type: retrying,
    events.JobCancelRequested.type: enqueue,
    events.JobSucceeded.type: ended,
    events.JobFailed.type: ended,
    events.JobCancelled.type: ended,
    events.JobRetentionChanged.type: retention_changed,
    events.JobScratchRemoved.type: ignored,
    events.JobResultsRetentionChanged.type: ignored,
    events.JobResultsExpired.type: ignored,
    events.JobResultsRemoved.type: ignored,
}


def on_stored(
    reconciler: Reconciler, stored: StoredEvent, observe: Callable[[Envelope, Job | None], None] = lambda _, __: None
) -> Envelope | None:
    """Fold a durable event into its job and call its handler; return it, or None if it is not an event of a job.

    ``observe`` is called with the event and the job after it.
    """
    if not is_job_event(stored.subject):
        return None
    envelope = decode_at(stored.subject, stored.body)
    job = reconciler.jobs.fold(envelope, stored.sequence, stored.stored_at)
    if handler := ON_JOB.get(envelope.type):
        handler(reconciler, envelope, job)
    observe(envelope, job)
    return envelope


def on_progress(reconciler: Reconciler, subject: str, body: bytes) -> None:
    """Call the handler of an advisory event."""
    envelope = decode_at(subject, body)
    if handler := ON_JOB.get(envelope.type):
        handler(reconciler, envelope, None)
