"""What the view makes of each event of a job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from contracts.events import Envelope
from contracts.events.job import PIPELINE, JobArtifactReady, JobSubmitted, JobSucceeded
from contracts.job import Job, fold
from contracts.session import session_id_of_job
from services.gateway.aggregates.completion_waiters import CompletionWaiters
from services.gateway.aggregates.view import GatewayView
from services.gateway.jobs.latest_progress import LatestJobProgress


class JobProjector:
    """The job's part of the view."""

    def __init__(
        self,
        view: GatewayView,
        progress: LatestJobProgress,
        waiting: CompletionWaiters,
        on_session_over: Callable[[str], None],
    ) -> None:
        """Write into ``view``; when a job ends, forget its progress, wake those who wait and tell of its session."""
        self.view = view
        self.progress = progress
        self.waiting = waiting
        self.on_session_over = on_session_over

    def handle(self, envelope: Envelope, sequence: int) -> None:
        """Take over one event; types that this version does not know are left alone."""
        if reaction := _REACTIONS.get(envelope.type):
            reaction(self, envelope, sequence)

    def take(self, envelope: Envelope, sequence: int) -> Job | None:
        """Fold one event into the view's job; None when the job's beginning is gone."""
        job = fold(self.view.job(envelope.subject), envelope, sequence)
        if job is not None and job.sequence == sequence:
            self.view.keep_job(job)
        return job


def submitted(on: JobProjector, envelope: Envelope, sequence: int) -> None:
    """Begin the job and remember which uploads it uses."""
    on.take(envelope, sequence)
    data = envelope.parsed()
    assert isinstance(data, JobSubmitted)
    if data.part_of is not None:
        return  # its pipeline uses them, and lasts longer
    on.view.keep_inputs(envelope.subject, [one.upload_id for several in data.inputs.values() for one in several])


def changed(on: JobProjector, envelope: Envelope, sequence: int) -> None:
    """Bring the job up to date."""
    on.take(envelope, sequence)


def artifact_ready(on: JobProjector, envelope: Envelope, sequence: int) -> None:
    """Remember a file that can be fetched before the job has ended."""
    data = envelope.parsed()
    assert isinstance(data, JobArtifactReady)
    if (job := on.take(envelope, sequence)) and job.is_current_run(data.attempt, data.run_id):
        on.view.keep_artifact(envelope.subject, data.artifact)


def ended(on: JobProjector, envelope: Envelope, sequence: int) -> None:
    """Bring the job up to date and wake those who wait for its end."""
    job = on.take(envelope, sequence)
    data = envelope.parsed()
    counts = job is not None and job.sequence == sequence and job.executor != PIPELINE
    if job is not None and counts and isinstance(data, JobSucceeded):
        asked = job.submitted
        on.view.keep_run(asked.workload, asked.workload_version, data.cost.device, sequence, data.cost.seconds)
    if job is not None and job.state.ended:
        on.progress.forget(job.id)
        on.waiting.ended(job.id)
        if on.view.session(session_id := session_id_of_job(job.id)):
            on.on_session_over(session_id)


Reaction = Callable[[JobProjector, Envelope, int], None]

_REACTIONS: Final[dict[str, Reaction]] = {
    "job.submitted": submitted,
    "job.queued": changed,
    "job.starting": changed,
    "job.launched": changed,
    "job.waiting_for_gpu": changed,
    "job.started": changed,
    "job.stage_completed": changed,
    "job.artifact_ready": artifact_ready,
    "job.interrupted": changed,
    "job.retrying": changed,
    "job.cancel_requested": changed,
    "job.succeeded": ended,
    "job.failed": ended,
    "job.cancelled": ended,
    "job.retention_changed": changed,
    "job.scratch_removed": changed,
}
