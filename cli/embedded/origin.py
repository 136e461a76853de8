"""Reverse proxy: one origin in front of the services, for requests, event streams and WebSockets."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
from collections.abc import Mapping
from typing import Final

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from contracts.errors import ErrorCode, SaccadeError
from contracts.ids import new_id
from kit.http.problems import PROBLEM_JSON, problem, problem_headers

#: For operators, who read it at the services' own ports.
_METRICS: Final = "/metrics"
#: Paths that the notifier serves; all others are the gateway's.
_NOTIFIER_PATHS: Final = re.compile(r"^/v1/(?:events|tickets|webhooks(?:/.*)?|(?:jobs|sessions)/[^/]+/events)/?$")
_EVENT_STREAMS: Final = re.compile(r"^/v1/(?:events|(?:jobs|sessions)/[^/]+/events)$")
#: Answer to an event stream while the notifier is unavailable: an EventSource never reconnects after another status.
_RECONNECT_LATER: Final = b":\nretry: %d\n\n"
#: The answer holds no data, so every page may read it; a page that may not would not reconnect.
_RECONNECT_LATER_HEADERS: Final = {"Cache-Control": "no-store", "Access-Control-Allow-Origin": "*"}
#: Headers that belong to one connection (RFC 9110, section 7.6.1).
_HOP_BY_HOP: Final = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"),
        *("te", "trailer", "transfer-encoding", "upgrade"),
        # Our HTTP server has handled it.
        "expect",
    }
)
#: Errors of a service that refuses a WebSocket, by status.
_REFUSALS: Final = {
    400: ErrorCode.CURSOR_INVALID,
    401: ErrorCode.UNAUTHENTICATED,
    403: ErrorCode.FORBIDDEN,
    404: ErrorCode.SESSION_NOT_FOUND,
}
#: Shorter than the services' keep-alive, so that no connection is used while the service closes it.
_KEEP_ALIVE_S: Final = 3.0


def upstream_of(path: str) -> str:
    """Return the name of the service that serves a path."""
    return "notifier" if _NOTIFIER_PATHS.match(path) else "gateway"


class Origin:
    """Reverse proxy; ``upstreams`` maps a service's name to its base URL."""

    def __init__(self, upstreams: Mapping[str, str]) -> None:
        """Proxy to ``upstreams``."""
        self._upstreams = dict(upstreams)
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None

    async def start(self, listener: socket.socket) -> None:
        """Serve on a bound socket."""
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=2.0),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        # A client's disconnect ends its upstream request at once, also of an idle event stream.
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()

    async def close(self) -> None:
        """Stop serving."""
        if self._runner:
            await self._runner.cleanup()
        if self._session:
            await self._session.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        assert self._session
        if request.path.rstrip("/") == _METRICS:
            return _answer(SaccadeError(ErrorCode.NOT_FOUND), 404)
        service = upstream_of(request.path)
        url = URL(self._upstreams[service] + request.raw_path, encoded=True)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._pass_websocket(request, url, service)
        headers = _forwarded(request.headers)
        headers["X-Forwarded-For"] = request.remote or ""
        body = request.content.iter_any() if request.body_exists else None
        try:
            answer = await self._session.request(request.method, url, headers=headers, data=body, allow_redirects=False)
        except (aiohttp.ClientError, TimeoutError) as error:
            if request.method == "GET" and _EVENT_STREAMS.match(request.path):
                return _reconnect_later()
            unavailable = isinstance(error, aiohttp.ClientConnectorError)
            what = "is starting" if unavailable else "closed the connection"
            return _problem(503 if unavailable else 502, f"The {service} {what}.")
        try:
            return await _stream(request, answer)
        finally:
            answer.release()

    async def _pass_websocket(self, request: web.Request, url: URL, service: str) -> web.StreamResponse:
        assert self._session
        offered = [
            name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",") if name.strip()
        ]
        headers = CIMultiDict(
            (name, value)
            for name, value in _forwarded(request.headers).items()
            if not name.lower().startswith("sec-websocket")
        )
        try:
            there = await self._session.ws_connect(
                url.with_scheme("ws"),
                headers=headers,
                protocols=[name for name in offered if name],
                max_msg_size=0,
                autoping=False,
            )
        except aiohttp.WSServerHandshakeError as error:
            return _refused(error.status)
        except (aiohttp.ClientError, TimeoutError):
            return _problem(503, f"The {service} is starting.")
        async with there:
            here = web.WebSocketResponse(
                protocols=[there.protocol] if there.protocol else (), max_msg_size=0, autoping=False
            )
            await here.prepare(request)
            pumps = [asyncio.create_task(_pump(here, there)), asyncio.create_task(_pump(there, here))]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
            code = there.close_code or here.close_code or 1000
            await here.close(code=code if code not in (1005, 1006) else 1001)
        return here


def _forwarded(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """Return the end-to-end headers."""
    named = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP | named)


async def _stream(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    """Forward an answer, chunk by chunk as it comes."""
    headers = _forwarded(answer.headers)
    headers.setdefault("Server", "saccade")  # otherwise aiohttp sends its version and Python's
    response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
    await response.prepare(request)
    try:
        async for piece in answer.content.iter_any():
            await response.write(piece)
    except (aiohttp.ClientError, ConnectionError):
        # An incomplete answer must not look complete: abort the connection.
        if request.transport:
            request.transport.abort()
        return response
    with contextlib.suppress(ConnectionError):
        await response.write_eof()
    return response


async def _pump(
    source: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
    target: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
) -> None:
    """Forward messages until the source closes."""
    async for message in source:
        match message.type:
            case aiohttp.WSMsgType.TEXT:
                await target.send_str(message.data)
            case aiohttp.WSMsgType.BINARY:
                await target.send_bytes(message.data)
            case aiohttp.WSMsgType.PING:
                await target.ping(message.data)
            case aiohttp.WSMsgType.PONG:
                await target.pong(message.data)
            case _:
                return


def _reconnect_later() -> web.Response:
    """Return an empty event stream with a reconnection time; an EventSource reconnects only after status 200."""
    body = _RECONNECT_LATER % random.randint(1000, 3000)  # noqa: S311 - spreads reconnections, no secret
    return web.Response(body=body, content_type="text/event-stream", headers=_RECONNECT_LATER_HEADERS)


def _refused(status: int) -> web.Response:
    """Return the problem of a refused WebSocket; only the status of the service's answer is available."""
    code = _REFUSALS.get(status)
    if code is None:
        return _problem(status if status >= 400 else 502, "The WebSocket was refused.")
    return _answer(SaccadeError(code), status)


def _problem(status: int, detail: str) -> web.Response:
    """Return the problem of a service that did not answer."""
    return _answer(SaccadeError(ErrorCode.SERVICE_UNAVAILABLE, detail), status)


def _answer(error: SaccadeError, status: int) -> web.Response:
    request_id = new_id("req")
    body = problem(error, request_id) | {"status": status}
    headers = problem_headers(error) | {"X-Request-Id": request_id}
    return web.json_response(body, status=status, headers=headers, content_type=PROBLEM_JSON)
