"""The Worker before the replaced vision system's clients, in workerd: words, secrets, relayed HTTP and WebSockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import WSMsgType, web
from websockets.exceptions import ConnectionClosed, InvalidStatus

from kit.auth.api_keys import AuthSettings
from kit.settings import NatsSettings, S3Settings
from modal_workers.vision_stream.spec import WORKLOAD
from tests.harness.clients.cloudflare_worker import cloudflare_worker
from tests.harness.clients.vision_replay import connected, exchange, replay, stream_url
from tests.harness.clients.vision_sessions import newest_session, text
from tests.harness.servers.embedded import HOST, free_port
from tests.harness.servers.gateway import RunningGateway, keys_file
from tests.harness.servers.served_gateway import served_gateway
from tests.harness.sessions.scripted_session_worker import jpeg, run_scripted_worker

pytestmark = pytest.mark.anyio

Servers = tuple[NatsSettings, S3Settings]
WORD = "open sesame & more"
KEY = {"Authorization": "Bearer ann.secret"}


@asynccontextmanager
async def gateway(servers: Servers, folder: Path) -> AsyncIterator[tuple[RunningGateway, str]]:
    """Run a gateway whose requests act as one tenant, as those of a test do."""
    auth = AuthSettings(api_keys_file=keys_file(folder, "ann"))
    async with served_gateway(*servers, folder, auth=auth, backends=frozenset(WORKLOAD.requires)) as (running, address):
        running.http.headers.update(KEY)
        yield running, address


async def test_a_stream_through_the_worker_with_its_captions_stored(servers: Servers, tmp_path: Path) -> None:
    async with (
        gateway(servers, tmp_path) as (running, address),
        cloudflare_worker(GATEWAY_URL=address, MAGIC_WORD=WORD, SACCADE_API_KEY="ann.secret") as worker,
    ):
        describing = asyncio.ensure_future(_describe(running))
        found = await replay(stream_url(worker.url, WORD), [jpeg()] * 12, 20.0)
        await describing
        assert (found.sent_frames, found.errors, found.captions) == (12, [], ["a cup", "a table"])
        captions: list[dict[str, Any]] = []
        async with asyncio.timeout(10):
            while len(captions) < 2:
                captions = (await running.http.get("/compat/vision/captions")).json()["captions"]
        assert sorted(caption["caption"] for caption in captions) == ["a cup", "a table"]
        assert all(caption["windowId"].startswith("ws-cap-") and caption["latencyMs"] == 42 for caption in captions)
        async with connected(stream_url(worker.url), x_magic_word=WORD) as socket:
            assert await exchange(socket, bytes(900_000)) == {"frame": 1, "bytes": 900_000}
            await socket.send("text")
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
            assert closed.value.rcvd
            assert closed.value.rcvd.code == 1003, "the gateway's close code is passed on"
    assert "ann.secret" not in worker.log
    assert WORD not in worker.log


async def _describe(running: RunningGateway) -> None:
    session_id = await newest_session(running, 0)
    async with run_scripted_worker(running, session_id, "ann") as worker:
        for chunk, caption in enumerate(("a cup", "a table"), 1):
            await worker.heard(frames=chunk * 2)
            await worker.say(text(chunk, caption))


@dataclass
class Recorder:
    """A gateway that keeps what it gets, and ends a stream as a test says."""

    url: str
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    #: Close code of a stream; 0: the connection breaks without one.
    code: int = 4001


@asynccontextmanager
async def recorder() -> AsyncIterator[Recorder]:
    port = free_port()
    found = Recorder(f"http://{HOST}:{port}")

    async def answer(request: web.Request) -> web.StreamResponse:
        found.requests.append((request.method, request.raw_path, {k.lower(): v for k, v in request.headers.items()}))
        if not request.path.endswith("/vision/stream"):
            return web.json_response({"path": request.path, "body": (await request.read()).decode()})
        if found.code == 403:
            return web.Response(status=403, text="forbidden")
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                if not found.code:
                    assert request.transport
                    request.transport.abort()
                await socket.close(code=found.code, message=b"as told")
        found.requests.append(("CLOSED", str(socket.close_code), {}))
        return socket

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, HOST, port).start()
    try:
        yield found
    finally:
        await runner.cleanup()


async def test_words_secrets_routes_and_broken_relays() -> None:
    """With one start of the Worker, because each takes a second."""
    async with (
        recorder() as upstream,
        cloudflare_worker(
            GATEWAY_URL=upstream.url + "/", MAGIC_WORD=WORD, SACCADE_API_KEY="id.key", POKE_API_KEY="poke"
        ) as worker,
        httpx.AsyncClient(base_url=worker.url, timeout=20) as client,
    ):
        await _check_words(client, worker.url, upstream)
        await _check_secrets_and_routes(client, upstream)
        await _check_ends(worker.url, upstream)


async def _check_words(client: httpx.AsyncClient, url: str, upstream: Recorder) -> None:
    forbidden = (403, "forbidden")
    for headers, query in (
        ({}, {}), ({"x-magic-word": "wrong"}, {}), ({}, {"magic_word": "wrong"}),
        ({"x-magic-word": ""}, {"magic_word": WORD}), ({"x-magic-word": "wrong"}, {"magic_word": WORD}),
    ):  # fmt: skip
        # Without a body: workerd answers before it has read one and may close the connection while it is still sent.
        answer = await client.post("/poke/send", headers=headers, params=query)
        assert (answer.status_code, answer.text) == forbidden
    with pytest.raises(InvalidStatus) as refused:
        async with connected(stream_url(url, "wrong")):
            pass
    assert (refused.value.response.status_code, refused.value.response.body) == (403, b"forbidden")
    assert upstream.requests == []


async def _check_secrets_and_routes(client: httpx.AsyncClient, upstream: Recorder) -> None:
    assert (await client.get("/health")).json()["path"] == "/compat/vision/health"
    params = {"magic_word": WORD, "a": "1"}
    sent = await client.post(
        "/poke/send", content=b'{"message": "m"}', params=params, headers={"Authorization": "Bearer of-the-client"}
    )
    assert sent.json() == {"path": "/compat/vision/poke/send", "body": '{"message": "m"}'}
    _, path, headers = upstream.requests[-1]
    assert path == "/compat/vision/poke/send?a=1", "the word goes no further"
    assert (headers["authorization"], headers["x-poke-api-key"]) == ("Bearer id.key", "poke")
    count = len(upstream.requests)
    for other in (
        "/captions",
        "/v1/sessions",
        "/../../v1/sessions",
        "/%2e%2e/%2e%2e/v1/jobs",
        "/k/a.b/captions",
        "/",
    ):
        assert (await client.get(other, params=params)).status_code == 404
    assert (await client.get("/poke/send", params=params)).status_code == 404
    assert len(upstream.requests) == count, "nothing else is reachable with the key that the Worker adds"


async def _check_ends(url: str, upstream: Recorder) -> None:
    for code in (4001, 1000, 1009, 0):
        upstream.code = code
        async with connected(stream_url(url, WORD)) as socket:
            await socket.send(b"frame")
            with pytest.raises(ConnectionClosed) as closed:
                async with asyncio.timeout(20):
                    await socket.recv()
            assert closed.value.rcvd
            assert closed.value.rcvd.code == (code or 1011)
    async with connected(stream_url(url, WORD)) as socket:
        await socket.close(1001, "leaving")
    async with asyncio.timeout(10):
        while upstream.requests[-1][:2] != ("CLOSED", "1001"):
            await asyncio.sleep(0.02)
    upstream.code = 403
    with pytest.raises(InvalidStatus) as refused:
        async with connected(stream_url(url, WORD)):
            pass
    assert (refused.value.response.status_code, refused.value.response.body) == (
        502,
        b"the gateway opened no socket",
    )


async def test_without_a_word_everything_but_health_is_forbidden_and_without_a_gateway_it_is_a_502() -> None:
    async with (
        cloudflare_worker(GATEWAY_URL=f"http://{HOST}:{free_port()}", SACCADE_API_KEY="id.key") as worker,
        httpx.AsyncClient(base_url=worker.url, timeout=20) as client,
    ):
        answer = await client.post("/poke/send", params={"magic_word": ""}, headers={"x-magic-word": ""})
        assert (answer.status_code, answer.text) == (403, "forbidden")
        answer = await client.get("/health")
        assert (answer.status_code, answer.text) == (502, "the gateway does not answer")
    assert "id.key" not in worker.log
