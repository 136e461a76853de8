"""Quotas of what comes by URL: bytes as they arrive, jobs that wait for their files, events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.quotas import QuotaName
from kit.settings import NatsSettings, S3Settings
from tests.harness.network.file_servers import answer, file_server, sending
from tests.harness.servers.gateway import RunningGateway, running_gateway
from tests.harness.servers.url_inputs import CLIP, LOOPBACK, ended, until_asked

pytestmark = pytest.mark.anyio


@pytest.fixture
async def running(servers: tuple[NatsSettings, S3Settings], tmp_path: Path) -> AsyncIterator[RunningGateway]:
    patient = LOOPBACK.model_copy(update={"stall_s": 20.0, "wait_s": 0.5})
    async with running_gateway(*servers, tmp_path, url_inputs=patient) as found:
        yield found


def limit(running: RunningGateway, **quotas: int) -> None:
    running.app.state.authenticator.quotas.defaults = {QuotaName(name): most for name, most in quotas.items()}


def refusal(refused: httpx.Response) -> tuple[int, str, str]:
    return refused.status_code, refused.json()["code"], refused.json()["quota"]["name"]


async def fetched(running: RunningGateway, url: str) -> dict[str, Any]:
    answered = await running.http.post("/v1/uploads", json={"url": url})
    assert answered.status_code == 201, answered.text
    return await ended(running, answered.json()["id"])


@pytest.mark.parametrize("quota", ["storage_bytes", "unfinished_input_bytes"])
@pytest.mark.parametrize("announced", [len(CLIP), None])
async def test_a_file_that_is_larger_than_the_room_left_is_not_kept(
    running: RunningGateway, quota: str, announced: int | None
) -> None:
    async with file_server(sending(answer(CLIP, length=announced))) as server:
        limit(running, **{quota: len(CLIP) - 1})
        failed = await fetched(running, server.url("/a.mp4"))
        assert (failed["state"], failed["error"]["code"]) == ("failed", "quota_exceeded")
        limit(running, **{quota: len(CLIP)})
        done = await fetched(running, server.url("/a.mp4"))
        assert done["state"] == "completed", "what was refused is not counted any more"
        await running.http.delete(f"/v1/uploads/{done['id']}")


async def test_files_that_arrive_together_share_the_room(running: RunningGateway) -> None:
    """One is announced and stands still; the other one has no size in any event either."""
    body = CLIP[:300]
    async with file_server(sending(answer(body, length=len(CLIP)), hold=True)) as server:
        limit(running, storage_bytes=2 * len(CLIP) - 1)
        first = (await running.http.post("/v1/uploads", json={"url": server.url("/1")})).json()["id"]
        await until_asked(server, 1)
        second = await fetched(running, server.url("/2"))
        assert second["error"]["code"] == "quota_exceeded"
        await running.http.delete(f"/v1/uploads/{first}")


async def test_without_room_nothing_is_asked_for(running: RunningGateway) -> None:
    limit(running, storage_bytes=0)
    refused = await running.http.post("/v1/uploads", json={"url": "http://127.0.0.1:8000/a.mp4"})
    assert refusal(refused) == (409, "quota_exceeded", "storage_bytes")


async def test_jobs_that_wait_for_their_files_count_as_unfinished(running: RunningGateway) -> None:
    async with file_server(sending(answer(CLIP[:300], length=len(CLIP)), hold=True)) as server:
        limit(running, unfinished_jobs=2)
        inputs = [{name: {"url": server.url(f"/{n}/{name}")} for name in ("reference", "other")} for n in range(5)]
        bodies = [{"workload": "lap_compare", "inputs": given} for given in inputs]
        answers = await asyncio.gather(*(running.http.post("/v1/jobs", json=body) for body in bodies))
        refused = [one for one in answers if one.status_code == 409]
        assert [refusal(one) for one in refused] == [(409, "quota_exceeded", "unfinished_jobs")] * 3, "at the same time"
        waiting = [one.json() for one in answers if one.json()["code"] == "url_fetch_pending"]
        assert len(waiting) == 2
        for upload_id in (upload_id for one in waiting for ids in one["uploads"].values() for upload_id in ids):
            await running.http.delete(f"/v1/uploads/{upload_id}")
