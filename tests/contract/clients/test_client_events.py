"""Event streams of both Python clients through a proxy that cuts, stalls, truncates and strips headers."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
from typing import Any

import pytest
from saccade_client import Client, ClientError, Event, Gap, Snapshot

from tests.contract.streams.test_sse_delivery import stage_completed, stored_cursors
from tests.harness.clients.python_clients import CLIENT_KINDS, Open, opener
from tests.harness.network.breaking_proxy import BreakingProxy, Fault, draw_faults
from tests.harness.servers.running_services import RunningServices
from tests.harness.streams.notifier import Publisher, failed, progressed, publisher, retrying, succeeded

pytestmark = pytest.mark.anyio

FAULTS = 6


@pytest.fixture(params=CLIENT_KINDS)
def opened(request: pytest.FixtureRequest) -> Open:
    return opener(request.param)


async def hammer(jobs: Publisher, job_id: str, proxy: BreakingProxy, following: asyncio.Future[Any]) -> None:
    """Publish until the stream was broken as often as planned, then end the job."""
    number = 0
    while not proxy.exhausted:
        assert not following.done(), following.result()
        await jobs.say(job_id, stage_completed(number, 300 if number % 3 else 6000))
        if number % 4 == 0:
            await jobs.say(job_id, progressed(number % 100 / 100))
        number += 1
        await asyncio.sleep(0.015)
    await jobs.say(job_id, succeeded())


@pytest.mark.parametrize(("of_job", "strips"), [(True, ("Last-Event-ID",)), (False, ())], ids=["job", "tenant"])
async def test_every_event_once_through_a_proxy_that_breaks_streams(
    services: RunningServices, opened: Open, seed: int, of_job: bool, strips: tuple[str, ...]
) -> None:
    print(f"seed {seed}")
    dice = random.Random(seed)
    faults = draw_faults(dice, FAULTS)
    async with (
        publisher(services.nats.settings) as jobs,
        BreakingProxy(services.port_of, faults, strips=strips, stall_s=0.5, seed=dice.randrange(2**32)) as proxy,
        opened(proxy.url) as client,
    ):
        job_id = await jobs.submit()
        await jobs.start(job_id)
        wanted = {"job_id": job_id} if of_job else {"since": 60}

        async def follow() -> list[Event]:
            told = []
            async for event in client.events(**wanted):
                if event.subject == job_id:
                    told.append(event)
                    if not of_job and event.type == "job.succeeded":
                        break
            return told

        following = asyncio.ensure_future(follow())
        try:
            async with asyncio.timeout(60):
                await hammer(jobs, job_id, proxy, following)
                told = await following
        finally:
            following.cancel()
        cursors = [event.cursor for event in told if event.cursor]
        epoch = cursors[0].partition(".")[0]
        assert cursors == await stored_cursors(jobs, epoch, f"saccade.evt.local.job.{job_id}.*")
        assert len(proxy.broken) == FAULTS


async def test_a_stream_that_falls_silent_is_opened_anew(services: RunningServices, opened: Open) -> None:
    faults = [Fault("stall", 2, "boundary"), Fault("stall", 1, "data")]
    async with (
        publisher(services.nats.settings) as jobs,
        BreakingProxy(services.port_of, faults, stall_s=30) as proxy,
        opened(proxy.url, silence_s=1.0) as client,
    ):
        job_id = await jobs.submit()
        await jobs.start(job_id)
        await jobs.say(job_id, succeeded())
        async with asyncio.timeout(15):
            seen = [event.type async for event in client.events(job_id)]
        assert seen == ["job.submitted", "job.queued", "job.starting", "job.started", "job.succeeded"]
        resumed = [asked.last_event_id for asked in proxy.asked]
        assert resumed[0] is None
        assert None not in resumed[1:]


async def test_progress_is_told_while_it_is_news(services: RunningServices, opened: Open) -> None:
    async with publisher(services.nats.settings) as jobs, opened(services.notifier.url) as client:
        job_id = await jobs.submit()
        await jobs.start(job_id)
        told = []
        async with asyncio.timeout(15):
            async for event in client.events(job_id, types=["job.started", "job.progressed", "job.succeeded"]):
                told.append((event.type, event.cursor is None, event.data.get("fraction")))
                if event.type == "job.started":
                    await jobs.say(job_id, progressed(0.25))
                elif event.type == "job.progressed":
                    await jobs.say(job_id, succeeded())
        assert told == [
            ("job.started", False, None),
            ("job.progressed", True, 0.25),
            ("job.succeeded", False, None),
        ]


async def test_a_gap_is_told_with_what_is_left(services: RunningServices, opened: Open) -> None:
    async with publisher(services.nats.settings) as jobs, opened(services.notifier.url) as client:
        job_id = await jobs.submit()
        await jobs.start(job_id)
        await jobs.say(job_id, succeeded())
        told = [event async for event in client.events(job_id, cursor="another.7", types=["job.succeeded"])]
    gap, snapshot, last = told
    assert isinstance(gap, Gap)
    assert gap.after == "another.7"
    assert gap.first_available
    assert isinstance(snapshot, Snapshot)
    assert (snapshot.subject, snapshot.state, snapshot.cursor) == (job_id, "succeeded", None)
    assert (last.type, last.subject) == ("job.succeeded", job_id)


async def test_a_job_that_goes_on_after_its_failure_goes_on_here(services: RunningServices, opened: Open) -> None:
    """The stream is cut in order, right after ``job.failed``: only the next answer says that this was not the end."""
    faults = [Fault("truncate", 5, "boundary")]
    async with (
        publisher(services.nats.settings) as jobs,
        BreakingProxy(services.port_of, faults) as proxy,
        opened(proxy.url) as client,
    ):
        job_id = await jobs.submit()
        await jobs.start(job_id)
        for data in (failed(), retrying(), succeeded()):
            await jobs.say(job_id, data)
        events = client.events(job_id)
        types = [event.type async for event in events if event.cursor]
        assert types[4:] == ["job.failed", "job.retrying", "job.succeeded"]
        assert proxy.exhausted
        known = events.cursor
        # A client that has the last event gets the end at once.
        assert [event async for event in client.events(job_id, cursor=known)] == []


async def test_a_stream_of_several_jobs_has_theirs_only(services: RunningServices, opened: Open) -> None:
    async with publisher(services.nats.settings) as jobs, BreakingProxy(services.port_of) as proxy:
        one, between, other = [await jobs.submit() for _ in range(3)]
        async with opened(proxy.url) as client:

            async def first(count: int) -> list[str | None]:
                told = []
                async for event in client.events(subject=[one, other], since=60):
                    told.append(event.subject)
                    if len(told) == count:
                        break
                return told

            await jobs.start(between)
            await jobs.start(other)
            async with asyncio.timeout(30):
                assert await first(5) == [one, other, other, other, other]


async def test_a_stream_without_an_end_ends_where_it_is_left(services: RunningServices, opened: Open) -> None:
    async with (
        publisher(services.nats.settings) as jobs,
        BreakingProxy(services.port_of) as proxy,
        opened(proxy.url) as client,
    ):
        job_id = await jobs.submit()

        async def first() -> str | None:
            async for event in client.events(since=60):
                if event.subject == job_id:
                    return event.type
            return None

        assert await first() == "job.submitted"
        events = client.events(job_id)
        async for event in events:
            assert event.type == "job.submitted"
            break
        assert events.cursor
        await events.close()
        async with asyncio.timeout(30):
            while proxy.open:
                gc.collect()
                await asyncio.sleep(0.05)


async def test_what_can_never_succeed_ends_at_once(services: RunningServices, opened: Open) -> None:
    async with opened(services.notifier.url) as client:
        with pytest.raises(ClientError) as refusal:
            async for _ in client.events("job_00000000-0000-7000-8000-000000000000"):
                pass
        assert (refusal.value.code, refusal.value.status) == ("job_not_found", 404)
        with pytest.raises(ClientError) as refusal:
            async for _ in client.events(since="yesterday"):
                pass
        assert refusal.value.code == "invalid_parameter"


async def test_a_blocking_loop_runs_inside_an_event_loop_too(services: RunningServices) -> None:
    """A notebook has an event loop that runs; the blocking client must not need it, nor one of its own."""
    async with publisher(services.nats.settings) as jobs:
        job_id = await jobs.submit()
        await jobs.say(job_id, succeeded())
    with Client(services.notifier.url) as client, contextlib.closing(client.events(job_id)) as events:
        assert [event.type for event in events] == ["job.submitted", "job.succeeded"]
