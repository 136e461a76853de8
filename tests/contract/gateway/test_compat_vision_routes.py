"""Other routes of the replaced vision system: captions, health, credentials that are ignored, API keys."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from contracts.ids import new_id
from contracts.streams import STREAMS
from kit.auth.api_keys import AuthSettings
from kit.bus.event_store import EventStore
from kit.settings import NatsSettings, S3Settings
from modal_workers.vision_stream.spec import WORKLOAD
from tests.harness.clients.vision_replay import connected, exchange, stream_url
from tests.harness.clients.vision_sessions import Served, newest_session, sessions_of, state_of
from tests.harness.servers.gateway import RunningGateway, keys_file
from tests.harness.servers.served_gateway import served_gateway
from tests.harness.sessions.scripted_session_worker import jpeg

pytestmark = pytest.mark.anyio

Servers = tuple[NatsSettings, S3Settings]
WORKERS = frozenset(WORKLOAD.requires)


@pytest.mark.parametrize("base", ["/compat/vision", ""])
async def test_captions_are_stored_once_and_listed(served: Served, base: str) -> None:
    address = served[1]
    window = f"ws-cap-{new_id('evt')}"
    body = {
        "windowId": window, "timestamp": 1767225600000, "chunkStartS": 1.0, "chunkEndS": 2.5, "caption": "a cup",
        "latencyMs": 90, "userId": "ignored",
    }  # fmt: skip
    async with httpx.AsyncClient(base_url=address) as client:
        first = await client.post(f"{base}/captions/upload", json=body)
        assert first.status_code == 200
        stored = first.json()
        assert stored == {"success": True, "windowId": window, "storedAt": stored["storedAt"]}
        assert abs(stored["storedAt"] / 1000 - time.time()) < 60
        again = await client.post(f"{base}/captions/upload", json=body | {"caption": "another"})
        assert again.json() == stored
        listed: list[dict[str, Any]] = []
        page: dict[str, Any] = {"more": True, "after": 0}
        while page["more"]:
            page = (await client.get("/compat/vision/captions", params={"after": page["after"]})).json()
            listed += page["captions"]
        (mine,) = [caption for caption in listed if caption["windowId"] == window]
        expected = {name: value for name, value in body.items() if name != "userId"}
        assert mine == expected | {"storedAt": stored["storedAt"]}
        assert (await client.get("/compat/vision/captions", params={"after": page["after"]})).json()["captions"] == []
        longest = body | {"windowId": f"{window}-longest", "caption": "\U0001f600" * 20_000}
        assert (await client.post(f"{base}/captions/upload", json=longest)).status_code == 200
        for wrong in ({}, body | {"windowId": ""}, body | {"timestamp": "now"}, body | {"caption": "x" * 20_001}):
            assert (await client.post(f"{base}/captions/upload", json=wrong)).status_code == 422


async def test_health_is_what_each_replaced_system_answered(served: Served) -> None:
    async with httpx.AsyncClient(base_url=served[1]) as client:
        assert (await client.get("/compat/vision/health")).json() == {"status": "ok"}
        assert (await client.get("/compat/splat/health")).json()["trainer_ready"] in (True, False)
        assert (await client.get("/compat/badminton/health")).json()["status"] == "healthy"
        assert (await client.get("/health")).json()["service"] == "gateway"
        assert (await client.get("/compat/splat/v1/jobs")).status_code == 404
        assert (await client.get("/compat/vision/nothing")).json() == {"detail": "Not Found"}
        assert (await client.get("/compat/vision/poke/send")).status_code == 405


async def test_every_credential_of_the_caller_s_modal_account_is_ignored_and_kept_nowhere(
    servers: Servers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    canaries = {
        "x-modal-token-id": "ak-canary-0001", "x-modal-token-secret": "as-canary-0002",
        "x-modal-app-name": "canary-app-0003", "x-modal-class-name": "CanaryClass0004", "x-poke-api-key": "canary-0005",
    }  # fmt: skip
    caplog.set_level("DEBUG")
    caplog.set_level("WARNING", "uvicorn.access")  # as kit/logs.py does for every service
    async with served_gateway(*servers, tmp_path, backends=WORKERS) as (running, address):
        before = len(await sessions_of(running))
        async with connected(stream_url(address), **{name.replace("-", "_"): v for name, v in canaries.items()}) as one:
            await exchange(one, jpeg())
            session_id = await newest_session(running, before)
        await state_of(running, session_id, "stopping")
        stored = await _everything(running)
        kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert session_id.encode() in stored
    for canary in canaries.values():
        assert canary.encode() not in stored
        assert canary.encode() not in kept
        assert canary not in _own(caplog)


async def _everything(running: RunningGateway) -> bytes:
    """Return every message of every stream, with its headers, and every object of the bucket."""
    found = b""
    for stream in STREAMS:
        after = 0
        while True:
            events, remaining = await EventStore(running.store.client, stream.name).batch(after, with_headers=True)
            found += b"".join(event.body + repr(event.headers).encode() for event in events)
            if not remaining or not events:
                break
            after = events[-1].sequence
    return found


def _own(caplog: pytest.LogCaptureFixture) -> str:
    """Return the log without what the test's own client writes."""
    return "\n".join(
        record.getMessage() for record in caplog.records if not record.name.startswith(("websockets.client", "httpx"))
    )


async def test_with_keys_a_stream_needs_one(servers: Servers, tmp_path: Path) -> None:
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "ann", "eve", read_only=("eve",)))
    async with served_gateway(*servers, tmp_path, auth=auth, backends=WORKERS) as (_, address):
        for headers in ({}, {"Authorization": "Bearer ann.wrong"}, {"Authorization": "Bearer eve.secret"}):
            with pytest.raises(InvalidStatus) as refused:
                async with connected(stream_url(address), **headers):
                    pass
            assert (refused.value.response.status_code, refused.value.response.body) == (403, b"forbidden")
        async with connected(stream_url(address), Authorization="Bearer ann.secret") as socket:
            assert (await exchange(socket, jpeg()))["frame"] == 1
        async with connected(stream_url(f"{address}/compat/vision/k/ann.secret/vision/stream")) as socket:
            assert (await exchange(socket, jpeg()))["frame"] == 1
