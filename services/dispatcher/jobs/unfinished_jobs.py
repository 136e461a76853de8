"""Every job that has not ended, folded from the stream into memory; what has ended is forgotten at once.

But for the jobs of a pipeline's stages: they are kept until their pipeline has ended, which goes by them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from contracts.events.base import Envelope
from contracts.events.job import JobRetrying
from contracts.ids import pipeline_id_of
from contracts.job import Job, fold, fold_stored
from kit.bus.event_store import StoredEvent


def fold_all(events: list[StoredEvent]) -> Job | None:
    """Fold a job from its events, or from the newest of each type; None when its beginning is not among them."""
    job: Job | None = None
    for stored in events:
        job = fold_stored(job, stored.subject, stored.body, stored.sequence)
    return job


def is_job_event(subject: str) -> bool:
    """Tell whether a subject is that of a job's durable event, without opening it."""
    parts = subject.split(".", 4)
    return len(parts) == 5 and parts[3] == "job"


@dataclass(frozen=True)
class Heard:
    """When which run of a job was last heard, by the event loop's clock, and how far it said to be."""

    run_id: str
    at_s: float
    fraction: float = 0.0
    message: str = ""


class Jobs:
    """Unfinished jobs by id. A job that had ended and is asked for again is ``unread`` until it has been loaded."""

    def __init__(self) -> None:
        """Start empty."""
        self._jobs: dict[str, Job] = {}
        self._heard: dict[str, Heard] = {}
        #: Jobs of stages that have ended, by pipeline and id.
        self._ended_parts: dict[str, dict[str, Job]] = {}
        #: Tenants of the unread jobs, by job id.
        self.unread: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(list(self._jobs.values()))

    def get(self, job_id: str) -> Job | None:
        """Give an unfinished job."""
        return self._jobs.get(job_id)

    def part(self, job_id: str) -> Job | None:
        """Give the job of a stage of an unfinished pipeline, ended or not."""
        return self._jobs.get(job_id) or self._ended_parts.get(pipeline_id_of(job_id) or "", {}).get(job_id)

    def fold(self, envelope: Envelope, sequence: int) -> Job | None:
        """Fold one event in; gives the job as it is now, also when that is its end, None when it is unknown."""
        before = self.part(envelope.subject)
        job = fold(before, envelope, sequence)
        if job is not None:
            return self.put(job)
        if envelope.type == JobRetrying.type:
            self.unread[envelope.subject] = envelope.tenant
        elif envelope.subject in self.unread and envelope.type in ("job.succeeded", "job.failed", "job.cancelled"):
            del self.unread[envelope.subject]
        return None

    def put(self, job: Job) -> Job:
        """Take over a job as somebody else folded it, unless what is here is newer."""
        before = self.part(job.id)
        if before:
            if before.sequence > job.sequence:
                return before
            # The newest event of each type does not tell what earlier attempts cost.
            job = replace(job, costs=before.costs | job.costs)
        self.unread.pop(job.id, None)
        if job.state.ended:
            self.forget(job.id)
            home = pipeline_id_of(job.id)
            if home in self._jobs:
                self._ended_parts.setdefault(home, {})[job.id] = job
        else:
            self._jobs[job.id] = job
            self._drop_ended_part(job.id)
        return job

    def forget(self, job_id: str) -> None:
        """Drop a job that has ended, or whose events are gone; and what is kept of its stages' jobs."""
        self._jobs.pop(job_id, None)
        self._heard.pop(job_id, None)
        self.unread.pop(job_id, None)
        self._ended_parts.pop(job_id, None)
        self._drop_ended_part(job_id)

    def _drop_ended_part(self, job_id: str) -> None:
        if parts := self._ended_parts.get(pipeline_id_of(job_id) or ""):
            parts.pop(job_id, None)

    def hear(self, job_id: str, run_id: str, at_s: float, progress: tuple[float, str] | None = None) -> None:
        """Note a sign of life of a run, and what it said of its progress if it did."""
        if job_id not in self._jobs:
            return
        before = self._heard.get(job_id)
        if progress is None and before and before.run_id == run_id:
            progress = before.fraction, before.message
        self._heard[job_id] = Heard(run_id, at_s, *(progress or ()))

    def heard(self, job: Job) -> Heard | None:
        """Give what was last heard of the current run; None when nothing was."""
        heard = self._heard.get(job.id)
        return heard if heard and heard.run_id == job.run_id else None
