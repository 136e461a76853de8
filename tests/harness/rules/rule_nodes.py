"""Dispatchers' rules on a real bus, without the jobs that follow: as many as a test starts, and any may die."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from nats.aio.client import Client

from contracts.events import EventData, decode, encode
from contracts.events.base import Envelope
from contracts.events.job import JobSubmitted
from contracts.events.rule import GroupClosed, GroupUploadAdded, RuleCreated, RuleDeleted, RuleSkipped, RuleUpdated
from contracts.events.upload import UploadFailed
from contracts.ids import new_id
from contracts.streams import LIVE_EVENTS, RULE_COUNTS
from contracts.workload import Input
from kit.auth.quotas import Quotas
from kit.bus.connection import connect, declare, request
from kit.bus.event_store import EventStore, StoredEvent
from kit.bus.tail import EventTail
from kit.settings import NatsSettings
from kit.tasks import end
from services.dispatcher.jobs.unfinished_jobs import UnfinishedJobs, is_job_event
from services.dispatcher.rules.job_quota import JobQuota
from services.dispatcher.rules.rule_job import JobPlacement
from services.dispatcher.rules.submission import Refusal, allow_all
from services.dispatcher.rules.upload_rules import UploadRules
from tests.harness.dispatch.crashing_dispatcher import CrashingStore, CrashTrigger
from tests.harness.rules.rule_events import LAPS, TENANT, completed, created, definition, workload

#: A job of many photos, and a lap pair.
WORKLOADS = (
    workload(),
    LAPS,
    workload("clips", Input("clip", "video", "Clip")),
)


class VirtualClock:
    """The time, and what a test adds to it."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def pass_(self, **time: float) -> None:
        self.ahead += timedelta(**time)


@dataclass
class RuleNode:
    """One dispatcher's rules, with the tail that folds them."""

    rules: UploadRules
    tail: EventTail
    tasks: list[asyncio.Task[Any]]

    def lead(self) -> None:
        self.tasks.append(asyncio.create_task(self.rules.lead()))

    async def die(self) -> None:
        """Stop at once, whatever it does."""
        await end(*self.tasks)
        self.tasks.clear()


class RuleHarness:
    """The bus of one test, and what tests do with rules and uploads."""

    def __init__(self, client: Client, settings: NatsSettings) -> None:
        self.client, self.settings = client, settings
        self.store = EventStore(client)
        self.clock = VirtualClock()
        self.nodes: list[RuleNode] = []

    async def publish(self, data: EventData, subject_id: str, tenant: str = TENANT) -> int:
        message = encode(data, tenant=tenant, subject_id=subject_id, source="/test", time=self.clock())
        return await self.store.publish(message)

    async def rule(self, workload_name: str = "photos", *, tenant: str = TENANT, **fields: Any) -> str:
        rule_id = new_id("rul")
        await self.publish(RuleCreated(rule=definition(workload_name, **fields)), rule_id, tenant)
        return rule_id

    async def change(self, rule_id: str, workload_name: str = "photos", **fields: Any) -> None:
        await self.publish(RuleUpdated(rule=definition(workload_name, **fields)), rule_id)

    async def delete_rule(self, rule_id: str) -> None:
        await self.publish(RuleDeleted(), rule_id)

    async def upload(
        self,
        filename: str = "a.jpg",
        media: str = "image",
        *,
        sha256: str = "0" * 64,
        tenant: str = TENANT,
        **more: Any,
    ) -> tuple[str, int]:
        """Complete an upload; return its id and the sequence of its completion."""
        upload_id = new_id("upl")
        await self.publish(created(filename, **more), upload_id, tenant)
        return upload_id, await self.publish(completed(media, sha256), upload_id, tenant)

    async def delete_upload(self, upload_id: str) -> None:
        await self.publish(UploadFailed(reason="deleted"), upload_id)

    async def node(
        self,
        *,
        trigger: CrashTrigger | None = None,
        own_store: EventStore | None = None,
        refusal: Refusal = allow_all,
        quotas: Quotas | None = None,
    ) -> RuleNode:
        """Start a dispatcher's rules, and wait until it has folded the stream."""
        store, counts = (
            CrashingStore(self.client, trigger, stream) if trigger else EventStore(self.client, stream)
            for stream in ("EVENTS", RULE_COUNTS.name)
        )
        store = own_store or store
        jobs = UnfinishedJobs()

        def on_stored(stored: StoredEvent) -> None:
            envelope = decode(stored.body) if is_job_event(stored.subject) else None
            if envelope:
                jobs.fold(envelope, stored.sequence)
            rules.fold.on_stored(stored, envelope)

        tail = EventTail(EventStore(self.client), on_stored, live=LIVE_EVENTS, name="dispatcher")
        placement = JobPlacement({one.name: one for one in WORKLOADS})
        rules = UploadRules(
            self.client,
            store=store,
            counts=counts,
            tail=tail,
            jobs=jobs,
            placement=placement,
            refusal=JobQuota(quotas, jobs, refusal) if quotas else refusal,
            clock=self.clock,
        )
        node = RuleNode(rules, tail, [asyncio.create_task(tail.run())])
        self.nodes.append(node)
        async with asyncio.timeout(10):
            await tail.caught_up.wait()
        return node

    async def apply(self, node: RuleNode, upload: tuple[str, int], tenant: str = TENANT) -> None:
        await node.rules.apply(tenant, *upload)

    async def events(self, subjects: str) -> list[Envelope]:
        found = [stored.body async for stored in self.store.history(0, subjects)]
        return [decode(body) for body in found if b"unreadable" not in body]

    async def jobs(self) -> dict[str, JobSubmitted]:
        """Return every job, each submitted once."""
        found = await self.events("saccade.evt.*.job.*.submitted")
        assert max(Counter(one.subject for one in found).values(), default=1) == 1
        return {one.subject: JobSubmitted.model_validate(one.data) for one in found}

    async def job_uploads(self) -> list[tuple[str, ...]]:
        """Return the uploads of each job, in the order of the jobs."""
        return [job.rule.upload_ids for job in (await self.jobs()).values() if job.rule]

    async def skips(self) -> list[RuleSkipped]:
        return [RuleSkipped.model_validate(one.data) for one in await self.events("saccade.evt.*.rule.*.skipped")]

    async def additions(self) -> list[GroupUploadAdded]:
        found = await self.events("saccade.evt.*.group.*.upload_added")
        return [GroupUploadAdded.model_validate(one.data) for one in found]

    async def closings(self) -> list[GroupClosed]:
        return [GroupClosed.model_validate(one.data) for one in await self.events("saccade.evt.*.group.*.closed")]

    async def until(self, true: Callable[[], Any], timeout_s: float = 10.0) -> Any:
        """Wait until an asynchronous question is answered with something true, and return it."""
        end = asyncio.get_running_loop().time() + timeout_s
        while not (answer := await true()):
            assert asyncio.get_running_loop().time() < end, f"not after {timeout_s:g} s"
            await asyncio.sleep(0.02)
        return answer


@contextlib.asynccontextmanager
async def open_rule_harness(settings: NatsSettings) -> AsyncIterator[RuleHarness]:
    """Connect to the bus of a test, with empty streams."""
    client = await connect(settings, "test")
    harness = RuleHarness(client, settings)
    try:
        await declare(client)
        for stream in ("EVENTS", RULE_COUNTS.name):
            await request(client, f"STREAM.PURGE.{stream}", {})
        yield harness
    finally:
        for node in harness.nodes:
            await node.die()
        await client.close()
