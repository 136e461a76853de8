"""Turns of plans: a slow plan of one tenant delays no other tenant's, and the number of plans at a time is limited."""

from __future__ import annotations

import asyncio

import pytest

from kit.tasks import end
from services.notifier.replays.plan_turns import PLANS_AT_ONCE, PLANS_OF_A_TENANT, PlanTurns

pytestmark = pytest.mark.anyio


class Plans:
    """Plans that are made until they are let go."""

    def __init__(self) -> None:
        self.turns = PlanTurns()
        self.running: list[str] = []
        self.most = 0
        self.go = asyncio.Event()

    async def make(self, tenant: str, *, alone: bool) -> None:
        async with self.turns.turn(tenant, alone=alone):
            self.running.append(tenant)
            self.most = max(self.most, len(self.running))
            await self.go.wait()
            self.running.remove(tenant)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("alone", [True, False])
async def test_a_slow_plan_of_one_tenant_delays_no_other_tenants(alone: bool) -> None:
    plans = Plans()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(10):
            tasks.create_task(plans.make("slow", alone=alone))
        await settle()
        assert plans.running == ["slow"] * (1 if alone else PLANS_OF_A_TENANT)
        tasks.create_task(plans.make("other", alone=True))
        await settle()
        assert plans.running[-1] == "other"
        assert plans.turns.tenants == 2
        plans.go.set()
    assert (plans.running, plans.turns.tenants) == ([], 0)


async def test_plans_of_all_tenants_are_limited() -> None:
    plans = Plans()
    async with asyncio.TaskGroup() as tasks:
        for number in range(3 * PLANS_AT_ONCE):
            tasks.create_task(plans.make(f"tenant-{number}", alone=number % 2 == 0))
        await settle()
        assert len(plans.running) == PLANS_AT_ONCE
        plans.go.set()
    assert (plans.most, plans.turns.tenants) == (PLANS_AT_ONCE, 0)


async def test_a_request_that_is_given_up_leaves_its_turn() -> None:
    plans = Plans()
    first = asyncio.ensure_future(plans.make("acme", alone=True))
    waiting = asyncio.ensure_future(plans.make("acme", alone=True))
    await settle()
    await end(first, waiting)
    assert plans.turns.tenants == 0
    plans.go.set()
    plans.running.clear()
    await plans.make("acme", alone=True)
    assert plans.turns.tenants == 0
