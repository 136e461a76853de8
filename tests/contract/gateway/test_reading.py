"""What is read of jobs: progress, pages, artifacts, from a view that can be lost, and nothing of another tenant."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.events import encode
from contracts.events.job import JobCancelled, JobProgressed, JobStageCompleted
from contracts.events.session import SessionOpened
from contracts.ids import new_id
from kit.auth.api_keys import AuthSettings
from kit.settings import NatsSettings, S3Settings
from tests.harness.servers.embedded import EmbeddedNats, EmbeddedS3
from tests.harness.servers.gateway import RunningGateway, code_of, keys_file, running_gateway

pytestmark = pytest.mark.anyio
Servers = tuple[NatsSettings, S3Settings]


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Settings]:
    with EmbeddedS3(tmp_path_factory.mktemp("s3")) as server:
        yield server.settings


@pytest.fixture
def servers(tmp_path: Path, s3: S3Settings) -> Iterator[Servers]:
    folder = tmp_path / "nats"
    folder.mkdir()
    with EmbeddedNats(folder) as nats:
        yield nats.settings, s3


@pytest.fixture
async def running(servers: Servers, tmp_path: Path):
    async with running_gateway(*servers, tmp_path) as found:
        yield found


async def test_progress_is_the_newest_of_the_attempt_that_counts(servers: Servers, tmp_path: Path):
    async def told(running: RunningGateway, here: str, fraction: float) -> dict[str, Any]:
        for _ in range(100):
            found: dict[str, Any] = (await running.http.get(here)).json()
            if found["progress"] == fraction:
                return found
            await asyncio.sleep(0.02)
        raise AssertionError(f"progress never became {fraction}")

    async with running_gateway(*servers, tmp_path) as running:
        job = await running.submitted(await running.uploaded())
        here = f"/v1/jobs/{job['id']}"
        run_id = await running.start_job(job["id"])

        def progressed(fraction: float, run: str = run_id) -> JobProgressed:
            return JobProgressed(
                attempt=1, run_id=run, stage="align", fraction=fraction, stage_fraction=0.1, message="Half way."
            )

        await running.say(job["id"], progressed(0.5))
        found = await told(running, here, 0.5)
        assert (found["stage"], found["message"]) == ("align", "Half way.")
        await running.say(job["id"], progressed(0.9, new_id("run")))
        await running.say(job["id"], progressed(0.4))
        await told(running, here, 0.4)
        # What its finished stages amount to is never taken back.
        await running.say(job["id"], JobStageCompleted(attempt=1, run_id=run_id, stage="align", duration_s=1))
        await told(running, here, 0.6)
        await running.say(job["id"], progressed(0.7))
        await told(running, here, 0.7)
    async with running_gateway(*servers, tmp_path) as running:
        assert (await told(running, here, 0.7))["message"] == "Half way."
        await running.finish_job(job["id"], run_id, [])
        assert (await told(running, here, 1.0))["message"] == ""


async def test_who_was_told_of_an_event_finds_it_in_the_job(running: RunningGateway):
    upload_id = await running.uploaded()
    for _ in range(20):
        job_id = (await running.submitted(upload_id))["id"]
        message = encode(JobCancelled(attempt=0), tenant="local", subject_id=job_id, source="/test")
        await running.store.publish(message)
        assert (await running.http.get(f"/v1/jobs/{job_id}")).json()["state"] == "cancelled"


async def test_pages_do_not_move_while_jobs_come(running: RunningGateway):
    upload_id = await running.uploaded()
    jobs = [(await running.submitted(upload_id))["id"] for _ in range(5)]
    await running.say(jobs[0], JobCancelled(attempt=0))
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    for _ in range(3):
        page = (await running.http.get("/v1/jobs", params=query)).json()
        seen += [job["id"] for job in page["data"]]
        query["cursor"] = page["next_cursor"]
        await running.submitted(upload_id)
    assert (seen, page["next_cursor"]) == (jobs[::-1], None)

    async def listed(**query: Any) -> list[str]:
        answer = await running.http.get("/v1/jobs", params=query)
        assert answer.status_code == 200, answer.text
        return [job["id"] for job in answer.json()["data"]]

    assert await listed(state="cancelled") == jobs[:1]
    assert len(await listed(state=["cancelled", "submitted"])) == 8
    assert await listed(workload="other") == []
    second = (await running.http.get(f"/v1/jobs/{jobs[1]}")).json()["created_at"]
    third = (await running.http.get(f"/v1/jobs/{jobs[2]}")).json()["created_at"]
    assert await listed(since=second, until=third) == jobs[1:2]
    for cursor in ("nonsense", "am9iczox!", "é", "am9iczotMQ"):
        assert code_of(await running.http.get("/v1/jobs", params={"cursor": cursor})) == "cursor_invalid"
    for bad in ({"limit": 0}, {"limit": 201}, {"state": "odd"}, {"since": "yesterday"}, {"since": "2026-01-01T00:00"}):
        assert code_of(await running.http.get("/v1/jobs", params=bad)) == "invalid_parameter"


async def test_artifacts_come_one_by_one_and_then_as_the_manifest(running: RunningGateway):
    job = await running.submitted(await running.uploaded())
    here = f"/v1/jobs/{job['id']}/artifacts"
    assert code_of(await running.http.get(here)) == "artifacts_not_ready"
    assert code_of(await running.http.get(f"{here}/manifest.json")) == "artifacts_not_ready"
    run_id = await running.start_job(job["id"])
    table = await running.leave(job["id"], run_id, "tables/delta.csv", b"a,b\n", "text/csv")
    early = (await running.http.get(here)).json()
    assert (early["complete"], [one["name"] for one in early["artifacts"]]) == (False, ["tables/delta.csv"])

    async def fetched(name: str) -> httpx.Response:
        answer = await running.http.get(f"{here}/{name}")
        assert (answer.status_code, answer.headers["cache-control"]) == (307, "no-store")
        async with httpx.AsyncClient() as client:
            return await client.get(answer.headers["location"])

    async def shown(name: str) -> httpx.Response:
        return await running.http.get(f"{here}/{name}", follow_redirects=True)

    assert (await fetched("tables/delta.csv")).content == b"a,b\n"
    assert code_of(await running.http.get(f"{here}/report.html")) == "artifacts_not_ready"
    report = await running.leave(job["id"], run_id, "report.html", b"<html>", "text/html")
    await running.finish_job(job["id"], run_id, [table, report])
    manifest = (await running.http.get(here)).json()
    assert (manifest["complete"], manifest["result"], manifest["run_id"]) == (True, {"delta_s": 0.5}, run_id)
    assert [one["name"] for one in manifest["artifacts"]] == ["tables/delta.csv", "report.html"]
    stored = (await fetched("manifest.json")).json()
    added = {"url", "presigned_url"}
    assert stored["artifacts"] == [
        {name: value for name, value in file.items() if name not in added} for file in manifest["artifacts"]
    ]
    assert [file["url"] for file in manifest["artifacts"]] == [f"{here}/tables/delta.csv", f"{here}/report.html"]
    assert {file["presigned_url"] for file in manifest["artifacts"]} == {manifest["presigned_until"]} == {None}

    signed = (await running.http.get(here, params={"presign": "true"})).json()
    assert datetime.fromisoformat(signed["presigned_until"]) > datetime.now(UTC) + timedelta(minutes=50)
    table_url, report_url = [file["presigned_url"] for file in signed["artifacts"]]
    async with httpx.AsyncClient() as client:
        assert (await client.get(table_url)).content == b"a,b\n"
    assert report_url is None, "its links work under this server only"
    only = (await running.http.get(here, params={"name": ["report.html", "none.txt"]})).json()
    assert [file["name"] for file in only["artifacts"]] == ["report.html"]
    assert (await shown("report.html")).headers["content-type"].startswith("text/html")
    for name in ("none.txt", "..%2f..%2fsecret", "tables/"):
        assert code_of(await running.http.get(f"{here}/{name}")) in ("artifact_not_found", "not_found")


async def test_a_view_that_was_lost_is_folded_again_to_the_same(servers: Servers, tmp_path: Path):
    async with running_gateway(*servers, tmp_path) as running:
        upload_id = await running.uploaded()
        jobs = [(await running.submitted(upload_id))["id"] for _ in range(3)]
        run_id = await running.start_job(jobs[0])
        artifact = await running.leave(jobs[0], run_id, "a.csv", b"1", "text/csv")
        await running.finish_job(jobs[0], run_id, [artifact])
        await running.http.post(f"/v1/jobs/{jobs[1]}/cancel")
        await running.send(b"left open")
        rule = {"name": "laps", "workload": "lap_compare", "group": {"needs": 2}}
        assert (await running.http.post("/v1/rules", json=rule)).status_code == 201
        assert (await running.http.put("/v1/budgets", json={"daily_usd": 5})).status_code == 200
        session_id = new_id("ses")
        opened = SessionOpened(workload="gone", workload_version="1", params={}, idle_timeout_s=9, max_length_s=9)
        sequence = await running.store.publish(encode(opened, tenant="local", subject_id=session_id, source="/test"))
        assert await running.tail.wait_for(sequence, 5)
        before, listed = running.view.rows(), (await running.http.get("/v1/jobs")).json()
    assert [name for name, rows in before.items() if not rows] == []
    async with running_gateway(*servers, tmp_path) as running:
        assert running.view.rows() == before
    shutil.rmtree(tmp_path / "view")
    async with running_gateway(*servers, tmp_path) as running:
        assert running.view.rows() == before
        assert (await running.http.get("/v1/jobs")).json() == listed


async def test_a_new_stream_means_a_new_view(servers: Servers, s3: S3Settings, tmp_path: Path):
    async with running_gateway(*servers, tmp_path) as running:
        job = await running.submitted(await running.uploaded())
    folder = tmp_path / "other nats"
    folder.mkdir()
    with EmbeddedNats(folder) as nats:
        async with running_gateway(nats.settings, s3, tmp_path) as running:
            assert (await running.http.get("/v1/jobs")).json()["data"] == []
            assert code_of(await running.http.get(job["links"]["self"])) == "job_not_found"


async def test_a_tenant_sees_nothing_of_another(servers: Servers, tmp_path: Path):
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "acme", "other"))
    async with running_gateway(*servers, tmp_path, auth=auth) as running:
        acme, other = ({"Authorization": f"Bearer {name}.secret"} for name in ("acme", "other"))
        upload_id = await running.uploaded(headers=acme)
        body = {"workload": "lap_compare", "inputs": {"reference": upload_id, "other": upload_id}}
        stolen = await running.http.post("/v1/jobs", json=body, headers=other)
        assert (stolen.status_code, code_of(stolen)) == (404, "upload_not_found")
        key = {"Idempotency-Key": "same"}
        job_id = (await running.http.post("/v1/jobs", json=body, headers=acme | key)).json()["id"]
        assert code_of(await running.http.post("/v1/jobs", json=body, headers=other | key)) == "upload_not_found"
        for method, path, code in [
            ("GET", f"/v1/uploads/{upload_id}", "upload_not_found"),
            ("DELETE", f"/v1/uploads/{upload_id}", "upload_not_found"),
            ("POST", f"/v1/uploads/{upload_id}/complete", "upload_not_found"),
            ("GET", f"/v1/uploads/{upload_id}/parts", "upload_not_found"),
            ("GET", f"/v1/jobs/{job_id}", "job_not_found"),
            ("GET", f"/v1/jobs/{job_id}/artifacts", "job_not_found"),
            ("GET", f"/v1/jobs/{job_id}/artifacts/manifest.json", "job_not_found"),
            ("POST", f"/v1/jobs/{job_id}/cancel", "job_not_found"),
            ("POST", f"/v1/jobs/{job_id}/retry", "job_not_found"),
        ]:
            answer = await running.http.request(method, path, headers=other)
            assert (answer.status_code, code_of(answer)) == (404, code), path
        assert (await running.http.get("/v1/jobs", headers=other)).json()["data"] == []
        assert [job["id"] for job in (await running.http.get("/v1/jobs", headers=acme)).json()["data"]] == [job_id]
