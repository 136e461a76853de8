"""Every job that has not ended, folded from the event stream into memory; ended jobs are removed at once.

Exception: the jobs of a pipeline's stages stay until the pipeline has ended, which depends on them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from contracts.events.base import Envelope
from contracts.events.job import JobRetrying
from contracts.ids import pipeline_id_of
from contracts.job import Job, fold, fold_stored
from kit.bus.event_store import StoredEvent


def fold_all(events: list[StoredEvent]) -> Job | None:
    """Fold all events of a job, or the newest of each type; return None when ``job.submitted`` is not among them."""
    job: Job | None = None
    for stored in events:
        job = fold_stored(job, stored.subject, stored.body, stored.sequence, stored.stored_at)
    return job


def is_job_event(subject: str) -> bool:
    """Return whether a subject is that of a job's durable event, without decoding the event."""
    parts = subject.split(".", 4)
    return len(parts) == 5 and parts[3] == "job"


@dataclass(frozen=True)
class Heartbeat:
    """Newest heartbeat of a job, and the progress that its run reported last."""

    run_id: str
    #: By the event loop's clock, seconds.
    at_s: float
    fraction: float = 0.0
    message: str = ""


class UnfinishedJobs:
    """Unfinished jobs by id."""

    def __init__(self) -> None:
        """Create an empty collection."""
        self._jobs: dict[str, Job] = {}
        self._heartbeats: dict[str, Heartbeat] = {}
        #: Their number by tenant, without the jobs of pipelines' stages.
        self._counts: Counter[str] = Counter()
        #: Jobs of stages that have ended, by pipeline and job id.
        self._ended_stage_jobs: dict[str, dict[str, Job]] = {}
        #: Tenants of jobs that had ended, were retried, and are not loaded yet, by job id.
        self.unloaded: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(list(self._jobs.values()))

    def get(self, job_id: str) -> Job | None:
        """Return an unfinished job."""
        return self._jobs.get(job_id)

    def count(self, tenant: str) -> int:
        """Return the number of a tenant's unfinished jobs, without those of pipelines' stages."""
        return self._counts[tenant]

    def stage_job(self, job_id: str) -> Job | None:
        """Return the job of a stage of an unfinished pipeline, ended or not."""
        return self._jobs.get(job_id) or self._ended_stage_jobs.get(pipeline_id_of(job_id) or "", {}).get(job_id)

    def fold(self, envelope: Envelope, sequence: int, stored_at: datetime | None = None) -> Job | None:
        """Fold one event and return the job after it, ended or not; None when the job is unknown."""
        before = self.stage_job(envelope.subject)
        job = fold(before, envelope, sequence, stored_at)
        if job is not None:
            return self.put(job)
        if envelope.type == JobRetrying.type:
            self.unloaded[envelope.subject] = envelope.tenant
        elif envelope.subject in self.unloaded and envelope.type in ("job.succeeded", "job.failed", "job.cancelled"):
            del self.unloaded[envelope.subject]
        return None

    def put(self, job: Job) -> Job:
        """Store a job unless the stored one is newer; return the newer one."""
        before = self.stage_job(job.id)
        if before:
            if before.sequence > job.sequence:
                return before
            # The newest event of each type does not contain the costs of earlier attempts.
            if not before.costs.keys() <= job.costs.keys():
                job = replace(job, costs=before.costs | job.costs)
        self.unloaded.pop(job.id, None)
        if job.state.ended:
            self.forget(job.id)
            pipeline_id = pipeline_id_of(job.id)
            if pipeline_id in self._jobs:
                self._ended_stage_jobs.setdefault(pipeline_id, {})[job.id] = job
        else:
            self._remove(job.id)
            self._jobs[job.id] = job
            self._counts[job.tenant] += pipeline_id_of(job.id) is None
            self._drop_ended_stage_job(job.id)
        return job

    def replace(self, job: Job) -> Job:
        """Store a job in place of the stored one, whatever that is."""
        self._remove(job.id)
        self._drop_ended_stage_job(job.id)
        return self.put(job)

    def forget(self, job_id: str) -> None:
        """Remove a job that has ended or whose events are gone, and the ended jobs of its stages."""
        self._remove(job_id)
        self._heartbeats.pop(job_id, None)
        self.unloaded.pop(job_id, None)
        self._ended_stage_jobs.pop(job_id, None)
        self._drop_ended_stage_job(job_id)

    @property
    def ended_stage_jobs(self) -> list[Job]:
        """The ended jobs of the stages of unfinished pipelines."""
        return [job for jobs in self._ended_stage_jobs.values() for job in jobs.values()]

    def restore(self, jobs: Iterable[Job], ended_stage_jobs: Iterable[Job], unloaded: Mapping[str, str]) -> None:
        """Go on from jobs that were stored; nothing may have been folded yet."""
        for job in jobs:
            self.put(job)
        for job in ended_stage_jobs:
            self._ended_stage_jobs.setdefault(pipeline_id_of(job.id) or "", {})[job.id] = job
        self.unloaded = dict(unloaded)

    def _remove(self, job_id: str) -> None:
        if job := self._jobs.pop(job_id, None):
            self._counts[job.tenant] -= pipeline_id_of(job.id) is None
            if not self._counts[job.tenant]:
                del self._counts[job.tenant]

    def _drop_ended_stage_job(self, job_id: str) -> None:
        if stage_jobs := self._ended_stage_jobs.get(pipeline_id_of(job_id) or ""):
            stage_jobs.pop(job_id, None)

    def record_heartbeat(
        self, job_id: str, run_id: str, at_s: float, progress: tuple[float, str] | None = None
    ) -> None:
        """Record a heartbeat of a run, with fraction and message if it reported progress."""
        if job_id not in self._jobs:
            return
        before = self._heartbeats.get(job_id)
        if progress is None and before and before.run_id == run_id:
            progress = before.fraction, before.message
        self._heartbeats[job_id] = Heartbeat(run_id, at_s, *(progress or ()))

    def last_heartbeat(self, job: Job) -> Heartbeat | None:
        """Return the newest heartbeat of the current run; None if there was none."""
        heartbeat = self._heartbeats.get(job.id)
        return heartbeat if heartbeat and heartbeat.run_id == job.run_id else None
