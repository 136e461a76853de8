"""Clients of replaced systems on a server with API keys: a word, a path or nothing stands for one tenant's key."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from contracts.streams import STREAMS
from kit.auth.api_keys import AuthSettings
from kit.bus.event_store import EventStore
from kit.settings import NatsSettings, S3Settings
from modal_workers.vision_stream.spec import WORKLOAD
from tests.harness.clients.vision_replay import connected, exchange, stream_url
from tests.harness.servers.gateway import RunningGateway, code_of, keys_file
from tests.harness.servers.served_gateway import served_gateway
from tests.harness.sessions.scripted_session_worker import jpeg

pytestmark = pytest.mark.anyio

Servers = tuple[NatsSettings, S3Settings]
Served = tuple[RunningGateway, str]
BACKENDS = frozenset(WORKLOAD.requires) | {"torch"}
WORD = "canary-sesame"
MAPPING = [
    {"system": "vision", "word": WORD, "key": "ann"},
    {"system": "splat", "key": "bob"},
    {"system": "badminton", "word": WORD, "key": "ann"},
]


@pytest.fixture
async def served(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    monkeypatch.setenv("GATEWAY_REPLACED_CREDENTIALS", json.dumps(MAPPING))
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "ann", "bob"))
    async with served_gateway(*servers, tmp_path, auth=auth, backends=BACKENDS) as (running, address):
        yield running, address


async def sessions_of(running: RunningGateway, tenant: str) -> list[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {tenant}.secret"}
    found: list[dict[str, Any]] = (await running.http.get("/v1/sessions", headers=headers)).json()["data"]
    return found


async def refusal(url: str, **headers: str) -> tuple[int, bytes | None]:
    with pytest.raises(InvalidStatus) as refused:
        async with connected(url, **headers):
            pass
    return refused.value.response.status_code, refused.value.response.body


async def fails() -> None:
    raise RuntimeError("inside")


async def test_a_word_acts_as_its_tenant_and_reaches_no_log_stream_or_file(
    served: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    running, address = served
    caplog.set_level("DEBUG")
    caplog.set_level("WARNING", "uvicorn.access")  # as kit/logs.py does for every service
    for url, headers in (
        (stream_url(address, WORD), {}),
        (stream_url(address), {"x_magic_word": WORD}),
        (stream_url(f"{address}/compat/vision/vision/stream", WORD), {}),
        (stream_url(f"{address}/compat/vision/k/{WORD}/vision/stream"), {}),
        (stream_url(address), {"Authorization": "Bearer ann.secret"}),
    ):
        async with connected(url, **headers) as socket:
            assert (await exchange(socket, jpeg()))["frame"] == 1
    assert len(await sessions_of(running, "ann")) >= 4
    assert await sessions_of(running, "bob") == []
    forbidden = (403, b"forbidden")
    assert await refusal(stream_url(address)) == forbidden
    assert await refusal(stream_url(address, "wrong")) == forbidden
    assert await refusal(stream_url(address, WORD), x_magic_word="") == forbidden
    async with httpx.AsyncClient(base_url=address) as client:
        assert (await client.get("/compat/vision/health")).json() == {"status": "ok"}
        answer = await client.post("/poke/send", json={"message": "m"})
        assert (answer.status_code, answer.content) == forbidden
        answer = await client.post("/poke/send", params={"magic_word": WORD}, json={"message": "m"})
        assert (answer.status_code, answer.json()) == (500, {"detail": "Poke API key not configured"})
        # The word opens its own system's routes and nothing else, and no list of what others have said.
        for path in ("/v1/sessions", "/compat/splat/v1/sessions", "/compat/vision/captions"):
            answer = await client.get(path, params={"magic_word": WORD}, headers={"x-magic-word": WORD})
            assert answer.status_code in (401, 403, 404), path
        # A request that fails inside is logged.
        running.app.add_api_route("/fails", fails)
        answer = await client.get("/fails", params={"magic_word": WORD}, headers={"x-magic-word": WORD})
        assert answer.status_code == 500
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for stream in STREAMS:
        found, _ = await EventStore(running.store.client, stream.name).batch(0, with_headers=True)
        kept += b"".join(event.body + repr((event.subject, event.headers)).encode() for event in found)
    assert b"ses_" in kept
    assert WORD.encode() not in kept
    own = [
        record for record in caplog.records if not record.name.startswith(("websockets.client", "httpx", "httpcore"))
    ]
    assert own
    assert WORD not in "\n".join(record.getMessage() for record in own)


async def test_clients_that_send_nothing_act_as_the_tenant_that_the_operator_named(served: Served) -> None:
    running, address = served
    async with httpx.AsyncClient(base_url=address) as client:
        sent = await client.post("/upload-frame", files={"file": ("a.jpg", jpeg(), "image/jpeg")})
        assert sent.status_code == 200, sent.text
        (session,) = await sessions_of(running, "bob")
        assert session["workload"] == "live_splat"
        assert (await client.get("/compat/splat/status")).json()["session_id"] == session["id"]
        assert (await client.get("/compat/splat/k/bob.secret/status")).json()["session_id"] == session["id"]
        assert (await client.get("/compat/splat/k/ann.secret/status")).json()["session_id"] is None
        assert code_of(await client.get("/compat/splat/k/bob.wrong/status")) == "unauthenticated"
        assert code_of(await client.post("/api/nerf/colmap", json={})) == "unauthenticated"
        # Any web page can have the browser of somebody who reaches this server send nothing.
        page, own = {"Origin": "https://evil.example"}, {"Origin": address}
        for path in ("/stop-training", "/compat/splat/reset"):
            assert code_of(await client.post(path, headers=page)) == "origin_not_allowed"
        assert (await client.get("/status", headers=own)).status_code == 200
        keyed = page | {"Authorization": "Bearer bob.secret"}
        assert (await client.get("/status", headers=keyed)).status_code == 200


async def test_a_word_in_the_path_serves_a_client_that_keeps_nothing_but_its_url(served: Served) -> None:
    _, address = served
    async with httpx.AsyncClient(base_url=address) as client:
        assert (await client.get("/badminton/health")).status_code == 401
        assert (await client.get("/compat/badminton/k/wrong/health")).status_code == 401
        assert (await client.get(f"/compat/badminton/k/{WORD}/health")).json()["status"] == "healthy"
        assert (await client.get(f"/badminton/k/{WORD}/health")).json()["status"] == "healthy"


async def test_a_key_that_is_gone_opens_nothing(served: Served, tmp_path: Path) -> None:
    _, address = served
    keys_file(tmp_path, "bob")
    assert await refusal(stream_url(address, WORD)) == (403, b"forbidden")
