"""Projection of job events into the view."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from contracts.events import Envelope
from contracts.events import job as events
from contracts.job import Job, fold
from contracts.session import session_id_of_job
from services.gateway.aggregates.completion_waiters import CompletionWaiters
from services.gateway.aggregates.view import GatewayView
from services.gateway.jobs.latest_progress import LatestJobProgress


class JobProjector:
    """Applies each job event to the view."""

    def __init__(
        self,
        view: GatewayView,
        progress: LatestJobProgress,
        waiters: CompletionWaiters,
        on_session_job_ended: Callable[[str], None],
    ) -> None:
        """``on_session_job_ended`` is called with the session's id when the job that is its worker has ended."""
        self.view = view
        self.progress = progress
        self.waiters = waiters
        self.on_session_job_ended = on_session_job_ended


Handler = Callable[[JobProjector, Envelope, int], object]


def submitted(projector: JobProjector, envelope: Envelope, sequence: int) -> None:
    """Insert the job and store which uploads it uses."""
    if job := changed(projector, envelope, sequence):
        projector.view.keep_text(job)
    data = envelope.parsed()
    assert isinstance(data, events.JobSubmitted)
    if data.part_of is not None:
        return  # its pipeline uses the same uploads and ends later
    projector.view.keep_inputs(envelope.subject, data.used_uploads)


def changed(projector: JobProjector, envelope: Envelope, sequence: int) -> Job | None:
    """Fold the event into the job and return it; None if the job's first event is no longer stored."""
    job = fold(projector.view.job(envelope.subject), envelope, sequence)
    if job is not None and job.sequence == sequence:
        projector.view.keep_job(job)
    return job


def results_changed(projector: JobProjector, envelope: Envelope, sequence: int) -> None:
    """Fold the event, and store whether the job's results are kept."""
    if job := changed(projector, envelope, sequence):
        projector.view.keep_results(job)


def artifact_ready(projector: JobProjector, envelope: Envelope, sequence: int) -> None:
    """Store an artifact that can be downloaded before the job has ended."""
    data = envelope.parsed()
    assert isinstance(data, events.JobArtifactReady)
    if (job := changed(projector, envelope, sequence)) and job.is_current_run(data.attempt, data.run_id):
        projector.view.keep_artifact(envelope.subject, data.artifact)


def ended(projector: JobProjector, envelope: Envelope, sequence: int) -> None:
    """Fold the event, store the run's duration for estimates, and resume requests that wait for the end."""
    job = changed(projector, envelope, sequence)
    if job is None:
        return
    data = envelope.parsed()
    if isinstance(data, events.JobSucceeded) and job.sequence == sequence and job.executor != events.PIPELINE:
        request = job.submitted
        projector.view.runs.keep(
            request.workload, request.workload_version, data.cost.device, sequence, data.cost.seconds
        )
    if job.state.ended:
        projector.view.keep_results(job)
        projector.progress.forget(job.id)
        projector.waiters.notify(job.id)
        if projector.view.session(session_id := session_id_of_job(job.id)):
            projector.on_session_job_ended(session_id)


#: Every durable job event (tests/unit/services/gateway/jobs/test_on_job.py).
HANDLERS: Final[Mapping[str, Handler]] = {
    events.JobSubmitted.type: submitted,
    events.JobQueued.type: changed,
    events.JobStarting.type: changed,
    events.JobLaunched.type: changed,
    events.JobWaitingForGpu.type: changed,
    events.JobStarted.type: changed,
    events.JobStageCompleted.type: changed,
    events.JobArtifactReady.type: artifact_ready,
    events.JobInterrupted.type: changed,
    events.JobRetrying.type: results_changed,
    events.JobCancelRequested.type: changed,
    events.JobSucceeded.type: ended,
    events.JobFailed.type: ended,
    events.JobCancelled.type: ended,
    events.JobRetentionChanged.type: changed,
    events.JobScratchRemoved.type: changed,
    events.JobResultsRetentionChanged.type: results_changed,
    events.JobResultsExpired.type: results_changed,
    events.JobResultsRemoved.type: results_changed,
}
