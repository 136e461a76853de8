"""A session's texts and its socket over a restore of EVENTS: cursors at the fork stay good, later ones do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from contracts.events.base import encode
from contracts.events.session import SessionText
from kit.bus.connection import connect
from kit.settings import NatsSettings, S3Settings
from tests.harness.servers.embedded import EmbeddedNats, EmbeddedS3
from tests.harness.servers.gateway import RunningGateway, code_of
from tests.harness.servers.session_sockets import serving, until
from tests.harness.servers.stream_backups import back_up, restore
from tests.harness.sessions.scripted_session_worker import streamed_catalog

pytestmark = pytest.mark.anyio

Servers = tuple[NatsSettings, S3Settings]


async def say(running: RunningGateway, session_id: str, words: str) -> None:
    """Publish a text as the session's worker does, and wait until the gateway has it."""
    data = SessionText(run_id="run_test", chunk=1, text=words, first_seq=1, last_seq=2)
    message = encode(data, tenant="local", subject_id=session_id, source="/test")
    assert await running.loop.follower.tail.wait_for(await running.store.publish(message), 10)


async def test_texts_and_socket_resume_at_the_fork_and_not_beyond(
    nats_server: EmbeddedNats, s3_server: EmbeddedS3, tmp_path: Path
) -> None:
    servers = nats_server.settings, s3_server.settings
    with streamed_catalog():
        await resume_over_a_fork(nats_server, servers, tmp_path)


async def resume_over_a_fork(nats_server: EmbeddedNats, servers: Servers, tmp_path: Path) -> None:
    async with serving(servers, tmp_path) as served:
        session_id = (await served.opened(workload="described"))["id"]
        path = f"/v1/sessions/{session_id}/texts"
        await say(served.running, session_id, "kept")
        at_fork = (await served.running.http.get(path)).json()["cursor"]
        client = await connect(nats_server.settings, "operator")
        backup = await back_up(client, "EVENTS")
        await say(served.running, session_id, "lost")
        beyond = (await served.running.http.get(path)).json()["cursor"]
    await restore(client, backup)
    await client.close()
    async with serving(servers, tmp_path) as served:
        http = served.running.http
        for words in ("new", "newer"):
            await say(served.running, session_id, words)
        page = (await http.get(path, params={"cursor": at_fork})).json()
        assert [item["data"]["text"] for item in page["data"]] == ["new", "newer"]
        assert page["cursor"].partition(".")[0] != at_fork.partition(".")[0]
        assert code_of(await http.get(path, params={"cursor": beyond})) == "cursor_invalid"
        async with served.stream(session_id, f"?after={at_fork}") as socket:
            first = await until(socket, "session.text")
            assert first["data"]["text"] == "new"
        async with served.stream(session_id, f"?after={beyond}") as socket:
            assert json.loads(await socket.receive_str()) == {"type": "gap", "after": beyond}
            assert json.loads(await socket.receive_str())["type"] == "session.opened"
