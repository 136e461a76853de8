"""What a user's own service may do with its credentials: read its own consumers, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial

import nats
import pytest
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig

from contracts.consumers import consumer_name, dead_letter_subject, service_grant
from contracts.events.base import Message, decode_at, encode
from contracts.events.job import Cost, JobFailed, JobSucceeded
from contracts.ids import new_id
from contracts.streams import DEADLETTERS, EVENTS
from kit.auth.bus_token import inbox_prefix
from kit.bus.connection import connect, declare
from kit.bus.event_store import EventStore
from tests.harness.servers.service_users import ConfiguredNats, SignedNats

pytestmark = pytest.mark.anyio

NAME, OTHER = "billing", "reports"
OWN, OTHERS = consumer_name(NAME, JobSucceeded.type), consumer_name(OTHER, JobFailed.type)
VICTIM = f"saccade.evt.acme.job.{new_id('job')}.failed"


@pytest.fixture(scope="module", params=[ConfiguredNats, SignedNats], ids=["configured", "signed"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ConfiguredNats | SignedNats]:
    with request.param(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
async def operator(server: ConfiguredNats | SignedNats) -> AsyncIterator[Client]:
    client = await connect(server.settings, "operator")
    await declare(client)
    for name, event in ((OWN, JobSucceeded), (OTHERS, JobFailed)):
        filtered = f"saccade.evt.*.job.*.{event.type.partition('.')[2]}"
        config = ConsumerConfig(durable_name=name, filter_subject=filtered, ack_policy=AckPolicy.EXPLICIT, ack_wait=30)
        await client.jetstream().add_consumer(EVENTS.name, config)
    yield client
    await client.close()


class Service:
    """A service's connection, and what the server has refused on it."""

    def __init__(self, client: Client, refused: list[str]) -> None:
        self.client, self.refused = client, refused

    async def is_refused(self, act: Callable[[], Awaitable[object]]) -> bool:
        before = len(self.refused)
        await act()
        await self.client.flush()
        for _ in range(100):
            if len(self.refused) > before:
                return "permissions violation" in self.refused[-1]
            await asyncio.sleep(0.01)
        return False


@asynccontextmanager
async def service(server: ConfiguredNats | SignedNats, name: str = NAME) -> AsyncIterator[Service]:
    refused: list[str] = []

    async def on_error(error: Exception) -> None:
        refused.append(str(error).lower())

    event_type = JobSucceeded.type if name == NAME else JobFailed.type
    options = server.mint(service_grant(name, [event_type], api=server.api))
    client = await nats.connect(server.url, error_cb=on_error, inbox_prefix=inbox_prefix(name).encode(), **options)
    try:
        yield Service(client, refused)
    finally:
        await client.close()


def succeeded() -> Message:
    cost = Cost(device="T4", seconds=3, usd=0.0005)
    data = JobSucceeded(attempt=1, run_id=new_id("run"), result={}, manifest_key="k", duration_s=3, cost=cost)
    return encode(data, tenant="acme", subject_id=new_id("job"), source="/test")


async def test_its_own_consumer_works(server: ConfiguredNats | SignedNats, operator: Client) -> None:
    events = [succeeded() for _ in range(3)]
    for event in events:
        await EventStore(operator).publish(event)
    async with service(server) as own:
        jetstream = own.client.jetstream(prefix=server.api)
        pull = await jetstream.pull_subscribe("saccade.evt.*.job.*.succeeded", durable=OWN, stream=EVENTS.name)
        first, second = await pull.fetch(2, timeout=5)
        assert [first.subject, second.subject] == [event.subject for event in events[:2]], "an event's own subject"
        await first.ack_sync(timeout=5)
        await second.nak(delay=0.1)
        await pull.fetch(1, timeout=5)
        await asyncio.sleep(0.2)
        (again,) = await pull.fetch(1, timeout=5)
        assert (again.subject, again.metadata.num_delivered) == (second.subject, 2)
        await again.in_progress()
        letter = dead_letter_subject(EVENTS.name, OWN)
        assert (await jetstream.publish(letter, again.data)).stream == DEADLETTERS.name
        await again.term()
        await own.client.flush()
        assert own.refused == []
    # The server answers a flush when it has read what was sent, and works an acknowledgement off afterwards.
    async with asyncio.timeout(30):
        while (await operator.jetstream().consumer_info(EVENTS.name, OWN)).num_ack_pending != 1:
            await asyncio.sleep(0.02)


