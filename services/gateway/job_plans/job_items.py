"""Jobs of a plan, as its records hold them, and what cancels or retries one of them once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from contracts.audit import Act, AuditRecord
from contracts.errors import ErrorCode, SaccadeError
from contracts.job import Job, State
from services.gateway.dead_letters.plan import JOB_PLAN, ItemResult, LeftOut, Plan, plan_acts
from services.gateway.jobs.service import JobService

JobAction = Literal["cancel", "retry"]
#: States in which an act is possible.
POSSIBLE: Final[dict[str, frozenset[State]]] = {
    "cancel": frozenset(state for state in State if not state.ended),
    "retry": frozenset({State.FAILED, State.CANCELLED}),
}
#: Errors that mean that the job is not any more what the plan was made for.
_CHANGED: Final = frozenset(
    {
        ErrorCode.JOB_NOT_FOUND,
        ErrorCode.JOB_ALREADY_ENDED,
        ErrorCode.JOB_NOT_RETRYABLE,
        ErrorCode.JOB_IN_PIPELINE,
        ErrorCode.SEQUENCE_CONFLICT,
    }
)


@dataclass(frozen=True)
class PlannedJob:
    """A job of a plan, with its attempt at that time, and its place in the list."""

    id: str
    attempt: int
    first_sequence: int


def job_parts(plan_id: str, tenant: str, action: str, jobs: Sequence[PlannedJob], about: dict[str, Any]) -> list[Act]:
    """Return the acts whose intents are the plan."""
    items = [[job.id, job.attempt, job.first_sequence] for job in jobs]
    return plan_acts(JOB_PLAN, plan_id, tenant, about | {"action": action}, name="jobs", items=items)


def jobs_of(intent: AuditRecord) -> list[PlannedJob]:
    """Return the jobs of a part."""
    return [PlannedJob(str(job_id), int(attempt), int(first)) for job_id, attempt, first in intent.data.details["jobs"]]


def planned_jobs(plan: Plan) -> list[PlannedJob]:
    """Return all jobs of a plan, in the order of a list: newest first."""
    found = [job for _, intent in sorted(plan.intents.items()) for job in jobs_of(intent)]
    return sorted(found, key=lambda job: job.first_sequence, reverse=True)


class JobItems:
    """Cancels or retries the jobs of plans, each once: the event that does it is named by job and plan."""

    def __init__(self, jobs: JobService) -> None:
        """Act by ``jobs``, as a user's own request does."""
        self._jobs = jobs

    def items_of(self, intent: AuditRecord) -> Sequence[PlannedJob]:
        """Return the jobs of a part."""
        return jobs_of(intent)

    async def act(self, plan: Plan, intent: AuditRecord, item: PlannedJob) -> ItemResult:
        """Cancel or retry one job, unless this plan has done so before.

        Raises:
            LeftOut: the job is not any more what the plan was made for.
            SaccadeError: it is refused; RATE_LIMITED, BUS_UNAVAILABLE: later.
        """
        event_id = f"{item.id}.{plan.id}"
        if await self._jobs.events.has_event(plan.tenant, item.id, event_id):
            return "done"
        try:
            found = await self._jobs.read(plan.tenant, item.id)
            _check_unchanged(plan, intent, item, found)
            if plan.action == "cancel":
                await self._jobs.cancel(plan.tenant, item.id, event_id=event_id)
            else:
                await self._jobs.retry(plan.tenant, item.id, failed_attempt=item.attempt, event_id=event_id)
        except SaccadeError as error:
            if error.code not in _CHANGED:
                raise
            raise LeftOut(item.id, error.code.value, error.message) from None
        return "done"


def _check_unchanged(plan: Plan, intent: AuditRecord, planned: PlannedJob, job: Job) -> None:
    """Leave out a job that has left the states that were asked for, or is being cancelled already.

    Raises:
        LeftOut: it is such a job.
    """
    states = intent.data.details.get("filter", {}).get("state")
    if states and str(job.state) not in states:
        raise LeftOut(job.id, "state_changed", f"The job is {job.state}.")
    if plan.action == "cancel" and job.cancel_requested:
        raise LeftOut(job.id, "already_requested", "The job is being cancelled already.")
    if plan.action == "retry" and job.attempt != planned.attempt:
        raise LeftOut(job.id, "state_changed", f"The job was retried: attempt {job.attempt} exists.")
