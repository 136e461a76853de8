"""Joints for sockets that show them: they come once for all sockets of a session, and never more than can be shown."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from contracts.limits import MIB
from contracts.session import telemetry_subject
from contracts.telemetry import JointBatch
from services.gateway.sessions.stream import joint_feeds
from services.gateway.sessions.stream.joint_feeds import JointFeeds
from services.gateway.sessions.stream.socket_backlog import SocketBacklog
from tests.harness.servers.session_sockets import Served, Socket, until

pytestmark = pytest.mark.anyio
SOCKETS, BATCHES = 8, 5


def batch(seq: int, source: str = "arm", samples: int = 1, joints: int = 1) -> dict[str, Any]:
    """Joints as a robot sends them."""
    positions = [0.123456789 + seq] * joints
    return {
        "source": source,
        "names": [f"joint_{number}" for number in range(joints)],
        "unit": "rad",
        "samples": [[seq, 1e9, positions]] * samples,
    }


def sequence_of(message: dict[str, Any]) -> int:
    return int(message["samples"][0][0])


async def publish(served: Served, session_id: str, *batches: dict[str, Any]) -> int:
    """Send joints by NATS, and return how many bytes they have."""
    bodies = [json.dumps(one).encode() for one in batches]
    for body in bodies:
        await served.running.store.client.publish(telemetry_subject("local", session_id, "joints"), body)
    await served.running.store.client.flush()
    return sum(map(len, bodies))


async def shown(served: Served, session_id: str, socket: Socket, seq: int) -> None:
    """Send joints until a socket shows them: its subscription is made after the history was given."""
    async with asyncio.timeout(20):
        while True:
            await publish(served, session_id, batch(seq))
            with contextlib.suppress(TimeoutError):
                if sequence_of(json.loads(await socket.receive_str(timeout=0.2))) == seq:
                    return


def received_bytes(served: Served) -> Callable[[], int]:
    """Return what tells how many bytes NATS has sent to the gateway since now."""
    stats = served.running.store.client.stats
    before = stats["in_bytes"]
    return lambda: stats["in_bytes"] - before


async def test_many_sockets_of_a_session_get_its_joints_from_one_subscription(served: Served) -> None:
    session_id = (await served.opened())["id"]
    async with contextlib.AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(served.stream(session_id, "?joints=1")) for _ in range(SOCKETS)]
        for socket in sockets:
            await until(socket, "cursor")
            await shown(served, session_id, socket, 1)
        received = received_bytes(served)
        for seq in range(2, 2 + BATCHES):
            size = await publish(served, session_id, batch(seq, samples=500, joints=16))
            for socket in sockets:
                while sequence_of(await until(socket, "joints")) != seq:
                    pass
        assert received() < 2 * BATCHES * size
        for socket in sockets[1:]:
            await socket.close()
        await publish(served, session_id, batch(100))
        while sequence_of(await until(sockets[0], "joints")) != 100:
            pass
    async with asyncio.timeout(20):  # until the last one has left
        while True:
            received = received_bytes(served)
            size = await publish(served, session_id, batch(101, samples=500, joints=16))
            await served.running.store.client.flush()
            if received() < size:
                break
    async with served.stream(session_id, "?joints=1") as again:
        await until(again, "cursor")
        await shown(served, session_id, again, 102)


class Times:
    """A reader that notes when it gets joints."""

    def __init__(self) -> None:
        self.at_s: list[float] = []

    def set_joints(self, _: str, __: str) -> None:
        self.at_s.append(time.perf_counter())


async def test_joints_that_come_faster_than_they_can_be_shown_leave_the_loop_to_others(served: Served) -> None:
    opened, count, times = await served.opened(), 30, Times()
    large = batch(2, samples=900, joints=64)
    begun_s = time.perf_counter()
    for _ in range(5):
        JointBatch.model_validate_json(JointBatch.model_validate(large).model_dump_json())
    parsing_s = (time.perf_counter() - begun_s) / 15
    session = await served.running.app.state.sessions.get("local", opened["id"])
    async with JointFeeds(served.running.store.client).shown(session, times), asyncio.timeout(30):
        assert MIB / 2 < await publish(served, session.id, large) < MIB
        await publish(served, session.id, *[large] * count)
        await publish(served, session.id, batch(3, source="last"))
        while not times.at_s or time.perf_counter() - times.at_s[-1] < 1:
            await asyncio.sleep(0.01)
    shown_s = times.at_s[-1] - times.at_s[0]
    assert 1 < len(times.at_s) < count
    assert len(times.at_s) * parsing_s < 0.5 * shown_s, "others have the rest"


@pytest.mark.parametrize("pause_s", [0.001, 0.05])
async def test_joints_that_come_one_by_one_leave_the_loop_to_others_too(
    served: Served, pause_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None waits when the next one comes, and sending takes time for each socket, however small a batch is."""
    monkeypatch.setattr(joint_feeds, "_OLDEST_S", 30.0)  # a busy machine makes some of them wait
    session = await served.running.app.state.sessions.get("local", (await served.opened())["id"])
    feeds, readers, send_s, sent = JointFeeds(served.running.store.client), [Times() for _ in range(50)], 27e-6, 0
    async with contextlib.AsyncExitStack() as stack:
        for reader in readers:
            await stack.enter_async_context(feeds.shown(session, reader))
        begun_s = time.perf_counter()
        while time.perf_counter() - begun_s < 1.5:
            sent += 1
            await publish(served, session.id, batch(sent))
            await asyncio.sleep(pause_s)
        took_s = time.perf_counter() - begun_s
        shown_count = sum(len(reader.at_s) for reader in readers)
        assert 0 < shown_count * send_s < 0.25 * took_s
        async with asyncio.timeout(10):
            while pause_s == 0.05 and len(readers[-1].at_s) < sent:  # these come slowly enough: all are shown
                await asyncio.sleep(0.01)


async def test_joints_that_have_waited_too_long_are_left_out_for_newer_ones(served: Served) -> None:
    session = await served.running.app.state.sessions.get("local", (await served.opened())["id"])
    feeds, readers, count = JointFeeds(served.running.store.client), [Times() for _ in range(100)], 200
    async with contextlib.AsyncExitStack() as stack:
        for reader in readers:
            await stack.enter_async_context(feeds.shown(session, reader))
        await publish(served, session.id, *(batch(seq) for seq in range(count)))
        async with asyncio.timeout(30):
            while not (times := readers[-1].at_s) or time.perf_counter() - times[-1] < 1:
                await asyncio.sleep(0.01)
    assert 0 < len(times) < count / 2, "showing all of them takes four seconds"


def test_the_joints_of_few_robots_wait_for_a_slow_client() -> None:
    backlog = SocketBacklog("epoch", 0)
    for number in range(100):
        backlog.set_joints(f"arm{number}", f"text {number}")
    backlog.set_joints("arm90", "text 100")
    assert backlog.take() == [f"text {number}" for number in (*range(84, 90), *range(91, 101))]
    for number in range(5):
        backlog.set_joints(f"arm{number}", str(number) * 500_000)
    assert [text[0] for text in backlog.take()] == ["3", "4"]
    backlog.set_joints("arm", "x" * 2 * MIB)
    assert len(backlog.take()) == 1
