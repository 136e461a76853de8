"""Clients outside of the services take the addresses of all nodes, and use one that answers."""

from __future__ import annotations

import asyncio

import pytest
from saccade_events.service import connect
from saccade_robot.nats_link import NatsLink
from saccade_robot.target import NatsTarget

from kit.tasks import end
from tests.harness.servers.embedded import HOST, NatsServer, free_port

pytestmark = pytest.mark.anyio


def with_a_dead_node(server: NatsServer) -> str:
    return f"nats://{HOST}:{free_port()}, {server.settings.url}"


async def test_a_users_own_service_connects_to_the_node_that_answers(nats_server: NatsServer) -> None:
    client = await connect(with_a_dead_node(nats_server), "own")
    assert client.is_connected
    await client.close()


async def test_a_robot_publishes_to_the_node_that_answers(nats_server: NatsServer) -> None:
    target = NatsTarget(url=with_a_dead_node(nats_server), joints="robot.joints", frames="robot.frames")
    link = NatsLink(target, on_confirmed=lambda _: None, on_lost=lambda: None, every_s=0.05)
    running = asyncio.create_task(link.run())
    async with asyncio.timeout(30):
        while not link.flowing:
            await asyncio.sleep(0.02)
        number = await link.publish("robot.joints", b"1")
        while link.confirmed != number:
            await asyncio.sleep(0.02)
    await end(running)
    await link.close()
