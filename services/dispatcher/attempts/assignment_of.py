"""Assignment of an attempt to its worker, from the job after ``job.starting``. Pure."""

from __future__ import annotations

from contracts.assignment import Assignment
from contracts.events.job import JobInput
from contracts.job import Job
from contracts.trace_context import context_of_run
from services.dispatcher.costs.attempt_cost import remaining_usd


def assignment_of(job: Job, inputs: dict[str, list[JobInput]]) -> Assignment:
    """Return the assignment of a job's current attempt; ``inputs`` are the job's files in full."""
    assert job.run_id
    assert job.device
    assert job.usd_per_s is not None
    submitted = job.submitted
    return Assignment(
        job_id=job.id,
        tenant=job.tenant,
        workload=submitted.workload,
        attempt=job.attempt,
        run_id=job.run_id,
        device=job.device,
        usd_per_s=job.usd_per_s,
        left_usd=remaining_usd(job),
        params=submitted.params,
        inputs=inputs,
        part_of=submitted.part_of,
        account=submitted.account,
        sequence=job.sequence,
        traceparent=context_of_run(job.traceparent, job.run_id),
    )
