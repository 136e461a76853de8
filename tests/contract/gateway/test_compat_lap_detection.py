"""Laps found for clients of the replaced lap comparison: ``POST /detect-laps``, with keys off and on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.events.job import JobFailed
from kit.auth.api_keys import AuthSettings
from kit.settings import NatsSettings, S3Settings
from modal_workers.lap_detection.spec import LapDetectionResult, LapResult, VideoFactsResult
from services.gateway.compat.laps import application
from tests.harness.clients.laps_client import PAGE, LapsClient, Served, laps_gateway
from tests.harness.servers.gateway import RunningGateway, keys_file, video

pytestmark = pytest.mark.anyio

Servers = tuple[NatsSettings, S3Settings]
WORD = "canary-paddock"


@pytest.fixture
async def served(servers: Servers, tmp_path: Path) -> AsyncIterator[Served]:
    async with laps_gateway(servers, tmp_path) as found:
        yield found


LAPS = [
    # number, start_s, end_s, confidence, slow
    (1, 2.0, 40.0, 0.95, True),
    (2, 40.0, 70.25, 0.7, False),
    (3, 70.25, 101.5, 0.9, False),
]


def detection(laps: list[tuple[int, float, float, float, bool]] = LAPS) -> dict[str, Any]:
    """The result of a lap detection."""
    found = [
        LapResult(
            number=number,
            start_s=start_s,
            end_s=end_s,
            lap_s=end_s - start_s,
            error_s=0.05,
            confidence=confidence,
            matched=0.9,
            similarity=0.6,
            rest_s=0,
            slow=slow,
        )
        for number, start_s, end_s, confidence, slow in laps
    ]
    facts = VideoFactsResult(
        filename="lap.mp4",
        width_px=640,
        height_px=360,
        rotation_deg=0,
        frame_count=80,
        duration_s=8.0,
        mean_rate_hz=10.0,
        variable_rate=False,
    )
    return LapDetectionResult(
        video=facts,
        laps=tuple(found),
        lap_count=len(found),
        crossings=(),
        start_line_s=2.0 if found else None,
        start_line_chosen="automatic" if found else "none",
        fastest=2 if found else None,
        reason=None if found else "no_repeat",
        explanation="" if found else "No place is passed twice.",
        warnings=(),
    ).model_dump(mode="json")


async def detection_job(running: RunningGateway, sent: dict[str, str], **headers: str) -> str:
    """Return the id of the lap detection of a file, as soon as it was submitted."""
    asked = {"params": {"workload": "lap_detection"}, "headers": headers}
    async with asyncio.timeout(20):
        while True:
            for job in (await running.http.get("/v1/jobs", **asked)).json()["data"]:
                if f"/{job['inputs']['video'][0]['upload_id']}/" in sent["key"]:
                    return str(job["id"])
            await asyncio.sleep(0.05)


async def test_laps_are_detected_while_the_page_waits_and_then_compared(served: Served) -> None:
    running, base = served
    client = LapsClient(base)
    sent = await client.upload(video(80))
    body = {"video": sent, "min_lap_s": 20, "max_lap_s": None, "top_k": 2}
    asked = asyncio.create_task(client.post("/detect-laps", body))
    try:
        job_id = await detection_job(running, sent)
        job = (await running.http.get(f"/v1/jobs/{job_id}")).json()
        assert job["params"] == {"start_line_s": None, "min_lap_s": 20.0, "max_lap_s": 300.0}
        assert not asked.done()
        run_id = await running.start_job(job_id)
        await running.finish_job(job_id, run_id, [], result=detection())
        answer = await asyncio.wait_for(asked, 20)
    finally:
        asked.cancel()
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*")
    # the most certain flying laps first; the slow one would be third
    assert answer.json() == {
        "laps": [
            {"start_s": 70.25, "end_s": 101.5, "score": 0.9},
            {"start_s": 40.0, "end_s": 70.25, "score": 0.7},
        ]
    }
    everything = (await client.post("/detect-laps", body | {"top_k": 6})).json()["laps"]
    assert [lap["score"] for lap in everything] == [0.9, 0.7, 0.475]
    assert await detection_job(running, sent) == job_id
    # what the page sends next; this video has only 8 s
    segments = {"segA": {"start": 1.0, "end": 4.0}, "segB": {"start": 4.0, "end": 7.5}}
    started = await client.post("/start-job", {"mode": "segments", "video": sent} | segments)
    compared = (await running.http.get(f"/v1/jobs/{started.json()['job_id']}")).json()
    assert compared["inputs"]["reference"] == compared["inputs"]["other"] == job["inputs"]["video"]
    # the id of a detection is none of a comparison
    assert (await client.get(f"/jobs/{job_id}")).status_code == 404


async def test_a_long_detection_keeps_the_connection_with_blanks(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "ANSWER_WAIT_S", 0.05)
    monkeypatch.setattr(application, "BLANK_INTERVAL_S", 0.05)
    running, base = served
    sent = await LapsClient(base).upload(video(80))
    body = {"video": sent}
    async with (
        asyncio.timeout(40),
        httpx.AsyncClient(headers=PAGE, timeout=None) as http,
        http.stream("POST", f"{base}/compat/laps/detect-laps", json=body) as answer,
    ):
        assert answer.status_code == 200
        chunks = answer.aiter_bytes()
        assert (await anext(chunks)).strip() == b""
        job_id = await detection_job(running, sent)
        run_id = await running.start_job(job_id)
        await running.finish_job(job_id, run_id, [], result=detection([]))
        rest = b"".join([chunk async for chunk in chunks])
    assert json.loads(rest) == {"laps": [], "detail": "No place is passed twice."}


async def test_a_detection_that_fails_or_cannot_start_says_why(served: Served) -> None:
    running, base = served
    client = LapsClient(base)
    sent = await client.upload(video(80))
    for wrong, status, code in (
        ({}, 422, None),
        ({"video": {"bucket": "b", "key": "elsewhere/lap.mp4"}}, 404, "upload_not_found"),
        ({"video": sent, "min_lap_s": 100, "max_lap_s": 50}, 422, "invalid_parameter"),
        ({"video": await client.upload(b"no video at all")}, None, "media_undecodable"),
    ):
        refused = await client.post("/detect-laps", wrong)
        assert status is None or refused.status_code == status, refused.text
        assert refused.json().get("code") == code
        assert refused.json()["detail"]
    asked = asyncio.create_task(client.post("/detect-laps", {"video": sent}))
    try:
        job_id = await detection_job(running, sent)
        await running.start_job(job_id)
        error = {
            "code": "input_unreadable",
            "message": "No frame of lap.mp4 can be decoded.",
            "hint": "Export it again.",
        }
        await running.say(job_id, JobFailed.model_validate({"attempt": 1, "error": error, "failure": "user"}))
        failed = await asyncio.wait_for(asked, 20)
    finally:
        asked.cancel()
    assert (failed.status_code, failed.json()["detail"]) == (422, error["message"])
    # the same request again starts another attempt
    again = asyncio.create_task(client.post("/detect-laps", {"video": sent}))
    try:
        async with asyncio.timeout(20):
            while (await running.http.get(f"/v1/jobs/{job_id}")).json()["state"] == "failed":
                await asyncio.sleep(0.05)
        run_id = await running.start_job(job_id, attempt=2)
        await running.finish_job(job_id, run_id, [], result=detection(), attempt=2)
        assert len((await asyncio.wait_for(again, 20)).json()["laps"]) == 3
    finally:
        again.cancel()


async def test_with_keys_a_word_finds_the_laps_of_its_tenant(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_REPLACED_CREDENTIALS", json.dumps([{"system": "laps", "word": WORD, "key": "ann"}]))
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "ann", "bob"))
    async with laps_gateway(servers, tmp_path, auth=auth) as (running, base):
        ann, bob = (LapsClient(f"{base}/compat/laps/k/{word}") for word in (WORD, "bob.secret"))
        body = {"lapA": await ann.upload(video(80))}
        assert (await LapsClient(base).post("/detect-laps", {"video": body["lapA"]})).status_code == 401
        assert (await bob.post("/detect-laps", {"video": body["lapA"]})).status_code == 404
        asked = asyncio.create_task(ann.post("/detect-laps", {"video": body["lapA"]}))
        try:
            job_id = await detection_job(running, body["lapA"], Authorization="Bearer ann.secret")
            running.tenant = "ann"
            run_id = await running.start_job(job_id)
            await running.finish_job(job_id, run_id, [], result=detection())
            assert len((await asyncio.wait_for(asked, 20)).json()["laps"]) == 3
        finally:
            asked.cancel()
