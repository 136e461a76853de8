"""Events through ``clients/js/saccade.js``: many jobs over one stream, without loss."""

from __future__ import annotations

import asyncio
import random
import signal
from pathlib import Path

import pytest

from contracts.events.job import JobCancelled
from contracts.ids import new_id
from kit.bus.connection import request
from tests.contract.streams.test_sse_delivery import stage_completed, stored_cursors
from tests.harness.clients.javascript_client import Run, page, use
from tests.harness.clients.node import find_node
from tests.harness.network.breaking_proxy import BreakingProxy, Fault, draw_faults
from tests.harness.servers.gateway import keys_file
from tests.harness.servers.running_services import RunningServices
from tests.harness.streams.notifier import NotifierProcess, progressed, publisher, submitted, succeeded

pytestmark = pytest.mark.anyio


async def check_many(services: RunningServices, proxy: BreakingProxy, run: Run, seed: int) -> None:
    """Follow 16 jobs with one client: with a past or none, ended or not, through cuts and a killed notifier."""
    print(f"seed {seed}")
    dice = random.Random(seed)
    async with publisher(services.nats.settings) as jobs:
        job_ids = [await jobs.submit() for _ in range(16)]
        for job_id in job_ids[4:12]:
            await jobs.start(job_id)
        for job_id in job_ids[10:12]:
            await jobs.say(job_id, succeeded())
        proxy.break_next(*draw_faults(dice, 6))
        following = asyncio.ensure_future(run("many", proxy.url, job_ids, True))
        number = 0
        end = asyncio.get_running_loop().time() + 60
        async with asyncio.timeout(90):
            while number < 150 or not proxy.exhausted:
                assert not following.done(), following.result()
                assert asyncio.get_running_loop().time() < end, "the client does not come back"
                await jobs.say(dice.choice(job_ids[:10]), stage_completed(number))
                await jobs.say(dice.choice(job_ids[:10]), progressed(0.5))
                await asyncio.sleep(0.01)
                number += 1
                if number == 75:
                    await asyncio.to_thread(services.notifier.stop, signal.SIGKILL)
                    await asyncio.to_thread(services.notifier.start)
            for job_id in [*job_ids[:10], *job_ids[12:]]:
                await jobs.say(job_id, JobCancelled(attempt=1) if dice.random() < 0.3 else succeeded())
            told = await following
        assert len(proxy.broken) == 6
        for job_id, one in zip(job_ids, told, strict=True):
            epoch = one[0][0].partition(".")[0]
            assert [cursor for cursor, _ in one] == await stored_cursors(
                jobs, epoch, f"saccade.evt.local.job.{job_id}.*"
            )
    assert proxy.most_open <= 3, "one stream for all, and two that catch up"


async def test_many_jobs_share_one_stream_in_node(services: RunningServices, front: BreakingProxy, seed: int) -> None:
    find_node()
    await check_many(services, front, use, seed)


async def check_page(services: RunningServices, proxy: BreakingProxy, run: Run, inputs: dict[str, str]) -> None:
    """Let a page submit and follow 12 jobs: more than the connections that a browser has."""
    async with publisher(services.nats.settings) as jobs:
        ready = new_id("evt")
        using = asyncio.ensure_future(run("page", proxy.url, inputs, 12, ready))
        shown: list[str] = []
        async with asyncio.timeout(30):
            while not shown:
                assert not using.done(), using.result()
                await asyncio.sleep(0.05)
                data = await asyncio.to_thread(services.jobs)
                if data and data[0]["metadata"].get("ready") == ready:
                    shown = [one["id"] for one in data[1:13]]
            for number in range(60):
                await jobs.say(shown[number % 12], stage_completed(number))
                if number == 30:
                    proxy.cut_open()
            for job_id in shown:
                await jobs.say(job_id, succeeded())
            found = await using
        assert set(found["told"]) == set(shown)
        assert found["read"] == 12
        for job_id, told in found["told"].items():
            epoch = told[0][0].partition(".")[0]
            wanted = await stored_cursors(jobs, epoch, f"saccade.evt.local.job.{job_id}.*")
            assert [cursor for cursor, _ in told] == wanted
    # The stream begins at the submission that was answered first; one before it that is answered later catches up.
    assert proxy.most_open <= 3, "one stream for all, and two that catch up"


async def test_in_chromium(services: RunningServices, inputs: dict[str, str], seed: int, tmp_path: Path) -> None:
    async with page(services.pages_origin, tmp_path) as run:
        async with BreakingProxy(services.port_of) as proxy:
            await check_page(services, proxy, run, inputs)
        async with BreakingProxy(services.port_of) as proxy:
            await check_many(services, proxy, run, seed)


@pytest.mark.parametrize("multiplex", [False, True])
async def test_what_happens_before_the_first_event_is_not_lost(
    services: RunningServices, front: BreakingProxy, multiplex: bool
) -> None:
    find_node()
    async with publisher(services.nats.settings) as jobs:
        last = new_id("job")
        using = asyncio.ensure_future(use("tenant", front.url, last, multiplex))
        async with asyncio.timeout(20):
            while not front.open:
                assert not using.done(), using.result()
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)
            assert front.cut_open() == 1
            during = await jobs.submit()
            await jobs.say(last, submitted())
            told = await using
        wanted = [one.sequence async for one in jobs.store.history(0, f"saccade.evt.local.job.{during}.*")]
        assert {int(cursor.partition(".")[2]) for cursor in told} >= set(wanted)
        assert len(told) == len(set(told))


