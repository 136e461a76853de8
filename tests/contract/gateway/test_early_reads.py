"""Reads while the view catches up: one object exactly, a list only if it lacks nothing or its caller allows that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.events import encode
from contracts.events.base import EventData
from contracts.events.erasure import ErasureCompleted
from contracts.events.job import JobCancelled, JobStageCompleted, JobSubmitted, PartOf
from contracts.ids import new_id, stage_job_id
from kit.auth.api_keys import AuthSettings
from kit.settings import NatsSettings, S3Settings
from tests.harness.history.archive_stage import archive_stage
from tests.harness.history.random_histories import RandomHistory, random_history
from tests.harness.servers.embedded import NatsServer, S3Server
from tests.harness.servers.event_stores import opened
from tests.harness.servers.gateway import RunningGateway, code_of, keys_file, running_gateway
from tests.harness.servers.held_tail import Hold, held_tails

pytestmark = pytest.mark.anyio
Servers = tuple[NatsSettings, S3Settings]
PATHS = {
    "job": ("/v1/jobs/{}", "/v1/jobs/{}/artifacts"),
    "session": ("/v1/sessions/{}",),
    "upload": ("/v1/uploads/{}",),
}
CHANGING = ("url_expires_at", "url")


@pytest.fixture
def servers(nats_server: NatsServer, s3_server: S3Server) -> Servers:
    return nats_server.settings, s3_server.settings


@pytest.fixture(scope="module")
def history() -> RandomHistory:
    return random_history(7, 25, 12)


@asynccontextmanager
async def behind(
    servers: Servers, folder: Path, monkeypatch: pytest.MonkeyPatch, until_sequence: int, **settings: Any
) -> AsyncIterator[tuple[RunningGateway, Hold]]:
    """Run a gateway with an empty view that stops after an event of the history."""
    with held_tails(monkeypatch, until_sequence) as hold:
        async with running_gateway(*servers, folder, hold=hold.reached, **settings) as running:
            yield running, hold


async def answers(http: httpx.AsyncClient, tenant: str, subjects: Iterable[tuple[str, str, str]]) -> dict[str, Any]:
    """Read each object of a history as a tenant."""
    headers = {"Authorization": f"Bearer {tenant}.secret"}
    found: dict[str, Any] = {}
    for _, noun, subject_id in subjects:
        for path in PATHS.get(noun, ()):
            answer = await http.get(path.format(subject_id), headers=headers)
            body = answer.json()
            for name in ("request_id", *CHANGING):
                body.pop(name, None)
            found[path.format(subject_id)] = answer.status_code, body
    return found


async def test_one_object_is_the_same_before_and_after_the_history_is_read(
    nats_server: NatsServer,
    s3_server: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    history: RandomHistory,
) -> None:
    # Nothing follows from the events: sessions without a job would get one.
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "flood", "quiet0", "quiet1"), read_only=True)
    async with opened(nats_server) as store:
        await history.store(store)
    last, servers = history.sequences[-1], (nats_server.settings, s3_server.settings)
    subjects = history.subjects()
    for until_sequence in (0, last // 2):
        async with behind(servers, tmp_path / str(until_sequence), monkeypatch, until_sequence, auth=auth) as (
            late,
            hold,
        ):
            early = {tenant: await answers(late.http, tenant, subjects) for tenant in ("flood", "quiet0")}
            assert (await late.http.get("/ready")).status_code == 503
            await hold.release(late.tail)
            for tenant, found in early.items():
                for path, answer in (await answers(late.http, tenant, subjects)).items():
                    assert found[path] == answer, path
    statuses = [status for found in early.values() for status, _ in found.values()]
    assert statuses.count(200) > 30
    assert statuses.count(404) > 30, "other tenants' objects"


async def test_a_pipeline_has_its_stages_and_a_job_its_newest_event(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_gateway(*servers, tmp_path / "first") as running:
        upload_id = await running.uploaded()
        job = await running.submitted(upload_id)
        run_id = await running.start_job(job["id"])
        artifact = await running.leave(job["id"], run_id, "lap.csv", b"1,2", "text/csv")
        asked = {"workload": "nerf", "inputs": {"video": upload_id}}
        answer = await running.http.post("/v1/jobs", json=asked)
        assert answer.status_code == 202, answer.text
        pipeline = answer.json()
        name = next(stage["name"] for stage in pipeline["stages"] if stage["state"] == "waiting")
        stage_id = stage_job_id(pipeline["id"], name, 0)
        part = PartOf(job_id=pipeline["id"], stage=name, shard=0, shards=1)
        deadline = datetime.now(UTC) + timedelta(hours=1)
        work = {"workload": f"nerf_{name}", "workload_version": "1", "inputs": {}, "params": {}, "deadline": deadline}
        await running.say(stage_id, JobSubmitted(**work, part_of=part))
        ids = (job["id"], pipeline["id"], stage_id)
        full = [at_a_moment((await running.http.get(f"/v1/jobs/{job_id}")).json()) for job_id in ids]
        position = running.tail.last
    async with behind(servers, tmp_path / "late", monkeypatch, 0) as (late, hold):
        found = [at_a_moment((await late.http.get(f"/v1/jobs/{job_id}")).json()) for job_id in ids]
        assert found == full
        assert [len(stage["jobs"]) for stage in found[1]["stages"] if stage["name"] == name] == [1]
        listed = (await late.http.get(f"/v1/jobs/{job['id']}/artifacts?presign=true")).json()
        assert [file["name"] for file in listed["artifacts"]] == ["lap.csv"]
        assert listed["artifacts"][0]["presigned_url"].startswith("http")
        fetched = await late.http.get(f"/v1/jobs/{job['id']}/artifacts/{artifact.name}")
        assert fetched.status_code == 307
        assert (await late.http.head(f"/v1/jobs/{job['id']}")).status_code == 200
        # Stored a moment before it is asked for.
        await publish(late, job["id"], JobStageCompleted(attempt=1, run_id=run_id, stage="align", duration_s=1))
        assert (await late.http.get(f"/v1/jobs/{job['id']}")).json()["stage"] == "align"
        assert late.view.sequence < position
        unknown = await late.http.get(f"/v1/jobs/{new_id('job')}")
        assert (unknown.status_code, code_of(unknown)) == (404, "job_not_found")
        await hold.release(late.tail)


def at_a_moment(job: dict[str, Any]) -> dict[str, Any]:
    """Return a job without how long its stages have run by now."""
    for stage in job["stages"]:
        stage.pop("duration_s")
    return job


async def publish(running: RunningGateway, subject_id: str, data: EventData, tenant: str = "local") -> int:
    return await running.store.publish(encode(data, tenant=tenant, subject_id=subject_id, source="/test"))


async def test_who_waits_for_the_end_of_a_job_is_answered_at_the_end(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_gateway(*servers, tmp_path / "first") as running:
        jobs = [(await running.submitted(await running.uploaded()))["id"] for _ in range(2)]
    async with behind(servers, tmp_path / "late", monkeypatch, 0) as (late, hold):
        waiting = [
            asyncio.create_task(late.http.get(f"/v1/jobs/{job_id}", headers={"Prefer": "wait=20"})) for job_id in jobs
        ]
        await asyncio.sleep(0.2)
        assert not any(task.done() for task in waiting)
        await publish(late, jobs[0], JobCancelled(attempt=0))
        answer = await waiting[0]
        assert (answer.json()["state"], answer.headers["preference-applied"]) == ("cancelled", "wait=20")
        assert late.tail.last == 0
        await hold.release(late.tail)
        assert not waiting[1].done()
        await publish(late, jobs[1], JobCancelled(attempt=0))
        assert (await waiting[1]).json()["state"] == "cancelled"
        at_once = await late.http.get(f"/v1/jobs/{jobs[1]}", headers={"Prefer": "wait=1"})
        assert at_once.json()["state"] == "cancelled"


async def test_lists_say_what_they_lack_or_wait(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "ann", "bob", "eve"))
    as_bob = {"Authorization": "Bearer bob.secret"}
    async with running_gateway(*servers, tmp_path / "first", auth=auth) as running:
        running.http.headers["Authorization"] = "Bearer ann.secret"
        old = (await running.submitted(await running.uploaded()))["id"]
        position = running.tail.last
        new = (await running.submitted(await running.uploaded()))["id"]
        last = running.tail.last
    async with behind(servers, tmp_path / "late", monkeypatch, position, auth=auth) as (late, hold):
        late.http.headers["Authorization"] = "Bearer ann.secret"
        for path in (
            "/v1/jobs",
            "/v1/jobs/counts",
            "/v1/sessions",
            "/v1/spend",
            "/v1/budgets",
            "/v1/jobs?incomplete=false",
        ):
            refused = await late.http.get(path)
            assert (refused.status_code, code_of(refused)) == (503, "starting"), path
            assert int(refused.headers["retry-after"]) > 0
        page = (await late.http.get("/v1/jobs?incomplete=true")).json()
        assert [job["id"] for job in page["data"]] == [old]
        missing = {"read_to": f"{late.tail.epoch}.{position}", "events_missing": last - position}
        assert page["incomplete"] == missing
        counted = (await late.http.get("/v1/jobs/counts?incomplete=true")).json()
        assert (counted["count"], counted["complete"], counted["incomplete"]) == (1, False, missing)
        assert (await late.http.get("/v1/sessions?incomplete=true")).json()["incomplete"] == missing
        for path in (
            "/v1/spend?incomplete=true",
            "/v1/budgets?incomplete=true",
            f"/v1/jobs/{old}?at={late.tail.epoch}.1",
        ):
            assert code_of(await late.http.get(path)) == "starting", path
        for wrong in ({}, {"Authorization": "Bearer ann.wrong"}):
            assert code_of(await httpx_get(late, "/v1/jobs?incomplete=true", wrong)) == "unauthenticated"
            assert code_of(await httpx_get(late, "/v1/jobs", wrong)) == "starting"
        assert code_of(await late.http.post("/v1/job-plans", json={})) == "starting"
        # Another tenant has no events that the view lacks, until it has one.
        for path in ("/v1/jobs", "/v1/sessions", "/v1/budgets", "/v1/rules", "/v1/jobs/counts"):
            answer = await late.http.get(path, headers=as_bob)
            assert answer.status_code == 200, answer.text
            assert answer.json().get("incomplete") is None
        await publish(late, new_id("job"), JobCancelled(attempt=0), "bob")
        assert code_of(await late.http.get("/v1/jobs", headers=as_bob)) == "starting"
        await hold.release(late.tail)
        for query in ("", "?incomplete=true"):
            page = (await late.http.get(f"/v1/jobs{query}")).json()
            assert ([job["id"] for job in page["data"]], page["incomplete"]) == ([new, old], None)
        assert (await late.http.get("/v1/jobs/counts?incomplete=true")).json()["complete"] is True


async def httpx_get(running: RunningGateway, path: str, headers: dict[str, str]) -> httpx.Response:
    """Send a request without the headers of the client."""
    transport = httpx.ASGITransport(running.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        return await http.get(path, headers=headers)


async def test_a_view_that_has_what_was_erased_since_shows_nothing_of_it(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_gateway(*servers, tmp_path / "view") as running:
        job_id = (await running.submitted(await running.uploaded()))["id"]
        position, epoch = running.tail.last, running.tail.epoch
        data = ErasureCompleted(
            scope="tenant", tenant_sha256="0" * 64, until_sequence=position, until_time=datetime.now(UTC)
        )
    async with running_gateway(*servers, tmp_path / "other") as running:
        await publish(running, new_id("era"), data, "_system")
        purged = await running.store.client.request(
            "$JS.API.STREAM.PURGE.EVENTS", b'{"filter":"saccade.evt.local.job.%s.*"}' % job_id.encode()
        )
        assert b'"success":true' in purged.data
    # Its file ends before the erasure, as that of a gateway that was down.
    async with behind(servers, tmp_path / "view", monkeypatch, position) as (late, hold):
        assert late.view.job(job_id) is not None
        assert late.tail.epoch == epoch
        assert code_of(await late.http.get(f"/v1/jobs/{job_id}")) == "job_not_found"
        for path in ("/v1/jobs", "/v1/jobs?incomplete=true"):
            assert code_of(await late.http.get(path)) == "starting", path
        await hold.release(late.tail)


async def test_objects_that_only_the_archive_has_are_read_from_it(
    nats_server: NatsServer, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = (nats_server.settings, s3_server.settings)
    async with archive_stage(nats_server, s3_server, segment_bytes=1000) as stage:
        async with running_gateway(*servers, tmp_path / "first") as running:
            upload_id = await running.uploaded()
            job = await running.submitted(upload_id)
            run_id = await running.start_job(job["id"])
            await running.finish_job(job["id"], run_id, [])
            paths = (f"/v1/jobs/{job['id']}", f"/v1/uploads/{upload_id}")
            full = [(await running.http.get(path)).json() for path in paths]
            for _ in range(20):
                await running.submitted(upload_id)
            unknown = new_id("job")
        await stage.archive_all()
        await stage.purge_archived()
        async with behind(servers, tmp_path / "late", monkeypatch, 0) as (late, hold):
            assert [(await late.http.get(path)).json() for path in paths] == full
            # An id of this hour may be that of a job whose events are in the archive.
            assert code_of(await late.http.get(f"/v1/jobs/{unknown}")) == "starting"
            assert code_of(await late.http.get("/v1/jobs")) == "starting"
            listed = (await late.http.get("/v1/jobs?incomplete=true")).json()
            assert (listed["data"], listed["incomplete"]["events_missing"] > 0) == ([], True)
            await hold.release(late.tail)
            assert [(await late.http.get(path)).json() for path in paths] == full
            assert code_of(await late.http.get(f"/v1/jobs/{unknown}")) == "job_not_found"
            assert len((await late.http.get("/v1/jobs?limit=50")).json()["data"]) == 21
