"""A thousand jobs of several tenants on the market of GPUs, under dispatchers that die now and then."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from contracts.budget import BudgetLimits
from contracts.events.base import decode, encode
from contracts.events.job import JobSubmitted
from contracts.ids import new_id
from contracts.job import request_cancel
from contracts.prices import price_usd_per_s
from contracts.streams import aggregate
from contracts.workload import Workload
from kit.bucket import Bucket
from kit.bus.event_store import Conflict, StoredEvent
from kit.tasks import end, first_of
from services.dispatcher.attempts.liveness import Timeouts
from services.dispatcher.attempts.retry import AttemptPolicy
from services.dispatcher.budgets.budget_notices import BudgetNotices
from services.dispatcher.budgets.on_budget import on_stored as on_budget_stored
from services.dispatcher.budgets.tenant_budgets import TenantBudgets
from services.dispatcher.jobs.job_repository import JobRepository
from services.dispatcher.jobs.unfinished_jobs import UnfinishedJobs, fold_all
from services.dispatcher.lifecycle.lifecycle import STOP_S, Lifecycle, LifecycleRules
from services.dispatcher.scheduling.fair_queue import Limits
from services.dispatcher.scheduling.on_job import on_stored
from services.dispatcher.scheduling.reconciler import Reconciler
from services.whatif.memory_store import EmptyBucket, MemoryStore
from services.whatif.virtual_time import BEGIN, now
from tests.harness.dispatch.dispatcher import workload
from tests.harness.dispatch.gpu_market import GpuMarket, Pool

POLL_S: Final = 5.0
NOTICE_S: Final = 15.0
CLIMB_S: Final = 120.0
DEADLINE_S: Final = 4 * 3600.0
LIMITS: Final = Limits(slots=100, tenant=45, workload=70)
WORKLOADS: Final = {
    one.name: one
    for one in (
        workload("splat", 4, gpus=("T4", "L4", "A10", "A100-40GB"), timeout_s=1800.0),
        workload("nerf", 4, gpus=("A10", "L40S", "A100-80GB", "H100"), timeout_s=1800.0),
        workload("laps", 4, timeout_s=1800.0),
    )
}
CAPACITY: Final = {"cpu": 20, "T4": 14, "L4": 8, "A10": 14, "L40S": 8, "A100-40GB": 8, "A100-80GB": 6, "H100": 6}
RULES: Final = LifecycleRules(
    timeouts=Timeouts(
        find_s=5.0, silent_s=30.0, reaction_s=STOP_S + POLL_S, gpu_notice_s=NOTICE_S, next_gpu_after_s=CLIMB_S
    ),
    retry_policy=AttemptPolicy(1.0, 60.0, 20.0),
    poll_s=POLL_S,
)


@dataclass
class RecordedEvent:
    """A stored event as the checks read it."""

    sequence: int
    at_s: float
    verb: str
    data: dict[str, Any]
    source: str


@dataclass
class MarketRun:
    """Record of a whole run."""

    seed: int
    store: MemoryStore
    market: GpuMarket
    submitted: dict[str, JobSubmitted] = field(default_factory=dict)
    tenants: dict[str, str] = field(default_factory=dict)
    told: dict[str, list[RecordedEvent]] = field(default_factory=dict)
    #: Most workers of a tenant at once, by the events.
    most: Counter[str] = field(default_factory=Counter)
    took_s: float = 0.0

    def devices(self, job_id: str) -> tuple[str, ...]:
        one = self.submitted[job_id]
        return self.market.devices(WORKLOADS[one.workload].compute, one.gpu)


class DispatcherSeries:
    """Dispatchers one after the other on one store; each rebuilds its state from the events."""

    def __init__(
        self,
        seed: int,
        store: MemoryStore,
        limits: BudgetLimits,
        *,
        workloads: Mapping[str, Workload] = WORKLOADS,
        rules: LifecycleRules = RULES,
        slots: Limits = LIMITS,
    ) -> None:
        self.workloads, self.rules, self.slots = workloads, rules, slots
        self.bucket: Bucket = EmptyBucket()
        self.seed = seed
        self.store = store
        self.limits = limits
        self.notices: BudgetNotices | None = None
        self.reconciler: Reconciler | None = None
        self.lifecycle: Lifecycle | None = None
        self.market = GpuMarket(seed, store, self.hear)
        self._leading: asyncio.Task[None] | None = None
        self._lives = 0

    def hear(self, job_id: str, run_id: str) -> None:
        if self.reconciler:
            self.reconciler.record_heartbeat(job_id, run_id)

    def begin(self) -> None:
        self._lives += 1
        chance = random.Random(f"{self.seed} {self._lives}")
        jobs = UnfinishedJobs()
        self.notices = notices = BudgetNotices(self.store, TenantBudgets(self.limits, now), lambda: True)
        lifecycle = Lifecycle(
            repository=JobRepository(self.store, jobs, lambda: True, clock=now),
            bucket=self.bucket,
            executor=self.market,
            workloads=self.workloads,
            jobs=jobs,
            rules=self.rules,
            notices=notices,
            waiting_jobs_of=lambda tenant: reconciler.queue.waiting_of(tenant),  # noqa: PLW0108 - it is made below
            run_id_for=lambda _: f"run_{uuid.UUID(int=chance.getrandbits(128), version=4)}",
        )
        lifecycle.prices.update(self.market.billed)
        pipelines = frozenset(name for name, one in self.workloads.items() if one.kind == "pipeline")
        reconciler = Reconciler(
            jobs, self.slots, lifecycle, self.market, is_connected=lambda: True, pipelines=pipelines
        )  # fmt: skip
        while not self.store.heard.empty():
            self.store.heard.get_nowait()
        self.reconciler, self.lifecycle = reconciler, lifecycle
        for stored in self.store.log:
            self._fold(stored)
        self._leading = asyncio.create_task(first_of(reconciler.lead(), notices.run()))

    def _fold(self, stored: StoredEvent) -> None:
        assert self.reconciler
        assert self.notices
        job_event = on_stored(self.reconciler, stored)
        on_budget_stored(self.notices.budgets, stored, job_event)

    async def kill(self) -> None:
        assert self._leading
        await end(self._leading)
        self.reconciler = None

    async def listen(self, market_run: MarketRun) -> None:
        """Bring events to the dispatcher as the bus does: in order, soon, some of them twice; count as they pass."""
        chance = random.Random(f"{self.seed} bus")
        holding: dict[str, str] = {}
        while True:
            stored = await self.store.heard.get()
            if chance.random() < 0.3:
                await asyncio.sleep(chance.uniform(0.0, 0.1))
            self._count(stored, holding, market_run)
            for _ in range(2 if chance.random() < 0.1 else 1):
                if self.reconciler:
                    self._fold(stored)

    @staticmethod
    def _count(stored: StoredEvent, holding: dict[str, str], market_run: MarketRun) -> None:
        _, _, tenant, _, job_id, verb = stored.subject.split(".")
        if verb == "starting":
            holding[job_id] = tenant
            count = sum(one == tenant for one in holding.values())
            market_run.most[tenant] = max(market_run.most[tenant], count)
        elif verb in ("retrying", "succeeded", "failed", "cancelled"):
            holding.pop(job_id, None)


async def run_market(seed: int, count: int, limits: BudgetLimits | None = None) -> MarketRun:
    """Simulate until every job has ended; ``limits`` are those of every tenant."""
    store = MemoryStore(random.Random(f"{seed} store"))
    dispatching = DispatcherSeries(seed, store, limits or BudgetLimits())
    market_run = MarketRun(seed, store, dispatching.market)
    dispatching.market.pools |= {device: Pool(capacity) for device, capacity in CAPACITY.items()}
    dispatching.begin()
    loop = asyncio.get_running_loop()
    around = [
        asyncio.create_task(work)
        for work in (
            dispatching.listen(market_run),
            _change_market(seed, dispatching),
            _kill_dispatchers(seed, dispatching),
        )
    ]
    try:
        await _submit(seed, count, market_run)
        while _unfinished(market_run):
            assert loop.time() < 2 * DEADLINE_S, f"jobs are lost: {_unfinished(market_run)[:5]}"
            for task in around:
                assert not task.done(), task.exception()
            await asyncio.sleep(20)
        market_run.took_s = loop.time()
        await asyncio.sleep(30)
    finally:
        await end(*around)
        await dispatching.kill()
    _read(market_run)
    return market_run


async def _submit(seed: int, count: int, market_run: MarketRun) -> None:
    """Submit: a flood at the beginning, others over an hour; some with caps, some with a GPU of their choice."""
    chance = random.Random(f"{seed} jobs")
    flood = [(chance.uniform(0, 120), "flood") for _ in range(count * 7 // 10)]
    others = [(chance.uniform(0, 3600), f"quiet{chance.randrange(4)}") for _ in range(count - len(flood))]
    loop = asyncio.get_running_loop()
    for number, (at_s, tenant) in enumerate(sorted(flood + others)):
        await asyncio.sleep(max(0.0, at_s - loop.time()))
        name = chance.choice(["splat", "splat", "nerf", "laps"])
        gpus = WORKLOADS[name].compute.gpus
        first = price_usd_per_s(gpus[0] if gpus else "cpu")
        caps = [None, None, None, chance.uniform(0.2, 60) * first, chance.uniform(60, 900) * first]
        data = JobSubmitted(
            workload=name,
            workload_version="1",
            inputs={},
            params={},
            gpu=chance.choice(gpus) if gpus and chance.random() < 0.15 else None,
            max_cost_usd=chance.choice(caps),
            estimated_usd=60 * first,
            deadline=now() + timedelta(seconds=DEADLINE_S),
        )
        job_id = new_id("job")
        market_run.market.numbers[job_id] = number
        market_run.submitted[job_id], market_run.tenants[job_id] = data, tenant
        message = encode(data, tenant=tenant, subject_id=job_id, source="/gateway", time=now())
        await market_run.store.publish(message, after=0, among=aggregate(tenant, "job", job_id))
        if chance.random() < 0.02:
            loop.create_task(_cancel(market_run, job_id, chance.uniform(1, 1500)))  # noqa: RUF006 - the loop outlives it


async def _cancel(market_run: MarketRun, job_id: str, after_s: float) -> None:
    await asyncio.sleep(after_s)
    tenant = market_run.tenants[job_id]
    among = aggregate(tenant, "job", job_id)
    while True:
        job = fold_all(market_run.store.of(among))
        if job is None or job.state.ended or not (data := request_cancel(job, by="test")):
            return
        try:
            message = encode(data, tenant=tenant, subject_id=job_id, source="/gateway", time=now())
            await market_run.store.publish(message, after=job.sequence, among=among)
        except Conflict:
            continue
        return


async def _change_market(seed: int, dispatching: DispatcherSeries) -> None:
    """Change capacity and prices, and preempt workers."""
    chance = random.Random(f"{seed} weather")
    while True:
        await asyncio.sleep(chance.uniform(60, 240))
        device = chance.choice([one for one in CAPACITY if one != "cpu"])
        scarce = chance.random() < 0.35
        pool = dispatching.market.pools[device]
        await pool.become(0 if scarce else chance.randint(1, 2 * CAPACITY[device]))
        pool.most = max(pool.most, pool.capacity)
        if chance.random() < 0.3:
            dispatching.market.preempt(chance.choice(list(CAPACITY)))
        if chance.random() < 0.3:
            dispatching.market.billed[device] = price_usd_per_s(device) * chance.uniform(0.7, 1.5)
            if dispatching.reconciler and dispatching.lifecycle:
                dispatching.lifecycle.prices.update(dispatching.market.billed)


async def _kill_dispatchers(seed: int, dispatching: DispatcherSeries) -> None:
    """Kill the dispatcher at random moments, and start the next."""
    chance = random.Random(f"{seed} deaths")
    while True:
        await asyncio.sleep(chance.uniform(300, 1500))
        await dispatching.kill()
        await asyncio.sleep(0.3)
        dispatching.begin()


def _unfinished(market_run: MarketRun) -> list[str]:
    found = []
    for job_id, tenant in market_run.tenants.items():
        verbs = {one.subject.rpartition(".")[2] for one in market_run.store.of(aggregate(tenant, "job", job_id))}
        if not verbs & {"succeeded", "failed", "cancelled"}:
            found.append(job_id)
    return found


def _read(market_run: MarketRun) -> None:
    for stored in market_run.store.log:
        envelope = decode(stored.body)
        if not envelope.type.startswith("job."):
            continue
        verb = envelope.type.partition(".")[2]
        told = RecordedEvent(
            stored.sequence, (envelope.time - BEGIN).total_seconds(), verb, envelope.data, envelope.source
        )
        market_run.told.setdefault(envelope.subject, []).append(told)


def workload_of(market_run: MarketRun, job_id: str) -> Workload:
    return WORKLOADS[market_run.submitted[job_id].workload]
