"""A reverse proxy that serves another server under a path, as an operator's proxy does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import WSMsgType, web

from contracts.http_routes import service_of
from tests.harness.servers.embedded import HOST, free_port

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-encoding", "content-length", "upgrade"}
#: aiohttp makes those of a WebSocket itself.
_OF_HANDSHAKE = {"sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions"}


async def _forward_socket(request: web.Request, session: aiohttp.ClientSession, url: str) -> web.StreamResponse:
    """Pass the messages of a WebSocket in both directions until one side closes it."""
    left_out = _HOP_BY_HOP | _OF_HANDSHAKE
    headers = {name: value for name, value in request.headers.items() if name.lower() not in left_out}
    async with session.ws_connect(url, headers=headers) as theirs:
        ours = web.WebSocketResponse()
        await ours.prepare(request)
        directions = [asyncio.ensure_future(_pass_messages(*pair)) for pair in ((ours, theirs), (theirs, ours))]
        await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        for direction in directions:
            direction.cancel()
        await ours.close()
        return ours


_Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _pass_messages(source: _Socket, sink: _Socket) -> None:
    async for message in source:
        await (sink.send_str if message.type is WSMsgType.TEXT else sink.send_bytes)(message.data)


@contextlib.asynccontextmanager
async def prefix_proxy(upstream: str, prefix: str, notifier: str | None = None) -> AsyncIterator[str]:
    """Serve ``upstream`` under ``prefix``, with a slash at both ends, on a free port; yield the origin.

    With ``notifier``, that one serves its own paths and ``upstream`` is the gateway alone.

    Anything outside the prefix is answered with 404, which finds addresses that forget it.
    """

    async def forward(request: web.Request) -> web.StreamResponse:
        path = request.raw_path.removeprefix(prefix.rstrip("/"))
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await _forward_socket(request, session, f"{upstream}{path}")
        body = await request.read()
        server = (
            notifier
            if notifier and service_of(request.path.removeprefix(prefix.rstrip("/"))) == "notifier"
            else upstream
        )
        async with session.request(
            request.method, f"{server}{path}", headers=headers, data=body or None, allow_redirects=False
        ) as found:
            kept = [(name, value) for name, value in found.headers.items() if name.lower() not in _HOP_BY_HOP]
            answer = web.StreamResponse(status=found.status)
            for name, value in kept:
                answer.headers.add(name, value)
            await answer.prepare(request)
            with contextlib.suppress(aiohttp.ClientError, ConnectionError):
                async for piece in found.content.iter_any():
                    await answer.write(piece)
            return answer

    app = web.Application(client_max_size=64 * 2**20)
    app.router.add_route("*", f"{prefix}{{path:.*}}", forward)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None), auto_decompress=True) as session:
        await runner.setup()
        await web.TCPSite(runner, HOST, port := free_port()).start()
        try:
            yield f"http://{HOST}:{port}"
        finally:
            await runner.cleanup()
