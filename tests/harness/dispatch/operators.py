"""Operators' commands in tests: fields of requests, records of the audit log, a dead letter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from contracts.audit import AuditRecord, ChainVerifier
from contracts.events.base import Message
from contracts.ids import new_id
from contracts.streams import OPS
from kit.bus.event_store import EventStore
from tests.harness.dispatch.dispatcher import DispatcherHarness, Servers, open_dispatcher_harness
from tests.harness.dispatch.scripted_executor import Worker


def change(**fields: Any) -> dict[str, Any]:
    return {"why": "a test", "by": "ada", "request_id": new_id("req")} | fields


@asynccontextmanager
async def without_operations(servers: Servers) -> AsyncIterator[DispatcherHarness]:
    """Open a harness in which no operator has asked for anything yet."""
    async with open_dispatcher_harness(*servers) as harness:
        await harness.forget_operations()
        yield harness


async def until(true: Callable[[], bool], timeout_s: float = 8.0) -> None:
    end = asyncio.get_running_loop().time() + timeout_s
    while not true():
        assert asyncio.get_running_loop().time() < end
        await asyncio.sleep(0.01)


async def records(harness: DispatcherHarness) -> list[AuditRecord]:
    """Return every record, of a whole chain."""
    verifier, found = ChainVerifier(), []
    async for stored in EventStore(harness.client, OPS.name).history(0):
        record = verifier.add(stored.sequence, stored.subject, stored.body)
        assert record
        found.append(record)
    assert verifier.faults == []
    return found


async def verbs(harness: DispatcherHarness) -> list[str]:
    return [f"{record.noun}.{record.verb}" for record in await records(harness)]


class Waiting:
    """A script of workers that run until the test lets them end."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def __call__(self, worker: Worker) -> None:
        if await worker.claim():
            await self.go_on.wait()
            await worker.succeed()


async def dead_letter_of(
    harness: DispatcherHarness, job_id: str, tenant: str = "acme", *, with_body: bool = True
) -> int:
    """Store a dead letter as the dispatcher's tail does, of the job's newest event."""
    stored = (await harness.store.load(f"saccade.evt.{tenant}.job.{job_id}.*"))[-1]
    headers = {
        "Saccade-Sequence": str(stored.sequence),
        "Saccade-Subject": stored.subject,
        "Saccade-Error": "KeyError: 'x'",
    }
    message = Message("saccade.dlq.EVENTS.dispatcher", new_id("evt"), stored.body if with_body else b"")
    return await harness.store.publish(message, headers=headers)
