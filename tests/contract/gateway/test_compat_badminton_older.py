"""Clients of the badminton tracker before it used Convex: a form, a call that waits, a socket with progress and log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest

from contracts.errors import ErrorBody
from contracts.events.job import JobFailed
from kit.auth.api_keys import AuthSettings
from kit.settings import NatsSettings, S3Settings
from modal_workers.badminton.spec import WORKLOAD
from tests.harness import badminton_job
from tests.harness.servers.gateway import RunningGateway, keys_file, video
from tests.harness.servers.served_gateway import served_gateway

pytestmark = pytest.mark.anyio

Servers = tuple[NatsSettings, S3Settings]


@pytest.fixture
async def served(servers: Servers, tmp_path: Path) -> AsyncIterator[tuple[RunningGateway, str]]:
    async with served_gateway(*servers, tmp_path, backends=frozenset(WORKLOAD.requires)) as (running, address):
        yield running, f"{address}/badminton"


async def submitted_job(running: RunningGateway, video_id: str) -> str:
    async with asyncio.timeout(10):
        while True:
            for job in (await running.http.get("/v1/jobs", params={"workload": "badminton"})).json()["data"]:
                if job["params"]["video_id"] == video_id:
                    return str(job["id"])
            await asyncio.sleep(0.02)


async def test_a_form_an_analysis_that_is_waited_for_and_its_progress(served: tuple[RunningGateway, str]) -> None:
    running, base = served
    clip = video()
    async with httpx.AsyncClient(base_url=base, timeout=20) as http, aiohttp.ClientSession() as session:
        sent = (await http.post("/api/upload", files={"file": ("Rally é.mp4", clip, "video/mp4")})).json()
        video_id = sent.pop("video_id")
        assert sent == {"filename": "Rally é.mp4", "size": len(clip), "status": "uploaded"}
        assert (await http.get(f"/api/original/{video_id}", follow_redirects=True)).content == clip
        assert (await http.get(f"/api/results/{video_id}")).json()["detail"]
        waiting = [asyncio.ensure_future(http.post(f"/api/analyze/{video_id}")) for _ in range(2)]
        job_id = await submitted_job(running, video_id)
        async with session.ws_connect(f"{base}/ws/{video_id}") as socket:
            run_id = await running.start_job(job_id)
            await badminton_job.report_progress(running, job_id, run_id)
            told: list[dict[str, Any]] = []
            async with asyncio.timeout(10):
                while told[-1:] != [{"type": "progress", "progress": 37, "frame": 45, "total_frames": 90}]:
                    told.append(await socket.receive_json())
                await socket.send_bytes(b"\x00")
                await socket.send_str("ping")
                while (message := await socket.receive_json())["type"] != "pong":
                    told.append(message)
            await badminton_job.succeed(running, job_id, run_id, video_id)
            async with asyncio.timeout(10):
                while told[-1].get("progress") != 100:
                    told.append(await socket.receive_json())
        logged = [one["message"] for one in told if one["type"] == "log"]
        assert len(logged) == len(set(logged)), "each entry is told once"
        assert "Analysis complete! Results ready." in logged
        for answer in await asyncio.gather(*waiting):
            assert answer.json()["status"] == "completed"
            assert answer.json()["result"]["video_id"] == video_id
        results = await http.get(f"/api/results/{video_id}")
        assert results.json() == answer.json()["result"]
        assert (await http.get(f"/api/video/{video_id}", follow_redirects=True)).content == b"not a video"


async def test_an_analysis_that_fails_is_an_error(served: tuple[RunningGateway, str]) -> None:
    running, base = served
    async with httpx.AsyncClient(base_url=base, timeout=20) as http:
        assert (await http.post("/api/upload", content=b"x")).status_code == 400
        video_id = (await http.post("/api/upload", files={"file": video()})).json()["video_id"]
        waiting = asyncio.ensure_future(http.post(f"/api/analyze/{video_id}"))
        error = ErrorBody(code="clip_too_short", message="Too short.", hint="", retryable=False)  # type: ignore[arg-type]
        await running.say(await submitted_job(running, video_id), JobFailed(attempt=1, failure="user", error=error))
        answer = await waiting
        assert (answer.status_code, answer.json()["detail"]) == (500, "Too short.")


async def test_a_socket_ends_with_its_key(servers: Servers, tmp_path: Path) -> None:
    """It went on with progress and log of the video until its client closed it."""
    keys = AuthSettings(api_keys_file=keys_file(tmp_path, "acme", "rival"))
    async with (
        served_gateway(*servers, tmp_path, auth=keys, backends=frozenset(WORKLOAD.requires)) as (_, address),
        httpx.AsyncClient(base_url=f"{address}/badminton/k/acme.secret", timeout=20) as http,
        aiohttp.ClientSession() as session,
    ):
        video_id = (await http.post("/api/upload", files={"file": video()})).json()["video_id"]
        async with session.ws_connect(f"{http.base_url}ws/{video_id}") as socket, asyncio.timeout(10):
            assert (await socket.receive_json())["type"] == "log"
            keys_file(tmp_path, "rival")
            closed = await socket.receive()
        assert (closed.type, closed.data) == (aiohttp.WSMsgType.CLOSE, 1008)
