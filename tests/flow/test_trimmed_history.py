"""Jobs whose events are in the archive only: what is known of them stays known, and what is refused says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from nats.aio.client import Client

from contracts.errors import ErrorBody, ErrorCode, SaccadeError
from contracts.events.job import Cost, JobFailed, JobQueued, JobRetrying
from contracts.events.session import SessionText
from contracts.ids import new_id
from contracts.job import Job, State
from contracts.streams import LIVE_EVENTS, aggregate
from kit.bus.event_store import Conflict
from kit.bus.lineage import StreamPosition, position_of_stream
from kit.bus.tail import EventTail
from kit.history.older_events import HistoryBeforeStream
from kit.history.stream_reader import StreamReader
from kit.tasks import end
from services.dispatcher.archive.stream_trimmer import StreamTrimmer
from services.dispatcher.lifecycle import archived_jobs
from services.dispatcher.settings import BudgetSettings, StreamSettings
from tests.harness.dispatch.dispatcher import DispatcherHarness, Servers, open_dispatcher_harness, shared_servers
from tests.harness.dispatch.scripted_executor import ScriptedExecutor, Worker
from tests.harness.history.archive_stage import ArchiveStage, archive_stage
from tests.harness.servers.gateway import RunningGateway, code_of, running_gateway
from tests.harness.sessions.scripted_session_worker import opened, run_scripted_worker, streamed_catalog

pytestmark = pytest.mark.anyio
RULE = {"name": "Matches", "workload": "badminton"}


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    """Servers of one test: what another one archived would be part of its history."""
    with shared_servers(tmp_path) as both:
        yield both


@pytest.fixture
async def harness(servers: Servers) -> AsyncIterator[DispatcherHarness]:
    async with open_dispatcher_harness(*servers) as opened:
        yield opened


@pytest.fixture
async def stage(servers: Servers) -> AsyncIterator[ArchiveStage]:
    async with archive_stage(*servers, segment_bytes=2_000) as opened:
        yield opened


async def trim(stage: ArchiveStage, keep: int = 1) -> int:
    """Archive all full segments, and delete from the stream what is in them; return its first sequence then."""
    await stage.archive_all()
    archived = (await stage.stored())[-1].last
    settings = StreamSettings(keep_events=keep, keep_hours=0)
    trimmer = StreamTrimmer(StreamReader(stage.store), lambda: archived, settings=settings)
    while await trimmer.trim_by_number():
        pass
    assert trimmer.trimmed
    return (await StreamReader(stage.store).state()).first


async def test_a_tail_goes_on_though_nats_does_not_say_at_once_where_the_stream_begins(
    stage: ArchiveStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.publish(200)
    first = await trim(stage)
    asked = 0

    async def unless_second(client: Client, stream: str) -> StreamPosition:
        nonlocal asked
        asked += 1
        if asked == 2:  # the first question is that of the tail's start
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, "No node leads the stream EVENTS.")
        return await position_of_stream(client, stream)

    monkeypatch.setattr("kit.bus.tail.position_of_stream", unless_second)
    monkeypatch.setattr("kit.bus.tail._ARCHIVE_RETRY_S", 0.05)
    seen: list[int] = []
    older = HistoryBeforeStream(stage.history, 3600.0)
    tail = EventTail(stage.store, lambda event: seen.append(event.sequence), live=LIVE_EVENTS, name="t", older=older)
    following = asyncio.create_task(tail.run())
    try:
        assert await tail.wait_for(200, 30), following
    finally:
        await end(following)
    assert first > 1
    assert asked > 2
    assert seen == list(range(1, 201))


async def until_archivable(running: RunningGateway) -> None:
    """Store events, of jobs that nobody knows, until what was stored before is in full segments."""
    for _ in range(20):
        await running.say(new_id("job"), JobQueued(position=0))


async def failed_job(running: RunningGateway, upload_id: str) -> str:
    job_id = str((await running.submitted(upload_id))["id"])
    await running.start_job(job_id)
    error = ErrorBody(code=ErrorCode.INTERNAL, message="It failed.", hint="Try again.")
    await running.say(job_id, JobFailed(attempt=1, failure="user", error=error))
    return job_id


async def test_a_gateway_knows_archived_jobs_as_before(
    harness: DispatcherHarness, stage: ArchiveStage, servers: Servers, tmp_path: Path
) -> None:
    nats, s3 = servers
    async with running_gateway(nats.settings, s3.settings, tmp_path / "first") as running:
        http, upload_id = running.http, await running.uploaded()
        failed = await failed_job(running, upload_id)
        done = str((await running.submitted(upload_id))["id"])
        await running.finish_job(done, await running.start_job(done), [])
        rule = (await http.post("/v1/rules", json=RULE)).json()
        assert (await http.put("/v1/budgets", json={"daily_usd": 7})).is_success
        await until_archivable(running)
        jobs = (await http.get("/v1/jobs")).json()["data"]
        spent = running.view.budgets.account("local")
        assert spent.by_day
        first = await trim(stage)
        assert not await running.store.load(aggregate("local", "job", failed)), "its events are in the archive only"
        assert not await running.store.load(aggregate("local", "rule", rule["id"]))

        assert (await http.get("/v1/jobs")).json()["data"] == jobs
        assert (await http.get(f"/v1/jobs/{failed}")).json()["state"] == "failed"
        refused = await http.post(f"/v1/jobs/{failed}/retry")
        assert (refused.status_code, code_of(refused)) == (409, "job_archived")
        assert "retry_of" in refused.json()["hint"]
        assert code_of(await http.post(f"/v1/jobs/{done}/cancel")) == "job_already_ended"
        again = await http.post(
            "/v1/jobs",
            json={
                "workload": "lap_compare",
                "inputs": {"reference": upload_id, "other": [upload_id]},
                "retry_of": failed,
            },
        )
        assert again.status_code == 202, again.text
        jobs = (await http.get("/v1/jobs")).json()["data"]
        changed = await http.patch(f"/v1/rules/{rule['id']}", json={"name": "other"})
        assert changed.is_success, changed.text
        assert (await http.put("/v1/budgets", json={"daily_usd": 8})).json()["daily_usd"] == 8

    async with running_gateway(nats.settings, s3.settings, tmp_path / "anew") as anew:
        assert anew.view.sequence >= first
        assert (await anew.http.get("/v1/jobs")).json()["data"] == jobs
        assert anew.view.budgets.account("local") == spent
        assert (await anew.http.get(f"/v1/rules/{rule['id']}")).json()["name"] == "other"
        assert (await anew.http.get("/v1/budgets")).json()["daily_usd"] == 8


async def test_the_texts_of_a_session_are_read_from_the_archive(
    harness: DispatcherHarness, stage: ArchiveStage, servers: Servers, tmp_path: Path
) -> None:
    nats, s3 = servers
    with streamed_catalog():
        async with running_gateway(nats.settings, s3.settings, tmp_path) as running:
            session = await opened(running, workload="described")
            path = f"/v1/sessions/{session['id']}/texts"
            async with run_scripted_worker(running, session["id"]) as worker:
                await worker.claim()
                for chunk in range(12):
                    said = {"chunk": chunk, "text": "The arm moves.", "first_seq": chunk, "last_seq": chunk + 1}
                    await worker.say(SessionText(run_id="run_test", **said))
                await worker.succeed()
            whole = (await running.http.get(path)).json()
            assert len(whole["data"]) == 12
            first = (await running.http.get(path, params={"limit": 5})).json()
            await until_archivable(running)
            await trim(stage)
            assert not await running.store.load(aggregate("local", "session", session["id"]))
            assert (await running.http.get(path)).json()["data"] == whole["data"]
            paged, cursor = first["data"], first["next_cursor"]
            while cursor:
                page = (await running.http.get(path, params={"limit": 5, "cursor": cursor})).json()
                paged, cursor = paged + page["data"], page["next_cursor"]
            assert paged == whole["data"], "a cursor from before leads on into the archive"


async def test_two_writers_of_an_archived_aggregate_exclude_each_other(
    harness: DispatcherHarness, stage: ArchiveStage
) -> None:
    await stage.publish(200)
    job_subject = stage.events[0].subject
    newest = max(event.sequence for event in stage.events if event.subject.split(".")[4] == job_subject.split(".")[4])
    first = await trim(stage, keep=5)
    assert newest < first
    job_id, tenant = job_subject.split(".")[4], job_subject.split(".")[2]
    last = (await StreamReader(stage.store).state()).last
    error = ErrorBody(code=ErrorCode.INTERNAL, message="It failed.", hint="Try again.")
    data = JobFailed(attempt=1, failure="user", error=error)

    async def write(known_until: int) -> bool:
        try:
            await harness.publish(job_id, tenant, data, after=newest, known_until=known_until)
        except Conflict:
            return False
        return True

    assert not await write(0), "who does not say what it knows is refused"
    assert not await write(first - 2), "an event that it does not know may be deleted"
    assert sorted(await asyncio.gather(*(write(last) for _ in range(5)))) == [False] * 4 + [True]


class PaidWorker(Worker):
    """A worker whose attempts cost something, however short they are."""

    def cost(self) -> Cost:
        return Cost(device="cpu", seconds=1.0, usd=0.25)


async def succeeds_at_a_cost(worker: Worker) -> None:
    paid = PaidWorker(worker.assignment, worker.store, worker.bucket)
    if await paid.claim():
        await paid.succeed()


@asynccontextmanager
async def leading(harness: DispatcherHarness) -> AsyncIterator[object]:
    """Run a dispatcher that has an archive and no snapshot, until it leads."""
    dispatcher = harness.dispatcher(
        ScriptedExecutor(harness.store, harness.bucket, succeeds_at_a_cost),
        snapshot_events=10**9,
        budget=BudgetSettings(daily_usd=1000),
    )
    async with harness.dispatching(dispatcher):
        with anyio.fail_after(30):
            while not dispatcher.reconciler.leading:
                await anyio.sleep(0.02)
        yield dispatcher


async def test_a_dispatcher_without_a_snapshot_counts_what_was_spent_before(
    harness: DispatcherHarness, stage: ArchiveStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENTS_KEEP_MESSAGES", "0")
    monkeypatch.setenv("DISPATCHER_SWEEP_S", "0.05")
    monkeypatch.setenv("MODAL_VOLUME_CLEANUP_HOURS", str(1 / 3600))
    async with leading(harness) as before:
        jobs = [await harness.submit() for _ in range(6)]
        for job_id in jobs:
            assert (await harness.reach(job_id)).state is State.SUCCEEDED
        for _ in range(12):
            await harness.reach(await harness.submit())
        accounts = dict(before.notices.budgets.saved_accounts())  # type: ignore[attr-defined]
    assert accounts["acme"].by_day
    await harness.bucket.put(harness.bucket.key("scratch", jobs[0], "a.bin"), b"x")
    await trim(stage)
    assert not await harness.store.load(aggregate("acme", "job", jobs[0]))
    await harness.forget_lease()
    async with leading(harness) as after:
        assert dict(after.notices.budgets.saved_accounts()) == accounts  # type: ignore[attr-defined]
        with anyio.fail_after(30):  # its events say when its scratch files go
            while await harness.bucket.list_keys(harness.bucket.key("scratch", jobs[0])):
                await anyio.sleep(0.05)
        said = [stored.subject async for stored in harness.store.history(0, aggregate("acme", "job", jobs[0]))]
        assert [subject.rpartition(".")[2] for subject in said] == ["scratch_removed"]


async def test_a_dispatcher_without_a_snapshot_leads_though_the_first_segment_is_damaged(
    harness: DispatcherHarness, stage: ArchiveStage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("EVENTS_KEEP_MESSAGES", "0")
    async with leading(harness) as before:
        for _ in range(12):
            await harness.reach(await harness.submit())
        spent = dict(before.notices.budgets.saved_accounts())["acme"].by_day  # type: ignore[attr-defined]
    await trim(stage)
    damaged = (await stage.stored())[0]
    await harness.bucket.put(damaged.key, (await harness.bucket.get(damaged.key))[:100])
    await harness.forget_lease()
    async with leading(harness) as after:
        counted = dict(after.notices.budgets.saved_accounts())["acme"].by_day  # type: ignore[attr-defined]
    [(day, usd)] = spent.items()
    assert 0 < counted[day] < usd, "what comes after the damaged segment is counted"
    told = [record.getMessage() for record in caplog.records if "cannot be read" in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith(f"events 1 to {damaged.last} cannot be read")


async def test_a_job_whose_archive_is_damaged_keeps_no_scratch_files_of_others(
    harness: DispatcherHarness, stage: ArchiveStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENTS_KEEP_MESSAGES", "0")
    monkeypatch.setenv("DISPATCHER_SWEEP_S", "0.05")
    monkeypatch.setenv("MODAL_VOLUME_CLEANUP_HOURS", str(1 / 3600))

    def scratch_of(job_id: str) -> str:
        return harness.bucket.key("scratch", job_id, "a.bin")

    async with leading(harness):
        archived = await harness.submit()
        assert (await harness.reach(archived)).state is State.SUCCEEDED
        for _ in range(12):
            await harness.reach(await harness.submit())
        await trim(stage)
        assert not await harness.store.load(aggregate("acme", "job", archived))
        damaged = (await stage.stored())[0]
        await harness.bucket.put(damaged.key, (await harness.bucket.get(damaged.key))[:100])
        later = await harness.submit()
        await harness.reach(later)
        for job_id in (archived, later):
            await harness.bucket.put(scratch_of(job_id), b"x")
        with anyio.fail_after(30):
            while await harness.bucket.list_keys(scratch_of(later)):
                await anyio.sleep(0.05)
        assert await harness.bucket.list_keys(scratch_of(archived)), "nothing says when they go"


async def retry(harness: DispatcherHarness, stage: ArchiveStage, job: Job) -> None:
    """Store that a job is retried, as a gateway does that does not know of the trimming."""
    retried = JobRetrying(
        attempt=2,
        first_attempt=2,
        after="asked",
        delay_s=0,
        not_before=job.created_at,
        deadline=job.submitted.deadline,
    )
    last = (await StreamReader(stage.store).state()).last
    await harness.publish(job.id, "acme", retried, after=job.sequence, known_until=last)


async def next_event(harness: DispatcherHarness, job_id: str) -> tuple[str, dict[str, Any]]:
    """Wait for the event after the retry."""
    with anyio.fail_after(30):
        while len(events := await harness.events(job_id)) < 2:
            await anyio.sleep(0.05)
    return events[-1]


async def test_a_job_that_is_retried_while_its_events_go_ends_with_the_reason(
    harness: DispatcherHarness, stage: ArchiveStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENTS_KEEP_MESSAGES", "0")
    async with leading(harness):
        job_id = await harness.submit()
        job = await harness.reach(job_id)
        for _ in range(12):
            await harness.reach(await harness.submit())
    await trim(stage)
    await retry(harness, stage, job)
    await harness.forget_lease()
    async with leading(harness):
        name, data = await next_event(harness, job_id)
    assert name == "failed"
    assert data["error"]["code"] == "job_archived"


@pytest.mark.parametrize("lost", ["damaged", "deleted"])
async def test_a_job_that_is_retried_while_its_events_go_ends_though_they_are_lost(
    harness: DispatcherHarness, stage: ArchiveStage, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    monkeypatch.setenv("EVENTS_KEEP_MESSAGES", "0")
    monkeypatch.setattr(archived_jobs, "_DAMAGED_S", 1.0)
    async with leading(harness):
        job_id = await harness.submit()
        job = await harness.reach(job_id)
        for _ in range(12):
            await harness.reach(await harness.submit())
        await trim(stage)
        stored = await stage.stored()
        if lost == "damaged":
            await harness.bucket.put(stored[0].key, (await harness.bucket.get(stored[0].key))[:100])
        else:
            for segment in stored:
                await harness.bucket.delete(segment.key)
        await retry(harness, stage, job)
        name, data = await next_event(harness, job_id)
    assert name == "failed"
    assert data["error"]["code"] == "job_archived"
    assert data["attempt"] == 2
