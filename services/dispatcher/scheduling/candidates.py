"""Jobs as the queue for slots sees them. Pure."""

from __future__ import annotations

from typing import Final

from contracts.job import Job, State
from services.dispatcher.scheduling.fair_queue import Candidate

#: States in which a worker may exist, so that the job holds a slot.
OCCUPYING: Final = frozenset({State.STARTING, State.WAITING_FOR_GPU, State.RUNNING, State.INTERRUPTED})


def candidate_of(job: Job) -> Candidate:
    """Return what the queue knows of a job."""
    return Candidate(
        job_id=job.id,
        tenant=job.tenant,
        workload=job.submitted.workload,
        priority=job.submitted.priority,
        age=job.first_sequence,
    )
