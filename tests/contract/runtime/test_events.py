"""Guarantees of events and claims over each kind of bus access, without a worker process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from contracts.assignment import Assignment
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import decode
from contracts.events.job import Cost, JobInterrupted, JobStageCompleted, JobSucceeded
from contracts.job import State
from contracts.limits import EVENT_BYTES
from modal_workers.runtime.bus.claim import Claim
from modal_workers.runtime.context import Stopped
from modal_workers.runtime.jobs.event_writer import EventWriter
from modal_workers.runtime.jobs.progress import ProgressSnapshot
from modal_workers.runtime.jobs.watch import watch
from modal_workers.runtime.stop import StopCause, StopFlag
from tests.harness.runtime.bus_access import BUS_ACCESS, BusConnector, open_bus_connector
from tests.harness.runtime.job_driver import TENANT, JobDriver
from tests.harness.servers.embedded import OperatorNats, S3Server

pytestmark = pytest.mark.anyio


@pytest.fixture
def operator_nats(tmp_path: Path) -> Iterator[OperatorNats]:
    (tmp_path / "nats").mkdir()
    with OperatorNats(tmp_path / "nats") as server:
        yield server


@pytest.fixture(params=BUS_ACCESS)
async def connector(
    request: pytest.FixtureRequest, operator_nats: OperatorNats, s3_server: S3Server, tmp_path: Path
) -> AsyncIterator[BusConnector]:
    async with open_bus_connector(request.param, operator_nats, s3_server, tmp_path) as connector:
        yield connector


@pytest.fixture
def driver(connector: BusConnector) -> JobDriver:
    return connector.driver


def completed(assignment: Assignment, number: int) -> JobStageCompleted:
    return JobStageCompleted(attempt=1, run_id=assignment.run_id, stage=str(number), duration_s=0)


def succeeded(assignment: Assignment) -> JobSucceeded:
    cost = Cost(device="cpu", seconds=1, usd=0)
    return JobSucceeded(attempt=1, run_id=assignment.run_id, result={}, manifest_key="k", duration_s=1, cost=cost)


def interrupted(assignment: Assignment) -> JobInterrupted:
    error = SaccadeError(ErrorCode.WORKER_LOST).body()
    return JobInterrupted(attempt=1, run_id=assignment.run_id, failure="preempted", error=error)


async def test_of_many_workers_of_one_run_one_gets_the_claim(connector: BusConnector, driver: JobDriver) -> None:
    for _ in range(5):
        assignment = await driver.submit()
        claims = [Claim(await connector.open(assignment), assignment) for _ in range(6)]
        taken = await asyncio.gather(*(claim.acquire(10) for claim in claims))
        assert sorted(taken) == [False] * 5 + [True]
        assert (await driver.types(assignment.job_id)).count("job.started") == 1
        winner = claims[taken.index(True)]
        job = await winner.load()
        assert [claim.holds(job) for claim in claims] == [claim is winner for claim in claims]


async def test_only_the_holder_can_say_how_it_ended_and_once(connector: BusConnector, driver: JobDriver) -> None:
    assignment = await driver.submit()
    holder, other = [Claim(await connector.open(assignment), assignment) for _ in range(2)]
    assert await holder.acquire(10)
    assert not await other.succeed(succeeded(assignment), 10)
    assert not await other.interrupt(interrupted(assignment), 10)
    assert await holder.succeed(succeeded(assignment), 10)
    assert await holder.succeed(succeeded(assignment), 10), "said again: it is so"
    assert not await holder.interrupt(interrupted(assignment), 10)
    assert (await driver.types(assignment.job_id))[-1] == "job.succeeded"
    assert (await driver.types(assignment.job_id)).count("job.succeeded") == 1


async def test_success_after_a_wish_to_cancel_is_not_said(connector: BusConnector, driver: JobDriver) -> None:
    assignment = await driver.submit()
    claim = Claim(await connector.open(assignment), assignment)
    assert await claim.acquire(10)
    await driver.request_cancel(assignment.job_id)
    assert not await claim.succeed(succeeded(assignment), 10)
    assert await claim.interrupt(interrupted(assignment), 10)


async def test_a_claim_survives_other_writers(connector: BusConnector, driver: JobDriver) -> None:
    """Publish artifacts and stages all the time, which move the job's sequence; the success is stored."""
    assignment = await driver.submit()
    claim = Claim(await connector.open(assignment), assignment)
    assert await claim.acquire(10)

    async def chatter() -> None:
        for number in range(100):
            await driver.say(assignment.job_id, completed(assignment, number))

    talking = asyncio.create_task(chatter())
    await asyncio.sleep(0.01)
    assert await claim.succeed(succeeded(assignment), 10)
    await talking


