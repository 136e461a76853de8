"""A dispatcher goes on from a snapshot: each job runs once, and whatever is doubtful is folded from the history."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import pytest

from contracts.audit import Attribution
from contracts.budget import BudgetLimits
from contracts.erasure import ErasureRequest, request_subject
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Message, decode, encode
from contracts.events.budget import BudgetSet
from contracts.events.erasure import ErasureCompleted
from contracts.events.job import Cost, JobStarted, JobStarting, JobSucceeded
from contracts.ids import new_id
from contracts.job import State
from contracts.streams import ERASURES, EVENTS
from kit.bucket import Bucket, Transfer
from kit.bus.connection import declare, request
from kit.bus.event_store import EventStore, StoredEvent
from kit.bus.lineage import open_epoch, position_of_stream
from kit.snapshot_store import SnapshotStore, StoredSnapshot
from services.dispatcher.app import Dispatcher
from services.dispatcher.erasure.erasures import Erasures
from services.dispatcher.settings import BudgetSettings
from tests.harness.dispatch.dispatcher import (
    DispatcherHarness,
    Servers,
    kill,
    open_dispatcher_harness,
    shared_servers,
)
from tests.harness.dispatch.scripted_executor import ScriptedExecutor, Worker

pytestmark = pytest.mark.anyio

#: Events after which a dispatcher of these tests writes a snapshot.
EVERY = 5


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with shared_servers(tmp_path_factory.mktemp("snapshots")) as both:
        yield both


@pytest.fixture
async def harness(servers: Servers) -> AsyncIterator[DispatcherHarness]:
    async with open_dispatcher_harness(*servers) as opened:
        for stored in await snapshots_in(opened).all():
            await snapshots_in(opened).delete(stored)
        # What the dispatcher of an earlier test has archived would be folded too.
        for key in await opened.bucket.list_keys(f"{opened.bucket.key('archive')}/"):
            await opened.bucket.delete(key)
        yield opened


def snapshots_in(harness: DispatcherHarness) -> SnapshotStore:
    async def opened() -> Bucket:
        return harness.bucket

    return SnapshotStore(opened, "dispatcher")


async def eventually_snapshot(dispatcher: Dispatcher, at_least: int = 0) -> int:
    """Wait until a dispatcher has written a snapshot at or after a sequence, and return its sequence."""
    end = asyncio.get_running_loop().time() + 20
    while True:
        newest = dispatcher.snapshots._newest
        if dispatcher.snapshots.written and newest >= at_least:
            return newest
        assert asyncio.get_running_loop().time() < end
        await asyncio.sleep(0.05)


async def leads(dispatcher: Dispatcher) -> None:
    end = asyncio.get_running_loop().time() + 20
    while not dispatcher.reconciler.leading:
        assert asyncio.get_running_loop().time() < end
        await asyncio.sleep(0.01)


def folded(dispatcher: Dispatcher) -> list[int]:
    """Return a list to which the sequences that a dispatcher folds are added."""
    found: list[int] = []
    handle = dispatcher.tail._handler

    def note(stored: StoredEvent) -> None:
        found.append(stored.sequence)
        handle(stored)

    dispatcher.tail._handler = note
    return found


async def first_folded(harness: DispatcherHarness, executor: ScriptedExecutor) -> int:
    """Return the sequence of the first event that a dispatcher folds that starts now; it leads in the end."""
    dispatcher = harness.dispatcher(executor, snapshot_events=EVERY)
    sequences = folded(dispatcher)
    async with harness.dispatching(dispatcher):
        await leads(dispatcher)
        job = await harness.reach(await harness.submit())
        assert (job.state, job.attempt) == (State.SUCCEEDED, 1)
    assert sequences == sorted(set(sequences))
    return sequences[0]


async def written(harness: DispatcherHarness, executor: ScriptedExecutor) -> StoredSnapshot:
    """Have a dispatcher do some jobs, write a snapshot and die; return the snapshot."""
    leader = harness.dispatcher(executor, snapshot_events=EVERY)
    leading = asyncio.create_task(leader.run(asyncio.Event()))
    for _ in range(3):
        await harness.reach(await harness.submit())
    await eventually_snapshot(leader)
    await kill(leading)
    await harness.forget_lease()
    return (await snapshots_in(harness).all())[0]


async def test_a_leader_that_dies_after_its_snapshot_leaves_every_job_to_the_next(harness: DispatcherHarness) -> None:
    """Killed between a snapshot and further events: jobs of before, between and after run once and are paid once."""
    go_on = asyncio.Event()

    async def waits(worker: Worker) -> None:
        if await worker.claim():
            while not go_on.is_set():
                await worker.beat()
                await asyncio.sleep(0.1)
            await worker.succeed()

    executor = ScriptedExecutor(harness.store, harness.bucket, waits)
    leader = harness.dispatcher(executor, slots=3, snapshot_events=EVERY)
    leading = asyncio.create_task(leader.run(asyncio.Event()))
    before = [await harness.submit() for _ in range(5)]
    for job_id in before[:3]:
        await harness.reach(job_id, State.RUNNING)
    sequence = await eventually_snapshot(leader, at_least=(await harness.job(before[2])).sequence)
    between = [await harness.submit() for _ in range(3)]
    await kill(leading)
    go_on.set()  # workers go on without a dispatcher
    for job_id in before[:3]:
        await harness.reach(job_id, State.SUCCEEDED)
    await harness.forget_lease()

    follower = harness.dispatcher(executor, slots=3, snapshot_events=EVERY)
    sequences = folded(follower)
    async with harness.dispatching(follower):
        after = [await harness.submit()]
        for job_id in [*before, *between, *after]:
            job = await harness.reach(job_id)
            assert (job.state, job.attempt) == (State.SUCCEEDED, 1)
            assert (await harness.verbs(job_id)).count("starting") == 1
        assert len(follower.jobs) == 0
    assert min(sequences) > sequence
    launched = [assignment.job_id for assignment in executor.launched]
    assert sorted(launched) == sorted([*before, *between, *after])


async def paid_job(harness: DispatcherHarness, usd: float) -> None:
    """Store a job that has ended and has cost something."""
    job_id = await harness.submit()
    run = {"attempt": 1, "run_id": "run_a"}
    starting = JobStarting.model_validate({**run, "executor": "modal", "device": "T4", "reserved_usd": 1.5})
    done = {**run, "result": {}, "manifest_key": "m", "duration_s": 1, "cost": Cost(device="T4", seconds=1, usd=usd)}
    await harness.publish(job_id, "acme", starting)
    await harness.publish(job_id, "acme", JobStarted.model_validate({**run, "device": "T4", "worker": "w"}))
    await harness.publish(job_id, "acme", JobSucceeded.model_validate(done))


async def test_a_budget_holds_over_a_snapshot(harness: DispatcherHarness) -> None:
    """What was spent before the snapshot is not spent again, and an attempt is not reserved for twice."""
    limits = BudgetSettings(daily_usd=5.0)
    data = BudgetSet(daily_usd=2.0)
    await harness.store.publish(encode(data, tenant="acme", subject_id="acme", source="/test"))
    await paid_job(harness, 0.75)
    executor = ScriptedExecutor(harness.store, harness.bucket)
    leader = harness.dispatcher(executor, budget=limits, snapshot_events=EVERY)
    leading = asyncio.create_task(leader.run(asyncio.Event()))
    for _ in range(3):
        await harness.reach(await harness.submit())
    await eventually_snapshot(leader, at_least=(await position_of_stream(harness.client, EVENTS.name)).last - 4)
    expected = leader.notices.budgets.accounts
    await kill(leading)
    await harness.forget_lease()
    follower = harness.dispatcher(executor, budget=limits, snapshot_events=EVERY)
    async with harness.dispatching(follower):
        await leads(follower)
        assert follower.notices.budgets.limits("acme") == BudgetLimits(2.0, None, 0.8)
        assert follower.notices.budgets.accounts == expected
        assert 0.75 <= sum(expected["acme"].by_day.values()) < 0.76


async def test_a_reservation_that_is_not_stored_is_in_no_snapshot(harness: DispatcherHarness) -> None:
    executor = ScriptedExecutor(harness.store, harness.bucket)
    dispatcher = harness.dispatcher(executor, snapshot_events=EVERY)
    budgets, job_id = dispatcher.notices.budgets, await harness.submit()
    job = await harness.job(job_id)
    starting = {"attempt": 1, "run_id": "run_a", "executor": "modal", "device": "T4", "reserved_usd": 1.5}
    dispatcher.tail._reach(job.sequence)
    assert await budgets.reserve(job, JobStarting.model_validate(starting)) is None
    assert budgets.accounts["acme"].attempts[job_id].reserved_usd == 1.5
    assert budgets.saved_accounts() == ()


async def test_a_damaged_snapshot_leaves_the_one_before(harness: DispatcherHarness) -> None:
    executor = ScriptedExecutor(harness.store, harness.bucket)
    older = await written(harness, executor)
    newer = StoredSnapshot(older.sequence + 1, older.epoch, older.key.replace(f"{older.sequence:018d}", "9" * 18))
    data = await snapshots_in(harness).read(older)
    assert data
    await harness.bucket.put(newer.key, data[: len(data) // 2])
    assert await first_folded(harness, executor) > older.sequence


async def test_without_a_whole_snapshot_the_history_is_folded(harness: DispatcherHarness) -> None:
    executor = ScriptedExecutor(harness.store, harness.bucket)
    first = (await position_of_stream(harness.client, EVENTS.name)).last + 1
    for stored in [await written(harness, executor), *await snapshots_in(harness).all()]:
        await harness.bucket.put(stored.key, b"nothing")
    assert await first_folded(harness, executor) == first


async def test_a_crash_in_the_middle_of_writing_leaves_the_old_one(harness: DispatcherHarness) -> None:
    executor = ScriptedExecutor(harness.store, harness.bucket)
    older = await written(harness, executor)
    leader = harness.dispatcher(executor, snapshot_events=EVERY)
    dying, put = asyncio.Event(), harness.bucket.put

    async def dies(key: str, body: bytes, content_type: str = "application/json") -> Transfer:
        if "snapshots/" in key:
            await put(key, body[: len(body) // 3], content_type)  # as far as the server has got
            dying.set()
            await asyncio.Future()
        return await put(key, body, content_type)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(harness.bucket, "put", dies)
        leading = asyncio.create_task(leader.run(asyncio.Event()))
        for _ in range(2):
            await harness.reach(await harness.submit())
        await dying.wait()
        await kill(leading)
    await harness.forget_lease()
    assert (await snapshots_in(harness).all())[0].sequence > older.sequence
    assert await first_folded(harness, executor) == older.sequence + 1


async def test_a_snapshot_of_another_stream_is_refused(harness: DispatcherHarness) -> None:
    """The stream was deleted and made anew, and has come further than the snapshot: sequences mean other events."""
    executor = ScriptedExecutor(harness.store, harness.bucket)
    stored = await written(harness, executor)
    await request(harness.client, "STREAM.DELETE.EVENTS", {})
    await declare(harness.client)
    while (await position_of_stream(harness.client, EVENTS.name)).last <= stored.sequence:
        await harness.cancel(await harness.submit())
    assert await first_folded(harness, executor) == 1


async def test_a_snapshot_from_behind_a_fork_is_refused(harness: DispatcherHarness) -> None:
    """The stream was restored to a point before the snapshot: what it has folded never happened."""
    executor = ScriptedExecutor(harness.store, harness.bucket)
    first = (await position_of_stream(harness.client, EVENTS.name)).last + 1
    stored = await written(harness, executor)
    await open_epoch(harness.client, EVENTS.name, stored.sequence - 1)
    assert await first_folded(harness, executor) == first


async def test_a_snapshot_before_a_fork_is_used(harness: DispatcherHarness) -> None:
    executor = ScriptedExecutor(harness.store, harness.bucket)
    stored = await written(harness, executor)
    last = (await position_of_stream(harness.client, EVENTS.name)).last
    await open_epoch(harness.client, EVENTS.name, last)
    assert await first_folded(harness, executor) > stored.sequence


async def test_a_snapshot_whose_next_events_are_deleted_is_refused(harness: DispatcherHarness) -> None:
    """A job may have ended in them: it would be unfinished for ever."""
    executor = ScriptedExecutor(harness.store, harness.bucket)
    stored = await written(harness, executor)
    for _ in range(5):
        await harness.submit()
    await request(harness.client, "STREAM.PURGE.EVENTS", {"seq": stored.sequence + 3})
    assert await first_folded(harness, executor) >= stored.sequence + 3


async def test_only_two_snapshots_are_kept(harness: DispatcherHarness) -> None:
    executor = ScriptedExecutor(harness.store, harness.bucket)
    for _ in range(3):
        await written(harness, executor)
    assert len(await snapshots_in(harness).all()) <= 2


async def test_without_the_bucket_the_history_is_folded(
    harness: DispatcherHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = ScriptedExecutor(harness.store, harness.bucket)
    first = (await position_of_stream(harness.client, EVENTS.name)).last + 1
    await written(harness, executor)

    async def unavailable(_: SnapshotStore) -> list[StoredSnapshot]:
        raise SaccadeError(ErrorCode.STORAGE_UNAVAILABLE)

    monkeypatch.setattr("services.dispatcher.snapshots.snapshots._START_TIMEOUT_S", 0.5)
    monkeypatch.setattr(SnapshotStore, "all", unavailable)
    assert await first_folded(harness, executor) == first


async def requested(harness: DispatcherHarness, job_id: str) -> str:
    """Request that a job is erased, and return the erasure's id."""
    wanted = ErasureRequest(
        id=new_id("ers"),
        scope="job",
        tenant="acme",
        subject_id=job_id,
        requested_at=datetime.now(UTC),
        by=Attribution(by="ada", why="GDPR", request_id=new_id("req")),
    )
    message = Message(request_subject(wanted.id), new_id("evt"), wanted.model_dump_json().encode())
    await EventStore(harness.client, ERASURES.name).publish(message)
    return wanted.id


