"""A client of the replaced lap comparison that does what its page does, and a gateway that it talks to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from kit.settings import NatsSettings, S3Settings
from modal_workers.lap_compare.spec import WORKLOAD
from tests.harness.servers.gateway import RunningGateway, video
from tests.harness.servers.served_gateway import served_gateway

Served = tuple[RunningGateway, str]
PAGE = {"Origin": "http://localhost:3000"}


@asynccontextmanager
async def laps_gateway(servers: tuple[NatsSettings, S3Settings], folder: Path, **more: Any) -> AsyncIterator[Served]:
    """Run a gateway whose workers have what both workloads of laps require."""
    async with served_gateway(*servers, folder, backends=frozenset(WORKLOAD.requires), **more) as found:
        yield found


class LapsClient:
    """A client that does what the page does, from a page of another origin."""

    def __init__(self, base: str) -> None:
        self.base = base

    async def send(self, method: str, path: str, **more: Any) -> httpx.Response:
        async with httpx.AsyncClient(headers=PAGE, timeout=60) as http:
            return await http.request(method, self.base + path, **more)

    async def get(self, path: str) -> httpx.Response:
        return await self.send("GET", path)

    async def post(self, path: str, body: Any) -> httpx.Response:
        return await self.send("POST", path, json=body)

    async def upload(self, content: bytes | None = None, **signed: Any) -> dict[str, str]:
        """Sign and PUT a video; return what names it."""
        answer = await self.post("/sign-upload", {"filename": "lap.mp4", "content_type": "video/mp4"} | signed)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert sorted(found) == ["bucket", "get_url", "key", "put_url"]
        async with httpx.AsyncClient() as bucket:
            sent = await bucket.put(found["put_url"], content=content or video(), headers={"Content-Type": "video/mp4"})
            assert sent.is_success, sent.text
            assert (await bucket.get(found["get_url"])).content == (content or video())
        return {"bucket": found["bucket"], "key": found["key"]}

    async def pair(self) -> dict[str, Any]:
        """Upload two laps and return the body that starts their job."""
        return {"mode": "pair", "lapA": await self.upload(), "lapB": await self.upload(video(9))}

    async def status(self, call_id: str) -> dict[str, Any]:
        answer = await self.get(f"/jobs/{call_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found
