"""Launch of an attempt: reserve from the tenant's budgets, publish the intent, launch, publish the call id.

A crash between any two of these can be repaired: the next dispatcher finds the call, or that there is none. This is
the only place where an attempt begins, so it is where budgets are enforced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from contracts.assignment import Assignment
from contracts.errors import ErrorBody, ErrorCode, SaccadeError
from contracts.events.job import PIPELINE, JobInput, JobLaunched, JobStarting
from contracts.ids import new_id
from contracts.job import Job, State
from contracts.trace_context import context_within
from contracts.workload import Workload
from kit.bus.event_store import Conflict
from kit.tracing import Value, span
from services.dispatcher.attempts.assignment_of import assignment_of
from services.dispatcher.attempts.failure_messages import cost_cap_reached, error_body
from services.dispatcher.budgets.budget_notices import BudgetNotices
from services.dispatcher.costs.attempt_cost import CPU, is_affordable, reservation_usd
from services.dispatcher.costs.price_list import PriceList
from services.dispatcher.executors.executor import Executor, LaunchFailed, Throttled
from services.dispatcher.jobs.job_repository import JobRepository, NotLeading
from services.dispatcher.lifecycle.attempt_end import fail, interrupt

#: Returns the id of a job's next run.
NewRunId = Callable[[Job], str]


def new_run_id(_: Job) -> str:
    """Return a new id for any job's next run."""
    return new_id("run")


class Launcher:
    """Launches attempts; knows the calls that it launched until they are recorded."""

    def __init__(
        self,
        repository: JobRepository,
        executor_of: Callable[[Job], Executor],
        prices: PriceList,
        notices: BudgetNotices,
        run_id_for: NewRunId = new_run_id,
    ) -> None:
        """Use these parts; ``executor_of`` returns the executor of a job, ``run_id_for`` the id of its next run."""
        self._repository = repository
        self._executor_of = executor_of
        self._prices = prices
        self._budgets = notices.budgets
        self._notices = notices
        self._run_id_for = run_id_for
        #: Run and call that were launched and are not recorded yet, by job.
        self._launched: dict[str, tuple[str, str]] = {}

    def forget(self, job_id: str) -> None:
        """Remove what is kept of a job whose attempt is over."""
        self._launched.pop(job_id, None)

    async def call_of(self, job: Job) -> str | None:
        """Return the call id of the current run: recorded, in memory, or found by the executor."""
        if job.run_id is None:
            return None
        if job.call_id:
            return job.call_id
        run_id, call_id = self._launched.get(job.id, ("", ""))
        return call_id if run_id == job.run_id else await self._executor_of(job).find(job.run_id)

    async def start_pipeline(self, job: Job) -> Job:
        """Start an attempt of a pipeline, which launches nothing itself: its reservation is for its stages' jobs."""
        price = self._prices.usd_per_s(CPU)  # any: it says whether workers cost anything
        starting = JobStarting(
            attempt=job.attempt + 1,
            run_id=self._run_id_for(job),
            executor=PIPELINE,
            device=PIPELINE,
            reserved_usd=reservation_usd(job, price),
        )
        return await self._begin(job, starting)

    async def start(self, job: Job, workload: Workload, devices: tuple[str, ...]) -> Job:
        """Launch an attempt on the job's rung of a ladder, unless its cost cap or a budget forbids it.

        Raises:
            Conflict, NotLeading: as ``JobRepository.publish``.
            SaccadeError: BUS_UNAVAILABLE; if the job's files cannot be read, no attempt was begun.
        """
        try:
            rung = self._prices.rung(devices, job.rung)
        except SaccadeError as error:
            return await fail(self._repository, job, "broken", error.body())
        if job.submitted.account == "caller":
            rung = replace(rung, usd_per_s=0.0)  # its caller pays
        if not is_affordable(job, rung.usd_per_s):
            return await fail(self._repository, job, "user", cost_cap_reached(job))
        starting = JobStarting(
            attempt=job.attempt + 1,
            run_id=self._run_id_for(job),
            executor=self._executor_of(job).name,
            device=rung.device,
            rung=rung.number,
            usd_per_s=rung.usd_per_s,
            reserved_usd=reservation_usd(job, rung.usd_per_s),
        )
        missing: ErrorBody | None = None
        inputs: dict[str, list[JobInput]] = {}
        try:
            # Before the intent: a read that fails afterwards would cost an attempt that launched nothing.
            inputs = await self._repository.inputs_of(job)
        except SaccadeError as error:
            if error.code is not ErrorCode.UPLOAD_NOT_FOUND:
                raise
            missing = error.body()
        job = await self._begin(job, starting)
        if job.state is not State.STARTING:
            return job
        if missing:
            return await interrupt(self._repository, job, "user", missing)
        return await self.launch(job, workload, inputs)

    async def record_call(self, job: Job, call_id: str) -> Job:
        """Publish the call id of the current run."""
        assert job.run_id
        launched = JobLaunched(attempt=job.attempt, run_id=job.run_id, call_id=call_id)
        return await self._repository.publish(job, launched)

    async def _begin(self, job: Job, starting: JobStarting) -> Job:
        """Reserve and publish the intent; return the job, which is not starting if a budget forbids it."""
        if refused := await self._budgets.reserve(job, starting):
            await self._notices.refused(job.tenant, refused, job.id)
            return await fail(self._repository, job, "user", refused.error())
        try:
            job = await self._repository.publish(job, starting, event_id=f"{starting.run_id}.starting")
        except (Conflict, NotLeading):
            self._budgets.release(job, starting.run_id)
            raise
        if refused := await self._budgets.confirm(job):
            await self._notices.refused(job.tenant, refused, job.id)
            return await interrupt(self._repository, job, "user", refused.error())
        return job

    async def launch(self, job: Job, workload: Workload, inputs: dict[str, list[JobInput]]) -> Job:
        """Launch the worker of an attempt whose start is stored; publish its call id, or that it was refused.

        ``inputs`` are the job's files in full.
        """
        assignment = assignment_of(job, inputs)
        try:
            with span(
                "launch", "client", parent=context_within(job.traceparent), attributes=_span_attributes(assignment)
            ):
                call_id = await self._executor_of(job).launch(assignment, workload.compute)
        except Throttled as error:
            error_body_ = error_body(ErrorCode.WORKER_NOT_STARTED, str(error))
            # Stored, so that another dispatcher keeps to it too, and a replay can decide the same.
            return await interrupt(self._repository, job, "throttled", error_body_, retry_after_s=error.retry_after_s)
        except LaunchFailed as error:
            error_body_ = error_body(ErrorCode.WORKER_NOT_STARTED, str(error))
            return await interrupt(self._repository, job, "not_started", error_body_)
        assert job.run_id
        self._launched[job.id] = (job.run_id, call_id)
        return await self.record_call(job, call_id)


def _span_attributes(assignment: Assignment) -> dict[str, Value]:
    named = {"job_id": assignment.job_id, "run_id": assignment.run_id, "device": assignment.device}
    return {f"saccade.{name}": value for name, value in named.items()}
