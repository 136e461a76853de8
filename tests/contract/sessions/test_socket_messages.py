"""The quota of messages from WebSockets: a tenant beyond it is read more slowly, and no other tenant is."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from kit.auth.api_keys import AuthSettings
from kit.settings import NatsSettings, S3Settings
from tests.harness.servers.gateway import keys_file
from tests.harness.servers.session_sockets import Socket, serving, until

pytestmark = pytest.mark.anyio

PING = '{"type": "clock_ping", "sent_at_s": 1.0}'
A_SECOND, MESSAGES = 20, 60


async def answered(socket: Socket) -> tuple[float, list[str]]:
    """Send all messages at once, and return how long their answers took, with the codes of errors among them."""
    begin_s, pongs, errors = time.monotonic(), 0, list[str]()
    for _ in range(MESSAGES):
        await socket.send_str(PING)
    async with asyncio.timeout(30):
        while pongs < MESSAGES:
            message = json.loads((await socket.receive()).data)
            pongs += message["type"] == "clock_pong"
            if message["type"] == "error":
                errors.append(message["code"])
    return time.monotonic() - begin_s, errors


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
    assert (slow[1], slow_too[1]) == (["rate_limited"], ["rate_limited"]), "each is told once"
    assert quick[1] == []
    assert quick[0] < whole_s / 2
    assert 'saccade_quota_refused_total{quota="socket_messages",tenant="acme"}' in metrics
