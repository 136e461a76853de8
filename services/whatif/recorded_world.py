"""World of a dispatcher while one of its decisions is taken again: the recorded events, and facts about a worker.

Nothing that it decides is stored: the first event that it would publish is caught, and the recorded one is folded.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from contracts.assignment import Assignment
from contracts.budget import BudgetLimits
from contracts.events.base import Message
from contracts.gpu_ladder import gpu_ladder, gpu_name
from contracts.job import Job
from contracts.manifest import Manifest
from contracts.workload import Compute, Workload
from kit.bucket import Bucket, ObjectMissing, Transfer
from kit.bus.event_store import Conflict
from services.dispatcher.budgets.budget_notices import BudgetNotices
from services.dispatcher.budgets.tenant_budgets import TenantBudgets
from services.dispatcher.executors.executor import CallBacklog, CallState, CallStatus, LaunchFailed, Throttled
from services.dispatcher.jobs.job_repository import JobRepository
from services.dispatcher.jobs.unfinished_jobs import UnfinishedJobs
from services.dispatcher.lifecycle.lifecycle import Lifecycle
from services.dispatcher.lifecycle.lifecycle_rules import lifecycle_rules
from services.whatif.memory_store import MemoryStore
from services.whatif.refused_jobs import RefusedJobs
from services.whatif.replay_settings import ReplaySettings
from services.whatif.virtual_time import VirtualLoop

#: Device of an executor on the operator's own machine.
_CPU: Final = "cpu"


class Decided(Exception):  # noqa: N818 - it is an answer, not a fault
    """Raised instead of storing an event: the decision was to publish it."""

    def __init__(self, message: Message) -> None:
        """Carry the event."""
        super().__init__(message.subject)
        self.message = message


@dataclass
class Facts:
    """Facts about the worker of the job that is looked at, at the time of the decision."""

    #: None while no call is known.
    call_id: str | None = None
    status: CallStatus = field(default_factory=lambda: CallStatus(CallState.RUNNING))
    backlog: CallBacklog | None = None
    #: Answer of the executor to a launch; None if it takes it.
    refusal: LaunchFailed | None = None
    manifest: Manifest | None = None
    run_id: str = ""
    #: When a worker that was gone was last heard, by the cost that was recorded.
    last_sign: datetime | None = None


class CatchingStore(MemoryStore):
    """The recorded events; a publish is caught, or was made by somebody else in the meantime."""

    def __init__(self) -> None:
        """Create an empty store."""
        super().__init__()
        #: Subject, without its verb, whose event is waited for.
        self.target = ""
        #: The job that takes the step.
        self.own = ""

    async def publish(self, message: Message, **_: Any) -> int:
        """Catch an event of the job or of the target; of other jobs, a newer one is there already.

        Raises:
            Decided: the event would be published.
            Conflict: as above.
        """
        thing = message.subject.rpartition(".")[0]
        if thing in (self.target, self.own):
            raise Decided(message)
        if ".budget." in message.subject:
            return self.next_sequence
        raise Conflict(message.subject)


class RecordedBucket(Bucket):
    """A bucket with the manifest that a worker left, if it did."""

    def __init__(self, facts: Facts) -> None:
        """Look at the facts."""
        self._facts = facts

    def key(self, *parts: str) -> str:
        """Return the key of an object."""
        return "/".join(parts)

    async def get(self, key: str) -> bytes:
        """Return the manifest.

        Raises:
            ObjectMissing: there is none, or another object is asked for.
        """
        if self._facts.manifest is None or not key.endswith("manifest.json"):
            raise ObjectMissing(key)
        return self._facts.manifest.model_dump_json().encode()

    async def put(self, key: str, body: bytes, content_type: str = "") -> Transfer:  # noqa: ARG002
        """Keep nothing."""
        return Transfer(key, len(body), "", "")


def ladder(settings: ReplaySettings, compute: Compute, gpu: str | None) -> tuple[str, ...]:
    """Return the devices of a workload's ladder, as the executors of the settings do."""
    if not settings.dispatcher.runs_on_modal:
        return (_CPU,)
    if gpu:
        return (gpu_name(gpu),)
    return gpu_ladder(compute.gpus, settings.environment) if compute.gpus else (_CPU,)


