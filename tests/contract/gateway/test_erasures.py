"""Erasures over HTTP: who may ask for one, what is refused, the report, and rows of the view and of its file."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.audit import SYSTEM
from contracts.erasure import sha256_of
from contracts.errors import ErrorCode
from contracts.events.base import encode
from contracts.events.erasure import ErasureCompleted
from contracts.events.job import JobCancelled
from contracts.ids import new_id
from contracts.streams import OPS
from kit.auth.api_keys import AuthSettings
from kit.bucket import Bucket
from kit.bus.audit_log import AuditLog
from kit.bus.event_store import EventStore
from kit.settings import NatsSettings, S3Settings
from kit.snapshot_store import SnapshotStore
from kit.tasks import end
from services.dispatcher.erasure.erasures import Erasures
from services.dispatcher.jobs.unfinished_jobs import UnfinishedJobs
from tests.harness.dispatch.scripted_executor import ScriptedExecutor
from tests.harness.servers.gateway import RunningGateway, code_of, picture, running_gateway

pytestmark = pytest.mark.anyio
Servers = tuple[NatsSettings, S3Settings]
WHY = {"why": "asked for by letter"}


def keys(folder: Path) -> AuthSettings:
    """Make keys: of two tenants, of one that may only read, and of an operator of all."""
    scopes = {"ann": ["read", "write"], "bob": ["read", "write"], "reader": ["read"], "root": ["operate"]}
    tenants = {"reader": "ann", "root": SYSTEM}
    found = [
        {
            "id": name,
            "sha256": hashlib.sha256(b"secret").hexdigest(),
            "tenant": tenants.get(name, name),
            "scopes": allowed,
        }
        for name, allowed in scopes.items()
    ]
    (folder / "keys.json").write_text(json.dumps(found))
    return AuthSettings(api_keys_file=folder / "keys.json")


@pytest.fixture
async def running(servers: Servers, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with running_gateway(*servers, tmp_path, auth=keys(tmp_path)) as found:
        found.tenant = "ann"
        found.http.headers["Authorization"] = "Bearer ann.secret"
        yield found


def view_snapshots(running: RunningGateway) -> SnapshotStore:
    async def opened() -> Bucket:
        return running.bucket

    return SnapshotStore(opened, "gateway")


@asynccontextmanager
async def erasing(running: RunningGateway) -> AsyncIterator[None]:
    """Carry erasures out, as the dispatcher that leads does."""
    client = running.store.client
    executor = ScriptedExecutor(running.store, running.bucket)
    audit = AuditLog(EventStore(client, OPS.name), "/dispatcher")
    erasures = Erasures(
        client,
        running.bucket,
        executor,
        UnfinishedJobs(),
        audit,
        may_act=lambda: True,
        view_snapshots=view_snapshots(running),
        look_s=0.05,
    )
    task = asyncio.create_task(erasures.run())
    try:
        yield
    finally:
        await end(task)


async def erase(running: RunningGateway, path: str, key: str = "ann", **params: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}.secret"}
    return await running.http.delete(path, params=WHY | params, headers=headers)


async def completed(running: RunningGateway, answer: httpx.Response, key: str = "ann") -> dict[str, Any]:
    """Wait until an erasure is completed and the view has heard of it, and return it."""
    assert answer.status_code == 202, answer.text
    headers = {"Authorization": f"Bearer {key}.secret"}
    path = f"/v1/erasures/{answer.json()['id']}"
    async with asyncio.timeout(20):
        while (found := (await running.http.get(path, headers=headers)).json())["state"] != "completed":
            await asyncio.sleep(0.05)
        while not (told := await running.store.load(f"saccade.evt.{SYSTEM}.erasure.{found['id']}.*")):
            await asyncio.sleep(0.05)
    assert await running.tail.wait_for(told[0].sequence, 5)
    result: dict[str, Any] = found
    return result


async def finished_job(running: RunningGateway, upload_id: str) -> str:
    job_id = str((await running.submitted(upload_id))["id"])
    run_id = await running.start_job(job_id)
    artifact = await running.leave(job_id, run_id, "note.txt", b"of ann", "text/plain")
    await running.finish_job(job_id, run_id, [artifact])
    return job_id


async def test_a_job_is_erased_with_a_report_and_nobody_else_may_or_sees_it(running: RunningGateway) -> None:
    upload_id = await running.uploaded(filename="canary-of-ann.mp4")
    job_id = await finished_job(running, upload_id)
    path = f"/v1/jobs/{job_id}/data"
    assert code_of(await erase(running, path, "bob")) == ErrorCode.JOB_NOT_FOUND
    assert code_of(await erase(running, path, "reader")) == ErrorCode.FORBIDDEN
    assert (await running.http.delete(path)).status_code == 422, "without a reason"
    await running.loop.snapshots.look(view_snapshots(running))
    assert await view_snapshots(running).all()
    async with erasing(running):
        answer = await erase(running, path)
        again = await erase(running, path)
        found = await completed(running, answer)
    assert again.json().get("id", found["id"]) == found["id"] or code_of(again) == ErrorCode.JOB_NOT_FOUND
    report = found["report"]
    assert {name: store["remaining"] for name, store in report["stores"].items()} == {
        "bucket": 0, "streams": 0, "events": 0,
    }  # fmt: skip
    assert report["stores"]["bucket"]["removed"] == 2
    assert await view_snapshots(running).all() == []
    assert report["stores"]["events"]["removed"] == 6
    assert set(report["remains"]) >= {"audit_log", "copies"}
    assert code_of(await running.http.get(f"/v1/jobs/{job_id}")) == ErrorCode.JOB_NOT_FOUND
    assert [job["id"] for job in (await running.http.get("/v1/jobs")).json()["data"]] == []
    assert (await running.http.get(f"/v1/uploads/{upload_id}")).status_code == 200
    elsewhere = await running.http.get(f"/v1/erasures/{found['id']}", headers={"Authorization": "Bearer bob.secret"})
    assert code_of(elsewhere) == ErrorCode.ERASURE_NOT_FOUND
    root = {"Authorization": "Bearer root.secret"}
    assert (await running.http.get(f"/v1/erasures/{found['id']}", headers=root)).status_code == 200
    for every in ("%2A", "%3E", "ers_%2A"):  # as a part of a subject it would be every tenant's
        answer = await running.http.get(f"/v1/erasures/{every}", headers=root)
        assert code_of(answer) == ErrorCode.ERASURE_NOT_FOUND, every


async def test_an_upload_is_erased_with_its_jobs_only_if_that_is_asked_for(running: RunningGateway) -> None:
    upload_id = await running.uploaded(picture(), "image/png", filename="canary.png")
    job_upload = await running.uploaded()
    job_id = await finished_job(running, job_upload)
    refused = await erase(running, f"/v1/uploads/{job_upload}/data")
    assert code_of(refused) == ErrorCode.ERASURE_BLOCKED
    assert job_id in refused.json()["detail"]
    async with erasing(running):
        await completed(running, await erase(running, f"/v1/uploads/{upload_id}/data"))
        await completed(running, await erase(running, f"/v1/uploads/{job_upload}/data", jobs=True))
    for path in (f"/v1/uploads/{upload_id}", f"/v1/uploads/{job_upload}", f"/v1/jobs/{job_id}"):
        assert (await running.http.get(path)).status_code == 404
    assert await running.bucket.list_keys(running.bucket.key("uploads", "ann", upload_id)) == []


async def test_a_tenant_is_erased_by_an_operator_when_nothing_runs(running: RunningGateway, tmp_path: Path) -> None:
    upload_id = await running.uploaded(filename="canary-of-ann.mp4", metadata={"who": "canary-of-ann"})
    job_id = await finished_job(running, upload_id)
    unfinished = (await running.submitted(upload_id))["id"]
    other = {"Authorization": "Bearer bob.secret"}
    kept = await running.uploaded(filename="of-bob.mp4", headers=other)
    path = "/v1/tenants/ann/data"
    assert code_of(await erase(running, path)) == ErrorCode.FORBIDDEN, "its own key may not"
    refused = await erase(running, path, "root")
    assert code_of(refused) == ErrorCode.ERASURE_BLOCKED
    assert unfinished in refused.json()["detail"]
    await running.http.post(f"/v1/jobs/{unfinished}/cancel")
    await running.say(unfinished, JobCancelled(attempt=0))
    running.view.commit()
    assert holds(tmp_path, b"canary-of-ann")
    async with erasing(running):
        found = await completed(running, await erase(running, path, "root"), "root")
    assert found["report"]["stores"]["events"]["removed"] > 8
    for one in (f"/v1/jobs/{job_id}", f"/v1/uploads/{upload_id}"):
        assert (await running.http.get(one)).status_code == 404
    assert (await running.http.get(f"/v1/uploads/{kept}", headers=other)).status_code == 200
    running.view.commit()
    assert not holds(tmp_path, b"canary-of-ann"), "not in the free parts of the file or in its log either"


async def test_what_a_tenant_uploads_after_the_last_look_stays(running: RunningGateway) -> None:
    await running.uploaded(filename="old.mp4")
    until, until_time = running.tail.last, datetime.now(UTC)
    upload_id = await running.uploaded(filename="new.mp4")
    data = ErasureCompleted(scope="tenant", tenant_sha256=sha256_of("ann"), until_sequence=until, until_time=until_time)
    message = encode(data, tenant=SYSTEM, subject_id=new_id("ers"), source="/dispatcher")
    assert await running.tail.wait_for(await running.store.publish(message), 5)
    found = running.view.completed_uploads("ann", None, 10)
    assert [upload.id for upload in found] == [upload_id]


def holds(folder: Path, wanted: bytes) -> bool:
    """Return whether a file of the view holds some bytes."""
    files = [path for path in folder.rglob("view.sqlite3*") if path.is_file()]
    assert files
    return any(wanted in path.read_bytes() for path in files)
