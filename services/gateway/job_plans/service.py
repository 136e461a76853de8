"""Acts on all jobs that match a filter, as a plan: counted first, frozen in the audit log, carried out job by job."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import Any, Final

from contracts.audit import Attribution
from contracts.errors import ErrorCode, SaccadeError
from contracts.ids import new_id
from contracts.job import Job
from kit.bus.audit_log import AuditLog
from kit.bus.idempotency import Idempotency, IdempotencyKey
from services.gateway.aggregates.job_lists import JobFilter
from services.gateway.aggregates.view import GatewayView
from services.gateway.dead_letters.plan import MAX_ITEMS, Plan
from services.gateway.dead_letters.plan_runner import PlanRunner
from services.gateway.dead_letters.reader import DeadLetterReader
from services.gateway.job_plans.job_items import POSSIBLE, JobAction, PlannedJob, job_parts, planned_jobs

_PAGE: Final = 200
_SAMPLE: Final = 10
_LISTED: Final = 100


@dataclass(frozen=True)
class ChosenJobs:
    """Jobs that match a filter and that an act is possible on, newest first."""

    jobs: list[PlannedJob]
    sample: list[Job]
    by_state: Counter[str]
    by_workload: Counter[str]


@dataclass(frozen=True)
class WantedJobPlan:
    """Act on all jobs that match a filter, as a user asks for it."""

    tenant: str
    jobs: JobFilter
    action: JobAction
    expected: int
    attribution: Attribution
    #: What the audit log tells about the request.
    about: dict[str, Any]
    key: IdempotencyKey | None


class JobPlans:
    """Operations on plans for jobs. All are tenant-scoped."""

    def __init__(
        self,
        view: GatewayView,
        reader: DeadLetterReader,
        audit: AuditLog,
        runner: PlanRunner,
        idempotency: Idempotency,
    ) -> None:
        """``reader`` folds the plans' records, ``runner`` carries them out."""
        self._view, self._reader, self._audit = view, reader, audit
        self._runner, self._idempotency = runner, idempotency
        #: By tenant: a plan is stored before the next one is made.
        self._planning: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def choose(self, tenant: str, wanted: JobFilter, action: JobAction) -> ChosenJobs:
        """Return the jobs that a plan would be for.

        Raises:
            SaccadeError: INVALID_PARAMETER, when they are too many.
        """
        states = POSSIBLE[action] & set(wanted.states) if wanted.states else POSSIBLE[action]
        chosen = ChosenJobs([], [], Counter(), Counter())
        if not states:
            return chosen
        wanted = replace(wanted, states=tuple(sorted(map(str, states))))
        before: int | None = None
        while True:
            jobs, before = await self._view.searches.page(tenant, wanted, before=before, limit=_PAGE)
            for job in jobs:
                if action == "cancel" and job.cancel_requested:
                    continue
                chosen.jobs.append(PlannedJob(job.id, job.attempt, job.first_sequence))
                chosen.by_state[str(job.state)] += 1
                chosen.by_workload[job.submitted.workload] += 1
                if len(chosen.sample) < _SAMPLE:
                    chosen.sample.append(job)
            if len(chosen.jobs) > MAX_ITEMS:
                message = f"More than {MAX_ITEMS} jobs match: that is too many at once."
                raise SaccadeError(ErrorCode.INVALID_PARAMETER, message, hint="Choose fewer by workload or time.")
            if before is None:
                return chosen
            await asyncio.sleep(0)

    async def plan(self, wanted: WantedJobPlan) -> Plan:
        """Freeze an act on all jobs that match, if they are as many as expected, and have it carried out.

        Requests with the same Idempotency-Key make one plan; a tenant has one unfinished plan at a time.

        Raises:
            SaccadeError: JOBS_CHANGED: there are more or fewer; INVALID_PARAMETER: too many at once; RATE_LIMITED:
                another plan is carried out; BUS_UNAVAILABLE: nothing is carried out, unless all of it was stored.
        """
        async with self._planning[wanted.tenant]:
            return await self._plan(wanted)

    async def _plan(self, wanted: WantedJobPlan) -> Plan:
        key, tenant = wanted.key, wanted.tenant
        known_id = await self._idempotency.recall(key) if key else None
        await self._reader.catch_up()
        if known_id and (known := self._reader.job_plans.get(known_id)):
            return known
        for other in self._reader.job_plans.open():
            if other.tenant == tenant:
                message = f"Your plan {other.id} is carried out at the moment."
                raise SaccadeError(ErrorCode.RATE_LIMITED, message, hint="Wait for its end.", retry_after_s=2.0)
        chosen = await self.choose(tenant, wanted.jobs, wanted.action)
        if len(chosen.jobs) != wanted.expected:
            message = f"{len(chosen.jobs)} jobs match, and {wanted.expected} were expected."
            raise SaccadeError(ErrorCode.JOBS_CHANGED, message, count=len(chosen.jobs))
        plan_id = known_id or new_id("jbp")
        if key and known_id is None and (claimed := await self._idempotency.claim(key, plan_id)) != plan_id:
            return await self.read(tenant, claimed)
        for part in job_parts(plan_id, tenant, wanted.action, chosen.jobs, wanted.about):
            await self._audit.intent(part, f"{wanted.action}_requested", wanted.attribution)
        self._runner.wake()
        return await self.read(tenant, plan_id)

    async def read(self, tenant: str, plan_id: str) -> Plan:
        """Return a plan.

        Raises:
            SaccadeError: JOB_PLAN_NOT_FOUND, BUS_UNAVAILABLE.
        """
        await self._reader.catch_up()
        plan = self._reader.job_plans.get(plan_id)
        if plan is None or plan.tenant != tenant:
            raise SaccadeError(ErrorCode.JOB_PLAN_NOT_FOUND)
        return plan

    async def newest(self, tenant: str) -> list[Plan]:
        """Return a tenant's newest plans, newest first.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        await self._reader.catch_up()
        return list(self._reader.job_plans.of_tenant(tenant))[: -_LISTED - 1 : -1]

    async def places_of(self, tenant: str, plan_id: str) -> tuple[tuple[int, str], ...]:
        """Return first sequences and ids of a plan's jobs, newest first.

        Raises:
            SaccadeError: as ``read``.
        """
        return tuple((job.first_sequence, job.id) for job in planned_jobs(await self.read(tenant, plan_id)))
