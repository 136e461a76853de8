"""Who writes a sandbox stores copies and nothing else; who reads one receives them and reaches nothing else.

In each of the three ways in which Saccade runs nats-server. Nothing of it may become an event.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import nats
import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

from contracts.events.base import Message
from contracts.ids import new_id
from contracts.sandbox import (
    REPLAY_HEADER,
    copies_in,
    copies_of,
    copy_subject,
    delivery_subject,
    reader_consumer,
    reader_grant,
)
from contracts.streams import REPLAYS
from kit.bus.connection import connect, declare, request
from kit.bus.event_store import Conflict, EventStore
from kit.bus.newest_message import newest_message
from kit.settings import NatsSettings
from tests.harness.servers.sandbox_nats import ReaderOptions, SandboxNats, running

pytestmark = pytest.mark.anyio
VICTIM = f"saccade.evt.acme.job.{new_id('job')}.failed"
REPLAY = "rpl_1"
OWN, OTHER = "staging", "somebody-else"


@pytest.fixture(scope="module", params=["compose", "operator_mode", "saccade_up"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxNats]:
    with running(request.param, tmp_path_factory.mktemp("nats")) as server:
        asyncio.run(_declare(server))
        yield server


@pytest.fixture(scope="module")
def reader(server: SandboxNats) -> ReaderOptions:
    return server.reader(reader_grant(OWN))


async def _declare(server: SandboxNats) -> None:
    client = await connect(server.services, "services")
    await declare(client)
    for name in (OWN, OTHER):
        config = ConsumerConfig(
            durable_name=reader_consumer(name),
            deliver_subject=delivery_subject(name),
            filter_subject=copies_in(name),
            ack_policy=AckPolicy.NONE,
            flow_control=True,
            idle_heartbeat=1,
        )
        await client.jetstream().add_consumer(REPLAYS.name, config)
    await client.close()


@asynccontextmanager
async def reading(options: ReaderOptions) -> AsyncIterator[tuple[Client, list[str]]]:
    refused: list[str] = []

    async def on_error(error: Exception) -> None:
        refused.append(str(error))

    client = await nats.connect(error_cb=on_error, **options)
    try:
        yield client, refused
    finally:
        await client.close()


@asynccontextmanager
async def connected(settings: NatsSettings) -> AsyncIterator[tuple[Client, list[str]]]:
    refused: list[str] = []
    client = await connect(settings, "test", refused.append)
    try:
        yield client, refused
    finally:
        await client.close()


async def is_refused(client: Client, refused: list[str], subject: str, *, subscribe: bool = False) -> bool:
    before = len(refused)
    if subscribe:
        await client.subscribe(subject)
    else:
        await client.publish(subject, b"{}", reply="_INBOX_x")
    await client.flush()
    for _ in range(50):
        if len(refused) > before:
            return "permissions violation" in refused[-1].lower()
        await asyncio.sleep(0.01)
    return False


async def last_event(client: Client) -> int:
    return int((await request(client, "STREAM.INFO.EVENTS", {}))["state"]["last_seq"])


def elsewhere(replay: str = REPLAY) -> list[str]:
    """Subjects that nobody who has to do with a sandbox may publish to, unless it is the writer's own."""
    return [
        VICTIM,
        "saccade.prog.acme.job.x.progressed",
        "saccade.cmd.dispatcher.drain",
        "saccade.ops._system.replay.x.started",
        "saccade.lease.replays",
        "saccade.dlq.EVENTS.x",
        "saccade.whk.acme.whk_x",
        "saccade.dlv.acme.replay.x.delivery_attempted",
        "saccade.tele.acme.session.x.acks",
        "live.saccade.evt.x",
        delivery_subject(OWN),
        delivery_subject(OTHER),
        "$JS.API.STREAM.MSG.GET.EVENTS",
        "$JS.API.DIRECT.GET.EVENTS",
        f"$JS.API.DIRECT.GET.EVENTS.{VICTIM}",
        "$JS.API.STREAM.PURGE.REPLAYS",
        "$JS.API.STREAM.DELETE.REPLAYS",
        "$JS.API.STREAM.MSG.DELETE.REPLAYS",
        "$JS.API.STREAM.INFO.EVENTS",
        f"$JS.API.CONSUMER.CREATE.REPLAYS.mine.{copies_in(OTHER)}",
        f"$JS.API.CONSUMER.MSG.NEXT.REPLAYS.{reader_consumer(OTHER)}",
        f"$JS.FC.REPLAYS.{reader_consumer(OTHER)}.x",
    ]


