"""Defaults of FastStream 0.7.8 that this repository sets right (docs/adr/0020), held fast as a contract of its pin.

A test that fails after an update means that a default has changed: see whether its precaution may go.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from faststream.asgi import AsgiFastStream, make_ping_asgi
from faststream.nats import JStream, NatsBroker, PullSub
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, DeliverPolicy, RePublish, StreamConfig
from nats.js.errors import NotFoundError

from kit.bus.connection import connect
from tests.harness.servers.embedded import NatsServer

pytestmark = pytest.mark.anyio

PULL: dict[str, Any] = {"stream": JStream("S", declare=False), "pull_sub": PullSub(timeout=0.5)}


@pytest.fixture
async def client(server: NatsServer) -> AsyncIterator[Client]:
    client = await connect(server.settings, "test")
    yield client
    await client.close()


@pytest.fixture
async def jetstream(client: Client) -> JetStreamContext:
    """Make a stream that is configured as ours are."""
    jetstream = client.jetstream()
    with contextlib.suppress(NotFoundError):
        await jetstream.delete_stream("S")
    live = RePublish(src=">", dest="live.>")
    await jetstream.add_stream(StreamConfig(name="S", subjects=["s.>"], max_age=3600, republish=live))
    return jetstream


@pytest.fixture
def broker(server: NatsServer) -> NatsBroker:
    return NatsBroker(server.settings.urls, logger=None, graceful_timeout=0.1)


async def test_a_stream_given_by_name_loses_its_configuration(broker: NatsBroker, jetstream: JetStreamContext) -> None:
    broker.publisher("s.x", stream="S")
    async with broker:
        await broker.start()
    config = (await jetstream.stream_info("S")).config
    assert (config.max_age, config.republish) == (0, None), "every tail of the stream is silent from now on"


async def test_one_error_ends_a_message_and_a_header_says_where_an_answer_is_published(
    broker: NatsBroker, jetstream: JetStreamContext
) -> None:
    calls: list[object] = []

    @broker.subscriber("s.in", durable="d", config=ConsumerConfig(ack_wait=0.5), **PULL)
    async def handle(body: Any) -> None:
        calls.append(body)
        if body == b"fail":
            raise OSError

    async with broker:
        await broker.start()
        await jetstream.publish("s.in", b"fail")
        await jetstream.publish("s.in", b"{}", headers={"reply_to": "s.victim"})
        await asyncio.sleep(1.2)
    assert calls == [b"fail", {}]
    assert (await jetstream.get_last_msg("S", "s.victim")).data is None


async def test_a_message_that_cannot_be_decoded_is_ended_and_nobody_is_told(
    broker: NatsBroker, jetstream: JetStreamContext
) -> None:
    calls: list[object] = []

    @broker.subscriber("s.in", durable="d", config=ConsumerConfig(ack_wait=0.5), **PULL)
    async def handle(body: dict[str, int]) -> None:
        calls.append(body)

    async with broker:
        await broker.start()
        await jetstream.publish("s.in", b"{", headers={"content-type": "application/json"})
        await asyncio.sleep(1.2)
        info = await jetstream.consumer_info("S", "d")
    assert (calls, info.num_pending, info.num_ack_pending) == ([], 0, 0)


async def test_a_deleted_consumer_is_asked_thousands_of_times_and_one_declared_again_cures_it(
    broker: NatsBroker, jetstream: JetStreamContext
) -> None:
    calls: list[object] = []

    @broker.subscriber("s.in", durable="d", **PULL)
    async def handle(body: Any) -> None:
        calls.append(body)

    async with broker:
        await broker.start()
        await jetstream.delete_consumer("S", "d")
        await asyncio.sleep(0.5)
        before = broker.connection.stats["out_msgs"]
        await asyncio.sleep(0.5)
        assert broker.connection.stats["out_msgs"] - before > 50
        assert await broker.ping(1)
        config = ConsumerConfig(durable_name="d", filter_subject="s.in", deliver_policy=DeliverPolicy.NEW)
        await jetstream.add_consumer("S", config)
        await jetstream.publish("s.in", b"{}")
        async with asyncio.timeout(5):
            while not calls:
                await asyncio.sleep(0.02)
    assert calls == [{}]


async def test_its_page_publishes_for_anybody_and_a_dry_run_ends_the_service(
    broker: NatsBroker, jetstream: JetStreamContext
) -> None:
    @broker.subscriber("s.in")
    async def handle(body: Any) -> None:
        return

    ping = ("/ping", make_ping_asgi(broker))
    app = AsgiFastStream(broker, asyncapi_path="/docs", asgi_routes=[ping], logger=None)
    async with app.start_lifespan_context(), httpx.AsyncClient(transport=httpx.ASGITransport(app)) as http:
        await asyncio.sleep(0.3)
        real = {"channelName": "s.any", "message": {"message": 1}, "options": {"sendToRealBroker": True}}
        await http.post("http://x/docs/try", json=real)
        await asyncio.sleep(0.3)
        assert (await jetstream.get_last_msg("S", "s.any")).data == b"1"
        await http.post("http://x/docs/try", json={"channelName": "s.in", "message": {"message": 1}})
        assert not any(subscriber.running for subscriber in broker.subscribers)
        assert (await http.get("http://x/ping")).status_code == 204


async def test_a_pull_takes_an_inbox_that_the_connection_may_not_use(
    server: NatsServer, jetstream: JetStreamContext
) -> None:
    broker = NatsBroker(server.settings.urls, logger=None, graceful_timeout=0.1, inbox_prefix="_INBOX_billing")

    @broker.subscriber("s.in", durable="d", **PULL)
    async def handle(body: Any) -> None:
        return

    async with broker:
        await broker.start()
        (subscriber,) = broker.subscribers
        subscription = subscriber.subscription  # type: ignore[attr-defined]
        assert subscription._sub.subject.startswith("_INBOX.")
