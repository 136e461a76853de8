"""Lease on a real nats-server: one holder at a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from contracts.events.base import Message
from contracts.streams import LEASES
from kit.bus.connection import connect, declare
from kit.bus.event_store import EventStore
from kit.bus.lease import Lease, is_held
from tests.harness.servers.embedded import NatsServer

pytestmark = pytest.mark.anyio


@contextlib.asynccontextmanager
async def leases(server: NatsServer, *ttls_s: float) -> AsyncIterator[list[Lease]]:
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for number, ttl_s in enumerate(ttls_s):
            client = await connect(server.settings, f"holder-{number}")
            stack.push_async_callback(client.close)
            await declare(client)
            made.append(Lease(client, "test", ttl_s))
        yield made


async def acquired(lease: Lease, timeout_s: float = 5.0) -> bool:
    try:
        await asyncio.wait_for(lease.acquire(), timeout_s)
    except TimeoutError:
        return False
    return True


async def test_a_lease_has_one_holder(nats_server: NatsServer) -> None:
    async with leases(nats_server, 1.0, 1.0) as (first, second):
        assert await acquired(first)
        keeping = asyncio.create_task(first.keep())
        assert not await acquired(second, 1.8), "it is renewed, for longer than it lives"
        assert (first.held, second.held) == (True, False)
        keeping.cancel()


async def test_a_lease_is_acquired_after_its_holder_died(nats_server: NatsServer) -> None:
    async with leases(nats_server, 1.0, 1.0) as (first, second):
        assert await acquired(first)
        assert await acquired(second, 5)
        assert not first.held, "the old holder gave up before the new one had it"


async def test_a_released_lease_is_acquired_at_once(nats_server: NatsServer) -> None:
    async with leases(nats_server, 60.0, 60.0) as (first, second):
        assert await acquired(first)
        waiting = asyncio.create_task(acquired(second))
        await asyncio.sleep(0.1)
        await first.release()
        assert await waiting
        assert (first.held, second.held) == (False, True)


async def test_an_old_holder_cannot_release_anothers_lease(nats_server: NatsServer) -> None:
    async with leases(nats_server, 1.0, 60.0, 60.0) as (first, second, third):
        assert await acquired(first)
        assert await acquired(second)
        first._until = asyncio.get_running_loop().time() + 60  # it believes it still had it
        await first.release()
        assert not await acquired(third, 0.5)


async def test_an_old_holder_notices_the_loss(nats_server: NatsServer) -> None:
    async with leases(nats_server, 1.0, 60.0) as (first, second):
        assert await acquired(first)
        assert await acquired(second)
        first._until = asyncio.get_running_loop().time() + 60
        await asyncio.wait_for(first.keep(), 20)
        assert not first.held
        assert second.held


async def test_a_lease_is_lost_when_the_server_is_away_too_long(nats_server: NatsServer) -> None:
    async with leases(nats_server, 1.0) as (lease,):
        assert await acquired(lease)
        nats_server.kill()
        await asyncio.wait_for(lease.keep(), 20)
        assert not lease.held
        nats_server.start()
        assert await acquired(lease, 10)


async def test_a_lease_survives_a_short_absence_of_the_server(nats_server: NatsServer) -> None:
    async with leases(nats_server, 6.0) as (lease,):
        assert await acquired(lease)
        keeping = asyncio.create_task(lease.keep())
        await asyncio.sleep(0.1)
        nats_server.kill()
        await asyncio.to_thread(nats_server.start)
        await asyncio.sleep(6.5)
        assert lease.held
        assert not keeping.done()
        keeping.cancel()


async def test_one_of_many_acquires_the_lease(nats_server: NatsServer) -> None:
    async with leases(nats_server, *[30.0] * 8) as many:
        waiting = [asyncio.create_task(acquired(lease, 1.5)) for lease in many]
        assert sorted(await asyncio.gather(*waiting)) == [False] * 7 + [True]
        assert sum(lease.held for lease in many) == 1


async def test_others_see_whether_a_lease_is_held(nats_server: NatsServer) -> None:
    async with leases(nats_server, 1.0) as (lease,):
        client = lease._client
        assert not await is_held(client, "saccade.lease.test")
        assert await acquired(lease)
        assert await is_held(client, "saccade.lease.test")
        # What a nats-server that cannot delete expired messages, on a full disk, still answers.
        stuck = Message(subject="saccade.lease.stuck", id="stuck", body=b"{}")
        await EventStore(client, LEASES.name).publish(stuck)
        assert not await is_held(client, stuck.subject), "it is older than its TTL, or has none"
        await lease.release()
        assert not await is_held(client, "saccade.lease.test")
