"""Listeners for webhooks over a real socket: they note what they get and answer as they are told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.harness.servers.embedded import HOST, free_port

Respond = Callable[["WebhookListener", web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class ReceivedRequest:
    """One webhook as it came."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.body)
        return value

    @property
    def type(self) -> str:
        return str(self.event["type"])

    @property
    def sequence(self) -> int:
        return int(self.headers["saccade-cursor"].partition(".")[2])


@dataclass
class WebhookListener:
    """Notes all it gets. ``status`` is what it answers; ``respond`` replaces that."""

    url: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    respond: Respond | None = None
    got: list[ReceivedRequest] = field(default_factory=list)
    #: Requests that are being answered now, and the most there ever were.
    open: int = 0
    most_open: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _transports: weakref.WeakSet[asyncio.Transport] = field(default_factory=weakref.WeakSet)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.transport:
            self._transports.add(request.transport)
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.got.append(ReceivedRequest(request.path, headers, body, asyncio.get_running_loop().time()))
        self._news.set()
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            if self.respond is not None:
                return await self.respond(self, request)
            return web.Response(status=self.status, headers=self.headers, text="noted")
        finally:
            self.open -= 1

    async def abort(self) -> None:
        """Cut the connections that are still open.

        aiohttp closes each, but one whose client does not read what was written stays open until that has left, and
        the test's event loop ended before: an unclosed transport, in whatever ran next.
        """
        for transport in self._transports:
            transport.abort()
        await asyncio.sleep(0)

    async def wait(self, count: int, timeout_s: float = 15.0) -> list[ReceivedRequest]:
        """Wait until so many have come."""
        async with asyncio.timeout(timeout_s):
            while len(self.got) < count:
                self._news.clear()
                await self._news.wait()
        return self.got

    def ids(self) -> list[str]:
        return [got.id for got in self.got]

    def of_job(self, job_id: str) -> list[str]:
        """List the types that came of one job, in the order in which they came."""
        return [got.type for got in self.got if got.event["subject"] == job_id]


async def hang(listener: WebhookListener, request: web.Request) -> web.StreamResponse:
    """Take the request and never answer."""
    await asyncio.sleep(3600)
    return web.Response()


async def huge(listener: WebhookListener, request: web.Request) -> web.StreamResponse:
    """Answer 200, then more bytes than anyone wants, for ever."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"x" * 65_536)


@contextlib.asynccontextmanager
async def listening(port: int = 0, **options: Any) -> AsyncIterator[WebhookListener]:
    """Run a listener in this event loop."""
    port = port or free_port()
    one = WebhookListener(f"http://{HOST}:{port}/hook", **options)
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", one.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, port).start()
    try:
        yield one
    finally:
        await runner.cleanup()
        await one.abort()