async def test_history_that_comes_again_is_left_out(services: RunningServices, inputs: dict[str, str]) -> None:
    find_node()
    job_id = services.submit(inputs)
    async with publisher(services.nats.settings) as jobs:
        await jobs.start(job_id)
        faults = [Fault("cut", 2, "data"), Fault("truncate", 3, "boundary"), Fault("close", 4, "fields")]
        async with BreakingProxy(services.port_of, faults, strips=["last_event_id"]) as proxy:
            using = asyncio.ensure_future(use("after", proxy.url, job_id, None, False))
            await jobs.say(job_id, stage_completed(1))
            await jobs.say(job_id, succeeded())
            told = await using
            assert len(proxy.broken) == 3
    assert [name for name, _ in told] == [
        *("job.submitted", "job.queued", "job.starting", "job.started"),
        *("job.stage_completed", "job.succeeded"),
    ]


async def test_a_stream_that_falls_silent_is_left(services: RunningServices) -> None:
    find_node()
    async with (
        BreakingProxy(services.port_of, [Fault("stall", 3, "data")], stall_s=600) as proxy,
        publisher(services.nats.settings) as jobs,
    ):
        begin = await jobs.submit()
        last = new_id("job")
        using = asyncio.ensure_future(use("tenant", proxy.url, last, False, {"since": 3600}))
        for number in range(10):
            await jobs.say(begin, stage_completed(number))
        await jobs.say(last, submitted())
        async with asyncio.timeout(20):
            told = await using
        wanted = await stored_cursors(jobs, told[0].partition(".")[0], f"saccade.evt.local.job.{begin}.*")
        assert [cursor for cursor in told if cursor in wanted] == wanted
        assert len(told) == len(set(told))
        assert len(proxy.asked) == 2


@pytest.mark.parametrize("multiplex", [False, True])
async def test_a_lost_cursor_is_told_as_a_gap_with_a_snapshot(
    services: RunningServices, front: BreakingProxy, inputs: dict[str, str], multiplex: bool
) -> None:
    find_node()
    job_id = services.submit(inputs)
    async with publisher(services.nats.settings) as jobs:
        await jobs.start(job_id)
        await jobs.say(job_id, succeeded())
    told = await use("after", front.url, job_id, "anotherepoch.7", multiplex)
    names = [name for name, _ in told]
    assert names[:3] == ["gap", "snapshot", "job.submitted"]
    assert names[-1] == "job.succeeded"
    assert told[0][1]["after"] == "anotherepoch.7"
    assert told[1][1]["id"] == job_id


async def test_a_page_without_a_key_follows_by_ticket(services: RunningServices, tmp_path: Path) -> None:
    find_node()
    keys = keys_file(tmp_path, "acme")
    environment = {"SACCADE_API_KEYS_FILE": str(keys), "NOTIFIER_TICKET_KEY": "k" * 32}
    with NotifierProcess(services.nats.settings, **environment) as notifier:
        async with publisher(services.nats.settings) as jobs:
            job_id = await jobs.submit("acme")
            await jobs.say(job_id, succeeded(), "acme")
        found = await use("ticketed", notifier.url, "acme.secret", job_id)
    assert found["told"] == ["job.submitted", "job.succeeded"]
    assert found["asked"] == [f"/v1/jobs/{job_id}/events"] * 2
    assert found["refused"]["code"] == "unauthenticated"


@pytest.mark.parametrize("multiplex", [False, True])
async def test_a_feed_ends_when_it_is_told_to(
    services: RunningServices, front: BreakingProxy, inputs: dict[str, str], multiplex: bool
) -> None:
    find_node()
    job_id = services.submit(inputs)
    assert await use("endings", front.url, job_id, multiplex) == {
        "abortion": "RangeError",
        "closing": {"done": True},
        "twice": "TypeError",
        "all": {"done": True},
    }


async def test_what_retention_took_while_a_page_was_away_is_told(
    services: RunningServices, front: BreakingProxy, inputs: dict[str, str]
) -> None:
    find_node()
    job_id = services.submit(inputs)
    async with publisher(services.nats.settings) as jobs:
        using = asyncio.ensure_future(use("after", front.url, job_id, None, True))
        async with asyncio.timeout(30):
            while not front.open:
                assert not using.done(), using.result()
                await asyncio.sleep(0.02)
            await asyncio.sleep(1.0)
            await asyncio.to_thread(services.notifier.stop)
            lost = await jobs.say(job_id, stage_completed(1))
            kept = await jobs.say(job_id, stage_completed(2))
            await request(jobs.client, "STREAM.PURGE.EVENTS", {"seq": kept})
            await asyncio.to_thread(services.notifier.start)
            await asyncio.sleep(0.5)
            await jobs.say(job_id, succeeded())
            told = await using
    assert [name for name, _ in told] == [
        "job.submitted",
        "gap",
        "snapshot",
        "job.stage_completed",
        "job.succeeded",
    ]
    assert told[1][1]["first_available"].endswith(f".{lost + 1}")
    assert told[3][1]["stage"] == "stage-2"
