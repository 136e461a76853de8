"""Every event of a job that the dispatcher hears: one function each, the map at the foot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from contracts.events import job as events
from contracts.events.base import Envelope, decode_at
from contracts.job import Job
from kit.bus.event_store import StoredEvent
from services.dispatcher.jobs.unfinished_jobs import Jobs, is_job_event


class Listener(Protocol):
    """Whom the functions below tell."""

    jobs: Jobs

    def attend(self, job: Job) -> None:
        """A job can be brought further."""

    def attend_unread(self, job_id: str, tenant: str) -> None:
        """A job that was forgotten lives again and must be read."""

    def hear(self, job_id: str, run_id: str, progress: tuple[float, str] | None = None) -> None:
        """A worker has given a sign of life, perhaps with how far it is."""

    def tidy(self, job_id: str) -> None:
        """What is kept of a job that has ended may be due sooner or later than before."""

    def leave(self, job_id: str, job: Job | None) -> None:
        """A job has ended; it is None when it was forgotten before."""


Handler = Callable[[Listener, Envelope, Job | None], None]


def submitted(listener: Listener, _: Envelope, job: Job | None) -> None:
    """A new job: queue it."""
    _attend(listener, job)


def queued(listener: Listener, _: Envelope, job: Job | None) -> None:
    """It may have a slot when its turn comes."""
    _attend(listener, job)


def starting(listener: Listener, _: Envelope, job: Job | None) -> None:
    """It holds a slot."""
    _attend(listener, job)


def launched(listener: Listener, _: Envelope, job: Job | None) -> None:
    """Its worker can be watched."""
    _attend(listener, job)


def started(listener: Listener, envelope: Envelope, job: Job | None) -> None:
    """A worker has claimed it: its time counts."""
    _hear(listener, envelope)
    _attend(listener, job)


def stage_completed(listener: Listener, envelope: Envelope, _: Job | None) -> None:
    """Its worker lives."""
    _hear(listener, envelope)


def artifact_ready(listener: Listener, envelope: Envelope, _: Job | None) -> None:
    """Its worker lives."""
    _hear(listener, envelope)


def progressed(listener: Listener, envelope: Envelope, _: Job | None) -> None:
    """Its worker lives, and is so far."""
    fraction, message = envelope.data.get("fraction"), envelope.data.get("message")
    told = isinstance(fraction, int | float) and 0 <= fraction <= 1
    _hear(listener, envelope, (float(fraction or 0.0), str(message or "")) if told else None)


def interrupted(listener: Listener, _: Envelope, job: Job | None) -> None:
    """The attempt is over: decide what follows."""
    _attend(listener, job)


def retrying(listener: Listener, envelope: Envelope, job: Job | None) -> None:
    """It waits for another attempt; somebody may have asked for it long after its end."""
    listener.tidy(envelope.subject)
    if job is None:
        listener.attend_unread(envelope.subject, envelope.tenant)
    else:
        _attend(listener, job)


def cancel_requested(listener: Listener, _: Envelope, job: Job | None) -> None:
    """It shall end: at once when nothing runs, else when its worker is gone."""
    _attend(listener, job)


def succeeded(listener: Listener, envelope: Envelope, job: Job | None) -> None:
    """It is done: its slot is free."""
    listener.leave(envelope.subject, job)


def failed(listener: Listener, envelope: Envelope, job: Job | None) -> None:
    """It has ended: its slot is free."""
    listener.leave(envelope.subject, job)


def cancelled(listener: Listener, envelope: Envelope, job: Job | None) -> None:
    """It has ended: its slot is free."""
    listener.leave(envelope.subject, job)


def retention_changed(listener: Listener, envelope: Envelope, _: Job | None) -> None:
    """What is kept of it is due at another time."""
    listener.tidy(envelope.subject)


def _attend(listener: Listener, job: Job | None) -> None:
    if job is not None and not job.state.ended:
        listener.attend(job)


def _hear(listener: Listener, envelope: Envelope, progress: tuple[float, str] | None = None) -> None:
    run_id = envelope.data.get("run_id")
    if isinstance(run_id, str):
        listener.hear(envelope.subject, run_id, progress)


ON_JOB: Final[Mapping[str, Handler]] = {
    events.JobSubmitted.type: submitted,
    events.JobQueued.type: queued,
    events.JobStarting.type: starting,
    events.JobLaunched.type: launched,
    events.JobStarted.type: started,
    events.JobProgressed.type: progressed,
    events.JobStageCompleted.type: stage_completed,
    events.JobArtifactReady.type: artifact_ready,
    events.JobInterrupted.type: interrupted,
    events.JobRetrying.type: retrying,
    events.JobCancelRequested.type: cancel_requested,
    events.JobSucceeded.type: succeeded,
    events.JobFailed.type: failed,
    events.JobCancelled.type: cancelled,
    events.JobRetentionChanged.type: retention_changed,
}


def on_stored(listener: Listener, stored: StoredEvent) -> None:
    """Fold a durable event into its job and tell what follows from it."""
    if not is_job_event(stored.subject):
        return
    envelope = decode_at(stored.subject, stored.body)
    job = listener.jobs.fold(envelope, stored.sequence)
    if handler := ON_JOB.get(envelope.type):
        handler(listener, envelope, job)


def on_progress(listener: Listener, subject: str, body: bytes) -> None:
    """Take a heartbeat."""
    envelope = decode_at(subject, body)
    if handler := ON_JOB.get(envelope.type):
        handler(listener, envelope, None)
