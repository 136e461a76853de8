"""Clients of the replaced lap comparison: its page from another origin, with keys off and on, and its failures."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.errors import ErrorCode
from contracts.events.job import JobCancelled, JobCancelRequested, JobFailed
from kit.auth.api_keys import AuthSettings
from kit.settings import NatsSettings, S3Settings
from modal_workers.lap_compare.spec import WORKLOAD
from modal_workers.lap_detection.spec import LapDetectionResult, LapResult, VideoFactsResult
from services.gateway.compat.laps import application
from tests.harness.clients.chromium import chromium, pages
from tests.harness.clients.laps_page import load_laps_page, use
from tests.harness.servers.gateway import RunningGateway, keys_file, video
from tests.harness.servers.served_gateway import served_gateway

pytestmark = pytest.mark.anyio

Servers = tuple[NatsSettings, S3Settings]
Served = tuple[RunningGateway, str]
METRICS = b"distance,deltaT\n0.00000,0.00000\n1.00000,0.25000\n"
PAGE = {"Origin": "http://localhost:3000"}
WORD = "canary-paddock"


@asynccontextmanager
async def gateway(servers: Servers, folder: Path, **more: Any) -> AsyncIterator[Served]:
    async with served_gateway(*servers, folder, backends=frozenset(WORKLOAD.requires), **more) as found:
        yield found


@pytest.fixture
async def served(servers: Servers, tmp_path: Path) -> AsyncIterator[Served]:
    async with gateway(servers, tmp_path) as found:
        yield found


class Client:
    """A client that does what the page does, from a page of another origin."""

    def __init__(self, base: str) -> None:
        self.base = base

    async def send(self, method: str, path: str, **more: Any) -> httpx.Response:
        async with httpx.AsyncClient(headers=PAGE) as http:
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


async def succeed(running: RunningGateway, job_id: str) -> None:
    """Play the job's worker."""
    run_id = await running.start_job(job_id)
    insights = json.dumps({"summary": "B is 0.25 s slower", "result": {"confidence": 0.8}}).encode()
    files = [
        await running.leave(job_id, run_id, name, body, media_type)
        for name, body, media_type in (
            ("overlay.mp4", video(), "video/mp4"),
            ("report.html", b"<p>", "text/html"),
            ("compat/metrics.csv", METRICS, "text/csv"),
            ("compat/insights.json", insights, "application/json"),
        )
    ]
    await running.finish_job(job_id, run_id, files)


async def test_the_page_of_another_origin_compares_two_laps(served: Served, tmp_path: Path) -> None:
    running, base = served
    first, second = (base64.b64encode(video(frames)).decode() for frames in (6, 9))
    async with chromium(tmp_path / "profile") as browser, pages({}) as origin:
        assert origin != base
        tab = await browser.open(origin)
        await load_laps_page(tab, base)
        lap_a, lap_b = await use(tab, "upload", first), await use(tab, "upload", second)
        started = await use(tab, "post", "/start-job", {"mode": "pair", "lapA": lap_a, "lapB": lap_b})
        await succeed(running, started["job_id"])
        manifest = await use(tab, "poll", started["call_id"])
        shown = await use(tab, "results", manifest)
        assert shown["title"] == f"Results — {started['job_id']}"
        assert isinstance(shown["summary"], str)
        assert shown["metrics"].encode() == METRICS
        assert shown["insights"]["result"]["confidence"] == 0.8
        await tab.evaluate(
            "new Promise((done, fail) => { const v = document.createElement('video');"
            f" v.onerror = v.onloadedmetadata = done; v.src = {json.dumps(shown['overlay'])} }}).then(() => null)"
        )
        with pytest.raises(AssertionError, match="start-job failed: 400"):
            await use(tab, "post", "/start-job", {"mode": "three"})