async def test_everything_else_is_refused(server: ConfiguredNats | SignedNats, operator: Client) -> None:
    event = succeeded()
    before = (await operator.jetstream().stream_info(EVENTS.name)).state.last_seq
    inbox = f"{inbox_prefix(NAME)}.x"
    apis = {"$JS.API", server.api}
    subjects = [
        event.subject,
        VICTIM,
        "saccade.prog.acme.job.x.progressed",
        "saccade.cmd.dispatcher.drain",
        "saccade.lease.dispatcher",
        dead_letter_subject(EVENTS.name, OTHERS),
        dead_letter_subject(EVENTS.name, "dispatcher"),
        f"$JS.ACK.{EVENTS.name}.{OTHERS}.1.1.1.1.1",
    ]
    for api in apis:
        subjects += [
            f"{api}.CONSUMER.INFO.{EVENTS.name}.{OTHERS}",
            f"{api}.CONSUMER.MSG.NEXT.{EVENTS.name}.{OTHERS}",
            f"{api}.CONSUMER.CREATE.{EVENTS.name}.mine.saccade.evt.>",
            f"{api}.CONSUMER.DURABLE.CREATE.{EVENTS.name}.mine",
            f"{api}.CONSUMER.DELETE.{EVENTS.name}.{OWN}",
            f"{api}.CONSUMER.LIST.{EVENTS.name}",
            f"{api}.STREAM.INFO.{EVENTS.name}",
            f"{api}.STREAM.MSG.GET.{EVENTS.name}",
            f"{api}.STREAM.PURGE.{EVENTS.name}",
            f"{api}.DIRECT.GET.{EVENTS.name}.{event.subject}",
        ]
    async with service(server) as own:
        for subject in subjects:
            assert await own.is_refused(partial(own.client.publish, subject, event.body, reply=inbox)), subject
        read = ["saccade.evt.>", "live.>", "saccade.tele.>", ">", f"{inbox_prefix(OTHER)}.>", "_INBOX.>", "$JS.EVENT.>"]
        for subject in read:
            assert await own.is_refused(partial(own.client.subscribe, subject)), subject
    assert (await operator.jetstream().stream_info(EVENTS.name)).state.last_seq == before
    assert {one.name for one in await operator.jetstream().consumers_info(EVENTS.name)} == {OWN, OTHERS}


async def test_no_answer_to_its_requests_becomes_an_event(
    server: ConfiguredNats | SignedNats, operator: Client
) -> None:
    """A reply subject is checked by nobody: JetStream's answers would be stored there as another job's event.

    Signed credentials are of an account of their own, in which no stream listens. Configured users share the account of
    Saccade's services: there the answers are stored, and no reader takes them for an event.
    """
    store, jetstream = EventStore(operator), operator.jetstream()
    for _ in range(2):
        await store.publish(succeeded())
    before = (await jetstream.stream_info(EVENTS.name)).state.last_seq
    async with service(server) as own:
        requests = [f"{server.api}.CONSUMER.{verb}.{EVENTS.name}.{OWN}" for verb in ("INFO", "MSG.NEXT")]
        for subject in [*requests, dead_letter_subject(EVENTS.name, OWN)]:
            await own.client.publish(subject, b"", reply=VICTIM)
        await own.client.flush()
        await asyncio.sleep(0.5)
        assert own.refused == []
    stored = [one async for one in store.history(before)]
    assert bool(stored) == isinstance(server, ConfiguredNats)
    for one in stored:
        with pytest.raises(ValueError):  # noqa: PT011 - whatever is wrong with it, it is not that job's event
            decode_at(one.subject, one.body)
