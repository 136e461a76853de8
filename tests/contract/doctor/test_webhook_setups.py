"""``saccade doctor`` and endpoints of webhooks: which can be sent to; none gets anything but HEAD."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from saccade_client import WebhookView

from cli.doctor.report_line import ReportLine
from cli.doctor.webhooks import judge_endpoint
from kit.network.address_guard import AddressGuard
from tests.harness.servers.embedded import HOST, free_port

pytestmark = pytest.mark.anyio
LOOPBACK = AddressGuard.allowing(["127.0.0.0/8"])


@asynccontextmanager
async def receiver() -> AsyncIterator[tuple[list[str], int]]:
    methods: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        methods.append(request.method)
        return web.Response(status=405)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    try:
        yield methods, runner.addresses[0][1]
    finally:
        await runner.cleanup()


def endpoint(url: str, *, enabled: bool = True) -> WebhookView:
    time = "2026-11-23T12:00:00Z"
    return WebhookView(id="whk_1", url=url, enabled=enabled, created_at=time, updated_at=time)


async def judge(url: str, guard: AddressGuard, *addresses: str, https_only: bool = False) -> ReportLine:
    async def look_up(host: str) -> list[str]:
        if not addresses:
            raise OSError(f"{host} has no entry")
        return list(addresses)

    return await judge_endpoint(endpoint(url), guard, https_only=https_only, lookup=look_up)


async def test_an_endpoint_that_answers_is_well_and_gets_no_event() -> None:
    async with receiver() as (methods, port):
        found = await judge(f"http://hooks.example.com:{port}/secret-path", LOOPBACK, HOST)
    assert found.outcome == "ok", found
    assert "secret-path" not in found.line
    assert methods == ["HEAD"]


@pytest.mark.parametrize(
    ("url", "addresses", "says"),
    [
        ("https://gone.example.com/", (), "gone.example.com does not resolve"),
        ("https://hooks.example.com/", ("10.0.0.7",), "10.0.0.7 is not an address that may be connected to"),
        ("https://10.0.0.7/", (), "10.0.0.7 is not an address that webhooks may go to"),
        ("http://hooks.example.com/", (), "http is not encrypted"),
    ],
)
async def test_an_endpoint_that_cannot_be_sent_to_is_found(url: str, addresses: tuple[str, ...], says: str) -> None:
    found = await judge(url, AddressGuard(), *addresses, https_only=True)
    assert found.outcome == "FAIL"
    assert says in found.says, found
    assert found.fix


async def test_a_receiver_that_is_away_is_found_and_a_disabled_endpoint_is_told() -> None:
    found = await judge(f"http://hooks.example.com:{free_port()}/", LOOPBACK, HOST)
    assert found.outcome == "FAIL"
    assert "does not answer" in found.says
    disabled = await judge_endpoint(endpoint("https://a.example/", enabled=False), LOOPBACK, https_only=True)
    assert disabled.outcome == "warn"
