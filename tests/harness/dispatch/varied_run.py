"""Varied runs of a dispatcher in virtual time: everything that a recorded window may contain, on a few slots.

Pipelines, priorities, user's cancellations and retries, short deadlines, cost caps, budgets that change, refused and
lost launches, results that are left behind, scarce GPUs, dispatchers that die.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from contracts.errors import SaccadeError
from contracts.events.base import EventData, encode
from contracts.events.budget import BudgetSet
from contracts.events.job import JobSubmitted
from contracts.ids import new_id
from contracts.job import Job, request_cancel, retry
from contracts.manifest import MANIFEST_NAME
from contracts.prices import price_usd_per_s
from contracts.streams import aggregate
from contracts.workload import Workload
from kit.bucket import ObjectMissing, Transfer
from kit.bus.event_store import Conflict, StoredEvent
from kit.tasks import end
from services.dispatcher.jobs.unfinished_jobs import fold_all
from services.dispatcher.lifecycle.lifecycle_rules import lifecycle_rules
from services.dispatcher.scheduling.slot_pools import slot_limits
from services.whatif.memory_store import EmptyBucket, MemoryStore
from services.whatif.replay_settings import ReplaySettings
from services.whatif.virtual_time import now
from tests.harness.dispatch.dispatcher import workload
from tests.harness.dispatch.gpu_market import GpuMarket, Pool
from tests.harness.dispatch.gpu_market_run import DispatcherSeries, MarketRun
from tests.harness.dispatch.pipelines import relay

#: Workloads of varied runs, by name; the frozen catalog of golden windows.
VARIED_WORKLOADS: Final[Mapping[str, Workload]] = {
    one.name: one
    for one in (
        workload("splat", 4, gpus=("T4", "L4", "A10", "A100-40GB"), timeout_s=1800.0),
        workload("nerf", 3, gpus=("A10", "L40S", "A100-80GB", "H100"), timeout_s=250.0),
        workload("laps", 2, timeout_s=300.0, start_timeout_s=40.0),
        *relay(),
    )
}
SETTINGS: Final[Mapping[str, Any]] = {
    "executor": "modal",
    "slots": 14,
    "tenant_concurrency": 6,
    "workload_concurrency": 7,
    "poll_s": 2.0,
    "lease_s": 1.0,
    "silent_s": 20.0,
    "find_s": 5.0,
    "backoff_s": 1.0,
    "backoff_max_s": 5.0,
    "gpu_notice_s": 15.0,
    "gpu_climb_s": 90.0,
    "throttled_s": 20.0,
}
_CAPACITY: Final = {"cpu": 6, "T4": 4, "L4": 2, "A10": 3, "L40S": 2, "A100-40GB": 2, "A100-80GB": 2, "H100": 2}
_TENANTS: Final = ("acme", "beta", "gamma", "delta")
_LIMITED: Final = "beta"


@dataclass
class VariedRun:
    """A finished run, as a recorder would find it in the stream."""

    events: list[StoredEvent]
    settings: Mapping[str, Any]


class LeftBucket(EmptyBucket):
    """A bucket in which some workers have left their results."""

    def __init__(self, market: GpuMarket) -> None:
        self._market = market

    async def get(self, key: str) -> bytes:
        await asyncio.sleep(0.01)
        job_id = key.split("/")[1]
        if key.endswith(MANIFEST_NAME) and (manifest := self._market.manifests.get(job_id)):
            return manifest.model_dump_json().encode()
        raise ObjectMissing(key)

    async def put(self, key: str, body: bytes, content_type: str = "") -> Transfer:  # noqa: ARG002
        await asyncio.sleep(0.01)
        return Transfer(key, len(body), "", "")


async def run_varied(seed: int, count: int, changes: Mapping[str, Any] | None = None) -> VariedRun:
    """Run until every job has ended."""
    settings = ReplaySettings({**SETTINGS, **(changes or {})})
    store = MemoryStore(random.Random(f"{seed} store"))
    dispatcher = settings.dispatcher
    series = DispatcherSeries(
        seed,
        store,
        settings.operator_limits,
        workloads=VARIED_WORKLOADS,
        rules=lifecycle_rules(dispatcher),
        slots=slot_limits(dispatcher),
    )
    market = series.market
    market.refused_share, market.leaves_result_share, market.tells_more = 0.05, 0.5, True
    market.launches_per_s = 1
    market.pools |= {device: Pool(capacity) for device, capacity in _CAPACITY.items()}
    series.bucket = LeftBucket(market)
    series.begin()
    people = _People(seed, store)
    tasks = [
        asyncio.create_task(work)
        for work in (
            series.listen(MarketRun(seed, store, market)),
            _weather(seed, series),
            _deaths(seed, series),
            people.change_budgets(),
        )
    ]
    try:
        await people.submit(count)
        while people.unfinished():
            assert asyncio.get_running_loop().time() < 6 * 3600, people.unfinished()[:5]
            for task in tasks:
                assert not task.done(), task.exception()
            await asyncio.sleep(10)
        await asyncio.sleep(20)
    finally:
        await end(*tasks, *people.tasks)
        await series.kill()
    return VariedRun(list(store.log), settings.values)


class _People:
    """Those who submit jobs, and change their minds."""

    def __init__(self, seed: int, store: MemoryStore) -> None:
        self.tasks: list[asyncio.Task[None]] = []
        self._chance = random.Random(f"{seed} people")
        self._store = store
        self._tenants: dict[str, str] = {}

    async def submit(self, count: int) -> None:
        chance, loop = self._chance, asyncio.get_running_loop()
        flood = [(chance.uniform(0, 60), _TENANTS[0]) for _ in range(count // 3)]
        others = [(chance.uniform(0, 12.0 * count), chance.choice(_TENANTS)) for _ in range(count - len(flood))]
        for at_s, tenant in sorted(flood + others):
            await asyncio.sleep(max(0.0, at_s - loop.time()))
            job_id = new_id("job")
            self._tenants[job_id] = tenant
            await self._publish(tenant, "job", job_id, self._job(), after=0)
            if chance.random() < 0.06:
                self.tasks.append(loop.create_task(self._cancel(job_id, chance.choice([1, 20, 100, 400]))))
            if chance.random() < 0.3:
                self.tasks.append(loop.create_task(self._retry_once(job_id, chance.uniform(5, 60))))

    def _job(self) -> JobSubmitted:
        chance = self._chance
        name = chance.choice(["splat", "splat", "nerf", "laps", "relay"])
        gpus = VARIED_WORKLOADS[name].compute.gpus
        price = price_usd_per_s(gpus[0] if gpus else "A100-40GB" if name == "relay" else "cpu")
        caps = [None, None, None, chance.uniform(0.2, 60) * price, chance.uniform(60, 900) * price]
        params = {"shards": chance.choice([1, 2, 3]), "only_gather": False, "killed_in": ""} if name == "relay" else {}
        return JobSubmitted(
            workload=name,
            workload_version="1",
            inputs={},
            params=params,
            priority=chance.choice([-1, 0, 0, 0, 1, 2]),
            gpu=chance.choice(gpus) if gpus and chance.random() < 0.1 else None,
            max_cost_usd=chance.choice(caps),
            estimated_usd=60 * price,
            deadline=now() + timedelta(seconds=chance.choice([150, 400, 4000, 9000, 9000, 9000, 9000, 9000])),
        )

    async def change_budgets(self) -> None:
        for after_s, daily_usd in ((0, 0.1), (900, 0.4), (600, 0.02), (1200, None)):
            await asyncio.sleep(after_s)
            data = BudgetSet(daily_usd=daily_usd, monthly_usd=2.0, warn_share=0.6)
            await self._publish(_LIMITED, "budget", _LIMITED, data)
        await asyncio.sleep(1e6)

    def unfinished(self) -> list[str]:
        return [job_id for job_id in self._tenants if (job := self._job_of(job_id)) is None or not job.state.ended]

    async def _cancel(self, job_id: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await self._change(job_id, lambda job: request_cancel(job, by="test"))

    async def _retry_once(self, job_id: str, after_s: float) -> None:
        while (job := self._job_of(job_id)) is None or not job.state.ended:
            await asyncio.sleep(after_s)
        await self._change(job_id, lambda job: retry(job, after=None, delay_s=0.0, now=now(), deadline_s=3000.0))

    async def _change(self, job_id: str, decide: Any) -> None:
        while job := self._job_of(job_id):
            try:
                data = decide(job)
                if data is not None:
                    await self._publish(job.tenant, "job", job_id, data, after=job.sequence)
            except Conflict:
                continue
            except SaccadeError:
                return
            return

    def _job_of(self, job_id: str) -> Job | None:
        return fold_all(self._store.of(aggregate(self._tenants[job_id], "job", job_id)))

    async def _publish(self, tenant: str, noun: str, subject_id: str, data: EventData, **condition: Any) -> None:
        message = encode(data, tenant=tenant, subject_id=subject_id, source="/gateway", time=now())
        await self._store.publish(message, among=aggregate(tenant, noun, subject_id), **condition)


async def _weather(seed: int, series: DispatcherSeries) -> None:
    """Change capacity and prices, and preempt workers."""
    chance = random.Random(f"{seed} weather")
    while True:
        await asyncio.sleep(chance.uniform(30, 120))
        device = chance.choice([one for one in _CAPACITY if one != "cpu"])
        scarce = chance.random() < 0.35
        await series.market.pools[device].become(0 if scarce else chance.randint(1, 2 * _CAPACITY[device]))
        if chance.random() < 0.4:
            series.market.preempt(chance.choice(list(_CAPACITY)))
        if chance.random() < 0.2 and series.lifecycle:
            series.market.billed[device] = price_usd_per_s(device) * chance.uniform(0.7, 1.5)
            series.lifecycle.prices.update(series.market.billed)


async def _deaths(seed: int, series: DispatcherSeries) -> None:
    """Kill the dispatcher at random moments, and start the next."""
    chance = random.Random(f"{seed} deaths")
    while True:
        await asyncio.sleep(chance.uniform(120, 600))
        await series.kill()
        await asyncio.sleep(chance.uniform(0.3, 2.0))
        series.begin()
