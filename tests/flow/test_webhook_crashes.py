"""Whatever dies, every event reaches every endpoint at least once, and what was settled stays settled."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import signal
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web

from contracts.streams import POSITIONS, WEBHOOKS_POSITION
from kit.bus.connection import declare, request
from kit.bus.event_store import EventStore
from kit.settings import NatsSettings
from tests.harness.servers.embedded import EmbeddedNats
from tests.harness.streams.notifier import NotifierProcess, Publisher, publisher, submitted, succeeded
from tests.harness.webhooks.delivery import Clock, check, edit_endpoints, environment, run_webhooks
from tests.harness.webhooks.listeners import WebhookListener, hang, listening

pytestmark = pytest.mark.anyio


async def test_a_view_that_is_deleted_is_built_again_and_sends_nothing_twice(
    nats_server: EmbeddedNats, tmp_path: Path
) -> None:
    """Delivered, waiting for a retry, given up, asked for again: each is what it was."""
    settings, clock = nats_server.settings, Clock()

    async def choose(one: WebhookListener, request: web.Request) -> web.StreamResponse:
        return web.Response(status=200 if one.got[-1].sequence % 3 else 500)

    async with publisher(settings) as bus, listening(respond=choose) as some:
        async with run_webhooks(settings, tmp_path / "view", clock) as here:
            endpoint = await here.make(some.url)
            for _ in range(9):
                await bus.submit()
            await here.settled(endpoint.id, 6)
            await here.until(lambda: here.view.complete_to() == 9)
            await here.redeliver(endpoint, sequences=[1])
            await here.until(lambda: len(here.view.attempts(endpoint.id, 1)) == 2)
            before = [here.view.delivery(endpoint.id, sequence) for sequence in range(1, 10)]
            attempts = [here.view.attempts(endpoint.id, sequence) for sequence in range(1, 10)]
        count = len(some.got)
        shutil.rmtree(tmp_path / "view")
        async with run_webhooks(settings, tmp_path / "view", clock) as here:
            await here.until(lambda: here.webhooks.engine.active)
            assert [here.view.attempts(endpoint.id, sequence) for sequence in range(1, 10)] == attempts
            for sequence, old in enumerate(before, 1):
                new = here.view.delivery(endpoint.id, sequence)
                assert new
                assert old
                assert (new.state, new.attempts, new.scheduled_from) == (old.state, old.attempts, old.scheduled_from)
                assert new.state == "delivered" or new.due == old.due
            await asyncio.sleep(0.3)
            assert len(some.got) == count
            some.respond = None
            here.pass_(seconds=10)
            await here.settled(endpoint.id, 9)
            assert len(some.got) == count + 3


async def test_a_lost_view_reads_on_from_the_engine_s_position_and_knows_jobs_from_before_it(
    nats_server: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.notifier.webhooks.sending.engine._SETTLED_S", 0.0)
    settings = nats_server.settings
    async with publisher(settings) as bus, listening() as own:
        job_id = "job_0198c0de-0000-7000-8000-000000000003"
        async with run_webhooks(settings) as here:
            await bus.say(job_id, submitted().model_copy(update={"webhook_url": own.url}))
            for _ in range(50):
                await bus.submit()
            await here.settled(job_id, 1)
            positions = EventStore(bus.client, POSITIONS.name)
            async with asyncio.timeout(10):
                while not (told := await positions.load(WEBHOOKS_POSITION)) or (b'"sequence": 51' not in told[0].body):
                    await asyncio.sleep(0.1)
        await bus.start(job_id)
        await bus.say(job_id, succeeded())
        async with run_webhooks(settings) as here:
            await here.settled(job_id, 5)
            assert Counter(own.of_job(job_id))["job.submitted"] == 1
            assert len(own.got) == 5


async def test_a_standby_takes_over_with_the_same_view(nats_server: EmbeddedNats, tmp_path: Path) -> None:
    settings, clock = nats_server.settings, Clock()
    async with publisher(settings) as bus, listening(status=500) as one, listening() as well:
        first_ends = contextlib.AsyncExitStack()
        first = await first_ends.enter_async_context(run_webhooks(settings, tmp_path / "a", clock))
        await first.until(lambda: first.webhooks.engine.active)
        async with run_webhooks(settings, tmp_path / "b", clock) as second:
            failing, good = await first.make(one.url), await first.make(well.url)
            for _ in range(5):
                await bus.submit()
            await second.settled(good.id, 5)
            await second.until(lambda: second.view.complete_to() == 5 and len(one.got) == 5)
            assert not second.webhooks.engine.active
            await first_ends.aclose()
            await second.until(lambda: second.webhooks.engine.active)
            assert len(one.got) == 5, "retries are not due yet"
            one.status = 200
            second.pass_(seconds=10)
            for _ in range(5):
                await bus.submit()
            await second.settled(good.id, 10)
            await second.settled(failing.id, 10)
            assert len(well.got) == len(set(well.ids())) == 10
            assert len(one.got) == 15


async def test_what_is_due_after_a_start_goes_out_at_once(nats_server: EmbeddedNats, tmp_path: Path) -> None:
    settings, clock = nats_server.settings, Clock()
    async with publisher(settings) as bus, listening(status=500) as one:
        async with run_webhooks(settings, tmp_path, clock) as here:
            endpoints = [await here.make(one.url) for _ in range(20)]
            await bus.submit()
            await here.until(lambda: here.view.complete_to() == 1)
        one.status = 200
        clock.ahead += timedelta(minutes=1)
        async with run_webhooks(settings, tmp_path, clock, endpoints_after_s=0.5) as here:
            for endpoint in endpoints:
                await here.settled(endpoint.id, 1)
            assert len(one.got) == 40


async def test_a_notifier_that_is_told_to_stop_leaves_an_attempt_that_hangs_and_makes_it_again(
    nats_server: EmbeddedNats, tmp_path: Path
) -> None:
    settings = nats_server.settings
    async with publisher(settings) as bus, edit_endpoints(settings) as here, listening(respond=hang) as one:
        await here.make(one.url)
        with Sending(settings, tmp_path) as notifier:
            job_id = await bus.submit()
            await one.wait(1)
            assert await asyncio.to_thread(notifier.stop) == 0
            one.respond = None
            notifier.start()
            await one.wait(2)
        assert [got.event["subject"] for got in one.got] == [job_id] * 2


async def test_a_full_disk_costs_the_view_and_no_delivery(nats_server: EmbeddedNats, tmp_path: Path) -> None:
    settings = nats_server.settings
    async with publisher(settings) as bus, listening() as one, run_webhooks(settings, tmp_path) as here:
        endpoint = await here.make(one.url)
        await bus.submit()
        await here.settled(endpoint.id, 1)
        here.webhooks.file.write("PRAGMA max_page_count = 1")  # no page more than there are: the disk is full
        for _ in range(200):
            await bus.submit()
        await here.settled(endpoint.id, 201)
        assert {got.sequence for got in one.got} == set(range(1, 202))
        assert here.view.attempts(endpoint.id, 1), "built again from the streams"


async def test_a_stream_of_events_that_is_made_anew_is_delivered_from_its_beginning(nats_server: EmbeddedNats) -> None:
    """Its sequences begin again: what the records say of the old ones must not pass for the new."""
    settings = nats_server.settings
    async with publisher(settings) as bus, listening() as one:
        async with run_webhooks(settings) as here:
            endpoint = await here.make(one.url)
            for _ in range(6):
                await bus.submit()
            await here.settled(endpoint.id, 6)
            late = await here.make(one.url)
        await request(bus.client, "STREAM.DELETE.EVENTS", {})
        await declare(bus.client)
        one.got.clear()
        async with run_webhooks(settings) as here:
            new = {await bus.submit() for _ in range(3)}
            await here.until(lambda: len(one.got) == 6)
            await asyncio.sleep(0.3)
            assert {got.event["subject"] for got in one.got} == new
            assert len(one.got) == 6
            await here.settled(late.id, 3)


@pytest.mark.soak
async def test_two_processes_of_which_one_is_killed_or_frozen_again_and_again(
    nats_server: EmbeddedNats, tmp_path: Path, seed: int, soak_runs: int
) -> None:
    """It hits whatever step an attempt is in. A standby goes on, or the same one started anew, with or without a view.

    One that was frozen comes back believing that it still holds the lease.
    """
    rng = random.Random(seed)
    settings = nats_server.settings

    async def shaky(one: WebhookListener, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(rng.choice((0, 0, 0.002, 0.03)))
        return web.Response()

    async with publisher(settings) as bus, edit_endpoints(settings) as here, listening(respond=shaky) as one:
        endpoints = [await here.make(f"{one.url}/{number}") for number in range(3)]
        await here.make(f"{one.url}/other", tenant="other")
        expected: set[str] = set()
        with Sending(settings, tmp_path / "a") as first, Sending(settings, tmp_path / "b") as second:
            for run in range(max(1, soak_runs // 3)):
                publishing = asyncio.ensure_future(_publish(bus, 40, rng.random() * 0.02))
                victim = rng.choice((first, second))
                await asyncio.sleep(rng.random() * 0.8)
                if run % 4 == 2:
                    await victim.freeze(3.5)
                else:
                    victim.kill(with_view=rng.random() < 0.3)
                    victim.start()
                expected |= await publishing
            await _all_delivered(one, expected, len(endpoints), seed)
        for got in one.got:
            check(got, endpoints[int(got.path.rpartition("/")[2])].secrets[0])


class Sending(NotifierProcess):
    """A notifier in a process of its own, with a view."""

    def __init__(self, settings: NatsSettings, folder: Path) -> None:
        self.folder = folder
        super().__init__(settings, **environment(folder))

    def kill(self, *, with_view: bool) -> None:
        """Kill it, and take its view from it."""
        self.stop(signal.SIGKILL)
        if with_view:
            shutil.rmtree(self.folder, ignore_errors=True)

    async def freeze(self, seconds: float) -> None:
        """Stop it for longer than its lease lives."""
        assert self.process
        self.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        self.process.send_signal(signal.SIGCONT)


async def _publish(bus: Publisher, count: int, pause_s: float) -> set[str]:
    """Publish jobs and give their ids."""
    jobs = set()
    for _ in range(count):
        jobs.add(await bus.submit())
        await asyncio.sleep(pause_s)
    return jobs


async def _all_delivered(one: WebhookListener, expected: set[str], endpoints: int, seed: int) -> None:
    """Wait until every endpoint has got every job."""

    def missing() -> dict[str, int]:
        seen = Counter((got.path, got.event["subject"]) for got in one.got)
        paths = {got.path for got in one.got}
        return {path: sum((path, job) not in seen for job in expected) for path in paths}

    try:
        async with asyncio.timeout(30):
            while len({got.path for got in one.got}) < endpoints or any(missing().values()):
                await asyncio.sleep(0.1)
    except TimeoutError:
        pytest.fail(f"seed {seed}: missing {missing()} of {len(expected)}")
    repeated = len(one.got) - len({(got.path, got.id) for got in one.got})
    assert repeated < len(one.got) / 2, f"seed {seed}: {repeated} of {len(one.got)} were sent twice"
