"""The quota of messages from WebSockets: a tenant beyond it is read more slowly, and no other tenant is."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from saccade_client import AsyncClient

from contracts.limits import KIB, MIB
from kit.auth.api_keys import AuthSettings
from kit.settings import NatsSettings, S3Settings
from tests.harness.servers.gateway import keys_file
from tests.harness.servers.session_sockets import Socket, frame, serving, until
from tests.harness.sessions.scripted_session_worker import jpeg, run_scripted_worker

pytestmark = pytest.mark.anyio

PING = '{"type": "clock_ping", "sent_at_s": 1.0}'
A_SECOND, MESSAGES = 20, 60


async def answered(socket: Socket) -> tuple[float, list[dict[str, Any]]]:
    """Send all messages at once, and return how long their answers took, with the other messages among them."""
    begin_s, pongs, others = time.monotonic(), 0, list[dict[str, Any]]()
    for _ in range(MESSAGES):
        await socket.send_str(PING)
    async with asyncio.timeout(30):
        while pongs < MESSAGES:
            message = json.loads((await socket.receive()).data)
            pongs += message["type"] == "clock_pong"
            if message["type"] in ("error", "warning"):
                others.append(message)
    return time.monotonic() - begin_s, others


async def test_a_tenant_beyond_its_quota_is_read_slowly_and_loses_nothing(
    session_servers: tuple[NatsSettings, S3Settings], tmp_path: Path
) -> None:
    keys = keys_file(tmp_path, "acme", "rival")
    quotas = {"tenant": "acme", "quotas": {"socket_messages": A_SECOND}}
    keys.write_text(json.dumps([*json.loads(keys.read_text()), quotas]))
    async with serving(session_servers, tmp_path, AuthSettings(api_keys_file=keys)) as served:
        acme, rival = ({"Authorization": f"Bearer {name}.secret"} for name in ("acme", "rival"))
        session_id, of_rival = (await served.opened(acme))["id"], (await served.opened(rival))["id"]
        async with (
            served.stream(session_id, headers=acme) as first,
            served.stream(session_id, headers=acme) as second,
            served.stream(of_rival, headers=rival) as other,
        ):
            for socket in (first, second, other):
                await until(socket, "session.opened")
            slow, slow_too, quick = await asyncio.gather(answered(first), answered(second), answered(other))
        metrics = (await served.running.http.get("/metrics")).text
    whole_s = (2 * MESSAGES - A_SECOND) / A_SECOND
    assert max(slow[0], slow_too[0]) > whole_s - 0.5, "both sockets count together"
    for (told,) in (slow[1], slow_too[1]):  # each once
        assert told["type"] == "warning", "nothing was refused: a client that sends its messages again doubles them"
        assert "until then your messages wait" in told["warnings"][0]
    assert quick[1] == []
    assert quick[0] < whole_s / 2
    assert 'saccade_quota_refused_total{quota="socket_messages",tenant="acme"} 2' in metrics, "one for each socket"


async def test_a_large_message_counts_as_several(
    session_servers: tuple[NatsSettings, S3Settings], tmp_path: Path
) -> None:
    keys = keys_file(tmp_path, "acme")
    quotas = {"tenant": "acme", "quotas": {"socket_messages": A_SECOND}}
    keys.write_text(json.dumps([*json.loads(keys.read_text()), quotas]))
    async with serving(session_servers, tmp_path, AuthSettings(api_keys_file=keys)) as served:
        acme = {"Authorization": "Bearer acme.secret"}
        session_id = (await served.opened(acme))["id"]
        async with run_scripted_worker(served.running, session_id, "acme"):
            for message, answer, cost in (
                (PING[:-1] + " " * 60 * KIB + "}", "clock_pong", 60),
                (frame(1), "ack", 1),
                (frame(2, jpeg() + bytes(30 * KIB)), "ack", 1),
                (frame(3, jpeg() + bytes(1_000 * KIB)), "ack", 31),
            ):
                async with served.stream(session_id, "?acks=1", headers=acme) as socket:
                    await until(socket, "resume")
                    await asyncio.sleep(1.1)  # until the quota is whole
                    begin_s = time.monotonic()
                    await (socket.send_str(message) if isinstance(message, str) else socket.send_bytes(message))
                    await until(socket, answer)
                    took_s = time.monotonic() - begin_s
                assert (cost - A_SECOND) / A_SECOND - 0.1 < took_s, cost
                assert took_s < max(0, cost - A_SECOND) / A_SECOND + 1.5, cost


async def test_a_large_message_has_its_turn_beside_a_tenants_many_small_ones(
    session_servers: tuple[NatsSettings, S3Settings], tmp_path: Path
) -> None:
    """While it waits its socket is not read: not even the answers to pings, without which it is closed."""
    keys = keys_file(tmp_path, "acme")
    quotas = {"tenant": "acme", "quotas": {"socket_messages": A_SECOND}}
    keys.write_text(json.dumps([*json.loads(keys.read_text()), quotas]))
    async with serving(session_servers, tmp_path, AuthSettings(api_keys_file=keys)) as served:
        acme = {"Authorization": "Bearer acme.secret"}
        session_id = (await served.opened(acme))["id"]
        async with served.stream(session_id, headers=acme) as small, served.stream(session_id, headers=acme) as large:
            for socket in (small, large):
                await until(socket, "session.opened")
            for _ in range(30 * A_SECOND):
                await small.send_str(PING)
            await until(small, "warning")
            async with asyncio.timeout(15):
                await large.send_str(PING[:-1] + " " * 40 * KIB + "}")
                await until(large, "clock_pong")


async def test_a_text_that_no_client_sends_is_refused_unread(
    session_servers: tuple[NatsSettings, S3Settings], tmp_path: Path
) -> None:
    async with serving(session_servers, tmp_path) as served:
        session_id = (await served.opened())["id"]
        async with served.stream(session_id) as socket:
            await socket.send_str(PING[:-1] + " " * MIB + "}")
            assert (await until(socket, "error"))["code"] == "body_too_large"
            await socket.send_str(PING)
            await until(socket, "clock_pong")


async def test_the_python_client_reads_verdicts_while_its_messages_wait(
    session_servers: tuple[NatsSettings, S3Settings], tmp_path: Path
) -> None:
    keys = keys_file(tmp_path, "acme")
    quotas = {"tenant": "acme", "quotas": {"socket_messages": A_SECOND}}
    keys.write_text(json.dumps([*json.loads(keys.read_text()), quotas]))
    async with (
        serving(session_servers, tmp_path, AuthSettings(api_keys_file=keys)) as served,
        AsyncClient(served.url, "acme.secret") as client,
    ):
        session_id = (await client.sessions.open("streamed")).id
        async with run_scripted_worker(served.running, session_id, "acme") as worker:
            await worker.claim()
            async with client.sessions.stream(session_id) as stream, asyncio.timeout(30):
                for _ in range(MESSAGES):
                    await stream.ask_time()
                await stream.send_frame(jpeg(), seq=7)
                ack = await anext(stream.acks())
    assert (ack.seq, ack.status) == (7, "accepted"), "the notice that messages wait ends nothing"
