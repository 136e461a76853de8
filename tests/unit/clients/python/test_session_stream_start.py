"""Opening of a session's WebSocket while the gateway starts: it is asked again, as by all other calls."""

from __future__ import annotations

import http
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from saccade_client import ClientError, SessionStream
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def server(refusals: list[http.HTTPStatus]) -> AsyncIterator[str]:
    """Answer each request with the next refusal, and open the WebSocket when none is left."""

    def refuse(connection: ServerConnection, _: Request) -> Response | None:
        if not refusals:
            return None
        response = connection.respond(refusals.pop(0), '{"code": "starting", "detail": "The gateway is starting."}')
        response.headers["Retry-After"] = "0"
        return response

    async def greet(connection: ServerConnection) -> None:
        await connection.send('{"type": "resume"}')
        await connection.wait_closed()

    running: Server
    async with serve(greet, "127.0.0.1", 0, process_request=refuse) as running:
        yield f"ws://127.0.0.1:{running.sockets[0].getsockname()[1]}/"


async def test_a_stream_opens_once_the_server_has_started() -> None:
    refusals = [http.HTTPStatus.SERVICE_UNAVAILABLE, http.HTTPStatus.BAD_GATEWAY]
    async with server(refusals) as url, SessionStream(url, {}) as stream:
        async for message in stream:
            assert message == {"type": "resume"}
            break
    assert refusals == []


async def test_another_refusal_is_not_repeated() -> None:
    refusals = [http.HTTPStatus.NOT_FOUND, http.HTTPStatus.NOT_FOUND]
    async with server(refusals) as url:
        with pytest.raises(ClientError) as refused:
            await SessionStream(url, {}).__aenter__()
    assert (refused.value.status, len(refusals)) == (404, 1)
