"""Erasures against a real bus and bucket: nothing of what is erased is found anywhere, also after kills."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from contracts.audit import Attribution, AuditRecord, ChainVerifier
from contracts.erasure import ErasureReport, ErasureRequest, records_of, request_subject, sha256_of
from contracts.events.base import Message, decode, encode
from contracts.events.delivery import WebhookDelivered
from contracts.events.erasure import ErasureCompleted
from contracts.ids import new_id
from contracts.job import State
from contracts.session import session_id_of_job
from contracts.streams import ERASURES, OPS
from kit.bus.event_store import EventStore
from kit.bus.tail import EpochChanged
from services.dispatcher.app import Dispatcher
from tests.harness.dispatch.canaries import found_in_bucket, found_in_files, found_in_streams, seed
from tests.harness.dispatch.dispatcher import DispatcherHarness, Servers, kill, open_dispatcher_harness, shared_servers
from tests.harness.dispatch.operators import Waiting
from tests.harness.dispatch.pipelines import jobs_of, relay, stage_executor
from tests.harness.dispatch.scripted_executor import ScriptedExecutor, works

pytestmark = pytest.mark.anyio
WHY = "requested by its owner"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("erasures")


@pytest.fixture(scope="module")
def servers(folder: Path) -> Iterator[Servers]:
    with shared_servers(folder) as both:
        yield both


@asynccontextmanager
async def opened(servers: Servers) -> AsyncIterator[tuple[DispatcherHarness, ScriptedExecutor]]:
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, works)
        yield harness, executor
        await executor.end()


async def request_erasure(harness: DispatcherHarness, tenant: str, **fields: Any) -> str:
    request = ErasureRequest(
        **{
            "id": new_id("ers"),
            "scope": "tenant",
            "tenant": tenant,
            "requested_at": datetime.now(UTC),
            "by": Attribution(by="ada", why=WHY, request_id=new_id("req")),
            **fields,
        }
    )
    subject = request_subject(request.id)
    message = Message(subject, request.id, request.model_dump_json().encode())
    await harness.store.publish(message, after=0, among=subject)
    return request.id


async def report_of(harness: DispatcherHarness, erasure_id: str, timeout_s: float = 60.0) -> ErasureReport:
    """Wait for the end of an erasure, and return its report."""
    requests = EventStore(harness.client, ERASURES.name)
    async with asyncio.timeout(timeout_s):
        while await requests.load(request_subject(erasure_id)):
            await asyncio.sleep(0.02)
    verifier, found = ChainVerifier(), list[AuditRecord]()
    async for stored in EventStore(harness.client, OPS.name).history(0):
        record = verifier.add(stored.sequence, stored.subject, stored.body)
        assert record
        if record.subject_id == erasure_id:
            found.append(record)
    assert verifier.faults == []
    assert [(record.verb, record.data.by, record.data.why) for record in found] == [
        ("requested", "ada", WHY),
        ("completed", "ada", WHY),
    ]
    (told,) = await harness.store.load(f"saccade.evt._system.erasure.{erasure_id}.*")
    ErasureCompleted.model_validate(decode(told.body).data)
    return ErasureReport.model_validate(found[1].data.details["report"])


def dispatcher_of(harness: DispatcherHarness, executor: ScriptedExecutor, *workloads: Any) -> Dispatcher:
    dispatcher = harness.dispatcher(executor, *workloads)
    dispatcher.erasures._look_s = 0.05
    return dispatcher


@asynccontextmanager
async def erasing(harness: DispatcherHarness, dispatcher: Dispatcher) -> AsyncIterator[None]:
    """Run a dispatcher, which ends by itself a moment after it has erased a tenant."""
    with contextlib.suppress(EpochChanged):
        async with harness.dispatching(dispatcher):
            yield


async def restarted(harness: DispatcherHarness, executor: ScriptedExecutor) -> None:
    """Run dispatchers, one after another: one may have announced the erasure and died before it deleted the request."""
    while True:
        with contextlib.suppress(EpochChanged):
            await dispatcher_of(harness, executor).run(asyncio.Event())
        await harness.forget_lease()


async def test_of_a_thousand_canaries_none_is_found_and_other_tenants_keep_theirs(
    servers: Servers, folder: Path
) -> None:
    rng = random.Random(1)
    async with opened(servers) as (harness, executor):
        mine, other = await seed(harness, "acme", 1000, rng), await seed(harness, "other", 60, rng)
        before = await found_in_streams(harness, "other")
        assert len(await found_in_streams(harness, "acme")) == len(before) == 11, "every stream has something"
        async with erasing(harness, dispatcher_of(harness, executor)):
            report = await report_of(harness, await request_erasure(harness, "acme"))
        assert set(report.stores) == {"bucket", "streams", "events"}
        assert all(store.remaining == 0 for store in report.stores.values())
        jobs = len(mine.jobs)
        assert report.stores["bucket"].removed == 3 * jobs
        assert report.stores["events"].removed == 6 * jobs + 2
        assert report.stores["streams"].removed == 10 * jobs
        assert not report.interrupted
        assert sorted(executor.cleared) == sorted(mine.jobs)
        assert await found_in_streams(harness, "acme") == set()
        assert await found_in_bucket(harness.bucket, "acme") == []
        assert await found_in_files(folder, "acme") == [], "not in the files of nats-server either"
        assert await found_in_streams(harness, "other") == before
        assert len(await found_in_bucket(harness.bucket, "other")) == 3 * len(other.jobs)


async def test_a_dispatcher_that_is_killed_again_and_again_leaves_nothing_behind(servers: Servers) -> None:
    seed_value = random.randrange(1 << 32)
    print(f"seed {seed_value}")
    rng = random.Random(seed_value)
    async with opened(servers) as (harness, executor):
        tenant = f"killed{rng.randrange(10_000)}"
        jobs = len((await seed(harness, tenant, 200, rng)).jobs)
        erasure_id = await request_erasure(harness, tenant)
        for _ in range(6):
            leading = asyncio.create_task(dispatcher_of(harness, executor).run(asyncio.Event()))
            await asyncio.sleep(rng.uniform(0.02, 0.25))
            await kill(leading)
            await harness.forget_lease()
        leading = asyncio.create_task(restarted(harness, executor))
        report = await report_of(harness, erasure_id, timeout_s=120)
        await kill(leading)
        await harness.forget_lease()
        assert all(store.remaining == 0 for store in report.stores.values())
        removed = {name: store.removed for name, store in report.stores.items()}
        assert removed == {"bucket": 3 * jobs, "streams": 10 * jobs, "events": 6 * jobs + 2}
        assert await found_in_streams(harness, tenant) == set()
        assert await found_in_bucket(harness.bucket, tenant) == []


async def test_a_job_is_erased_with_its_session_and_records_and_its_upload_stays(servers: Servers) -> None:
    async with opened(servers) as (harness, executor):
        seeded = await seed(harness, "jobs", 60, random.Random(2))
        first, second = seeded.jobs[:2]
        delivered = WebhookDelivered(
            endpoint_id=new_id("whk"),
            event_id=new_id("evt"),
            event_type="session.stopped",
            event_subject=session_id_of_job(first),
            sequence=1,
            attempt=1,
            latency_ms=1,
            url_origin="https://example.com",
        )
        await harness.store.publish(encode(delivered, tenant="jobs", subject_id=delivered.endpoint_id, source="/test"))
        async with erasing(harness, dispatcher_of(harness, executor)):
            await report_of(harness, await request_erasure(harness, "jobs", scope="job", subject_id=first))
        assert await left_of(harness, first, first.removeprefix("job_")) == set()
        assert await left_of(harness, second) == {"EVENTS", "PROGRESS", "DELIVERIES", "DEADLETTERS", "REPLAYS"}
        assert await harness.bucket.list_keys(harness.bucket.key("results", first)) == []
        assert len(await harness.bucket.list_keys(harness.bucket.key("uploads", "jobs"))) == len(seeded.uploads)


async def test_an_upload_is_erased_with_the_jobs_that_used_it(servers: Servers) -> None:
    async with opened(servers) as (harness, executor):
        seeded = await seed(harness, "uploads", 60, random.Random(3))
        fields = {"scope": "upload", "subject_id": seeded.uploads[0], "job_ids": (seeded.jobs[0],)}
        async with erasing(harness, dispatcher_of(harness, executor)):
            await report_of(harness, await request_erasure(harness, "uploads", **fields))
        assert await left_of(harness, seeded.uploads[0], seeded.jobs[0]) == set()
        assert await left_of(harness, seeded.uploads[1]) == {"EVENTS", "FETCHES"}
        assert len(await harness.bucket.list_keys(harness.bucket.key("uploads", "uploads"))) == len(seeded.uploads) - 1


async def test_a_pipeline_is_erased_with_its_stages(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = stage_executor(harness)
        async with erasing(harness, dispatcher_of(harness, executor, *relay())):
            pipeline = await harness.submit(workload="relay")
            assert (await harness.reach(pipeline)).state is State.SUCCEEDED
            stages = list(await jobs_of(harness, pipeline))
            assert len(stages) > 3
            await report_of(harness, await request_erasure(harness, "acme", scope="job", subject_id=pipeline))
        assert await left_of(harness, pipeline, pipeline.removeprefix("job_")) == set()
        details = await completed_details(harness)
        assert {sha256_of(job_id) for job_id in (pipeline, *stages)} <= set(details["jobs_sha256"])
        await executor.end()


async def test_nothing_is_erased_while_a_job_runs(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        script = Waiting()
        executor = ScriptedExecutor(harness.store, harness.bucket, script)
        async with erasing(harness, dispatcher_of(harness, executor)):
            job_id = await harness.submit("running")
            await harness.reach(job_id, State.RUNNING, tenant="running")
            erasure_id = await request_erasure(harness, "running")
            await asyncio.sleep(0.5)
            assert (await harness.job(job_id, "running")).state is State.RUNNING
            script.go_on.set()
            report = await report_of(harness, erasure_id)
        assert report.stores["events"].removed >= 4
        assert await found_in_streams(harness, "running") == set()
        await executor.end()


async def test_a_dispatcher_starts_again_to_forget_a_tenant_and_once(servers: Servers) -> None:
    async with opened(servers) as (harness, executor):
        await seed(harness, "forgotten", 25, random.Random(4))
        running = asyncio.create_task(dispatcher_of(harness, executor).run(asyncio.Event()))
        await report_of(harness, await request_erasure(harness, "forgotten"))
        with pytest.raises(EpochChanged):
            async with asyncio.timeout(10):
                await running
        await harness.forget_lease()
        async with harness.dispatching(dispatcher_of(harness, executor)):
            await asyncio.sleep(1.5)  # it reads the same event at its start


async def left_of(harness: DispatcherHarness, *texts: str) -> set[str]:
    """Return the streams, without the audit log, in which one of some ids is found."""
    found = set[str]()
    for name in ("EVENTS", "PROGRESS", "DELIVERIES", "DEADLETTERS", "TELEMETRY", "FETCHES", "CALLBACKS", "REPLAYS"):
        store, after, remaining = EventStore(harness.client, name), 0, 1
        while remaining:
            batch, remaining = await store.batch(after, with_headers=True)
            for stored in batch:
                text = stored.body.decode() + repr(stored.headers) + stored.subject
                if any(one in text for one in texts):
                    found.add(name)
            after = batch[-1].sequence if batch else after
            remaining = remaining if batch else 0
    return found


async def completed_details(harness: DispatcherHarness) -> dict[str, Any]:
    """Return the details of the newest completed erasure."""
    found = [stored async for stored in EventStore(harness.client, OPS.name).history(0, records_of("*"))]
    details: dict[str, Any] = decode(found[-1].body).data["details"]
    return details
