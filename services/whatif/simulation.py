"""Simulation of a window: its jobs are dispatched again, with other settings, in virtual time.

What the record tells of an attempt is played; what it does not tell is modelled, and its money is told apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from contracts.events.base import EventData, decode, encode
from contracts.events.job import PIPELINE, JobCancelRequested, JobRetrying
from contracts.job import Job, State, retry
from contracts.streams import aggregate
from contracts.workload import Workload
from kit.bus.event_store import Conflict
from kit.tasks import first_of
from services.dispatcher.budgets.budget_notices import BudgetNotices
from services.dispatcher.budgets.on_budget import on_stored as on_budget_stored
from services.dispatcher.jobs.job_repository import JobRepository
from services.dispatcher.jobs.unfinished_jobs import UnfinishedJobs, fold_all
from services.dispatcher.lifecycle.lifecycle import Lifecycle
from services.dispatcher.lifecycle.lifecycle_rules import lifecycle_rules
from services.dispatcher.scheduling.on_job import on_stored
from services.dispatcher.scheduling.reconciler import Reconciler
from services.dispatcher.scheduling.slot_pools import session_workloads, slot_limits
from services.whatif.attempt_model import AttemptModel
from services.whatif.memory_store import MemoryStore
from services.whatif.played_executor import PlayedExecutor
from services.whatif.recorded_attempts import RecordedAttempts
from services.whatif.recorded_world import Facts, RecordedBucket, ReplayBudgets
from services.whatif.refused_jobs import RefusedJobs
from services.whatif.replay_settings import ReplaySettings
from services.whatif.virtual_time import VirtualLoop
from services.whatif.window import RecordedEvent, RecordedWindow


@dataclass(frozen=True)
class Money:
    """Cost of the jobs of a window in a simulation, USD: recorded attempts and modelled ones, never added up."""

    recorded_usd: float
    modelled_usd: float
    recorded_attempts: int
    modelled_attempts: int
    #: Jobs that have not ended by the end of the window.
    unfinished: int


class Simulation:
    """One dispatcher without a bus, and the world around it."""

    def __init__(
        self, loop: VirtualLoop, window: RecordedWindow, workloads: Mapping[str, Workload], settings: ReplaySettings
    ) -> None:
        """Simulate a window with these settings."""
        self._loop, self._window, self._workloads = loop, window, workloads
        everything = [*window.before, *window.events]
        recorded = ReplaySettings(window.recorded_settings).dispatcher
        self._attempts = RecordedAttempts(everything, recorded.queue.throttled_s)
        names = {
            each.envelope.subject: each.envelope.data["workload"]
            for each in everything
            if each.envelope.type == "job.submitted"
        }
        self.store = MemoryStore()
        self.jobs = UnfinishedJobs()
        model = AttemptModel(self._attempts, names, workloads)
        self.executor = PlayedExecutor(
            settings=settings,
            store=self.store,
            attempts=self._attempts,
            model=model,
            now=self.now,
            hear=self._hear,
        )
        budgets = ReplayBudgets(settings.operator_limits, self.now)
        budgets.overrides = settings.tenant_limits
        self._notices = BudgetNotices(self.store, budgets, lambda: True)
        dispatcher = settings.dispatcher
        lifecycle = self._lifecycle = Lifecycle(
            repository=JobRepository(self.store, self.jobs, lambda: True, clock=self.now),
            bucket=RecordedBucket(Facts()),
            executor=self.executor,
            workloads=workloads,
            jobs=self.jobs,
            rules=lifecycle_rules(dispatcher),
            notices=self._notices,
            waiting_jobs_of=lambda tenant: self.reconciler.queue.waiting_of(tenant),  # noqa: PLW0108 - it is made below
            run_id_for=self._run_id,
            refusal_of=RefusedJobs(everything).refusal,
        )
        self._fixed_prices = settings.account_prices
        self._known_prices = self._fixed_prices or {device: told[0][1] for device, told in self._prices()}
        lifecycle.prices.update(self._known_prices)
        self.reconciler = Reconciler(
            self.jobs,
            slot_limits(dispatcher),
            lifecycle,
            self.executor,
            is_connected=lambda: True,
            pipelines=frozenset(name for name, each in workloads.items() if each.kind == "pipeline"),
            sessions=session_workloads(workloads),
        )

    def now(self) -> datetime:
        """Return the time of the simulation."""
        return self._window.begin + timedelta(seconds=self._loop.passed_s)

    async def run(self) -> Money:
        """Simulate until the end of the window and return what it cost."""
        self._loop.passed_s = 0.0
        for event in self._window.before:
            self.store.add(event.stored, event.envelope.id)
            self._fold(event.stored)
        leading = asyncio.create_task(first_of(self.reconciler.lead(), self._notices.run(), self._listen()))
        feeding = asyncio.create_task(self._feed())
        end_s = (self._window.end - self._window.begin).total_seconds() + 1.0
        try:
            await asyncio.sleep(end_s)
        finally:
            for task in (leading, feeding):
                task.cancel()
            await asyncio.gather(leading, feeding, return_exceptions=True)
            await self.executor.close()
        return self._money()

    # ---- the world

    async def _listen(self) -> None:
        while True:
            self._fold(await self.store.heard.get())

    def _fold(self, stored: Any) -> None:
        job_event = on_stored(self.reconciler, stored)
        on_budget_stored(self._notices.budgets, stored, job_event)

    async def _feed(self) -> None:
        """Do what others than the dispatcher and the workers did, at its time."""
        for at, act in sorted(self._acts(), key=lambda each: each[0]):
            await asyncio.sleep(max(0.0, (at - self.now()).total_seconds()))
            await act()

    def _acts(self) -> Iterator[tuple[datetime, Callable[[], Any]]]:
        for event in self._window.events:
            kind, data = event.envelope.type, event.envelope.data
            by_rule = kind == "job.submitted" and not data.get("part_of")
            if by_rule or (not event.by_dispatcher and kind in ("budget.set", "budget.removed")):
                yield event.at, lambda event=event: self._publish(event, event.envelope.parsed())  # type: ignore[misc]
            elif not event.by_dispatcher and kind in ("job.cancel_requested", "job.retrying"):
                yield event.at, lambda event=event: self._change(event)  # type: ignore[misc]
        if not self._fixed_prices:
            for device, told in self._prices():
                for at, usd in told:
                    yield at, lambda device=device, usd=usd: self._price(device, usd)  # type: ignore[misc]

    async def _publish(self, event: RecordedEvent, data: EventData, after: int | None = None) -> None:
        envelope = event.envelope
        message = encode(
            data,
            tenant=envelope.tenant,
            subject_id=envelope.subject,
            source=envelope.source,
            event_id=envelope.id,
            time=self.now(),
            traceparent=envelope.traceparent,
        )
        noun = envelope.type.partition(".")[0]
        await self.store.publish(message, after=after, among=aggregate(envelope.tenant, noun, envelope.subject))

    async def _change(self, event: RecordedEvent) -> None:
        """Cancel or retry a job as somebody did, if that is possible now."""
        data = event.envelope.parsed()
        while job := fold_all(self.store.of(aggregate(event.envelope.tenant, "job", event.envelope.subject))):
            if isinstance(data, JobRetrying):
                if job.state not in (State.FAILED, State.CANCELLED):
                    return
                left_s = (data.deadline - event.at).total_seconds()
                change: EventData = retry(job, after=None, delay_s=data.delay_s, now=self.now(), deadline_s=left_s)
            else:
                if job.state.ended or job.cancel_requested:
                    return
                change = JobCancelRequested(by=event.envelope.data["by"])
            try:
                await self._publish(event, change, after=job.sequence)
            except Conflict:
                continue
            return

    async def _price(self, device: str, usd: float) -> None:
        self._known_prices[device] = usd
        self._lifecycle.prices.update(self._known_prices)

    def _prices(self) -> list[tuple[str, list[tuple[datetime, float]]]]:
        return list(self._attempts.prices.items())

    def _hear(self, job_id: str, run_id: str) -> None:
        self.reconciler.record_heartbeat(job_id, run_id)

    def _run_id(self, job: Job) -> str:
        attempt = self._attempts.of(job.id, job.attempt + 1)
        return attempt.run_id if attempt else f"run-of-{job.id}-{job.attempt + 1}"

    # ---- the outcome

    def _money(self) -> Money:
        costs: dict[str, float] = {}
        open_jobs: set[str] = set()
        for stored in self.store.log[len(self._window.before) :]:
            envelope = decode(stored.body)
            if envelope.type in ("job.succeeded", "job.interrupted"):
                cost = envelope.data.get("cost")
                if isinstance(cost, dict) and cost["device"] != PIPELINE:
                    costs[envelope.data["run_id"]] = cost["usd"]
            if envelope.type in ("job.submitted", "job.retrying"):
                open_jobs.add(envelope.subject)
            elif envelope.type in ("job.succeeded", "job.failed", "job.cancelled"):
                open_jobs.discard(envelope.subject)
        modelled = {run for run in costs if run in self.executor.modelled}
        return Money(
            recorded_usd=round(sum(usd for run, usd in costs.items() if run not in modelled), 6),
            modelled_usd=round(sum(costs[run] for run in modelled), 6),
            recorded_attempts=len(costs) - len(modelled),
            modelled_attempts=len(modelled),
            unfinished=len(open_jobs),
        )


async def simulate(
    loop: VirtualLoop, window: RecordedWindow, workloads: Mapping[str, Workload], settings: ReplaySettings
) -> Money:
    """Simulate a window and return what it cost."""
    return await Simulation(loop, window, workloads, settings).run()