class FactExecutor:
    """An ``Executor`` that answers with facts."""

    def __init__(self, settings: ReplaySettings, facts: Facts) -> None:
        """Answer as the executor of the settings."""
        self._settings = settings
        self._facts = facts
        self.name = "modal" if settings.dispatcher.runs_on_modal else "local"
        self.queues = settings.dispatcher.runs_on_modal

    def devices(self, compute: Compute, gpu: str | None) -> tuple[str, ...]:
        """Return the devices of a workload's ladder."""
        return ladder(self._settings, compute, gpu)

    async def rates(self) -> Mapping[str, float]:
        """Return nothing: prices come from the record."""
        return {}

    async def launch(self, assignment: Assignment, compute: Compute) -> str:  # noqa: ARG002
        """Answer as recorded.

        Raises:
            LaunchFailed, Throttled: it was refused.
        """
        if self._facts.refusal:
            raise self._facts.refusal
        return self._facts.call_id or ""

    async def poll(self, call_id: str, *, urgent: bool = False) -> CallStatus:  # noqa: ARG002
        """Return the status."""
        return self._facts.status

    async def backlog(self, workload: str, device: str) -> CallBacklog | None:  # noqa: ARG002
        """Return the recorded queue."""
        return self._facts.backlog

    async def cancel(self, call_id: str) -> None:
        """Stop nothing: when the worker was gone is recorded."""

    async def find(self, run_id: str) -> str | None:  # noqa: ARG002
        """Return the call that is recorded later."""
        return self._facts.call_id

    async def clear_cache(self, job_id: str) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""


class ReplayBudgets(TenantBudgets):
    """Budgets of which some are set otherwise than recorded."""

    overrides: Mapping[str, BudgetLimits] = {}

    def limits(self, tenant: str) -> BudgetLimits:
        """Return the limits that hold for a tenant."""
        if (given := self.overrides.get(tenant)) is not None:
            return given.within(self.operator)
        return super().limits(tenant)


class ForgetfulNotices(BudgetNotices):
    """Notices that forget what they were about to publish: it was caught."""

    def forget(self) -> None:
        """Forget it."""
        self._published.clear()


class RecordedWorld:
    """Recorded events up to some point, and a dispatcher's decisions on them."""

    def __init__(
        self,
        loop: VirtualLoop,
        begin: datetime,
        workloads: Mapping[str, Workload],
        settings: ReplaySettings,
        refused: RefusedJobs,
    ) -> None:
        """Begin with nothing; ``loop`` shows the time of the record since ``begin``."""
        self._loop = loop
        self._begin = begin
        self.settings = settings
        self.rules = lifecycle_rules(settings.dispatcher)
        self.facts = Facts()
        self.store = CatchingStore()
        self.jobs = UnfinishedJobs()
        self.budgets = ReplayBudgets(settings.operator_limits, self.now)
        self.budgets.overrides = settings.tenant_limits
        self.notices = ForgetfulNotices(self.store, self.budgets, lambda: True)
        executor = FactExecutor(settings, self.facts)
        self.lifecycle = Lifecycle(
            repository=JobRepository(self.store, self.jobs, lambda: True, clock=self.now),
            bucket=RecordedBucket(self.facts),
            executor=executor,
            workloads=workloads,
            jobs=self.jobs,
            rules=self.rules,
            notices=self.notices,
            waiting_jobs_of=lambda _: 0,
            run_id_for=lambda _: self.facts.run_id,
            last_sign=self._last_sign,
            refusal_of=refused.refusal,
        )

    def now(self) -> datetime:
        """Return the time of the record."""
        return self._begin + timedelta(seconds=self._loop.passed_s)

    @property
    def seconds(self) -> float:
        """Return the time of the record in seconds."""
        return self._loop.passed_s

    async def _last_sign(self, _: Job) -> datetime | None:
        return self.facts.last_sign

    def set_facts(self, facts: Facts) -> None:
        """Show these facts."""
        self.facts.__dict__.update(facts.__dict__)

    def be_at(self, moment: datetime) -> None:
        """Show this time."""
        self._loop.passed_s = (moment - self._begin).total_seconds()

    async def decide(self, job: Job, *, granted: bool, target: str) -> Message | None:
        """Return the event that a step of the job would publish now, of the job itself or of ``target``.

        Raises:
            SaccadeError: the step fails.
        """
        self.store.target, self.store.own = target, f"saccade.evt.{job.tenant}.job.{job.id}"
        account = self.budgets.accounts.get(job.tenant)
        attempt = copy.copy(account.attempts.get(job.id)) if account else None
        try:
            await self.lifecycle.advance(job.id, job.tenant, granted=granted)
        except Decided as decided:
            return decided.message
        finally:
            self.notices.forget()
            if granted:
                self._undo_reservation(job, attempt)
        return None

    async def refuse_launch(self, job: Job, workload: Workload, refusal: LaunchFailed | Throttled) -> Message | None:
        """Return the event that follows from a refused launch."""
        self.facts.refusal = refusal
        self.store.target = self.store.own = f"saccade.evt.{job.tenant}.job.{job.id}"
        try:
            await self.lifecycle.launcher.launch(job, workload, {})  # the refusal does not depend on the files
        except Decided as decided:
            return decided.message
        finally:
            self.facts.refusal = None
        return None

    def forget(self, job_id: str) -> None:
        """Forget what the launcher remembers of a job."""
        self.lifecycle.forget(job_id)

    def _undo_reservation(self, job: Job, attempt: Any) -> None:
        self.budgets.release(job, self.facts.run_id)
        account = self.budgets.accounts.get(job.tenant)
        if account and attempt is not None:
            account.attempts[job.id] = attempt
