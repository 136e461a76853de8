"""The quota of messages holds on the WebSockets of replaced systems: they are read more slowly, and lose nothing."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from kit.auth.api_keys import AuthSettings
from kit.settings import NatsSettings, S3Settings
from modal_workers.badminton.spec import WORKLOAD as BADMINTON
from modal_workers.vision_stream.spec import WORKLOAD as VISION
from tests.harness.servers.gateway import keys_file
from tests.harness.servers.served_gateway import served_gateway

pytestmark = pytest.mark.anyio

WORKERS: Final = frozenset(BADMINTON.requires) | frozenset(VISION.requires)
CONNECT: Final = {"type": "Connect", "sessionId": "s", "connectionCount": 0, "lastCloseReason": None, "clientTs": 1}
A_SECOND, MESSAGES = 20, 60
PATHS: Final = ("/compat/vision/k/{}/vision/stream", "/badminton/k/{}/api/1.31.7/sync", "/badminton/k/{}/ws/upl_x")
#: After a rest, the messages of one second are taken at once.
WHOLE_S: Final = (MESSAGES - A_SECOND) / A_SECOND


@pytest.fixture
async def address(servers: tuple[NatsSettings, S3Settings], tmp_path: Path) -> AsyncIterator[str]:
    keys = keys_file(tmp_path, "acme", "rival")
    quotas = {"tenant": "acme", "quotas": {"socket_messages": A_SECOND}}
    keys.write_text(json.dumps([*json.loads(keys.read_text()), quotas]))
    async with served_gateway(*servers, tmp_path, auth=AuthSettings(api_keys_file=keys), backends=WORKERS) as served:
        yield served[1]


async def answered_s(url: str) -> float:
    """Send all messages at once, and return how long it took until the last one was answered."""
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket, asyncio.timeout(30):
        begin_s = time.monotonic()
        if url.endswith("/stream"):
            for number in range(MESSAGES):
                await socket.send_bytes(bytes(number))
            acknowledged = [(await socket.receive_json())["frame"] for _ in range(MESSAGES)]
            assert acknowledged == list(range(1, MESSAGES + 1))
        elif url.endswith("/sync"):
            await socket.send_json(CONNECT)
            for version in range(MESSAGES - 2):
                change = {"baseVersion": version, "newVersion": version + 1, "modifications": []}
                await socket.send_json({"type": "ModifyQuerySet", **change})
            call = {"type": "Mutation", "requestId": 7, "udfPath": "videos:generateUploadUrl", "args": [{}]}
            await socket.send_json(call)
            while (answer := await socket.receive_json())["type"] != "MutationResponse":
                continue
            assert answer["success"], answer
        else:
            for _ in range(MESSAGES):
                await socket.send_str("ping")
            assert [await socket.receive_json() for _ in range(MESSAGES)] == [{"type": "pong"}] * MESSAGES
        return time.monotonic() - begin_s


@pytest.mark.parametrize("path", PATHS)
async def test_a_tenant_beyond_its_quota_is_read_slowly_and_no_other_is(address: str, path: str) -> None:
    slow_s, quick_s = await asyncio.gather(
        *(answered_s(address + path.format(f"{who}.secret")) for who in ("acme", "rival"))
    )
    assert slow_s > WHOLE_S - 0.5
    assert quick_s < WHOLE_S - 0.5
