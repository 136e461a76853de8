"""A web client of the replaced splat server, through a socket, on servers without and with API keys.

It knows one base URL and sends no credential: it sends frames as a form, polls status and model, and stops.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from kit.auth.api_keys import AuthSettings
from kit.settings import NatsSettings, S3Settings
from tests.harness.servers.embedded import NatsServer, S3Server
from tests.harness.servers.gateway import RunningGateway, keys_file
from tests.harness.servers.served_gateway import served_gateway
from tests.harness.sessions.scripted_session_worker import jpeg, run_scripted_worker

pytestmark = pytest.mark.anyio

WORD = "canary-sesame"
KEY_OFF, KEY_FOR_NOBODY, KEY_FOR_WORD = "without keys", "a key for those who send nothing", "a key for a word"


@pytest.fixture
def servers(nats_server: NatsServer, s3_server: S3Server) -> tuple[NatsSettings, S3Settings]:
    return nats_server.settings, s3_server.settings


@pytest.fixture(params=[KEY_OFF, KEY_FOR_NOBODY, KEY_FOR_WORD])
async def client(
    request: pytest.FixtureRequest,
    servers: tuple[NatsSettings, S3Settings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[tuple[RunningGateway, httpx.AsyncClient, str]]:
    """Yield the gateway, a client that knows its base URL only, and the tenant that it acts for."""
    auth, base, tenant = None, "/compat/splat", "local"
    if request.param != KEY_OFF:
        word = {"word": WORD} if request.param == KEY_FOR_WORD else {}
        monkeypatch.setenv("GATEWAY_REPLACED_CREDENTIALS", json.dumps([{"system": "splat", "key": "robot", **word}]))
        auth, tenant = AuthSettings(api_keys_file=keys_file(tmp_path, "robot")), "robot"
        base += f"/k/{WORD}" if word else ""
    async with (
        served_gateway(*servers, tmp_path, auth=auth, backends=frozenset({"torch"})) as (running, address),
        httpx.AsyncClient(base_url=address + base) as http,
    ):
        yield running, http, tenant


async def test_frames_go_in_and_a_model_comes_out(client: tuple[RunningGateway, httpx.AsyncClient, str]) -> None:
    running, http, tenant = client

    async def frame() -> dict[str, Any]:
        answer = await http.post("/upload-frame", files={"file": ("frame.jpg", jpeg(), "image/jpeg")})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def status() -> dict[str, Any]:
        found: dict[str, Any] = (await http.get("/status")).json()
        return found

    assert (await http.get("/health")).json()["trainer_ready"] is True
    assert (await http.get("/get-ply")).content.startswith(b"ply\n"), "polled from the start"
    assert await frame() == {"success": True, "frame_count": 1, "chunks_uploaded": 0}
    angles = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    told = await http.post("/update-joint-angles", json={"joint_angles": angles})
    assert told.json() == {"success": True, "joint_angles": angles}
    session_id = (await status())["session_id"]
    async with run_scripted_worker(running, session_id, tenant) as worker:
        await worker.claim()
        await frame()
        await worker.export(body=b"")
        await worker.progress(splats=321)
        async with asyncio.timeout(20):
            while (now := await status())["gaussian_count"] != 321 or not now["chunks"]:
                await asyncio.sleep(0.02)
        assert (now["chunks"], now["frame_count"], now["progress"]) == (["chunk_0001.ply"], 2, 2 / 10_000)
        job = session_id.replace("ses_", "job_")
        await running.bucket.put(running.bucket.key("results", job, "live.ply"), b"ply\nmodel")
        assert (await http.get("/get-ply")).content == b"ply\nmodel"
        stopping = asyncio.ensure_future(http.post("/stop-training"))
        async with asyncio.timeout(20):
            while (await status())["status"] != "stopping":
                await asyncio.sleep(0.02)
        await worker.succeed()
        stopped = (await stopping).json()
    assert (stopped["success"], stopped["complete"], stopped["chunks"]) == (True, True, ["chunk_0001.ply"])
    assert (await http.post("/reset")).json()["success"] is True
    assert (await status())["frame_count"] == 0


async def test_with_keys_nothing_is_open_until_the_operator_says_so(
    servers: tuple[NatsSettings, S3Settings], tmp_path: Path
) -> None:
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "robot"))
    async with (
        served_gateway(*servers, tmp_path, auth=auth, backends=frozenset({"torch"})) as (_, address),
        httpx.AsyncClient(base_url=address) as http,
    ):
        for path in ("/status", "/compat/splat/status", f"/compat/splat/k/{WORD}/status"):
            assert (await http.get(path)).status_code == 401, path
