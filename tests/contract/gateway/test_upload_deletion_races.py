"""Deletion of an upload while a job that names it is submitted: the job is refused, or it keeps its input."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.events.base import encode
from contracts.events.job import JobCancelled, JobQueued
from contracts.events.upload import MediaFacts, UploadCompleted, UploadCreated, UploadFailed
from contracts.ids import new_id
from contracts.job import Job
from kit.bucket import ObjectMissing
from kit.settings import NatsSettings, S3Settings
from tests.harness.servers.gateway import RunningGateway, code_of, running_gateway

pytestmark = pytest.mark.anyio

RACES, AT_ONCE = 64, 8
#: Time by which the submission begins after the deletion; it takes longer.
OFFSETS_S = (-0.2, 0.02)


async def completed_upload(running: RunningGateway) -> tuple[str, str]:
    """Store a completed upload, and return its id and key."""
    upload_id = new_id("upl")
    key = running.bucket.key("uploads", "local", upload_id, "a.mp4")
    sent = await running.bucket.put(key, b"bytes", "video/mp4")
    created = UploadCreated(key=key, filename="a.mp4", content_type="video/mp4", size_bytes=5)
    media = MediaFacts(
        media="video", container="mov", codec="h264", width_px=640, height_px=480, duration_s=20.0, frame_rate=30.0
    )
    sequence = 0
    for data in (created, UploadCompleted(size_bytes=sent.bytes, sha256=sent.sha256, media=media)):
        message = encode(data, tenant="local", subject_id=upload_id, source="/gateway")
        sequence = await running.store.publish(message)
    assert await running.tail.wait_for(sequence, 20)
    return upload_id, key


async def has_bytes(running: RunningGateway, key: str) -> bool:
    try:
        await running.bucket.size(key)
    except ObjectMissing:
        return False
    return True


@pytest.mark.timeout(300)
async def test_a_job_is_refused_or_keeps_its_input(servers: tuple[NatsSettings, S3Settings], tmp_path: Path):
    chance = random.Random(7)
    outcomes: list[tuple[int, int]] = []
    async with (
        running_gateway(*servers, tmp_path / "submits") as running,
        running_gateway(*servers, tmp_path / "deletes") as other,
    ):

        async def submit(upload_id: str, after_s: float = 0.0) -> httpx.Response:
            await asyncio.sleep(max(0.0, after_s))
            body = {"workload": "lap_compare", "inputs": {"reference": upload_id, "other": [upload_id]}}
            return await running.http.post("/v1/jobs", json=body, headers={"Idempotency-Key": upload_id})

        async def delete(upload_id: str, after_s: float) -> httpx.Response:
            await asyncio.sleep(max(0.0, after_s))
            return await other.http.delete(f"/v1/uploads/{upload_id}")

        async def race() -> None:
            upload_id, key = await completed_upload(running)
            offset_s = chance.uniform(*OFFSETS_S)
            submitted, deleted = await asyncio.gather(submit(upload_id, offset_s), delete(upload_id, -offset_s))
            outcomes.append((submitted.status_code, deleted.status_code))
            stored = await running.store.load("saccade.evt.local.job.*.submitted")
            jobs = [event.subject.split(".")[4] for event in stored if upload_id.encode() in event.body]
            if submitted.status_code == 202:
                assert await has_bytes(running, key), outcomes[-1]
                assert not (await running.job(submitted.json()["id"])).cancel_requested
                return
            assert code_of(submitted) in ("upload_already_ended", "upload_not_found"), submitted.text
            for job_id in jobs:
                assert (await running.job(job_id)).cancel_requested
                assert code_of(await submit(upload_id)) == "upload_already_ended"

        for _ in range(RACES // AT_ONCE):
            await asyncio.gather(*(race() for _ in range(AT_ONCE)))
    assert {status for status, _ in outcomes} > {202}, outcomes


async def test_a_deletion_after_a_retry_does_not_cancel_it_when_the_view_is_ahead(
    servers: tuple[NatsSettings, S3Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with running_gateway(*servers, tmp_path) as running:
        upload_id, _ = await completed_upload(running)
        job_id = (await running.submitted(upload_id))["id"]
        await running.http.post(f"/v1/jobs/{job_id}/cancel")
        await running.say(job_id, JobCancelled(attempt=0))
        events = running.app.state.jobs.events
        decide = events.decide

        async def decide_and_fall_behind(*args: Any, **more: Any) -> Job:
            """Let another gateway delete the upload and the dispatcher go on before the retry returns."""
            monkeypatch.undo()
            retried: Job = await decide(*args, **more)
            deleted = encode(UploadFailed(reason="deleted"), tenant="local", subject_id=upload_id, source="/gateway")
            await running.store.publish(deleted)
            await running.say(job_id, JobQueued(position=0))
            return retried

        monkeypatch.setattr(events, "decide", decide_and_fall_behind)
        answer = await running.http.post(f"/v1/jobs/{job_id}/retry")
        assert answer.status_code == 200, answer.text
        assert answer.json()["state"] == "queued", "as the view has it"
        assert not (await running.job(job_id)).cancel_requested
