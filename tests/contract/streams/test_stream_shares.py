"""Streams that delete their oldest: a tenant that fills one loses its own oldest messages, and no other tenant's."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from nats.aio.client import Client
from prometheus_client import CollectorRegistry, generate_latest

from contracts.ids import new_id
from contracts.limits import KIB, MIB
from contracts.quotas import QuotaLimits
from contracts.streams import PROGRESS
from kit.auth.quotas import Quotas
from kit.bus.connection import connect, declare, request
from kit.bus.event_store import EventStore
from services.dispatcher.stream_shares.stream_shares import SHARED, SharedStream, StreamShares
from tests.harness.dispatch.dispatcher import DispatcherHarness, open_dispatcher_harness, shared_servers
from tests.harness.dispatch.scripted_executor import ScriptedExecutor
from tests.harness.servers.embedded import EmbeddedNats

pytestmark = pytest.mark.anyio

MOST = 4 * MIB
#: Messages of a tenant that uses little.
FEW = 20
BODY = b"x" * (8 * KIB)
Published = tuple[str, dict[str, str]]


def published(shared: SharedStream, tenant: str) -> Published:
    """Return subject and headers of a message of a tenant."""
    if shared.name == "DEADLETTERS":
        return "saccade.dlq.EVENTS.own", {"Saccade-Subject": f"saccade.evt.{tenant}.job.{new_id('job')}.submitted"}
    noun = "session" if shared.name == "TELEMETRY" else "webhook"
    verb = "frames" if shared.name == "TELEMETRY" else "failed"
    return f"{shared.subjects}{tenant}.{noun}.{new_id('x')}.{verb}", {"Saccade-Seq": "1"}


async def publish(client: Client, shared: SharedStream, tenant: str, count: int) -> None:
    jetstream = client.jetstream()
    for _ in range(count):
        subject, headers = published(shared, tenant)
        await jetstream.publish(subject, BODY, headers=headers)


async def counts(client: Client, shared: SharedStream) -> Counter[str]:
    """Return the number of messages of each tenant."""
    found, store, after, remaining = Counter[str](), EventStore(client, shared.name), 0, 1
    while remaining:
        batch, remaining = await store.batch(after, with_headers=True)
        if not batch:
            break
        after = batch[-1].sequence
        for stored in batch:
            subject = stored.subject if shared.subjects else stored.headers["Saccade-Subject"]
            found[subject.split(".")[2]] += 1
    return found


async def resize(client: Client, stream: str) -> None:
    info = await client.jetstream().stream_info(stream)
    body = info.config.as_dict() | {"max_bytes": MOST}
    assert "error" not in await request(client, f"STREAM.UPDATE.{stream}", body)


async def held_bytes(client: Client, shared: SharedStream) -> int:
    return int((await client.jetstream().stream_info(shared.name)).state.bytes)


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedNats]:
    with EmbeddedNats(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
async def client(nats: EmbeddedNats) -> AsyncIterator[Client]:
    client = await connect(nats.settings, "test")
    await declare(client)
    for shared in SHARED:
        await request(client, f"STREAM.PURGE.{shared.name}", {})
        await resize(client, shared.name)
    yield client
    await client.close()


@pytest.mark.parametrize("shared", SHARED, ids=lambda shared: shared.name)
async def test_who_fills_a_stream_again_and_again_loses_its_own_oldest_alone(
    client: Client, shared: SharedStream
) -> None:
    shares = StreamShares(client, Quotas())
    await publish(client, shared, "quiet", FEW)
    for turn in range(12):
        await publish(client, shared, "hostile", MOST // 6 // len(BODY))
        await publish(client, shared, "other", 1)
        await shares.look(shared)
        assert (await counts(client, shared))["quiet"] == FEW, turn
        assert await held_bytes(client, shared) <= 0.9 * MOST
    found = await counts(client, shared)
    assert found["other"] == 12
    assert found["hostile"] * len(BODY) > 0.4 * MOST, "it keeps what others do not need"
    assert {tenant for _, tenant in shares.deleted} == {"hostile"}
    registry = CollectorRegistry()
    registry.register(shares)
    labels = f'{{stream="{shared.name}",tenant="hostile"}}'
    assert f"saccade_stream_quota_deleted_bytes_total{labels}" in generate_latest(registry).decode()


async def test_a_tenant_of_little_stays_whole_among_many_that_fill_it(client: Client) -> None:
    shared, shares = SHARED[0], StreamShares(client, Quotas())
    await publish(client, shared, "quiet", FEW)
    for _ in range(8):
        for number in range(4):
            await publish(client, shared, f"hostile{number}", MOST // 32 // len(BODY))
        await shares.look(shared)
    found = await counts(client, shared)
    assert found["quiet"] == FEW
    hostile = [found[f"hostile{number}"] for number in range(4)]
    assert min(hostile) > 0.5 * max(hostile) > 0, "an even part each"


async def test_the_newest_sign_of_a_living_worker_stays_when_another_tenant_fills_the_stream(client: Client) -> None:
    """PROGRESS has no parts: it keeps one message of a subject, and what nobody repeats goes first (ADR 0053)."""
    await resize(client, PROGRESS.name)
    jetstream, living, dead = client.jetstream(), new_id("job"), new_id("job")

    def sign_of(tenant: str, job_id: str) -> str:
        return f"saccade.prog.{tenant}.job.{job_id}.progressed"

    await jetstream.publish(sign_of("quiet", dead), BODY)
    for number in range(3 * MOST // len(BODY)):
        if number % 100 == 0:
            await jetstream.publish(sign_of("quiet", living), BODY)
        await jetstream.publish(sign_of("hostile", new_id("job")), BODY)
    store = EventStore(client, PROGRESS.name)
    assert await store.load(sign_of("quiet", living))
    assert not await store.load(sign_of("quiet", dead))
    for _ in range(3 * MOST // len(BODY)):
        await jetstream.publish(sign_of("hostile", living), BODY)
    assert await store.load(sign_of("quiet", living)), "what a job repeats takes no room of others"


async def test_a_tenants_own_limit_holds_once_the_stream_is_nearly_full_and_not_before(client: Client) -> None:
    shared = SHARED[1]
    quotas = Quotas(QuotaLimits({"hostile": {shared.quota: MIB}}))
    shares = StreamShares(client, quotas)
    await publish(client, shared, "hostile", int(1.5 * MIB) // len(BODY))
    await shares.look(shared)
    assert shares.deleted == {}, "there is room"
    await publish(client, shared, "large", int(1.7 * MIB) // len(BODY))
    await shares.look(shared)
    found = await counts(client, shared)
    assert 0.9 * MIB < found["hostile"] * len(BODY) <= MIB
    assert found["large"] == int(1.7 * MIB) // len(BODY), "without a limit of its own it has the default"


async def test_counts_are_made_anew_when_something_else_has_deleted(client: Client) -> None:
    shared, shares = SHARED[1], StreamShares(client, Quotas())
    await publish(client, shared, "erased", int(3.2 * MIB) // len(BODY))
    await shares.look(shared)
    await request(client, f"STREAM.PURGE.{shared.name}", {"filter": f"{shared.subjects}erased.>"})
    await publish(client, shared, "first", int(1.6 * MIB) // len(BODY))
    await publish(client, shared, "second", int(1.6 * MIB) // len(BODY))
    await shares.look(shared)
    found = await counts(client, shared)
    assert found["first"] * len(BODY) > MIB, "as much as there is room for, not what an erased one had left"
    assert found["second"] * len(BODY) > MIB


async def test_the_dispatcher_that_leads_does_it(tmp_path: Path) -> None:
    with shared_servers(tmp_path) as servers:
        async with open_dispatcher_harness(*servers) as harness:
            await _dispatch(harness)


async def _dispatch(harness: DispatcherHarness) -> None:
    shared, executor = SHARED[0], ScriptedExecutor(harness.store, harness.bucket)
    await resize(harness.client, shared.name)
    dispatcher = harness.dispatcher(executor)
    dispatcher.stream_shares._look_s = 0.05
    async with harness.dispatching(dispatcher):
        await publish(harness.client, shared, "quiet", FEW)
        for _ in range(12):
            await publish(harness.client, shared, "hostile", MOST // 8 // len(BODY))
            async with asyncio.timeout(30):
                while await held_bytes(harness.client, shared) > 0.75 * MOST:
                    await asyncio.sleep(0.05)
    assert (await counts(harness.client, shared))["quiet"] == FEW
    await executor.end()
