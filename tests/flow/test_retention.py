"""Results and uploads leave the bucket when their retention is over, and events say so, whatever stops a gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from contracts.errors import ErrorBody, ErrorCode, SaccadeError
from contracts.events.base import decode
from contracts.events.job import JobFailed
from contracts.streams import aggregate
from contracts.tenant_retention import RetentionHours, RetentionLimits
from kit.auth.api_keys import AuthSettings
from kit.bucket import Bucket
from kit.s3_client import StorageRefused
from services.gateway.retention import retention_sweep
from services.gateway.retention.retention_sweep import RetentionSweep
from tests.harness.dispatch.dispatcher import Servers, shared_servers
from tests.harness.servers.gateway import RunningGateway, code_of, keys_file, running_gateway

pytestmark = pytest.mark.anyio

#: A limit that is over at once, in hours.
AT_ONCE = 1e-6


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with shared_servers(tmp_path_factory.mktemp("retention")) as both:
        yield both


async def finished(running: RunningGateway) -> str:
    """Return a job that has two files and has succeeded."""
    job_id = str((await running.submitted(await running.uploaded()))["id"])
    run_id = await running.start_job(job_id)
    film = await running.leave(job_id, run_id, "film.mp4", b"film", "video/mp4")
    await running.finish_job(job_id, run_id, [film])
    return job_id


async def files_of(running: RunningGateway, job_id: str) -> list[str]:
    return await running.bucket.list_keys(f"{running.bucket.key('results', job_id)}/")


async def said(running: RunningGateway, job_id: str) -> list[tuple[str, dict[str, Any]]]:
    """Return what was said about the results of a job."""
    among = aggregate(running.tenant, "job", job_id)
    events = [decode(stored.body) async for stored in running.store.history(0, among)]
    return [(event.type, dict(event.data)) for event in events if event.type.startswith("job.results_")]


async def until_removed(running: RunningGateway, job_id: str) -> None:
    with anyio.fail_after(60):
        while len(await said(running, job_id)) < 2:
            await anyio.sleep(0.05)


def sweep_of(running: RunningGateway, hours: RetentionHours, **changes: Any) -> RetentionSweep:
    """Return a sweep beside that of a gateway, whose limits are ``hours``."""
    state = running.app.state
    given: dict[str, Any] = {"bucket": running.bucket, "jobs": state.jobs, "uploads": state.uploads} | changes
    parts = (given.pop("bucket"), running.view, given.pop("jobs"), given.pop("uploads"))
    return RetentionSweep(running.store, *parts, limits=RetentionLimits, default=hours, **given)


RESULTS = RetentionHours(results=AT_ONCE)
REMOVED = [("job.results_expired", {"reason": "retention"}), ("job.results_removed", {"files": 2})]


def without_none(events: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    return [(name, {key: value for key, value in data.items() if value is not None}) for name, data in events]


async def test_results_and_uploads_go_and_what_is_needed_stays(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nats, s3 = servers
    async with running_gateway(nats.settings, s3.settings, tmp_path) as running:
        done, unused, used = await finished(running), await running.uploaded(), await running.uploaded()
        failed = str((await running.submitted(used))["id"])
        await running.start_job(failed)
        error = ErrorBody(code=ErrorCode.INTERNAL, message="It failed.", hint="Try again.")
        await running.say(failed, JobFailed(attempt=1, failure="user", error=error))
        assert len(await files_of(running, done)) == 2
    monkeypatch.setenv("GATEWAY_RETENTION_RESULTS_H", str(AT_ONCE))
    monkeypatch.setenv("GATEWAY_RETENTION_UPLOADS_H", str(AT_ONCE))
    async with running_gateway(nats.settings, s3.settings, tmp_path, housekeeping_s=0.05) as running:
        await until_removed(running, done)
        assert without_none(await said(running, done)) == REMOVED
        assert await files_of(running, done) == []
        for path in ("artifacts", "artifacts/film.mp4", "artifacts/manifest.json"):
            refused = await running.http.get(f"/v1/jobs/{done}/{path}")
            assert (refused.status_code, code_of(refused)) == (410, "results_removed"), path
        assert (await running.http.get(f"/v1/jobs/{done}")).json()["state"] == "succeeded"
        with anyio.fail_after(60):
            while (await running.http.get(f"/v1/uploads/{unused}")).json()["state"] != "failed":
                await anyio.sleep(0.05)
        metrics = (await running.http.get("/metrics")).text
        assert 'saccade_retention_removed_total{kind="results"} 1.0' in metrics
        assert 'saccade_retention_removed_total{kind="uploads"} 1.0' in metrics
        assert "saccade_retention_removing 0.0" in metrics
        again = {"workload": "lap_compare", "inputs": {"reference": unused, "other": [unused]}}
        assert code_of(await running.http.post("/v1/jobs", json=again)) == "upload_already_ended"
        assert (await running.http.get(f"/v1/uploads/{used}")).json()["state"] == "completed", "a retry needs it"
        assert (await running.http.post(f"/v1/jobs/{failed}/retry")).is_success
        await anyio.sleep(0.2)
        assert (await running.http.get(f"/v1/uploads/{used}")).json()["state"] == "completed"


async def test_tenants_have_limits_of_their_own_and_ask_for_other_times(servers: Servers, tmp_path: Path) -> None:
    nats, s3 = servers
    file = keys_file(tmp_path, "acme", "beta")
    entries = json.loads(file.read_text())
    file.write_text(json.dumps([*entries, {"tenant": "acme", "retention_hours": {"results": AT_ONCE}}]))
    auth = AuthSettings(api_keys_file=file)
    async with running_gateway(nats.settings, s3.settings, tmp_path, auth=auth, housekeeping_s=0.05) as running:
        jobs = {}
        for tenant in ("beta", "acme"):
            running.tenant = tenant
            running.http.headers["Authorization"] = f"Bearer {tenant}.secret"
            jobs[tenant] = await finished(running)
        await until_removed(running, jobs["acme"])
        running.tenant = "beta"
        running.http.headers["Authorization"] = "Bearer beta.secret"
        assert await said(running, jobs["beta"]) == []
        assert (await running.http.get(f"/v1/jobs/{jobs['beta']}/artifacts/film.mp4")).status_code == 307
        asked = await running.http.post(
            f"/v1/jobs/{jobs['beta']}/confirm-download", json={"remove": True, "results": True}
        )
        assert asked.json()["results_removed_at"], asked.text
        assert code_of(await running.http.get(f"/v1/jobs/{jobs['beta']}/artifacts")) == "results_removed"
        await until_removed(running, jobs["beta"])
        assert await files_of(running, jobs["beta"]) == []
        assert (await said(running, jobs["beta"]))[0][1] == {"reason": "asked", "by": "tenant:beta"}
        refused = await running.http.post(f"/v1/jobs/{jobs['beta']}/extend", json={"hours": 5, "results": True})
        assert (refused.status_code, code_of(refused)) == (410, "results_removed")


async def test_results_that_are_kept_longer_and_clocks_that_run_ahead(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nats, s3 = servers
    async with running_gateway(nats.settings, s3.settings, tmp_path) as running:
        job_id = await finished(running)
        ahead = datetime.now(UTC) + timedelta(days=4000)
        days = RetentionHours(results=24, uploads=24)
        await sweep_of(running, days, clock=lambda: ahead).run_once()
        assert await said(running, job_id) == [], "the clock of the gateway"
        with monkeypatch.context() as patched:

            async def told(*_: object) -> dict[str, Any]:
                return {"ts": ahead.isoformat()}

            patched.setattr(retention_sweep, "stream_info", told)
            await sweep_of(running, days).run_once()
        assert await said(running, job_id) == [], "the clock of the server"
        kept = await running.http.post(f"/v1/jobs/{job_id}/extend", json={"hours": 100, "results": True})
        assert kept.json()["results_kept_until"], kept.text
        await sweep_of(running, RESULTS).run_once()
        assert [name for name, _ in await said(running, job_id)] == ["job.results_retention_changed"]
        assert len(await files_of(running, job_id)) == 2


class FailingBucket:
    """The bucket, which stops answering after a number of deletions."""

    def __init__(self, bucket: Bucket, deletions: int) -> None:
        self._bucket, self._left = bucket, deletions

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bucket, name)

    async def delete(self, key: str) -> None:
        if not self._left:
            raise SaccadeError(ErrorCode.STORAGE_UNAVAILABLE)
        self._left -= 1
        await self._bucket.delete(key)


class LockedBucket:
    """The bucket, which refuses to delete the files of some jobs."""

    def __init__(self, bucket: Bucket, locked: list[str], refusal: type[SaccadeError]) -> None:
        self._bucket, self._locked, self._refusal = bucket, locked, refusal
        #: Refused deletions.
        self.refused = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bucket, name)

    async def delete(self, key: str) -> None:
        if any(job_id in key for job_id in self._locked):
            self.refused += 1
            raise self._refusal(ErrorCode.STORAGE_UNAVAILABLE)
        await self._bucket.delete(key)


@pytest.mark.parametrize("refusal", [StorageRefused, SaccadeError])
async def test_files_that_the_bucket_refuses_to_delete_keep_no_others(
    servers: Servers, tmp_path: Path, refusal: type[SaccadeError]
) -> None:
    nats, s3 = servers
    async with running_gateway(nats.settings, s3.settings, tmp_path) as running:
        locked = [await finished(running) for _ in range(4)]
        free = await finished(running)
        bucket = LockedBucket(running.bucket, locked, refusal)
        sweep = sweep_of(running, RESULTS, bucket=bucket)
        with anyio.fail_after(60):
            while await files_of(running, free):
                with suppress(SaccadeError):
                    await sweep.run_once()
        with pytest.raises(SaccadeError):
            await sweep.run_once()
        bucket.refused = 0
        with pytest.raises(SaccadeError):
            await sweep.run_once()
        assert bucket.refused <= (len(locked) if refusal is StorageRefused else 3)
        for job_id in locked:
            assert await files_of(running, job_id)
        with anyio.fail_after(60):
            while running.view.results.count_removing():
                await sweep_of(running, RESULTS).run_once()


class KilledBeforeLast:
    """Jobs of a gateway that is killed after the files are gone and before that is said."""

    def __init__(self, jobs: Any) -> None:
        self.events = self
        self._jobs = jobs

    async def append_once(self, tenant: str, job_id: str, data: Any, *, after: int) -> None:
        if data.type == "job.results_removed":
            raise asyncio.CancelledError
        await self._jobs.events.append_once(tenant, job_id, data, after=after)


async def test_another_gateway_goes_on_where_one_was_stopped(servers: Servers, tmp_path: Path) -> None:
    nats, s3 = servers
    async with running_gateway(nats.settings, s3.settings, tmp_path / "one") as running:
        halfway, silent = await finished(running), await finished(running)
        sweep = sweep_of(running, RESULTS, bucket=FailingBucket(running.bucket, 1))
        with anyio.fail_after(60):
            while running.view.results.count_removing() < 2:  # the newer one is due a few milliseconds after its end
                with suppress(SaccadeError):
                    await sweep.run_once()
        with pytest.raises(SaccadeError) as failed:
            await sweep.run_once()
        assert failed.value.code is ErrorCode.STORAGE_UNAVAILABLE
        assert "saccade_retention_removing 2.0" in (await running.http.get("/metrics")).text
        left = [len(await files_of(running, job_id)) for job_id in (halfway, silent)]
        assert sum(left) == 3
        refused = await running.http.get(f"/v1/jobs/{halfway}/artifacts")
        assert code_of(refused) == "results_removed", "although a file of it may be there"
        with pytest.raises(asyncio.CancelledError):
            await sweep_of(running, RESULTS, jobs=KilledBeforeLast(running.app.state.jobs)).run_once()
    async with running_gateway(nats.settings, s3.settings, tmp_path / "two") as running:
        both = [sweep_of(running, RESULTS) for _ in range(2)]
        await asyncio.gather(*(sweep.run_once() for sweep in both))
        for job_id in (halfway, silent):
            assert [name for name, _ in await said(running, job_id)] == ["job.results_expired", "job.results_removed"]
            assert await files_of(running, job_id) == []
        assert running.view.results.removing("local", 10) == []
