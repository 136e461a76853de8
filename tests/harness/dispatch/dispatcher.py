"""Dispatchers under test: a bus, a bucket, workloads, and as many dispatchers as a test starts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from nats.aio.client import Client

from contracts.errors import SaccadeError
from contracts.events.base import EventData, decode, encode
from contracts.events.job import JobSubmitted
from contracts.ids import new_id
from contracts.job import Job, State, request_cancel, retry
from contracts.streams import OPS, aggregate
from contracts.workload import Compute, Params, Result, Stage, Workload
from kit.bucket import Bucket, open_bucket
from kit.bus.connection import connect, declare, request
from kit.bus.event_store import Conflict, EventStore
from kit.history.archive_reader import ArchiveReader
from kit.history.segment_store import SegmentStore
from kit.tasks import end
from services.dispatcher.app import Dispatcher
from services.dispatcher.executors.caller_accounts import OpensAccount
from services.dispatcher.executors.executor import Executor
from services.dispatcher.jobs.unfinished_jobs import fold_all
from services.dispatcher.settings import BudgetSettings, DispatcherSettings, QueueSettings, SnapshotSettings
from tests.harness.runtime.job_changes import job_changes
from tests.harness.servers.chosen_bus import chosen_bus
from tests.harness.servers.embedded import EmbeddedS3, NatsServer, S3Server

#: A dispatcher that is told to stop and has not after this hangs.
STOP_S = 15.0

Servers = tuple[NatsServer, S3Server]


class NoParams(Params):
    pass


class NoResult(Result):
    pass


def workload(name: str = "echo", max_attempts: int = 3, **compute: Any) -> Workload:
    """A workload for the scripted executor."""
    return Workload(
        name=name,
        title=name,
        description="",
        version="1",
        params=NoParams,
        result=NoResult,
        inputs=(),
        stages=(Stage("work", "Work", 1.0),),
        job="tests:nothing",
        compute=Compute(**compute),
        max_attempts=max_attempts,
    )


def settings(**changes: Any) -> DispatcherSettings:
    """Short times, so that tests are short."""
    waits = {name: changes.pop(name) for name in QueueSettings.model_fields if name in changes}
    return DispatcherSettings(
        queue=QueueSettings(**waits),
        **{
            "slots": 4,
            "tenant_concurrency": 4,
            "workload_concurrency": 4,
            "lease_s": 1.0,
            "poll_s": 0.05,
            "find_s": 0.2,
            "backoff_s": 0.02,
            "backoff_max_s": 0.1,
            **changes,
        },
    )


class DispatcherHarness:
    """The bus and the bucket of one test, and what tests do with jobs."""

    def __init__(self, client: Client, bucket: Bucket) -> None:
        self.client = client
        self.store = EventStore(client)
        self.bucket = bucket

    async def publish(self, job_id: str, tenant: str, data: EventData, **condition: Any) -> int:
        message = encode(data, tenant=tenant, subject_id=job_id, source="/gateway")
        return await self.store.publish(message, among=aggregate(tenant, "job", job_id), **condition)

    async def submit(self, tenant: str = "acme", *, deadline_s: float = 60.0, **fields: Any) -> str:
        job_id = new_id("job")
        data = JobSubmitted(
            **{
                "workload": "echo",
                "workload_version": "1",
                "inputs": {},
                "params": {},
                "deadline": datetime.now(UTC) + timedelta(seconds=deadline_s),
                **fields,
            }
        )
        await self.publish(job_id, tenant, data, after=0)
        return job_id

    async def cancel(self, job_id: str, tenant: str = "acme") -> None:
        while True:
            job = await self.job(job_id, tenant)
            try:
                data = request_cancel(job, by="test")
            except SaccadeError:
                return
            with contextlib.suppress(Conflict):
                if data:
                    await self.publish(job_id, tenant, data, after=job.sequence)
                return

    async def retry(self, job_id: str, tenant: str = "acme", deadline_s: float = 60.0) -> None:
        job = await self.job(job_id, tenant)
        data = retry(job, after=None, delay_s=0, now=datetime.now(UTC), deadline_s=deadline_s)
        await self.publish(job_id, tenant, data, after=job.sequence)

    async def job(self, job_id: str, tenant: str = "acme") -> Job:
        job = fold_all(await self.store.load(aggregate(tenant, "job", job_id)))
        assert job is not None
        return job

    async def reach(self, job_id: str, *states: State, tenant: str = "acme", timeout_s: float = 10.0) -> Job:
        """Wait until a job is in one of these states; by default, until it has ended."""
        end = asyncio.get_running_loop().time() + timeout_s
        async with job_changes(self.client, aggregate(tenant, "job", job_id)) as wait_for_change:
            while True:
                job = await self.job(job_id, tenant)
                if job.state in states or (not states and job.state.ended):
                    return job
                assert asyncio.get_running_loop().time() < end, f"{job.state}: {await self.verbs(job_id, tenant)}"
                await wait_for_change()

    async def events(self, job_id: str, tenant: str = "acme") -> list[tuple[str, dict[str, Any]]]:
        """Return every stored event of a job, in order: what happened, and its data."""
        among = aggregate(tenant, "job", job_id)
        stored = [one async for one in self.store.history(0, among)]
        return [(one.subject.rpartition(".")[2], decode(one.body).data) for one in stored]

    async def verbs(self, job_id: str, tenant: str = "acme") -> list[str]:
        return [verb for verb, _ in await self.events(job_id, tenant)]

    async def clear(self) -> None:
        """Purge all events; sequence numbers continue."""
        await request(self.client, "STREAM.PURGE.EVENTS", {})
        await self.forget_lease()

    async def forget_operations(self) -> None:
        """Make the audit log anew, which nobody can purge: what operators ordered in other tests is gone."""
        await request(self.client, f"STREAM.DELETE.{OPS.name}", {})
        await declare(self.client, streams=[OPS])

    async def forget_lease(self) -> None:
        """Remove the lease of a dead dispatcher, as its expiry does."""
        await request(self.client, "STREAM.PURGE.LEASES", {})

    def dispatcher(
        self,
        executor: Executor,
        *workloads: Workload,
        store: EventStore | None = None,
        opens_account: OpensAccount | None = None,
        budget: BudgetSettings | None = None,
        snapshot_events: int = 0,
        **changes: Any,
    ) -> Dispatcher:
        """Return a dispatcher; with ``snapshot_events`` it has snapshots, and an archive beside them."""
        known = {one.name: one for one in workloads or (workload(),)}
        return Dispatcher(
            client=self.client,
            store=store or self.store,
            bucket=self.bucket,
            executor=executor,
            workloads=known,
            settings=settings(**changes),
            opens_account=opens_account,
            budget=budget,
            archive=archive_in(self.bucket) if snapshot_events else None,
            snapshots=SnapshotSettings(events=snapshot_events),
        )

    @contextlib.asynccontextmanager
    async def dispatching(self, dispatcher: Dispatcher) -> AsyncIterator[Dispatcher]:
        """Run a dispatcher; at the end stop it in order."""
        stop = asyncio.Event()
        task = asyncio.create_task(dispatcher.run(stop))
        try:
            yield dispatcher
        finally:
            stop.set()
            await asyncio.wait([task], timeout=STOP_S)
            if not task.done():
                raise TimeoutError("the dispatcher was told to stop and did not")
            task.result()


def archive_in(bucket: Bucket) -> ArchiveReader:
    """Return the archive in a bucket that is open."""

    async def opened() -> Bucket:
        return bucket

    return ArchiveReader(SegmentStore(opened))


async def kill(task: asyncio.Task[Any]) -> None:
    """Kill a dispatcher that runs in a task, without an orderly stop."""
    await end(task)


@contextlib.asynccontextmanager
async def open_dispatcher_harness(nats_server: NatsServer, s3_server: S3Server) -> AsyncIterator[DispatcherHarness]:
    """Connect to the servers of a test and declare the streams."""
    client = await connect(nats_server.settings, "test")
    try:
        await declare(client)
        async with open_bucket(s3_server.settings) as bucket:
            harness = DispatcherHarness(client, bucket)
            await harness.clear()
            yield harness
    finally:
        await client.close()


@contextlib.contextmanager
def shared_servers(folder: Path) -> Iterator[Servers]:
    """Start servers for a whole module: ``a_world`` begins each test with empty streams."""
    (folder / "nats").mkdir()
    (folder / "s3").mkdir()
    with chosen_bus(folder / "nats") as nats_server, EmbeddedS3(folder / "s3") as s3_server:
        yield nats_server, s3_server
