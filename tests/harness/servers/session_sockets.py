"""A gateway on a port, and the client's side of a session's WebSocket."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from kit.auth.api_keys import AuthSettings
from kit.http.server import serve
from kit.settings import NatsSettings, S3Settings
from services.gateway.settings import SessionSettings
from tests.harness.servers.embedded import HOST, free_port
from tests.harness.servers.gateway import RunningGateway, running_gateway
from tests.harness.sessions.scripted_session_worker import jpeg

Servers = tuple[NatsSettings, S3Settings]
Socket = aiohttp.ClientWebSocketResponse


class Served:
    """A gateway on a port."""

    def __init__(
        self, running: RunningGateway, port: int, session: aiohttp.ClientSession, stop: Callable[[], Awaitable[None]]
    ) -> None:
        self.running, self.url, self.session, self.stop = running, f"http://{HOST}:{port}", session, stop

    async def opened(self, headers: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
        """Open a session."""
        answer = await self.running.http.post("/v1/sessions", json={"workload": "streamed"} | more, headers=headers)
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def stream(self, session_id: str, query: str = "", **more: Any) -> Any:
        return self.session.ws_connect(f"{self.url}/v1/sessions/{session_id}/stream{query}", **more)

    async def refusal(self, session_id: str, query: str = "", **more: Any) -> int:
        try:
            async with self.stream(session_id, query, **more):
                return 101
        except aiohttp.WSServerHandshakeError as error:
            return error.status


@asynccontextmanager
async def serving(
    servers: Servers,
    folder: Path,
    auth: AuthSettings | None = None,
    *,
    send_buffer_bytes: int | None = None,
    session_settings: SessionSettings | None = None,
) -> AsyncIterator[Served]:
    """Run a gateway on a port until the block ends."""
    stop, port = asyncio.Event(), free_port()
    async with (
        running_gateway(*servers, folder, auth=auth, session_settings=session_settings) as running,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session,
    ):
        keyed = running.authenticated
        server = asyncio.ensure_future(
            serve(
                running.app,
                HOST,
                port,
                authenticated=keyed,
                stop=stop,
                send_buffer_bytes=send_buffer_bytes,
                drain=running.app.state.session_streams.drain,
            )
        )

        async def end() -> None:
            stop.set()
            await server

        try:
            async with asyncio.timeout(20):
                while True:
                    try:
                        async with session.get(f"http://{HOST}:{port}/health"):
                            break
                    except aiohttp.ClientError:
                        await asyncio.sleep(0.02)
            yield Served(running, port, session, end)
        finally:
            await end()


def frame(seq: int, body: bytes | None = None, **more: Any) -> bytes:
    """Write a frame's message."""
    head = json.dumps({"seq": seq, "captured_at_s": time.time(), "content_type": "image/jpeg"} | more).encode()
    return len(head).to_bytes(4) + head + (jpeg() if body is None else body)


async def until(socket: Socket, kind: str) -> dict[str, Any]:
    """Read messages up to the first of a type."""
    async with asyncio.timeout(20):
        while True:
            message = json.loads(await socket.receive_str())
            if message["type"] == kind:
                return message


async def closed(socket: Socket) -> int | None:
    """Read to the end and give the close code."""
    async with asyncio.timeout(10):
        while (await socket.receive()).type not in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED):
            pass
    return socket.close_code
