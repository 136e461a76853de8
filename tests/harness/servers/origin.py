"""The embedded origin before two small services in this process, and raw requests to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Receive, Scope, Send

from cli.embedded.origin import Origin
from cli.embedded.ports import LOOPBACK, listen
from contracts.http_routes import RoutedService, is_path_of
from contracts.limits import MIB
from kit.http.connection_channel import channel_ends
from kit.http.passed_connections import PassedConnections
from kit.http.protocol import HttpProtocol
from kit.http.server import serve
from tests.harness.servers.embedded import free_port

WAIT_S = 20.0
#: Where each service sends a request's body back.
ECHO_PATHS: dict[RoutedService, str] = {"gateway": "/echo", "notifier": "/v1/webhooks/echo"}
LARGE_ANSWER_BYTES = 8 * MIB


@dataclass
class ShowingService:
    """An ASGI application that shows what reached it, and echoes bodies and WebSocket messages."""

    name: RoutedService
    requests: list[Scope] = field(default_factory=list)
    #: Set when the reader of the endless answer has left.
    reader_left: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if scope["type"] == "lifespan":
            await self._follow_lifespan(receive, send)
            return
        self.requests.append(scope)
        if scope["type"] == "websocket":
            await self._echo_messages(receive, send)
        elif scope["path"].endswith("/events"):
            await self._stream(receive, send)
        elif scope["path"] in ECHO_PATHS.values():
            await self._echo(scope, receive, send)
        elif scope["path"] == "/large":
            await self._send_much(send)
        elif scope["path"] == "/early":
            await self._answer(b"{}", send)
        else:
            await self._show(scope, receive, send)

    async def _follow_lifespan(self, receive: Receive, send: Send) -> None:
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})

    async def _show(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        facts = {
            "service": self.name,
            "method": scope["method"],
            "raw_path": scope["raw_path"].decode(),
            "query": scope["query_string"].decode(),
            "headers": [[name.decode(), value.decode("latin-1")] for name, value in scope["headers"]],
            "client": scope["client"],
            "body_bytes": len(body),
        }
        await self._answer(json.dumps(facts).encode(), send)

    async def _answer(self, body: bytes, send: Send) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _send_much(self, send: Send) -> None:
        length = str(LARGE_ANSWER_BYTES).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        for _ in range(LARGE_ANSWER_BYTES // MIB):
            await send({"type": "http.response.body", "body": bytes(MIB), "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _echo(self, scope: Scope, receive: Receive, send: Send) -> None:
        kept = [pair for pair in scope["headers"] if pair[0] in (b"content-encoding", b"content-length")]
        await send({"type": "http.response.start", "status": 200, "headers": kept})
        while (message := await receive())["type"] == "http.request":
            await send({"type": "http.response.body", "body": message["body"], "more_body": message["more_body"]})
            if not message["more_body"]:
                return

    async def _stream(self, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"data: first\n\n", "more_body": True})
        await receive()
        while (await receive())["type"] != "http.disconnect":
            pass
        self.reader_left.set()

    async def _echo_messages(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"].upper()})
        self.reader_left.set()


@dataclass
class RunningOrigin:
    """A running origin."""

    origin: Origin
    port: int
    services: dict[RoutedService, ShowingService]
    stops: dict[RoutedService, asyncio.Event]
    #: Of the services themselves.
    ports: dict[RoutedService, int] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Return its base URL."""
        return f"http://{LOOPBACK}:{self.port}"

    async def exchange(self, request: bytes, to: RoutedService | None = None) -> bytes:
        """Send bytes on a new connection, to a service directly if it is named; return all that comes until its end."""
        reader, writer = await asyncio.open_connection(LOOPBACK, self.ports[to] if to else self.port)
        try:
            writer.write(request)
            async with asyncio.timeout(WAIT_S):
                return await reader.read()
        finally:
            writer.close()


def responses(received: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    """Parse responses that state their length."""
    found = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers["content-length"])
        found.append((int(first.split(" ")[1]), headers, rest[:length]))
        received = rest[length:]
    return found


def shown(received: bytes) -> list[dict[str, Any]]:
    """Return what the showing services answered."""
    return [json.loads(body) for _, _, body in responses(received)]


@asynccontextmanager
async def running_origin(
    *started: RoutedService,
    request_line_s: float = WAIT_S,
    protocol: type[HttpProtocol] = HttpProtocol,
    services: dict[RoutedService, Any] | None = None,
) -> AsyncIterator[RunningOrigin]:
    """Run an origin, and these of its services; ``services`` are other applications than the showing ones."""
    origin, listener = Origin(request_line_s), listen(LOOPBACK, 0)
    origin.start(listener)
    running = RunningOrigin(origin, listener.getsockname()[1], {}, {})
    serving = []
    for name in started:
        ours, theirs = channel_ends()
        origin.connect(name, ours)
        running.stops[name] = asyncio.Event()
        running.services[name] = ShowingService(name)
        running.ports[name] = free_port()
        serving.append(
            asyncio.create_task(
                serve(
                    (services or {}).get(name) or running.services[name],
                    LOOPBACK,
                    running.ports[name],
                    authenticated=False,
                    stop=running.stops[name],
                    protocol=protocol,
                    passed=PassedConnections(theirs, is_path_of(name)),
                )
            )
        )
    try:
        async with asyncio.timeout(WAIT_S):
            while not all(origin.is_ready(name) for name in started):
                await asyncio.sleep(0.005)
        yield running
    finally:  # in the order of cli/embedded/system.py
        origin.stop()
        for stop in running.stops.values():
            stop.set()
        await asyncio.gather(*serving)
        origin.close()