READ = ["saccade.>", "saccade.evt.>", "live.>", "saccade.tele.>", ">", "_INBOX.>", "_INBOX_operator.>", "$JS.EVENT.>"]


async def test_the_writer_stores_copies_and_nothing_else(server: SandboxNats) -> None:
    async with (
        connected(server.services) as (services, services_refused),
        connected(server.writer) as (writer, refused),
    ):
        before = await last_event(services)
        store = EventStore(writer, REPLAYS.name)
        condition = copies_of(OWN, "rpl_w")
        first = Message(copy_subject(OWN, "rpl_w", VICTIM), "rpl_w.1", b"{}")
        stored = await store.publish(first, after=0, among=condition)
        with pytest.raises(Conflict):
            await store.publish(
                Message(copy_subject(OWN, "rpl_w", "saccade.evt.acme.job.x.failed"), "rpl_w.2", b"{}"),
                after=0,
                among=condition,
            )
        newest = await newest_message(writer, REPLAYS.name, condition)
        assert newest is not None
        assert (newest.sequence, newest.subject) == (stored, first.subject)
        assert await newest_message(writer, REPLAYS.name, copies_of(OWN, "rpl_none")) is None
        assert refused == []
        for subject in elsewhere():
            assert await is_refused(writer, refused, subject), subject
        for subject in [*READ, delivery_subject(OWN)]:
            assert await is_refused(writer, refused, subject, subscribe=True), subject
        assert await is_refused(services, services_refused, first.subject), "only replays write sandboxes"
        assert await last_event(services) == before


async def test_a_reader_receives_its_copies_and_reaches_nothing_else(
    server: SandboxNats, reader: ReaderOptions
) -> None:
    got: asyncio.Queue[Msg] = asyncio.Queue()
    async with (
        connected(server.services) as (services, _),
        connected(server.writer) as (writer, _),
        reading(reader) as (client, refused),
    ):
        before = await last_event(services)
        config = ConsumerConfig(deliver_subject=delivery_subject(OWN), ack_policy=AckPolicy.NONE, flow_control=True)
        await client.jetstream().subscribe_bind(REPLAYS.name, config, reader_consumer(OWN), cb=got.put, manual_ack=True)
        await client.flush()
        store = EventStore(writer, REPLAYS.name)
        # So many that the server asks whether the reader keeps up.
        count, body = 300, b"x" * 40_000
        for number in range(count):
            for name in (OTHER, OWN) if number == 0 else (OWN,):
                message = Message(copy_subject(name, REPLAY, VICTIM), f"{name}.{number}", body)
                await store.publish(message, headers={REPLAY_HEADER: REPLAY})
        received = []
        async with asyncio.timeout(20):
            while len(received) < count:
                message = await got.get()
                if message.subject.startswith(f"saccade.rpl.{OWN}.{REPLAY}."):
                    assert (message.headers or {})[REPLAY_HEADER] == REPLAY
                    received.append(message)
        assert refused == []
        for subject in [*elsewhere(), copy_subject(OWN, REPLAY, VICTIM), f"$JS.ACK.REPLAYS.{reader_consumer(OWN)}.1"]:
            assert await is_refused(client, refused, subject), subject
        for subject in [*READ, delivery_subject(OTHER), copies_in(OWN), "saccade.sandbox.*"]:
            assert await is_refused(client, refused, subject, subscribe=True), subject
        with pytest.raises((nats.errors.Error, TimeoutError)):
            await client.request("saccade.cmd.dispatcher.status", b"{}", timeout=0.3)
        # The reply subject, which nobody checks: what it may publish to answers nothing.
        await client.publish(f"$JS.FC.REPLAYS.{reader_consumer(OWN)}.x", b"", reply=VICTIM)
        await client.flush()
        await asyncio.sleep(0.3)
        assert await last_event(services) == before
        assert got.empty() or all(
            not got.get_nowait().subject.startswith(f"saccade.rpl.{OTHER}") for _ in range(got.qsize())
        )


async def test_the_writers_answers_become_no_event_where_it_has_an_account(server: SandboxNats) -> None:
    """A writer that named an event's subject as the reply subject of a copy had the acknowledgement stored there.

    With signed credentials it cannot. Where all users share one account it could, and no reader would take it for an
    event; what keeps it from that is its code alone, which never names a reply subject (docs/replays.md says so).
    """
    async with connected(server.services) as (services, _), connected(server.writer) as (writer, _):
        before = await last_event(services)
        await writer.publish(copy_subject(OWN, "rpl_r", VICTIM), b"{}", reply=VICTIM)
        await writer.flush()
        await asyncio.sleep(0.3)
        assert (await last_event(services) > before) == server.one_account
