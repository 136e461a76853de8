"""Budgets against a real bus: the sum of what is reserved stays within the limit, also after kills."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contracts.budget import RENEWAL_AGE
from contracts.errors import ErrorCode
from contracts.events.base import decode, encode
from contracts.events.budget import BudgetRemoved, BudgetSet
from contracts.job import State
from contracts.spending import SPENDING_EVENTS, Account
from kit.bus.event_store import StoredEvent
from kit.bus.lease import Lease
from services.dispatcher.settings import BudgetSettings
from tests.harness.dispatch.budget_recount import committed_after_each, notices
from tests.harness.dispatch.dispatcher import (
    DispatcherHarness,
    Servers,
    kill,
    open_dispatcher_harness,
    shared_servers,
    workload,
)
from tests.harness.dispatch.pipelines import (
    half_done_until_stopped,
    jobs_of,
    leaves_a_file,
    paid,
    reach_part,
    relay,
    stage_executor,
)
from tests.harness.dispatch.scripted_executor import ScriptedExecutor, Worker, works

pytestmark = pytest.mark.anyio

JOBS = 50
#: What each of them may cost: twenty of them use up the last dollar.
CAP_USD = 0.05
MANY: dict[str, Any] = {"slots": 60, "tenant_concurrency": 60, "workload_concurrency": 60}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with shared_servers(tmp_path_factory.mktemp("budgets")) as both:
        yield both


class Gate:
    """A worker that claims its job and works until the gate is opened."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()

    async def __call__(self, worker: Worker) -> None:
        if await worker.claim():
            while not self.opened.is_set():
                await worker.beat()
                await asyncio.sleep(0.5)
            await worker.succeed()


async def set_budget(harness: DispatcherHarness, tenant: str = "acme", **limits: Any) -> None:
    await harness.store.publish(encode(BudgetSet(**limits), tenant=tenant, subject_id=tenant, source="/gateway"))


async def stored(harness: DispatcherHarness) -> list[StoredEvent]:
    return [one async for one in harness.store.history(0)]


async def failed_with(harness: DispatcherHarness, code: ErrorCode) -> list[str]:
    events = [decode(one.body) for one in await stored(harness)]
    return [one.subject for one in events if one.type == "job.failed" and one.data["error"]["code"] == code]


async def until(harness: DispatcherHarness, count: int, *verbs: str, timeout_s: float = 20.0) -> list[StoredEvent]:
    """Wait until this many events of these verbs are stored."""
    end = asyncio.get_running_loop().time() + timeout_s
    while True:
        events = await stored(harness)
        if sum(one.subject.endswith(tuple(f".{verb}" for verb in verbs)) for one in events) >= count:
            return events
        assert asyncio.get_running_loop().time() < end, [one.subject for one in events[-10:]]
        await asyncio.sleep(0.05)


async def test_fifty_at_once_against_the_last_dollar(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        gate = Gate()
        executor = ScriptedExecutor(harness.store, harness.bucket, gate)
        await set_budget(harness, daily_usd=1.0)
        async with harness.dispatching(harness.dispatcher(executor, **MANY)):
            await asyncio.gather(*(harness.submit(max_cost_usd=CAP_USD, gpu="H100") for _ in range(JOBS)))
            events = await until(harness, JOBS, "started", "failed")
            committed = committed_after_each(events, "acme")
            assert max(usd for _, _, usd in committed) == 1.0
            refused = await failed_with(harness, ErrorCode.BUDGET_EXCEEDED)
            launched = {one.job_id for one in executor.launched}
            assert (len(launched), len(refused), len(set(refused))) == (20, 30, 30)
            assert not launched & set(refused)
            job = await harness.job(refused[0])
            assert (job.attempt, job.actual_usd) == (0, 0.0)
            assert job.error
            assert "1.00 USD" in job.error.message
            assert "PUT /v1/budgets" in job.error.hint
            gate.opened.set()
            events = await until(harness, 20, "succeeded")
            assert (
                await harness.reach(await harness.submit(max_cost_usd=CAP_USD, gpu="H100"))
            ).state is State.SUCCEEDED
            assert notices(await stored(harness)) == {}, "all was reserved, and next to nothing spent"
        await executor.end()


async def test_dispatchers_that_are_killed_never_reserve_more(servers: Servers) -> None:
    """A leader dies every few launches and its standby goes on: the next reads what was reserved from the events."""
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, works)
        executor.scripts = [gate := Gate()]
        await set_budget(harness, monthly_usd=1.0)
        leading = asyncio.create_task(harness.dispatcher(executor, **MANY).run(asyncio.Event()))
        submitting = asyncio.gather(*(harness.submit(max_cost_usd=CAP_USD, gpu="H100") for _ in range(JOBS)))
        for number in range(4):
            standby = asyncio.create_task(harness.dispatcher(executor, **MANY).run(asyncio.Event()))
            await until(harness, 5 * (number + 1), "starting", "failed")
            await kill(leading)
            await harness.forget_lease()
            leading = standby
        await submitting
        events = await until(harness, JOBS, "started", "failed")
        assert max(usd for _, _, usd in committed_after_each(events, "acme")) == 1.0
        refused = await failed_with(harness, ErrorCode.BUDGET_EXCEEDED)
        assert (len({one.job_id for one in executor.launched}), len(refused), len(set(refused))) == (20, 30, 30)
        assert notices(events) == {}, "what is refused beside a reservation is not spent"
        gate.opened.set()
        await until(harness, 20, "succeeded")
        await kill(leading)
        await executor.end()


