"""Inputs by URL: a clip and its URL with a secret, settings that allow loopback, and what a gateway has of them."""

from __future__ import annotations

import asyncio
from typing import Any

from contracts.events import decode
from contracts.limits import MIB
from contracts.streams import FETCHES
from kit.bus.event_store import EventStore
from services.gateway.settings import UrlInputSettings
from tests.harness.network.file_servers import FileServer
from tests.harness.servers.gateway import RunningGateway, video

CLIP = video()
SECRET = "/clips/lap a.mp4?signature=hush%2Fhush".replace(" ", "%20")
LOOPBACK = UrlInputSettings(
    inputs="public", allowed_networks="127.0.0.1", max_bytes=40 * MIB, stall_s=1.0, first_byte_s=1.0, wait_s=8.0
)  # type: ignore[arg-type]


async def ended(running: RunningGateway, upload_id: str) -> dict[str, Any]:
    """Wait until an upload is no longer open."""
    async with asyncio.timeout(20):
        while (found := (await running.http.get(f"/v1/uploads/{upload_id}")).json())["state"] == "created":
            await asyncio.sleep(0.02)
    return found  # type: ignore[no-any-return]


async def recorded(running: RunningGateway) -> list[bytes]:
    """Return the private records that are left."""
    return [stored.body async for stored in EventStore(running.store.client, FETCHES.name).history(0)]


async def until_forgotten(running: RunningGateway) -> None:
    """Wait until no private record holds the secret: it is deleted after the last event."""
    async with asyncio.timeout(5):
        while any(b"hush" in record for record in await recorded(running)):
            await asyncio.sleep(0.02)


async def events_of(running: RunningGateway, *ids: str) -> list[str]:
    found = [decode(stored.body) async for stored in running.store.history(0)]
    return [envelope.type for envelope in found if envelope.subject in ids]


async def nothing_secret(running: RunningGateway) -> None:
    """Check that no event holds the query of a URL."""
    assert not [stored async for stored in running.store.history(0) if b"hush" in stored.body]


async def until_asked(server: FileServer, count: int) -> None:
    async with asyncio.timeout(10):
        while len(server.targets) < count:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)
    assert len(server.targets) == count