async def test_a_worker_hears_that_its_job_has_moved_on(connector: BusConnector, driver: JobDriver) -> None:
    for reason in (StopCause.LOST, StopCause.CANCELLED):
        assignment = await driver.submit()
        bus = await connector.open(assignment)
        claim, stop = Claim(bus, assignment), StopFlag()
        assert await claim.acquire(10)
        watching = asyncio.create_task(watch(bus, claim, stop))
        await asyncio.sleep(0.1)
        assert not stop.requested
        if reason is StopCause.LOST:
            await driver.replace_attempt(assignment)
        else:
            await driver.request_cancel(assignment.job_id)
        await asyncio.wait_for(watching, 10)
        assert stop.cause is reason


async def test_events_stay_in_order_and_none_is_lost_over_a_restart(connector: BusConnector, driver: JobDriver) -> None:
    assignment = await driver.submit()
    writer = EventWriter(await connector.open(assignment), assignment, f"/worker/{assignment.run_id}")
    running = asyncio.create_task(writer.run())
    stop = StopFlag()
    for number in range(60):
        writer.enqueue(completed(assignment, number), f"{assignment.run_id}.{number}", stop)
        if number == 20:
            connector.server.kill()
        if number == 40:
            await asyncio.sleep(1)
            connector.server.start()
        await asyncio.sleep(0.005)
    assert await writer.flush(20)
    running.cancel()
    events = [event for event in await driver.events(assignment.job_id) if event.type == "job.stage_completed"]
    assert [event.data["stage"] for event in events] == [str(number) for number in range(60)]


async def test_an_event_that_is_too_large_holds_up_no_other(connector: BusConnector, driver: JobDriver) -> None:
    assignment = await driver.submit()
    writer = EventWriter(await connector.open(assignment), assignment, f"/worker/{assignment.run_id}")
    running = asyncio.create_task(writer.run())
    large = completed(assignment, 1).model_copy(update={"stage": "x" * EVENT_BYTES})
    for number, data in enumerate((completed(assignment, 0), large, completed(assignment, 2))):
        writer.enqueue(data, f"{assignment.run_id}.{number}", StopFlag())
    assert await writer.flush(20)
    running.cancel()
    events = [event for event in await driver.events(assignment.job_id) if event.type == "job.stage_completed"]
    assert [event.data["stage"] for event in events] == ["0", "2"]


async def test_progress_is_conflated_to_the_newest_and_never_waits(connector: BusConnector, driver: JobDriver) -> None:
    assignment = await driver.submit()
    heard: list[float] = []

    async def on_progress(msg: object) -> None:
        heard.append(decode(msg.data).data["fraction"])  # type: ignore[attr-defined]

    await driver.store.client.subscribe(f"live.saccade.prog.{TENANT}.job.{assignment.job_id}.>", cb=on_progress)
    bus = await connector.open(assignment)
    writer = EventWriter(bus, assignment, f"/worker/{assignment.run_id}")
    running = asyncio.create_task(writer.run())
    began = time.monotonic()
    number = 0
    while time.monotonic() - began < 1.0:
        number += 1
        writer.set_progress(ProgressSnapshot("first", min(1.0, number / 1e6), 0.0, "", None, time.monotonic()))
        if number % 200 == 0:
            await asyncio.sleep(0)
    last = number / 1e6
    async with asyncio.timeout(60):
        while not heard or heard[-1] != pytest.approx(last):
            await asyncio.sleep(0.02)
    running.cancel()
    assert number > 1000
    assert 2 <= len(heard) <= 1.25 * bus.progress_hz + 3
    assert heard == sorted(heard)
    assert heard[-1] == pytest.approx(last), "the newest is what stays"


async def test_memory_is_bounded_while_the_bus_is_away(connector: BusConnector, driver: JobDriver) -> None:
    assignment = await driver.submit()
    writer = EventWriter(await connector.open(assignment), assignment, f"/worker/{assignment.run_id}")
    connector.server.kill()
    stop = StopFlag()

    def talk() -> int:
        said = 0
        try:
            while True:
                writer.enqueue(completed(assignment, said), f"{assignment.run_id}.{said}", stop)
                said += 1
        except Stopped:
            return said

    talking = asyncio.create_task(asyncio.to_thread(talk))
    await asyncio.sleep(1.0)
    assert not talking.done(), "a full queue makes the job wait"
    stop.request(StopCause.SIGNAL)
    assert await talking == 1000
    assert not await writer.flush(0.05)


async def test_a_job_that_nobody_knows_is_not_claimed(connector: BusConnector, driver: JobDriver) -> None:
    assignment = await driver.submit()
    unknown = assignment.model_copy(update={"job_id": assignment.job_id[:-1] + "0", "tenant": "other"})
    assert not await Claim(await connector.open(unknown), unknown).acquire(5)
    old = assignment.model_copy(update={"attempt": 7})
    assert not await Claim(await connector.open(old), old).acquire(5)
    assert (await driver.job(assignment.job_id)).state is State.STARTING
