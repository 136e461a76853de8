"""A dispatcher that dies at a chosen await: the store and the executor of a process that may end at each call."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from nats.aio.client import Client

from contracts.assignment import Assignment
from contracts.events.base import Message
from contracts.workload import Compute
from kit.bus.event_store import EventStore, StoredEvent
from services.dispatcher.executors.executor import CallBacklog, CallStatus
from tests.harness.dispatch.scripted_executor import ScriptedExecutor


class CrashTrigger:
    """Counts awaits; at the chosen one the process blocks, and the test kills it."""

    def __init__(self, at: int | None, *, after: bool) -> None:
        self.passed: list[str] = []
        #: How many of them had their effect.
        self.passed_whole = 0
        self.dead = asyncio.Event()
        self._at = at
        self._after = after

    async def run(self, name: str, act: Any) -> Any:
        if self.dead.is_set():
            await asyncio.Future()
        number = len(self.passed)
        self.passed.append(name)
        if number == self._at and not self._after:
            await self._die()
        result = await act()
        self.passed_whole += 1
        if number == self._at:
            await self._die()
        return result

    async def _die(self) -> None:
        self.dead.set()
        await asyncio.Future()


class CrashingStore(EventStore):
    """The event store of a process that may die at each call."""

    def __init__(self, client: Client, trigger: CrashTrigger, stream: str = "EVENTS") -> None:
        super().__init__(client, stream)
        self._trigger = trigger

    async def publish(self, message: Message, **condition: Any) -> int:
        verb = message.subject.rpartition(".")[2]
        act = functools.partial(super().publish, message, **condition)
        return int(await self._trigger.run(f"publish {verb}", act))

    async def load(self, subjects: str, deadline_s: float = 5.0, **form: Any) -> list[StoredEvent]:
        found: list[StoredEvent] = await self._trigger.run(
            "load", functools.partial(super().load, subjects, deadline_s, **form)
        )
        return found


class CrashingExecutor:
    """The executor as a process sees it that may die at each call; the workers are the harness's and survive it."""

    name = "scripted"
    queues = False

    def __init__(self, real: ScriptedExecutor, trigger: CrashTrigger) -> None:
        self._real = real
        self._trigger = trigger

    def devices(self, compute: Compute, gpu: str | None) -> tuple[str, ...]:
        return self._real.devices(compute, gpu)

    async def rates(self) -> dict[str, float]:
        return {}

    async def backlog(self, workload: str, device: str) -> CallBacklog | None:
        return await self._real.backlog(workload, device)

    async def launch(self, assignment: Assignment, compute: Compute) -> str:
        return str(await self._trigger.run("launch", lambda: self._real.launch(assignment, compute)))

    async def poll(self, call_id: str, *, urgent: bool = False) -> CallStatus:
        status = await self._real.poll(call_id, urgent=urgent)
        # Looking changes nothing, and how often it happens is a matter of time: only death itself is let in.
        if self._trigger.dead.is_set():
            await asyncio.Future()
        return status

    async def cancel(self, call_id: str) -> None:
        await self._trigger.run("cancel", lambda: self._real.cancel(call_id))

    async def find(self, run_id: str) -> str | None:
        found = await self._trigger.run("find", lambda: self._real.find(run_id))
        return str(found) if found else None

    async def clear_cache(self, job_id: str) -> None:
        await self._trigger.run("clear_cache", lambda: self._real.clear_cache(job_id))

    async def close(self) -> None:
        return None