async def erasure_of(harness: DispatcherHarness, erasure_id: str) -> StoredEvent:
    """Wait for the event that an erasure is completed."""
    subject = f"saccade.evt._system.erasure.{erasure_id}.*"
    while not (found := [one async for one in harness.store.history(0, subject)]):
        await asyncio.sleep(0.05)
    (completed,) = found
    assert isinstance(decode(completed.body).parsed(), ErasureCompleted)
    return completed


async def test_a_snapshot_between_an_erasure_and_its_event_is_deleted(
    harness: DispatcherHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until that event is folded the process knows what was erased, and would write it down."""
    failed, available, announce = asyncio.Event(), asyncio.Event(), Erasures._announce

    async def announce_when_available(erasures: Erasures, request: ErasureRequest) -> None:
        if not available.is_set():
            failed.set()
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE)
        await announce(erasures, request)

    monkeypatch.setattr(Erasures, "_announce", announce_when_available)
    monkeypatch.setattr("services.dispatcher.erasure.erasures._ERROR_RETRY_S", 0.2)
    leader = harness.dispatcher(ScriptedExecutor(harness.store, harness.bucket), slots=1, snapshot_events=EVERY)
    leading = asyncio.create_task(leader.run(asyncio.Event()))
    erased = await harness.submit()
    for _ in range(3):
        await harness.reach(await harness.submit())
    await eventually_snapshot(leader)
    erasure_id = await requested(harness, erased)
    await failed.wait()
    before = leader.snapshots.written
    while leader.snapshots.written == before:
        await asyncio.sleep(0.05)
    available.set()
    completed = await erasure_of(harness, erasure_id)
    found = await snapshots_in(harness).all()
    with contextlib.suppress(asyncio.CancelledError):
        await kill(leading)
    assert all(one.sequence >= completed.sequence for one in found)


async def test_an_erasure_deletes_snapshots_and_none_from_before_it_is_used(harness: DispatcherHarness) -> None:
    executor = ScriptedExecutor(harness.store, harness.bucket)
    first = (await position_of_stream(harness.client, EVENTS.name)).last + 1
    canary = "canary-of-an-erased-job"
    leader = harness.dispatcher(executor, slots=1, snapshot_events=EVERY)
    leading = asyncio.create_task(leader.run(asyncio.Event()))
    erased = await harness.submit(params={"note": canary})
    for _ in range(3):
        await harness.reach(await harness.submit())
    await eventually_snapshot(leader)
    old = (await snapshots_in(harness).all())[0]
    data = await snapshots_in(harness).read(old)
    completed = await erasure_of(harness, await requested(harness, erased))
    assert all(one.sequence >= completed.sequence for one in await snapshots_in(harness).all())
    with contextlib.suppress(asyncio.CancelledError):
        await kill(leading)
    await harness.forget_lease()
    for stored in await snapshots_in(harness).all():
        await snapshots_in(harness).delete(stored)
    assert data
    await harness.bucket.put(old.key, data)  # a writer that was late
    assert first <= await first_folded(harness, executor) <= old.sequence  # the first ones were those of the job
    for stored in await snapshots_in(harness).all():
        assert stored.sequence >= completed.sequence or stored == old
