"""A gateway in the test's own event loop that listens on a port, for clients that are programs of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kit.auth.api_keys import AuthSettings
from kit.http.server import serve
from kit.settings import NatsSettings, S3Settings
from kit.tasks import end
from tests.harness.servers.embedded import HOST, free_port, wait_for_port
from tests.harness.servers.gateway import RunningGateway, running_gateway


@asynccontextmanager
async def served_gateway(
    nats: NatsSettings,
    s3: S3Settings,
    folder: Path,
    *,
    auth: AuthSettings | None = None,
    port: int | None = None,
    **settings: Any,
) -> AsyncIterator[tuple[RunningGateway, str]]:
    """Run a gateway on two servers; yield it and its address."""
    port, stop, auth = port or free_port(), asyncio.Event(), auth or AuthSettings()
    async with running_gateway(nats, s3, folder, auth=auth, **settings) as running:
        serving = asyncio.ensure_future(serve(running.app, HOST, port, authenticated=auth.authenticated, stop=stop))
        try:
            await asyncio.to_thread(wait_for_port, port)
            yield running, f"http://{HOST}:{port}"
        finally:
            stop.set()
            await asyncio.wait([serving], timeout=5)
            await end(serving)
