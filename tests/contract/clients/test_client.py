"""Both Python clients against the real services: uploads, jobs, files and webhooks, over a bad connection."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import struct
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from saccade_client import AsyncClient, ClientError, JobFailedError, NotFoundError, UnreachableError, WaitTimeoutError
from saccade_client.webhook import verify

from contracts.events.job import JobCancelled
from contracts.limits import MIB, PART_BYTES
from tests.harness.clients.python_clients import CLIENT_KINDS, Open, opener
from tests.harness.dispatch.finished_job import succeed
from tests.harness.network.breaking_proxy import BreakingProxy
from tests.harness.network.cutting_pipe import CuttingPipe
from tests.harness.network.file_servers import answer, file_server, sending
from tests.harness.servers.embedded import HOST, free_port
from tests.harness.servers.gateway import video
from tests.harness.servers.running_services import RunningServices, running_services
from tests.harness.streams.notifier import failed, publisher
from tests.harness.webhooks.listeners import listening

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def pipe() -> Iterator[CuttingPipe]:
    with CuttingPipe() as pipe:
        yield pipe


@pytest.fixture(scope="module")
def services(pipe: CuttingPipe, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServices]:
    with running_services(tmp_path_factory.mktemp("services"), bucket_url=pipe.to) as running:
        yield running


@pytest.fixture(params=CLIENT_KINDS)
def opened(request: pytest.FixtureRequest) -> Open:
    return opener(request.param)


@pytest.fixture
async def client(services: RunningServices, opened: Open) -> AsyncIterator[AsyncClient]:
    async with BreakingProxy(services.port_of) as front, opened(front.url) as client:
        yield client


@pytest.fixture(scope="module")
def inputs(services: RunningServices) -> dict[str, str]:
    workloads = httpx.get(f"{services.gateway_url}/v1/workloads", trust_env=False).json()["data"]
    names = [one["name"] for workload in workloads if workload["name"] == "lap_compare" for one in workload["inputs"]]
    return {name: services.upload(video()) for name in names}


def film(path: Path, padding_bytes: int = 0) -> Path:
    """Write a film; a ``free`` box at its end makes it as large as one likes."""
    padding = random.Random(1).randbytes(padding_bytes)
    path.write_bytes(video() + (struct.pack(">I", padding_bytes + 8) + b"free" + padding if padding_bytes else b""))
    return path


async def test_a_file_is_uploaded_in_one_piece_over_a_line_that_breaks(
    client: AsyncClient, pipe: CuttingPipe, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    path = film(tmp_path / "lap.mp4", 3 * MIB)
    pipe.cut_up.append(2 * MIB)
    said: dict[str, Any] = {"metadata": {"lap": "7"}, "idempotency_key": tmp_path.name}
    upload = await client.upload(path, lambda done, total: told.append((done, total)), **said)
    assert (upload.state, upload.metadata) == ("completed", {"lap": "7"})
    assert (await client.upload(path, **said)).id == upload.id, "the same key is the same upload"
    size = path.stat().st_size
    assert told[-1] == (size, size)
    assert not pipe.cut_up, "the line broke"
    assert len(told) > size // MIB + 1, "and the bytes went again"
    assert upload.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("multipart", [False, True])
async def test_a_file_that_was_refused_is_refused_with_the_same_reason_when_its_key_is_repeated(
    client: AsyncClient, tmp_path: Path, multipart: bool
) -> None:
    (path := tmp_path / "words.mp4").write_text("these are words and no video\n" * 200)
    again: dict[str, Any] = {"idempotency_key": f"{tmp_path.name}-{multipart}", "state_dir": tmp_path / "state"}
    for _ in range(2):
        with pytest.raises(ClientError) as refusal:
            await client.upload(path, multipart=multipart, **again)
        assert refusal.value.code == "media_undecodable"


class PulledError(Exception):
    """Somebody pulled the plug."""


async def test_a_url_is_fetched_by_the_server_and_its_failure_is_raised(client: AsyncClient) -> None:
    told: list[tuple[int, int]] = []
    async with file_server(sending(answer(video(), "Content-Type: video/mp4"))) as server:
        upload = await client.upload_url(server.url("/lap.mp4?token=x"), lambda *progress: told.append(progress))
    assert (upload.state, upload.filename, upload.size_bytes) == ("completed", "lap.mp4", len(video()))
    assert told[-1] == (len(video()), len(video()))
    async with file_server(sending(answer(b"<html>", "Content-Type: text/html"))) as server:
        with pytest.raises(ClientError) as failed:
            await client.upload_url(server.url("/watch"))
    assert (failed.value.code, bool(failed.value.hint)) == ("url_not_media", True)


async def test_rules_are_made_tried_and_changed(client: AsyncClient, inputs: dict[str, str]) -> None:
    assert inputs, "uploads to try it on"
    group = {"needs": 2, "order": "filename"}
    made = await client.rules.create("Laps", "lap_compare", group=group, params={"sectors": 4}, jobs_per_day=7)
    assert (made.name, made.group and made.group["needs"], made.params["sectors"]) == ("Laps", 2, 4)
    assert (made.jobs_per_day, made.jobs_today) == (7, 0)
    assert await client.rules.get(made.id) == made
    assert made.id in [rule.id async for rule in client.rules.all(page_size=1)]
    changed = await client.rules.change(made.id, enabled=False, max_cost_usd=1.5)
    assert (changed.enabled, changed.max_cost_usd, changed.params) == (False, 1.5, made.params)
    tried = await client.rules.check("Laps", "lap_compare", group=group, since="2020-01-01T00:00:00Z", limit=2)
    assert (tried.considered, tried.matched, [job.outcome for job in tried.jobs]) == (2, 2, ["submitted"])
    assert (await client.rules.check_change(made.id, match={"filename": "nothing"})).matched == 0
    assert [job.id async for job in client.jobs(rule=made.id)] == []
    await client.rules.delete(made.id)
    with pytest.raises(NotFoundError):
        await client.rules.get(made.id)


async def test_an_upload_in_parts_goes_on_where_it_stopped(
    client: AsyncClient, pipe: CuttingPipe, tmp_path: Path
) -> None:
    path = film(tmp_path / "lap.mp4", 2 * PART_BYTES + MIB)
    state_dir = tmp_path / "state"

    def pull(done: int, _: int) -> None:
        if done > PART_BYTES + MIB:
            raise PulledError

    with pytest.raises(PulledError):
        await client.upload(path, pull, state_dir=state_dir, multipart=True)
    (kept,) = state_dir.iterdir()
    first_id = json.loads(kept.read_text())["id"]
    told: list[int] = []
    pipe.cut_up.append(4 * MIB)
    upload = await client.upload(str(path), lambda done, _: told.append(done), state_dir=state_dir, multipart=True)
    assert (upload.id, upload.state) == (first_id, "completed")
    assert told[0] == PART_BYTES, "the part that had arrived was not sent again"
    assert told[-1] == path.stat().st_size
    assert not pipe.cut_up
    assert not list(state_dir.iterdir())
    assert upload.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


async def test_refusals_are_typed(client: AsyncClient, opened: Open, tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video at all\n" * 100)
    with pytest.raises(ClientError) as refusal:
        await client.upload(text)
    assert refusal.value.code == "media_undecodable"
    assert refusal.value.hint
    assert refusal.value.request_id
    with pytest.raises(ClientError) as refusal:
        await client.submit("no_such_workload", {})
    assert (refusal.value.code, refusal.value.status) == ("unknown_workload", 422)
    with pytest.raises(NotFoundError) as missing:
        await client.job("job_00000000-0000-7000-8000-000000000000")
    assert missing.value.code == "job_not_found"
    with pytest.raises(NotFoundError):
        await client.job("../uploads")
    async with opened(f"http://{HOST}:{free_port()}") as nobody:
        with pytest.raises(UnreachableError):
            await nobody.workloads()
        with pytest.raises(UnreachableError):
            async for _ in nobody.events():
                pass
    for url in ("saccade.example", "", "ftp://x", "http://"):
        with pytest.raises(ClientError, match="is not the address"):
            async with opened(url):
                pass


async def test_jobs_are_listed_page_by_page_and_cancelled(client: AsyncClient, inputs: dict[str, str]) -> None:
    jobs = [await client.submit("lap_compare", inputs, metadata={"a": "b"}) for _ in range(3)]
    listed = [job.id async for job in client.jobs(page_size=2)]
    assert set(listed) >= {job.id for job in jobs}
    assert len(listed) == len(set(listed))
    assert [job.id async for job in client.jobs(state=["failed", "running"], since=datetime.now(UTC))] == []
    assert (await client.job(jobs[0].id)).metadata == {"a": "b"}
    assert (await jobs[0].cancel()).id == jobs[0].id
    with pytest.raises(ClientError) as refusal:
        await client.retry(jobs[0].id)
    assert refusal.value.code == "job_not_retryable"

    async def past(*given: str, **options: Any) -> list[tuple[str, str | None]]:
        return [(event.type, event.subject) async for event in client.events(*given, **options, follow=False)]

    whole, newer, submitted = await asyncio.gather(
        past(jobs[0].id), past(jobs[0].id, cursor=jobs[0].cursor), past(types=["job.submitted"], since=60)
    )
    assert [kind for kind, _ in whole] == ["job.submitted", "job.cancel_requested"]
    assert newer == whole, "the cursor of the answer is from before the job"
    assert {job.id for job in jobs} <= {subject for _, subject in submitted}
    assert {kind for kind, _ in submitted} == {"job.submitted"}


async def test_a_job_is_read_as_it_was(client: AsyncClient, inputs: dict[str, str]) -> None:
    job = await client.submit("lap_compare", inputs)
    submitted = await client.job(job.id)
    cancelling = await job.cancel()
    then = await client.job(job.id, at=submitted.cursor)
    assert then.as_of
    assert (then.as_of.cursor, then.message, cancelling.message) == (submitted.cursor, "", "Cancelling.")
    assert [one.message async for one in client.jobs(at=submitted.cursor) if one.id == job.id] == [""]
    changes = await client.job_changes(job.id, submitted.cursor or "", cancelling.cursor)
    assert [field.pointer for field in changes.changed] == ["/message"]
    assert [between.event["type"] for between in changes.events] == ["job.cancel_requested"]
    whole = await client.job_changes(job.id, datetime.now(UTC) - timedelta(hours=1))
    assert (whole.existed, len(whole.events)) == (False, 2)


async def test_a_job_that_is_submitted_twice_by_one_key_is_one(client: AsyncClient, inputs: dict[str, str]) -> None:
    first, again = [await client.submit("lap_compare", inputs, idempotency_key="the same") for _ in range(2)]
    assert first.id == again.id
    with pytest.raises(ClientError) as refusal:
        await client.submit("lap_compare", inputs, priority=1, idempotency_key="the same")
    assert refusal.value.code == "idempotency_key_reused"
    with pytest.raises(ClientError) as refusal:
        await client.submit("lap_compare", inputs, idempotency_key="schlüssel")
    assert refusal.value.code == "idempotency_key_invalid"


async def test_waiting(services: RunningServices, client: AsyncClient, inputs: dict[str, str]) -> None:
    job = await client.submit("lap_compare", inputs)
    with pytest.raises(WaitTimeoutError):
        await job.wait(timeout_s=0.3)
    async with publisher(services.nats.settings) as jobs:
        await jobs.start(job.id)
        waiting = asyncio.ensure_future(job.wait())
        await asyncio.sleep(0.3)
        await jobs.say(job.id, failed())
        ended = await waiting
    assert (ended.state, ended.ended) == ("failed", True)
    with pytest.raises(JobFailedError) as failure:
        ended.raise_for_failure()
    assert (failure.value.code, failure.value.hint) == ("clip_too_short", "h")
    other = await client.submit("lap_compare", inputs)
    async with publisher(services.nats.settings) as jobs:
        await jobs.say(other.id, JobCancelled(attempt=0))
    with pytest.raises(JobFailedError, match="cancelled"):
        (await other.wait()).raise_for_failure()


async def test_files_are_brought_home_over_a_line_that_breaks(
    services: RunningServices, client: AsyncClient, pipe: CuttingPipe, inputs: dict[str, str], tmp_path: Path
) -> None:
    job = await client.submit("lap_compare", inputs)
    content = random.Random(2).randbytes(6 * MIB)
    await succeed(services, job.id, content, damaged=True)
    job = (await job.wait()).raise_for_failure()
    assert {one.name for one in (await job.artifacts()).artifacts} == {"film.mp4", "clips/first.mp4", "facts.bin"}
    folder = tmp_path / "home"
    told: list[tuple[int, int]] = []
    names = ["film.mp4", "clips/first.mp4"]
    pipe.cut_down += [2 * MIB, MIB]
    asked = len(pipe.asked)
    paths = await job.download(folder, lambda done, total: told.append((done, total)), names=names)
    assert paths == [folder / "film.mp4", folder / "clips" / "first.mp4"]
    assert paths[0].read_bytes() == content
    assert told[-1] == (len(content) + 4, len(content) + 4)
    assert [done for done, _ in told] == sorted(done for done, _ in told), "nothing came twice"
    assert not pipe.cut_down
    assert sum("range: bytes=" in one.lower() for one in pipe.asked[asked:]) == 2
    presigned = await client.artifact_url(job.id, "clips/first.mp4")
    assert presigned.startswith("http://")
    async with httpx.AsyncClient(trust_env=False) as anybody:
        assert (await anybody.get(presigned)).content == b"clip"
    with pytest.raises(NotFoundError):
        await client.artifact_url(job.id, "nothing")
    with pytest.raises(ClientError) as refusal:
        await client.download(job.id, folder, names=["facts.bin"])
    assert refusal.value.code == "download_failed"
    with pytest.raises(ClientError) as refusal:
        await client.download(job.id, folder, names=["nothing"])
    assert refusal.value.code == "artifact_not_found"
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == ["film.mp4", "first.mp4"]


async def test_a_download_goes_on_where_an_earlier_one_stopped(
    services: RunningServices, client: AsyncClient, pipe: CuttingPipe, inputs: dict[str, str], tmp_path: Path
) -> None:
    job = await client.submit("lap_compare", inputs)
    content = random.Random(3).randbytes(3 * MIB)
    await succeed(services, job.id, content)
    await job.wait()

    def pull(done: int, _: int) -> None:
        if done > MIB:
            raise PulledError

    with pytest.raises(PulledError):
        await client.download(job.id, tmp_path, pull, names=["film.mp4"])
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(".part")
    started = left.stat().st_size
    assert started > MIB
    asked = len(pipe.asked)
    (path,) = await client.download(job.id, tmp_path, names=["film.mp4"])
    assert path.read_bytes() == content
    assert any(f"range: bytes={started}-" in one.lower() for one in pipe.asked[asked:])
    assert list(tmp_path.iterdir()) == [path]
    # What lies there and is not its beginning costs a second try, not a wrong file.
    path.unlink()
    left.write_bytes(b"x" * MIB)
    (path,) = await client.download(job.id, tmp_path, names=["film.mp4"])
    assert path.read_bytes() == content


async def test_a_ticket_opens_a_stream(services: RunningServices, client: AsyncClient) -> None:
    ticket = await client.ticket("/v1/events")
    assert ticket.url.startswith("/v1/events?ticket=")
    base_url = f"http://{HOST}:{services.notifier.port}"
    async with (
        httpx.AsyncClient(base_url=base_url, trust_env=False) as http,
        http.stream("GET", ticket.url) as response,
    ):
        assert response.status_code == 200


async def test_budget(client: AsyncClient) -> None:
    made = await client.budgets.set(daily_usd=5, warn_share=0.5)
    assert (made.daily_usd, made.monthly_usd, made.warn_share, made.day.limit_usd) == (5.0, None, 0.5, 5.0)
    assert (await client.budgets.get()) == made
    await client.budgets.remove()
    with pytest.raises(ClientError, match="No budget is set"):
        await client.budgets.remove()


async def test_webhooks(client: AsyncClient, inputs: dict[str, str]) -> None:
    async with listening() as listener:
        made = await client.webhooks.create(
            listener.url, types=["job.submitted"], description="ours", headers={"X-Ours": "1"}
        )
        assert made.secret
        shown = await client.webhooks.get(made.id)
        assert (shown.secret, shown.description, shown.header_names) == (None, "ours", ["X-Ours"])
        answer = await client.webhooks.test(made.id)
        assert (answer.delivered, answer.status) == (True, 200)
        job = await client.submit("lap_compare", inputs)
        got = (await listener.wait(2))[1]
        assert verify(got.body, got.headers, secrets=made.secret).event["subject"] == job.id
        rotated = await client.webhooks.rotate_secret(made.id, overlap_s=60)
        assert rotated.secret
        assert rotated.secret != made.secret
        default = await client.webhooks.default_secret()
        newer = await client.webhooks.rotate_default_secret(overlap_s=60)
        assert newer.startswith("whsec_")
        assert newer != default
        assert await client.webhooks.default_secret() == newer
        (delivery,) = await settled(client, made.id)
        assert (delivery.event_type, delivery.state) == ("job.submitted", "delivered")
        (attempt,) = await client.webhooks.attempts(made.id, delivery.id)
        assert (attempt.attempt, attempt.status, attempt.response_excerpt) == (1, 200, "noted")
        await client.webhooks.redeliver(made.id, delivery.id)
        again = (await listener.wait(3))[2]
        assert (again.id, again.body) == (got.id, got.body)
        assert verify(again.body, again.headers, secrets=rotated.secret).id == got.id
        changed = await client.webhooks.change(made.id, enabled=False)
        assert (changed.enabled, changed.url) == (False, made.url)
        with pytest.raises(ClientError) as refusal:
            await client.webhooks.redeliver(made.id, since=3600)
        assert refusal.value.code == "webhook_disabled"
        assert made.id in [one.id for one in await client.webhooks.all()]
        signed = await client.webhooks.change(made.id, signing="v1a", enabled=True)
        assert signed.public_keys == (await client.webhooks.public_keys(made.id))["keys"]
        await client.webhooks.test(made.id)
        got = listener.got[-1]
        assert verify(got.body, got.headers, public_keys=await client.webhooks.public_keys(made.id)).id == got.id
        await client.webhooks.delete(made.id)
        with pytest.raises(NotFoundError):
            await client.webhooks.get(made.id)
    assert await client.webhooks.public_keys() == {"keys": []}, "no endpoint is older than endpoints' own keys"
    assert (await client.webhooks.default_secret()).startswith("whsec_")


async def settled(client: AsyncClient, webhook_id: str) -> list[Any]:
    """Wait until nothing is on its way to an endpoint, and list what was."""
    async with asyncio.timeout(10):
        while not (found := [one async for one in client.webhooks.deliveries(webhook_id)]) or any(
            one.state == "pending" for one in found
        ):
            await asyncio.sleep(0.05)
    return found
