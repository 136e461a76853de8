"""A worker's stolen token makes no service publish: not by a header of its events, not by a reply subject.

FastStream publishes what a handler returns to the subject that a message's header names, with the rights of the service
(docs/adr/0020). Any worker can send such a message on the subjects of its own job.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from faststream.nats import JStream, NatsBroker, PullSub
from nats.aio.client import Client
from saccade_events import Bus, Event, Reactions

from contracts.events.base import DURABLE, Message, encode, subject_of
from contracts.events.job import WORKER_VERBS, Cost, JobSucceeded
from contracts.ids import new_id
from contracts.streams import EVENTS, aggregate
from contracts.worker_rights import run_grant
from kit.bus.connection import connect
from tests.harness.dispatch.dispatcher import DispatcherHarness, open_dispatcher_harness
from tests.harness.dispatch.scripted_executor import ScriptedExecutor
from tests.harness.servers.embedded import OperatorNats, S3Server

pytestmark = pytest.mark.anyio

VICTIM_JOB = new_id("job")
VICTIM = subject_of(DURABLE, "acme", "job", VICTIM_JOB, "failed")
JOB = new_id("job")


@pytest.fixture
async def system(operator_servers: tuple[OperatorNats, S3Server]) -> AsyncIterator[DispatcherHarness]:
    """Run a dispatcher, whose reactions listen, with the rights of the services."""
    async with open_dispatcher_harness(*operator_servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket)
        async with harness.dispatching(harness.dispatcher(executor)):
            yield harness


@pytest.fixture
async def thief(operator_servers: tuple[OperatorNats, S3Server]) -> AsyncIterator[Client]:
    """Connect with the real token of a run of another tenant's job."""
    server, _ = operator_servers
    token = server.tokens.issue(run_grant("mallory", JOB, new_id("run")), 60.0)
    client = await connect(server.settings_of(token), "run")
    yield client
    await client.close()


def succeeded() -> Message:
    cost = Cost(device="T4", seconds=1, usd=0.0)
    data = JobSucceeded(attempt=1, run_id="r", result={}, manifest_key="k", duration_s=1, cost=cost)
    return encode(data, tenant="mallory", subject_id=JOB, source="/worker")


async def attack(thief: Client) -> int:
    """Publish every event that the token allows, with the victim's subject wherever an answer may go."""
    forged = {"reply_to": VICTIM, "correlation_id": "x", "content-type": "application/json"}
    message = succeeded()
    for verb in WORKER_VERBS:
        subject = subject_of(DURABLE, "mallory", "job", JOB, verb)
        body = message.body if subject == message.subject else b"{}"
        await thief.publish(subject, body, headers=forged)
        await thief.publish(subject, body, headers=forged, reply=VICTIM)
    await thief.flush()
    return 2 * len(WORKER_VERBS)


async def stored_of_victim(system: DispatcherHarness) -> list[bytes]:
    return [event.body for event in await system.store.load(aggregate("acme", "job", VICTIM_JOB))]


async def until_stored(system: DispatcherHarness, count: int) -> None:
    async with asyncio.timeout(10):
        while len([one async for one in system.store.history(0, aggregate("mallory", "job", JOB))]) < count:
            await asyncio.sleep(0.05)


async def test_a_stolen_token_makes_no_service_publish(system: DispatcherHarness, thief: Client) -> None:
    calls: list[str] = []
    reactions = Reactions("tested")

    @reactions.on(JobSucceeded)
    async def handler(event: Event[JobSucceeded]) -> str:  # an answer, which nobody may have sent
        calls.append(event.subject)
        return "an answer"

    bus = Bus(system.client, reactions)
    async with bus:
        await bus.start()
        await until_stored(system, await attack(thief))
        async with asyncio.timeout(10):
            info = await system.client.jetstream().consumer_info(EVENTS.name, "tested-job-succeeded")
            while info.num_pending or info.num_ack_pending:
                await asyncio.sleep(0.05)
                info = await system.client.jetstream().consumer_info(EVENTS.name, "tested-job-succeeded")
    assert calls == [JOB], "the second message has the same event"
    assert await stored_of_victim(system) == []


async def test_the_attack_works_on_a_subscriber_of_faststreams_own(system: DispatcherHarness, thief: Client) -> None:
    """The attack of the test above is real."""

    class OnOurConnection(NatsBroker):
        async def _connect(self) -> Client:
            self.config.connect(system.client)
            return system.client

        async def stop(self, *error: Any) -> None:
            self._connection = None
            await super().stop(*error)

    naive = OnOurConnection(logger=None, graceful_timeout=0.1)

    @naive.subscriber(
        "saccade.evt.*.job.*.succeeded",
        durable="naive",
        stream=JStream(EVENTS.name, declare=False),
        pull_sub=PullSub(timeout=0.5),
    )
    async def handler(body: object) -> None:
        return

    async with naive:
        await naive.start()
        await attack(thief)
        async with asyncio.timeout(10):
            while not await stored_of_victim(system):
                await asyncio.sleep(0.05)
    assert await stored_of_victim(system) == [b""], "an event that the victim's job never had"
    await system.client.jetstream().delete_consumer(EVENTS.name, "naive")
