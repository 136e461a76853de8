"""Sessions behind connections of the replaced vision system's clients, and their workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection

from contracts.events.session import SessionText, ShownFrame, TextLatency
from contracts.ids import new_id
from tests.harness.clients.vision_replay import connected, exchange, stream_url
from tests.harness.servers.gateway import RunningGateway
from tests.harness.sessions.scripted_session_worker import ScriptedSessionWorker, jpeg, run_scripted_worker

Served = tuple[RunningGateway, str]


async def sessions_of(running: RunningGateway) -> list[dict[str, Any]]:
    """List the sessions, newest first."""
    found: list[dict[str, Any]] = (await running.http.get("/v1/sessions")).json()["data"]
    return found


async def newest_session(running: RunningGateway, before: int) -> str:
    """Wait for the session of a new connection."""
    async with asyncio.timeout(20):
        while len(found := await sessions_of(running)) <= before:
            await asyncio.sleep(0.01)
    return str(found[0]["id"])


async def state_of(running: RunningGateway, session_id: str, state: str) -> dict[str, Any]:
    """Wait until a session is in a state."""
    async with asyncio.timeout(20):
        while True:
            session: dict[str, Any] = (await running.http.get(f"/v1/sessions/{session_id}")).json()
            if session["state"] == state:
                return session
            await asyncio.sleep(0.01)


def text(chunk: int, caption: str, **more: Any) -> SessionText:
    """Write what a worker publishes of a finished chunk."""
    latency = TextLatency(queue_ms=1.2, prefill_ms=10.0, decode_ms=30.0, first_token_ms=12.0, total_ms=41.6)
    shown = [ShownFrame(seq=chunk, captured_at_s=time.time())]
    fields: dict[str, Any] = {"frames": shown, "start_s": 0.25, "end_s": 1.25, "tokens": 7, "latency": latency} | more
    return SessionText(run_id=new_id("run"), chunk=chunk, text=caption, **fields)


@asynccontextmanager
async def watched(served: Served, **headers: str) -> AsyncIterator[tuple[ClientConnection, ScriptedSessionWorker]]:
    """Connect, send a first frame, and play the worker of the connection's session, which has received it."""
    running, address = served
    before = len(await sessions_of(running))
    async with connected(stream_url(address), **headers) as socket:
        session_id = await newest_session(running, before)
        async with run_scripted_worker(running, session_id) as worker:
            assert await exchange(socket, jpeg()) == {"frame": 1, "bytes": len(jpeg())}
            await worker.heard(frames=1)
            yield socket, worker
