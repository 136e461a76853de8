"""Clients of the replaced lap comparison: its page from another origin, with keys off and on, and its failures."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from contracts.errors import ErrorCode
from contracts.events.job import JobCancelled, JobCancelRequested, JobFailed
from kit.auth.api_keys import AuthSettings
from kit.settings import NatsSettings, S3Settings
from tests.harness.clients.chromium import chromium, pages
from tests.harness.clients.laps_client import PAGE, LapsClient, Served, laps_gateway
from tests.harness.clients.laps_page import load_laps_page, use
from tests.harness.servers.gateway import RunningGateway, keys_file, video

pytestmark = pytest.mark.anyio

Servers = tuple[NatsSettings, S3Settings]
METRICS = b"distance,deltaT\n0.00000,0.00000\n1.00000,0.25000\n"
WORD = "canary-paddock"


@pytest.fixture
async def served(servers: Servers, tmp_path: Path) -> AsyncIterator[Served]:
    async with laps_gateway(servers, tmp_path) as found:
        yield found


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
    client = LapsClient(f"{base}/compat/laps")
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
    client = LapsClient(base)
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
    client = LapsClient(base)
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
    client = LapsClient(base)
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
    client = LapsClient(base)
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
    async with laps_gateway(servers, tmp_path, auth=auth) as (running, base):
        for refused in (base, f"{base}/compat/laps", f"{base}/compat/laps/k/wrong"):
            answer = await LapsClient(refused).post("/sign-upload", {"filename": "lap.mp4"})
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
            assert answer.headers["access-control-allow-origin"] == "*"
        ann, bob = (LapsClient(f"{base}/compat/laps/k/{word}") for word in (WORD, "bob.secret"))
        body = await ann.pair()
        started = (await ann.post("/start-job", body)).json()
        assert await ann.status(started["call_id"]) == {"status": "running"}
        assert (await running.job(started["job_id"], "ann")).tenant == "ann"
        assert (await bob.post("/start-job", body)).status_code == 404
        assert (await bob.get(f"/jobs/{started['call_id']}")).status_code == 404
        assert (await ann.get("/v1/jobs")).status_code == 404


async def test_with_keys_nobody_is_let_in_by_default(servers: Servers, tmp_path: Path) -> None:
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "ann"))
    async with laps_gateway(servers, tmp_path, auth=auth) as (_, base):
        for path, sent in (
            ("/sign-upload", {"filename": "a.mp4"}),
            ("/start-job", {"mode": "pair"}),
            ("/detect-laps", {"video": {"key": "x"}}),
        ):
            assert (await LapsClient(base).post(path, sent)).status_code == 401
        assert (await LapsClient(base).get("/jobs/x")).status_code == 401
