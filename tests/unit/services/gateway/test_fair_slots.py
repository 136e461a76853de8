"""Places for checks: in turn by tenant, one always left for another, none lost when somebody stops waiting."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

from services.gateway.fair_slots import FairSlots, hash_slots

pytestmark = pytest.mark.anyio


class Work:
    """Tasks that hold a place until they are told to end."""

    def __init__(self, slots: FairSlots) -> None:
        self.slots = slots
        self.running: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def begin(self, name: str) -> None:
        """Begin work; its tenant is the first letter of its name."""
        self.ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.ensure_future(self._run(name))

    async def _run(self, name: str) -> None:
        async with self.slots.slot(name[0]):
            self.running.append(name)
            try:
                await self.ends[name].wait()
            finally:
                self.running.remove(name)

    async def end(self, name: str) -> None:
        self.ends[name].set()
        await self.tasks[name]
        await settle()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_comes_last_does_not_wait_for_all_of_another_tenant() -> None:
    work = Work(FairSlots(2))
    for name in ("a1", "a2", "a3", "a4", "b1"):
        work.begin(name)
    await settle()
    assert work.running == ["a1", "a2"], "a tenant has all places while no other waits"
    await work.end("a1")
    assert work.running == ["a2", "b1"]
    await work.end("b1")
    assert work.running == ["a2", "a3"]
    for name in ("a2", "a3", "a4"):
        await work.end(name)


async def test_a_small_file_is_read_at_once_beside_large_ones_of_another_tenant() -> None:
    work = Work(hash_slots(2))
    for name in ("a1", "a2", "a3", "a4", "b1"):
        work.begin(name)
    await settle()
    assert work.running == ["a1", "a2", "a3", "b1"], "before, b1 waited until two of the large files were read"
    for name in ("a1", "a2", "a3", "a4", "b1"):
        await work.end(name)


async def test_tenants_take_turns() -> None:
    work = Work(FairSlots(1))
    for name in ("a1", "a2", "b1", "b2", "c1"):
        work.begin(name)
    await settle()
    seen = []
    while work.running:
        seen.append(work.running[0])
        await work.end(work.running[0])
    assert seen == ["a1", "b1", "c1", "a2", "b2"]


async def test_whatever_is_cancelled_no_place_is_lost() -> None:
    chance = random.Random(7)
    slots = FairSlots(3, most_of_one=2)
    most = 0
    running = 0

    async def use(tenant: str) -> None:
        nonlocal running, most
        async with slots.slot(tenant):
            running += 1
            most = max(most, running)
            try:
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
            finally:
                running -= 1

    tasks = [asyncio.ensure_future(use(chance.choice("abc"))) for _ in range(200)]
    for task in tasks:
        if chance.random() < 0.4:
            task.cancel()
        await asyncio.sleep(0)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (running, most) == (0, 3)
    async with contextlib.AsyncExitStack() as stack:
        for tenant in "abc":
            await stack.enter_async_context(slots.slot(tenant))
