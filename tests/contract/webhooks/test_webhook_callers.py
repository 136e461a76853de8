"""What one caller of the notifier's routes can hold up: examples of a tenant, and bodies of who has no key."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from kit.auth.api_keys import AuthSettings
from tests.harness.servers.embedded import EmbeddedNats
from tests.harness.webhooks.callers import callers, create, keys_of_two_tenants
from tests.harness.webhooks.listeners import WebhookListener, listening

pytestmark = pytest.mark.anyio


@pytest.fixture
def auth(tmp_path: Path) -> AuthSettings:
    return keys_of_two_tenants(tmp_path)


async def test_two_examples_of_a_tenant_are_sent_at_once_and_few_wait(
    nats_server: EmbeddedNats, auth: AuthSettings
) -> None:
    answers = asyncio.Event()

    async def slow(_: WebhookListener, __: web.Request) -> web.StreamResponse:
        await answers.wait()
        return web.Response()

    async with callers(nats_server, auth) as who, listening() as listener:
        listener.respond = slow
        path = f"/v1/webhooks/{(await create(who.acme, listener.url))['id']}/test"
        other = f"/v1/webhooks/{(await create(who.rival, listener.url))['id']}/test"
        sent = [asyncio.ensure_future(who.acme.post(path, timeout=60)) for _ in range(25)]
        async with asyncio.timeout(10):
            while sum(task.done() for task in sent) < 5 or listener.open < 2:
                await asyncio.sleep(0.05)
        refused = [task.result() for task in sent if task.done()]
        assert [answer.json()["code"] for answer in refused] == ["rate_limited"] * 5
        assert listener.open == 2
        theirs = asyncio.ensure_future(who.rival.post(other, timeout=60))
        async with asyncio.timeout(10):
            while listener.open < 3:
                await asyncio.sleep(0.05)
        answers.set()
        assert (await theirs).json()["delivered"]
        delivered = [answer for answer in await asyncio.gather(*sent) if answer.status_code == 200]
        assert [answer.json()["delivered"] for answer in delivered] == [True] * 20


async def test_a_body_without_a_key_is_answered_before_it_is_read(
    nats_server: EmbeddedNats, auth: AuthSettings
) -> None:
    async with callers(nats_server, auth) as who:
        host, port = who.acme.base_url.host, who.acme.base_url.port
        for framing in ("Content-Length: 1000", "Content-Length: 100000000", "Transfer-Encoding: chunked"):
            for path in ("/v1/webhooks", "/v1/webhooks/default/rotate-secret", "/v1/replays", "/v1/tickets"):
                reader, writer = await asyncio.open_connection(host, port)
                head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{framing}\r\n\r\n"
                writer.write(head.encode() + (b"1\r\n{\r\n" if "chunked" in framing else b"{"))
                try:
                    async with asyncio.timeout(5):
                        assert b" 401 " in await reader.readline(), (path, framing)
                finally:
                    writer.close()
        large = {"url": "https://hooks.example.com/", "description": "x" * 1_000_000}
        assert (await who.acme.post("/v1/webhooks", json=large)).json()["code"] == "body_too_large"
