"""``POST /poke/send`` of the replaced vision system: its four answers, with an upstream that the operator sets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from aiohttp import web

from kit.network.address_guard import AddressGuard
from kit.network.guarded_post import GuardedPost, PostError
from kit.settings import NatsSettings, S3Settings
from services.gateway.compat.vision.poke import api_of
from tests.harness.servers.embedded import HOST, free_port
from tests.harness.servers.gateway import RunningGateway, running_gateway

pytestmark = pytest.mark.anyio

Servers = tuple[NatsSettings, S3Settings]
KEY = {"x-poke-api-key": "pk_canary"}


@dataclass
class Upstream:
    """Stands for Poke: a server on loopback that keeps what it gets."""

    url: str = ""
    status: int = 200
    answer: bytes = b'{"success": true, "message": "sent"}'
    received: list[tuple[str, str, object]] = field(default_factory=list)


@asynccontextmanager
async def upstream() -> AsyncIterator[Upstream]:
    found = Upstream()

    async def take(request: web.Request) -> web.Response:
        found.received.append((request.path, request.headers["Authorization"], json.loads(await request.read())))
        headers = {"Location": "/elsewhere"} if found.status == 307 else {}
        return web.Response(status=found.status, body=found.answer, headers=headers)

    app = web.Application()
    app.router.add_post("/{path:.*}", take)
    runner, port = web.AppRunner(app), free_port()
    await runner.setup()
    await web.TCPSite(runner, HOST, port).start()
    found.url = f"http://{HOST}:{port}/api/v1/inbound/api-message"
    try:
        yield found
    finally:
        await runner.cleanup()


@pytest.fixture
async def poke() -> AsyncIterator[Upstream]:
    async with upstream() as found:
        yield found


@pytest.fixture
async def running(
    session_servers: Servers, tmp_path: Path, poke: Upstream, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RunningGateway]:
    monkeypatch.setenv("POKE_API_URL", poke.url)
    async with running_gateway(*session_servers, tmp_path) as found:
        yield found


async def send(running: RunningGateway, body: object, headers: dict[str, str] | None = None) -> httpx.Response:
    return await running.http.post("/poke/send", json=body, headers=KEY if headers is None else headers)


async def test_a_message_is_passed_on_with_the_caller_s_key(running: RunningGateway, poke: Upstream) -> None:
    answer = await send(running, {"message": "that burrito cost you 45 minutes", "more": 1})
    assert (answer.status_code, answer.json()) == (
        200, {"success": True, "data": {"success": True, "message": "sent"}, "error": None},
    )  # fmt: skip
    expected = {"message": "that burrito cost you 45 minutes"}
    assert poke.received == [("/api/v1/inbound/api-message", "Bearer pk_canary", expected)]


async def test_without_a_key_nothing_is_sent(running: RunningGateway, poke: Upstream) -> None:
    for headers in ({}, {"x-poke-api-key": " "}):
        answer = await send(running, {"message": "hello"}, headers)
        assert (answer.status_code, answer.json()) == (500, {"detail": "Poke API key not configured"})
    assert poke.received == []


async def test_what_is_no_message_is_refused_field_by_field(running: RunningGateway, poke: Upstream) -> None:
    for body, place, kind in (
        ({}, ["body", "message"], "missing"),
        ({"message": 7}, ["body", "message"], "string_type"),
        ([], ["body"], "model_type"),
    ):
        answer = await send(running, body, {})
        (fault,) = answer.json()["detail"]
        assert (answer.status_code, fault["loc"], fault["type"]) == (422, place, kind)
    for raw in (b"", b"{", b"\xff", b'{"message": "\\ud800"}', b"[" * 5000):
        answer = await running.http.post("/poke/send", content=raw, headers=KEY)
        assert answer.status_code == 422
    assert (await send(running, {"message": "x" * 400_000})).status_code == 413
    assert poke.received == []


async def test_what_poke_does_not_accept_is_a_502_with_its_cause(running: RunningGateway, poke: Upstream) -> None:
    cases: list[tuple[int, bytes, str | None]] = [
        (401, b"{}", f"{HOST} answered with the status 401"),
        (500, b"pk_canary", f"{HOST} answered with the status 500"),
        (307, b"{}", f"{HOST} answered with the status 307"),
        (200, b"[]", f"{HOST} did not answer with a JSON object"),
        (200, b"sent", f"{HOST} did not answer with a JSON object"),
        (200, b'{"a":"' + b"x" * 400_000 + b'"}', None),
        (200, b'{"a": NaN}', f"{HOST} did not answer with a JSON object"),
        (200, b'{"a": "\\ud800"}', f"{HOST} did not answer with a JSON object"),
        (200, b'{"a":' + b"[" * 30_000 + b"]" * 30_000 + b"}", f"{HOST} did not answer with a JSON object"),
    ]
    for number, (poke.status, poke.answer, cause) in enumerate(cases, 1):
        answer = await send(running, {"message": "hello"})
        assert answer.status_code == 502
        assert cause is None or answer.json() == {"detail": cause}
        assert "canary" not in answer.text
        assert len(poke.received) == number, "it is sent once, and no redirect is followed"


def test_keys_belong_to_the_old_or_the_new_api() -> None:
    assert api_of("pk_1") == "https://poke.com/api/v1/inbound-sms/webhook"
    assert api_of("sk-2") == "https://poke.com/api/v1/inbound/api-message"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x", "http://[::1]:1/", "http://localhost:1/x", "ftp://a.example/"])
async def test_on_a_public_server_internal_addresses_are_not_asked(url: str) -> None:
    with pytest.raises(PostError) as refused:
        await GuardedPost(AddressGuard(), https_only=False, timeout_s=5).send(url, {}, {})
    assert "/x" not in str(refused.value)
    with pytest.raises(PostError):
        await GuardedPost(AddressGuard(), https_only=True, timeout_s=5).send("http://public.example/", {}, {})