async def test_the_job_of_two_uploads_is_started_once_and_read_as_the_old_words(served: Served) -> None:
    running, base = served
    client = Client(f"{base}/compat/laps")
    body = await client.pair()
    answer = await client.post("/start-job", body)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*")
    started = answer.json()
    assert started["call_id"] == started["job_id"]
    assert started["results_prefix"] == running.bucket.key("results", started["job_id"]) + "/"
    assert (await client.post("/start-job", body)).json() == started
    job = (await running.http.get(f"/v1/jobs/{started['job_id']}")).json()
    for name, sent in (("reference", "lapA"), ("other", "lapB")):
        assert f"/{job['inputs'][name][0]['upload_id']}/" in body[sent]["key"]
    assert await client.status(started["call_id"]) == {"status": "running"}
    await succeed(running, started["job_id"])
    done = await client.status(started["call_id"])
    result = done["result"]
    assert (done["status"], result["job_id"]) == ("finished", started["job_id"])
    assert sorted(result["artifacts"]) == ["insights.json", "metrics.csv", "overlay.mp4"]
    found = result["artifacts"]["metrics.csv"]
    async with httpx.AsyncClient(headers=PAGE) as bucket:
        table = await bucket.get(found["url"])
    assert (table.content, table.headers["access-control-allow-origin"]) == (METRICS, "*")
    assert (found["bucket"], found["key"]) == (
        body["lapA"]["bucket"],
        started["results_prefix"] + "compat/metrics.csv",
    )
    again = (await client.post("/start-job", body)).json()
    assert again == started


async def test_two_laps_of_one_video_are_one_upload_cut_by_time(served: Served) -> None:
    running, base = served
    client = Client(base)
    sent = await client.upload(video(80))
    body = {"mode": "segments", "video": sent, "segA": {"start": None, "end": 4}, "segB": {"start": 4.5, "end": 0}}
    started = (await client.post("/start-job", body)).json()
    job = (await running.http.get(f"/v1/jobs/{started['job_id']}")).json()
    assert job["inputs"]["reference"] == job["inputs"]["other"]
    assert job["params"]["segments"] == {
        "reference": {"start_s": 0.0, "end_s": 4.0},
        "other": {"start_s": 4.5, "end_s": None},
    }
    assert (await client.post("/start-job", body)).json() == started
    other = (await client.post("/start-job", body | {"segB": {"start": 5, "end": 0}})).json()
    assert other["job_id"] != started["job_id"]
    for wrong, told in (
        ({"start": 4, "end": 5}, "is shorter than 2 s"),
        ({"start": 4, "end": 60}, "the segment ends at 60 s, the video at 8.0 s"),
        ({"start": 30, "end": 0}, "less than 2 s of the video, which has 8.0 s, follow 30 s"),
    ):
        answer = await client.post("/start-job", body | {"segB": wrong})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")
        assert told in answer.json()["detail"]
    upload_id = job["inputs"]["other"][0]["upload_id"]
    asked = {
        "workload": "lap_compare",
        "inputs": {"reference": upload_id, "other": upload_id},
        "params": {"segments": {"other": {"start_s": 30}}},
    }
    refused = (await running.http.post("/v1/jobs", params={"dry_run": "true"}, json=asked)).json()
    assert refused["errors"][0]["pointer"] == "#/params/segments/other"


async def test_a_cancelled_or_failed_job_has_failed_and_is_started_again(served: Served) -> None:
    running, base = served
    client = Client(base)
    body = await client.pair()
    job_id = (await client.post("/start-job", body)).json()["job_id"]
    await running.say(job_id, JobCancelRequested(by="tenant:local"))
    await running.say(job_id, JobCancelled(attempt=0))
    assert (await client.status(job_id))["status"] == "failed"
    assert (await client.post("/start-job", body)).json()["job_id"] == job_id
    assert await client.status(job_id) == {"status": "running"}
    await running.start_job(job_id, attempt=2)
    error = {"code": "clips_different_places", "message": "The clips show different places.", "hint": "Film one road."}
    await running.say(job_id, JobFailed.model_validate({"attempt": 2, "error": error, "failure": "user"}))
    failed = await client.status(job_id)
    assert failed == {"status": "failed", "error": "The clips show different places."}


