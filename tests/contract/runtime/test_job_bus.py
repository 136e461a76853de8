"""Job bus over its three kinds of access: NATS with full rights, NATS with a job's credentials, HTTPS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contracts.assignment import Assignment
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Message, decode, encode
from contracts.events.job import JobFailed, JobProgressed, JobStageCompleted, JobStarted
from contracts.ids import new_id
from contracts.job import State
from contracts.worker_rights import run_grant
from kit.bus.event_store import Conflict
from kit.settings import NatsSettings
from modal_workers.runtime.bus.job_bus import BusRefused, JobBus
from modal_workers.runtime.bus.open_bus import open_bus
from modal_workers.runtime.settings import IngestSettings
from tests.harness.runtime.bus_access import BUS_ACCESS, BusConnector, open_bus_connector
from tests.harness.runtime.job_driver import TENANT, JobDriver
from tests.harness.servers.embedded import HOST, OperatorNats, S3Server, free_port

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorNats]:
    with OperatorNats(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture(params=BUS_ACCESS)
async def connector(
    request: pytest.FixtureRequest, server: OperatorNats, s3_server: S3Server, tmp_path: Path
) -> AsyncIterator[BusConnector]:
    async with open_bus_connector(request.param, server, s3_server, tmp_path) as connector:
        yield connector


@pytest.fixture
def driver(connector: BusConnector) -> JobDriver:
    return connector.driver


#: A worker on our own machines has the services' rights.
UNTRUSTED = pytest.mark.parametrize("connector", ["credentials", "ingest"], indirect=True)


def started(assignment: Assignment, worker: str = "test") -> Message:
    data = JobStarted(attempt=assignment.attempt, run_id=assignment.run_id, device="cpu", worker=worker)
    return said(assignment, data, f"{assignment.run_id}.started.{worker}")


def completed(assignment: Assignment, stage: str) -> Message:
    data = JobStageCompleted(attempt=assignment.attempt, run_id=assignment.run_id, stage=stage, duration_s=1)
    return said(assignment, data, f"{assignment.run_id}.stage.{stage}")


def said(assignment: Assignment, data: Any, event_id: str) -> Message:
    source = f"/worker/{assignment.run_id}"
    return encode(data, tenant=assignment.tenant, subject_id=assignment.job_id, source=source, event_id=event_id)


async def test_the_job_is_read_as_its_events_tell_it(connector: BusConnector, driver: JobDriver) -> None:
    assignment = await driver.submit("work 1")
    bus = await connector.open(assignment)
    assert await bus.load() == await driver.job(assignment.job_id)
    await bus.publish(started(assignment))
    await driver.request_cancel(assignment.job_id)
    job = await bus.load()
    assert job == await driver.job(assignment.job_id)
    assert job is not None
    assert (job.state, job.cancel_requested, job.worker) == (State.RUNNING, True, "test")


async def test_a_job_without_events_is_none(connector: BusConnector, driver: JobDriver) -> None:
    assignment = (await driver.submit()).model_copy(update={"job_id": new_id("job")})
    assert await (await connector.open(assignment)).load() is None


async def test_events_arrive_byte_for_byte(connector: BusConnector, driver: JobDriver) -> None:
    assignment = await driver.submit()
    bus = await connector.open(assignment)
    message = completed(assignment, "first")
    message = replace(message, body=message.body.replace(b'"first"', '"\\u00e9 \u2028é  1"'.encode()))
    sequence = await bus.publish(message)
    stored = [
        one async for one in driver.store.history(sequence - 1, f"saccade.evt.{TENANT}.job.{assignment.job_id}.*")
    ]
    assert [(one.sequence, one.subject, one.body) for one in stored] == [(sequence, message.subject, message.body)]


async def test_a_condition_that_fails_stores_nothing(connector: BusConnector, driver: JobDriver) -> None:
    assignment = await driver.submit()
    bus = await connector.open(assignment)
    job = await bus.load()
    assert job is not None
    await driver.request_cancel(assignment.job_id)
    with pytest.raises(Conflict):
        await bus.publish(started(assignment), after=job.sequence)
    assert "job.started" not in await driver.types(assignment.job_id)
    job = await bus.load()
    assert job is not None
    sequence = await bus.publish(started(assignment), after=job.sequence)
    assert sequence == (await driver.job(assignment.job_id)).sequence


async def test_of_many_writers_one_wins(connector: BusConnector, driver: JobDriver) -> None:
    assignment = await driver.submit()
    job = await driver.job(assignment.job_id)
    buses = [await connector.open(assignment) for _ in range(8)]
    tries = (bus.publish(started(assignment, str(n)), after=job.sequence) for n, bus in enumerate(buses))
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert len([one for one in results if isinstance(one, int)]) == 1
    assert len([one for one in results if isinstance(one, Conflict)]) == 7
    assert (await driver.types(assignment.job_id)).count("job.started") == 1


async def test_an_event_said_again_is_stored_once(connector: BusConnector, driver: JobDriver) -> None:
    assignment = await driver.submit()
    bus, job = await connector.open(assignment), await driver.job(assignment.job_id)
    message = started(assignment)
    sequence = await bus.publish(message, after=job.sequence)
    assert await bus.publish(message) == sequence, "the answer to the first may have been lost"
    # With its condition it is a conflict: a second read then shows that it was stored.
    with pytest.raises(Conflict):
        await bus.publish(message, after=job.sequence)
    assert (await driver.types(assignment.job_id)).count("job.started") == 1


async def test_a_reading_is_of_one_moment(connector: BusConnector, driver: JobDriver) -> None:
    """Read the job while others write: its sequence and all events up to it belong together."""
    assignment = await driver.submit()
    bus = await connector.open(assignment)
    told: dict[int, int] = {}
    done = False

    async def chatter() -> None:
        nonlocal done
        for number in range(30):
            sequence = await driver.store.publish(completed(assignment, f"{number}"))
            told[sequence] = number
            await driver.store.publish(started(assignment, f"{number}"))
            await asyncio.sleep(0.01)
        done = True

    talking = asyncio.create_task(chatter())
    readings = 0
    while not done:
        job = await bus.load()
        assert job is not None
        readings += 1
        before = [number for sequence, number in told.items() if sequence <= job.sequence]
        if before and job.stage is not None:
            assert int(job.stage) >= before[-1]
            assert job.worker is None or int(job.worker) >= int(job.stage) - 1
    await talking
    assert readings > 3


async def test_progress_is_the_newest_and_moves_no_state(connector: BusConnector, driver: JobDriver) -> None:
    assignment = await driver.submit()
    bus, before = await connector.open(assignment), await driver.job(assignment.job_id)
    for number in range(3):
        data = JobProgressed(
            attempt=1, run_id=assignment.run_id, stage="a", fraction=number / 10, stage_fraction=number / 10
        )
        source = f"/worker/{assignment.run_id}"
        await bus.publish_progress(
            encode(data, tenant=TENANT, subject_id=assignment.job_id, source=source), deadline_s=5
        )
    newest = await driver.newest_progress(assignment.job_id)
    assert newest is not None
    assert newest[1].fraction == 0.2
    assert await driver.job(assignment.job_id) == before


async def test_what_others_say_is_noticed(connector: BusConnector, driver: JobDriver) -> None:
    assignment = await driver.submit()
    bus = await connector.open(assignment)
    await bus.load()
    noticing = asyncio.create_task(bus.wait_for_change(30))
    await asyncio.sleep(0.2)
    await driver.request_cancel(assignment.job_id)
    async with asyncio.timeout(10):
        await noticing
    job = await bus.load()
    assert job is not None
    assert job.cancel_requested


async def test_silence_ends_the_wait(connector: BusConnector, driver: JobDriver) -> None:
    bus = await connector.open(await driver.submit())
    await bus.load()
    async with asyncio.timeout(5):
        await bus.wait_for_change(0.3)


@UNTRUSTED
async def test_what_a_worker_does_not_say_is_refused_for_good(connector: BusConnector, driver: JobDriver) -> None:
    assignment, other = await driver.submit(), await driver.submit()
    failed = JobFailed(attempt=1, failure="user", error=SaccadeError(ErrorCode.CLIP_STATIC).body())
    for message in (
        said(assignment, failed, f"{assignment.run_id}.failed"),
        said(other, JobStarted(attempt=1, run_id=other.run_id, device="cpu", worker="x"), f"{other.run_id}.started"),
    ):
        bus = await connector.open(assignment)
        async with asyncio.timeout(5):
            with pytest.raises(BusRefused) as caught:
                await bus.publish(message, deadline_s=60)
        assert caught.value.code is ErrorCode.FORBIDDEN
    for job_id in (assignment.job_id, other.job_id):
        assert await driver.types(job_id) == ["job.submitted", "job.starting"]


@UNTRUSTED
async def test_another_jobs_events_are_not_read(connector: BusConnector, driver: JobDriver) -> None:
    assignment, other = await driver.submit(), await driver.submit()
    # The token of one job, used to read the other.
    bus = await open_bus(connector.settings(assignment), other)
    connector.opened.append(bus)
    async with asyncio.timeout(10):
        with pytest.raises(BusRefused):
            await bus.load()


@UNTRUSTED
async def test_an_expired_token_ends_the_waiting(connector: BusConnector, driver: JobDriver) -> None:
    assignment = await driver.submit()
    bus = await connector.open(assignment, lifetime_s=2.0)
    await bus.load()
    assert bus.is_connected
    async with asyncio.timeout(15):
        with pytest.raises(BusRefused) as caught:
            await look_for_ever(bus)
    assert caught.value.code is ErrorCode.UNAUTHENTICATED
    with pytest.raises(BusRefused):
        await bus.publish(completed(assignment, "late"), deadline_s=60)
    with pytest.raises(BusRefused):
        await look_once(connector, connector.settings(assignment, lifetime_s=-5.0), assignment)


@UNTRUSTED
async def test_nobody_who_is_not_known_gets_in(connector: BusConnector, driver: JobDriver, tmp_path: Path) -> None:
    assignment = await driver.submit()
    (tmp_path / "other").mkdir()
    forged = OperatorNats(tmp_path / "other", own_keys=True).tokens.issue(
        run_grant(TENANT, assignment.job_id, assignment.run_id), 600
    )
    settings: NatsSettings | IngestSettings
    if connector.kind == "credentials":
        settings = connector.server.settings_of(forged)
    else:
        settings = IngestSettings(url=connector.origin, token=forged.jwt)  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        with pytest.raises(BusRefused):
            await look_once(connector, settings, assignment)


async def look_for_ever(bus: JobBus) -> None:
    while True:
        await bus.wait_for_change(5)
        await bus.load()


async def look_once(connector: BusConnector, settings: NatsSettings | IngestSettings, assignment: Assignment) -> None:
    bus = await open_bus(settings, assignment)
    connector.opened.append(bus)
    await bus.load()


async def test_a_bus_that_was_away_goes_on(connector: BusConnector, driver: JobDriver) -> None:
    assignment = await driver.submit()
    bus = await connector.open(assignment)
    await bus.publish(completed(assignment, "before"))
    connector.server.kill()
    with pytest.raises(SaccadeError) as caught:
        await bus.publish(completed(assignment, "during"), deadline_s=0.5)
    assert caught.value.code is ErrorCode.BUS_UNAVAILABLE
    assert not isinstance(caught.value, BusRefused)
    publishing = asyncio.create_task(bus.publish(completed(assignment, "during"), deadline_s=30))
    await asyncio.sleep(0.5)
    connector.server.start()
    await publishing
    await bus.publish(completed(assignment, "after"))
    stages = [decode(one.body).data["stage"] async for one in driver.store.history(0, publishing_subject(assignment))]
    assert stages == ["before", "during", "after"]
    job = await bus.load()
    assert job is not None


def publishing_subject(assignment: Assignment) -> str:
    return f"saccade.evt.{TENANT}.job.{assignment.job_id}.stage_completed"


@pytest.mark.parametrize("connector", ["ingest"], indirect=True)
@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        ("302 Found\r\nLocation: https://elsewhere.example/login", True),
        ("502 Bad Gateway", False),
        ("200 OK", False),
        ("429 Too Many Requests", False),
    ],
)
async def test_what_answers_instead_of_the_gateway_is_told_apart(
    driver: JobDriver, connector: BusConnector, answer: str, refused: bool
) -> None:
    """A redirect is a wrong setting and ends the run; an unavailable gateway is retried."""

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {answer}\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>".encode())
        await writer.drain()
        writer.close()

    assignment = await driver.submit()
    proxy = await asyncio.start_server(answered, HOST, 0)
    async with proxy:
        url = f"http://{HOST}:{proxy.sockets[0].getsockname()[1]}"
        bus = await open_bus(connector.settings(assignment).model_copy(update={"url": url}), assignment)
        connector.opened.append(bus)
        with pytest.raises(SaccadeError) as caught:
            await bus.publish(completed(assignment, "a"), deadline_s=0.5)
    assert isinstance(caught.value, BusRefused) == refused
    assert refused or caught.value.code is ErrorCode.BUS_UNAVAILABLE


@pytest.mark.parametrize("connector", ["ingest"], indirect=True)
async def test_a_gateway_that_is_not_there_is_waited_for(driver: JobDriver, connector: BusConnector) -> None:
    assignment = await driver.submit()
    nowhere = connector.settings(assignment).model_copy(update={"url": f"http://{HOST}:{free_port()}"})
    bus = await open_bus(nowhere, assignment)
    connector.opened.append(bus)
    with pytest.raises(SaccadeError) as caught:
        await bus.publish(completed(assignment, "a"), deadline_s=0.5)
    assert caught.value.code is ErrorCode.BUS_UNAVAILABLE
    assert not bus.is_connected