async def test_even_two_that_both_believe_to_lead_launch_nothing_beyond(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        gate = Gate()
        executor = ScriptedExecutor(harness.store, harness.bucket, gate)
        # Another limit than above: the stream keeps the ids of purged notices.
        await set_budget(harness, daily_usd=1.04)
        one, other = harness.dispatcher(executor, **MANY), harness.dispatcher(executor, **MANY)
        other.lease = Lease(harness.client, "another", 1.0)
        async with harness.dispatching(one), harness.dispatching(other):
            end = asyncio.get_running_loop().time() + 10
            while not (one.reconciler.leading and other.reconciler.leading):
                assert asyncio.get_running_loop().time() < end
                await asyncio.sleep(0.01)
            await asyncio.gather(*(harness.submit(max_cost_usd=CAP_USD, gpu="H100") for _ in range(JOBS)))
            await until(harness, JOBS, "started", "failed")
            launched = {one.job_id for one in executor.launched}
            refused = await failed_with(harness, ErrorCode.BUDGET_EXCEEDED)
            assert len(launched) * CAP_USD <= 1.04
            assert len(launched) + len(refused) == JOBS
            assert not launched & set(refused)
            assert notices(await stored(harness)) == {}, "what is refused beside a reservation is not spent"
            gate.opened.set()
            await until(harness, len(launched), "succeeded")
        await executor.end()


async def test_a_job_without_a_cap_is_stopped_when_the_budget_is_spent(servers: Servers) -> None:
    """It was started for its estimate, and its meter runs on; a job within its cap goes on beside it."""
    async with open_dispatcher_harness(*servers) as harness:
        gate = Gate()

        async def scripts(worker: Worker) -> None:
            await (gate(worker) if worker.assignment.left_usd else until_stopped(worker))

        async def until_stopped(worker: Worker) -> None:
            if await worker.claim():
                await worker.work_until_stopped()

        executor = ScriptedExecutor(harness.store, harness.bucket, scripts)
        await set_budget(harness, daily_usd=0.01, warn_share=0.1)
        async with harness.dispatching(harness.dispatcher(executor)):
            too_large = await harness.submit(max_cost_usd=0.02, gpu="H100")
            await harness.reach(too_large)
            assert notices(await stored(harness)) == {}, "another job would still fit"
            capped = await harness.submit(max_cost_usd=0.004, gpu="L4")
            await harness.reach(capped, State.RUNNING)
            endless = await harness.submit(estimated_usd=0.001, gpu="B200")
            job = await harness.reach(endless, timeout_s=15.0)
            assert (job.state, job.failure) == (State.FAILED, "user")
            assert job.error
            assert job.error.code is ErrorCode.BUDGET_EXCEEDED
            assert 0 < job.actual_usd <= 0.006
            assert (await harness.job(capped)).state is State.RUNNING
            gate.opened.set()
            assert (await harness.reach(capped)).state is State.SUCCEEDED
            told = notices(await stored(harness))
            assert {key[0] for key in told} == {"budget.warned", "budget.exhausted"}
            assert set(told.values()) == {1}
            (exhausted,) = [
                envelope.data
                for one in await stored(harness)
                if (envelope := decode(one.body)).type == "budget.exhausted"
            ]
            assert exhausted["job_id"] == endless
        await executor.end()


async def test_a_retry_counts_what_is_spent_and_a_raised_limit_counts_at_once(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, works)
        await set_budget(harness, daily_usd=0.01)
        async with harness.dispatching(harness.dispatcher(executor)):
            refused = await harness.submit(max_cost_usd=0.02, gpu="H100")
            assert (await harness.reach(refused)).state is State.FAILED
            await harness.retry(refused)
            job = await harness.reach(refused)
            assert (job.state, job.attempt) == (State.FAILED, 0)
            await set_budget(harness, daily_usd=0.03)
            await harness.retry(refused)
            assert (await harness.reach(refused)).state is State.SUCCEEDED
            remove = encode(BudgetRemoved(), tenant="acme", subject_id="acme", source="/gateway")
            await set_budget(harness, daily_usd=0.0)
            assert (await harness.reach(await harness.submit(max_cost_usd=9.0, gpu="H100"))).state is State.FAILED
            assert (await harness.reach(await harness.submit("other", gpu="H100"), tenant="other")).state is (
                State.SUCCEEDED
            )
            await harness.store.publish(remove)
            assert (await harness.reach(await harness.submit(max_cost_usd=9.0, gpu="H100"))).state is State.SUCCEEDED
        await executor.end()


async def test_a_pipeline_reserves_once_for_all_its_stages(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = stage_executor(harness, {("gather", 0): [half_done_until_stopped, leaves_a_file]})
        await set_budget(harness, monthly_usd=0.31)
        async with harness.dispatching(harness.dispatcher(executor, *relay(), workload())):
            pipeline = await harness.submit(workload="relay", max_cost_usd=0.3)
            await reach_part(harness, pipeline, "gather", 0, State.RUNNING)
            refused = await harness.reach(await harness.submit(max_cost_usd=0.02))
            assert refused.error
            assert refused.error.code is ErrorCode.BUDGET_EXCEEDED
            await executor.kill(executor.at_work()[0])
            assert (await harness.reach(pipeline)).state is State.SUCCEEDED
            starting = [decode(one.body) for one in await stored(harness) if one.subject.endswith(".starting")]
            reserved = {one.subject: one.data["reserved_usd"] for one in starting}
            assert reserved[pipeline] == 0.3
            assert len(reserved) > 4, "its stages' jobs"
            account = Account()
            for one in await stored(harness):
                if (event := decode(one.body)).type in SPENDING_EVENTS:
                    account.fold(event)
            assert sum(account.by_day.values()) == pytest.approx(paid(await jobs_of(harness, pipeline)), abs=1e-5)
            later = await harness.reach(await harness.submit(max_cost_usd=0.02))
            assert later.attempt > 0, "it was launched; this executor only plays the stages"
        await executor.end()


async def test_no_tenant_raises_its_budget_above_the_operators(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, works)
        await set_budget(harness, daily_usd=100.0)
        limited = harness.dispatcher(executor, budget=BudgetSettings(daily_usd=0.05))
        async with harness.dispatching(limited):
            assert (await harness.reach(await harness.submit(max_cost_usd=0.06, gpu="T4"))).state is State.FAILED
            assert (await harness.reach(await harness.submit(max_cost_usd=0.05, gpu="T4"))).state is State.SUCCEEDED
            without = await harness.submit("other", max_cost_usd=0.06, gpu="T4")
            assert (await harness.reach(without, tenant="other")).state is State.FAILED
        await executor.end()


async def test_a_definition_is_published_again_before_the_stream_deletes_it(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        old = datetime.now(UTC) - RENEWAL_AGE - timedelta(hours=1)
        recent = datetime.now(UTC) - RENEWAL_AGE + timedelta(hours=1)
        for tenant, at in (("acme", old), ("other", recent)):
            data = BudgetSet(daily_usd=0.25, warn_share=0.5, set_at=at)
            await harness.store.publish(encode(data, tenant=tenant, subject_id=tenant, source="/gateway", time=at))
        for _ in range(2):
            executor = ScriptedExecutor(harness.store, harness.bucket, works)
            async with harness.dispatching(harness.dispatcher(executor)):
                await until(harness, 3, "set")
                refused = await harness.reach(await harness.submit(max_cost_usd=0.26, gpu="T4"))
                assert refused.error
                assert refused.error.code is ErrorCode.BUDGET_EXCEEDED
        found = [decode(one.body) for one in await stored(harness)]
        again = [(one.tenant, one.data) for one in found if one.type == "budget.set"][2:]
        assert [tenant for tenant, _ in again] == ["acme"], "once, though two dispatchers have led"
        repeated = BudgetSet.model_validate(again[0][1])
        assert (repeated.daily_usd, repeated.warn_share, repeated.set_at) == (0.25, 0.5, old)