async def test_what_cannot_be_used_is_refused_in_the_old_form(served: Served) -> None:
    _, base = served
    client = Client(base)
    body = await client.pair()
    for path, sent, status in (
        ("/sign-upload", {}, 422),
        ("/sign-upload", {"filename": "a.txt", "content_type": "text/plain"}, ErrorCode.UNSUPPORTED_MEDIA_TYPE),
        ("/start-job", body | {"mode": "triple"}, 400),
        ("/start-job", {"mode": "pair", "lapA": body["lapA"]}, 422),
        ("/start-job", body | {"lapB": {"bucket": "b", "key": "elsewhere/lap.mp4"}}, ErrorCode.UPLOAD_NOT_FOUND),
    ):
        answer = await client.post(path, sent)
        if isinstance(status, ErrorCode):
            assert answer.json()["code"] == status
        else:
            assert answer.status_code == status, answer.text
        assert answer.json()["detail"]
        assert answer.headers["access-control-allow-origin"] == "*"
    signed = (await client.post("/sign-upload", {"filename": "never sent.mp4"})).json()
    answer = await client.post("/start-job", body | {"lapB": {"bucket": signed["bucket"], "key": signed["key"]}})
    assert (answer.status_code, answer.json()["code"]) == (409, "upload_bytes_missing")
    answer = await client.post("/start-job", body | {"lapB": await client.upload(b"no video at all")})
    assert answer.json()["code"] == "media_undecodable"
    answer = await client.get("/jobs/job_0198c0de-0000-7000-8000-000000000000")
    assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")
    preflight = await client.send("OPTIONS", "/start-job", headers={"Access-Control-Request-Method": "POST"})
    assert (preflight.status_code, preflight.headers["access-control-allow-headers"]) == (
        204,
        "Authorization, Content-Type, X-Magic-Word",
    )
    foreign = await client.send("GET", "/jobs/x", headers={"Origin": "https://evil.example"})
    assert foreign.json()["code"] == "origin_not_allowed"


async def test_an_upload_without_a_size_shows_none_until_it_is_complete(served: Served) -> None:
    running, base = served
    client = Client(base)
    signed = (await client.post("/sign-upload", {"filename": "lap.mp4"})).json()
    upload_id = signed["key"].split("/")[-2]
    shown = (await running.http.get(f"/v1/uploads/{upload_id}")).json()
    assert (shown["state"], shown["size_bytes"]) == ("created", None)
    sent = await running.put(shown["url"], video(), shown["headers"])
    assert sent.is_success, sent.text
    completed = (await running.http.post(f"/v1/uploads/{upload_id}/complete")).json()
    assert (completed["state"], completed["size_bytes"]) == ("completed", len(video()))


async def test_with_keys_a_word_or_a_key_in_the_path_is_one_tenants(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_REPLACED_CREDENTIALS", json.dumps([{"system": "laps", "word": WORD, "key": "ann"}]))
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "ann", "bob"))
    async with gateway(servers, tmp_path, auth=auth) as (running, base):
        for refused in (base, f"{base}/compat/laps", f"{base}/compat/laps/k/wrong"):
            answer = await Client(refused).post("/sign-upload", {"filename": "lap.mp4"})
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
            assert answer.headers["access-control-allow-origin"] == "*"
        ann, bob = (Client(f"{base}/compat/laps/k/{word}") for word in (WORD, "bob.secret"))
        body = await ann.pair()
        started = (await ann.post("/start-job", body)).json()
        assert await ann.status(started["call_id"]) == {"status": "running"}
        assert (await running.job(started["job_id"], "ann")).tenant == "ann"
        assert (await bob.post("/start-job", body)).status_code == 404
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
        assert (await bob.get(f"/jobs/{started['call_id']}")).status_code == 404
        assert (await ann.get("/v1/jobs")).status_code == 404


async def test_with_keys_nobody_is_let_in_by_default(servers: Servers, tmp_path: Path) -> None:
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "ann"))
    async with gateway(servers, tmp_path, auth=auth) as (_, base):
        for path, sent in (
            ("/sign-upload", {"filename": "a.mp4"}),
            ("/start-job", {"mode": "pair"}),
            ("/detect-laps", {"video": {"key": "x"}}),
        ):
            assert (await Client(base).post(path, sent)).status_code == 401
        assert (await Client(base).get("/jobs/x")).status_code == 401


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
    client = Client(base)
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
    sent = await Client(base).upload(video(80))
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
    client = Client(base)
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
