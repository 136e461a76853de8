"""Pace of tasks that end together: one after another for each tenant, nobody behind those of another one."""

from __future__ import annotations

import asyncio

import pytest

from services.notifier.webhooks.sending import tenant_pace
from services.notifier.webhooks.sending.tenant_pace import TenantPace

pytestmark = pytest.mark.anyio


class Tasks:
    """Tasks that wait for their turn, and which have gone on, in order."""

    def __init__(self) -> None:
        self.pace = TenantPace()
        self.gone_on: list[str] = []

    def begin(self, tenant: str, count: int) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self._go_on(tenant, number)) for number in range(count)]

    async def _go_on(self, tenant: str, number: int) -> None:
        await self.pace.turn(tenant)
        self.gone_on.append(f"{tenant}{number}")


async def test_tasks_that_end_together_go_on_one_after_another() -> None:
    tasks = Tasks()
    running = tasks.begin("a", 20)
    most, before = 0, 0
    while not all(task.done() for task in running):
        await asyncio.sleep(0)
        most, before = max(most, len(tasks.gone_on) - before), len(tasks.gone_on)
    assert most == 1
    assert tasks.gone_on == [f"a{number}" for number in range(20)]


async def test_a_task_of_another_tenant_does_not_wait_for_them() -> None:
    tasks = Tasks()
    many = tasks.begin("hostile", 50)
    await asyncio.sleep(0)
    one = tasks.begin("quiet", 1)
    await asyncio.sleep(0)
    assert one[0].done()
    assert not many[2].done()
    await asyncio.gather(*many)


async def test_tasks_of_a_tenant_that_is_alone_do_not_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenant_pace, "_BETWEEN_S", 3600.0)
    async with asyncio.timeout(60):
        await asyncio.gather(*Tasks().begin("a", 20))


async def test_tasks_that_come_one_by_one_do_not_wait() -> None:
    tasks = Tasks()
    for number in range(5):
        (task,) = tasks.begin(f"a{number % 2}", 1)
        await asyncio.sleep(0)
        assert task.done()


async def test_a_task_that_is_cancelled_leaves_its_line() -> None:
    tasks = Tasks()
    running = tasks.begin("a", 5)
    await asyncio.sleep(0)
    running[2].cancel()
    await asyncio.gather(*running, return_exceptions=True)
    assert tasks.gone_on == ["a0", "a1", "a3", "a4"]
    (last,) = tasks.begin("a", 1)
    async with asyncio.timeout(10):
        await last
