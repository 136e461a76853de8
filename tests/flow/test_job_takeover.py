"""Dispatchers come and go, the bus goes and comes: jobs go on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from nats.js import JetStreamContext
from nats.js.api import PubAck
from saccade_events import StreamReplaced

from contracts.events.base import encode
from contracts.events.job import JobStarted
from contracts.job import State
from contracts.limits import WORKER_HEARTBEAT_S
from contracts.streams import EVENTS, aggregate
from kit.bus.connection import declare, epoch_of, request
from kit.bus.event_store import Conflict, EventStore
from kit.bus.jetstream_api import delete_message
from kit.bus.lease import Lease
from kit.bus.tail import EpochChanged
from services.dispatcher.app import Dispatcher
from services.dispatcher.attempts.foreign_runs import ForeignRuns
from tests.harness.dispatch.dispatcher import Servers, kill, open_dispatcher_harness, shared_servers, workload
from tests.harness.dispatch.scripted_executor import Killed, ScriptedExecutor, Worker, works
from tests.harness.servers.embedded import NatsServer, S3Server

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with shared_servers(tmp_path_factory.mktemp("takeover")) as both:
        yield both


async def test_a_standby_takes_over_from_a_dead_leader(servers: Servers) -> None:
    go_on = asyncio.Event()

    async def waits(worker: Worker) -> None:
        await worker.claim()
        await go_on.wait()
        await worker.succeed()

    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, waits)
        leader, standby = harness.dispatcher(executor), harness.dispatcher(executor)
        leading = asyncio.create_task(leader.run(asyncio.Event()))
        at_work = await harness.submit()
        await harness.reach(at_work, State.RUNNING)
        async with harness.dispatching(standby):
            await asyncio.sleep(0.3)
            assert (leader.reconciler.leading, standby.reconciler.leading) == (True, False)
            assert (await standby.health.report()).checks["lease"].detail == "standing by"
            await kill(leading)
            later = await harness.submit()
            await harness.reach(later, State.RUNNING)
            go_on.set()
            for job_id in (at_work, later):
                job = await harness.reach(job_id)
                assert (job.state, job.attempt) == (State.SUCCEEDED, 1)
            assert standby.reconciler.leading
        assert len(executor.launched) == 2


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_worker_that_dies_while_nobody_leads_is_billed_until_it_was_last_heard(
    servers: Servers, *, cancelled: bool
) -> None:
    die = asyncio.Event()

    async def dies(worker: Worker) -> None:
        await worker.claim()
        await worker.beat()
        await die.wait()
        raise Killed

    async with open_dispatcher_harness(*servers) as harness:
        executor, rented = ScriptedExecutor(harness.store, harness.bucket, dies, works), workload(gpus=("B200",))
        leading = asyncio.create_task(harness.dispatcher(executor, rented).run(asyncio.Event()))
        job_id = await harness.submit()
        await harness.reach(job_id, State.RUNNING)
        await asyncio.sleep(0.2)
        await kill(leading)
        die.set()
        await asyncio.sleep(2 * WORKER_HEARTBEAT_S)
        if cancelled:
            await harness.cancel(job_id)
        async with harness.dispatching(harness.dispatcher(executor, rented)):
            job = await harness.reach(job_id)
        assert job.state is (State.CANCELLED if cancelled else State.SUCCEEDED)
        [interrupted] = [data for verb, data in await harness.events(job_id) if verb == "interrupted"]
        assert WORKER_HEARTBEAT_S <= interrupted["cost"]["seconds"] < WORKER_HEARTBEAT_S + 0.5


async def test_a_leader_that_stops_in_order_is_followed_at_once(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket)
        stop = asyncio.Event()
        # A lease so long that a standby which waited for its end would fail the test.
        leading = asyncio.create_task(harness.dispatcher(executor, lease_s=60).run(stop))
        await harness.reach(await harness.submit())
        async with harness.dispatching(harness.dispatcher(executor, lease_s=60)):
            await asyncio.sleep(0.1)
            stop.set()
            await leading
            assert (await harness.reach(await harness.submit())).state is State.SUCCEEDED


async def test_it_leads_on_a_stream_whose_events_are_all_gone(servers: Servers) -> None:
    """Sequences go on when events have aged out: nobody may wait for one that will never be read."""
    async with open_dispatcher_harness(*servers) as harness:
        await harness.submit()
        await harness.clear()
        executor = ScriptedExecutor(harness.store, harness.bucket)
        async with harness.dispatching(harness.dispatcher(executor)) as dispatcher:
            end = asyncio.get_running_loop().time() + 4
            while not dispatcher.reconciler.leading:
                assert asyncio.get_running_loop().time() < end
                await asyncio.sleep(0.01)


async def test_only_one_of_two_acts(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket)
        async with harness.dispatching(harness.dispatcher(executor)), harness.dispatching(harness.dispatcher(executor)):
            job_ids = [await harness.submit() for _ in range(20)]
            for job_id in job_ids:
                await harness.reach(job_id)
                verbs = [verb for verb in await harness.verbs(job_id) if verb != "launched"]
                assert verbs == ["submitted", "queued", "starting", "started", "succeeded"]
        assert sorted(one.job_id for one in executor.launched) == sorted(job_ids)


async def test_even_two_that_both_believe_to_lead_start_a_job_once(servers: Servers) -> None:
    """A dispatcher that was stopped for a while wakes up with a lease that it no longer has."""
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket)
        one, other = harness.dispatcher(executor, slots=20), harness.dispatcher(executor, slots=20)
        other.lease = Lease(harness.client, "another", 1.0)
        async with harness.dispatching(one), harness.dispatching(other):
            end = asyncio.get_running_loop().time() + 10
            while not (one.reconciler.leading and other.reconciler.leading):
                assert asyncio.get_running_loop().time() < end
                await asyncio.sleep(0.01)
            job_ids = await asyncio.gather(*(harness.submit() for _ in range(15)))
            for job_id in job_ids:
                await harness.reach(job_id)
                verbs = await harness.verbs(job_id)
                assert [verb for verb in verbs if verb != "launched"] == [
                    "submitted", "queued", "starting", "started", "succeeded",
                ]  # fmt: skip
        assert sorted(one.job_id for one in executor.launched) == sorted(job_ids)


async def test_a_lost_answer_does_not_make_a_twins_claim_ones_own(servers: Servers) -> None:
    """Two workers of one run claim it under one event id; one hears nothing of its first try, which the other won."""

    class LosesTheFirstAnswer:
        def __init__(self, real: JetStreamContext) -> None:
            self._real = real
            self.tries = 0

        async def publish(self, *args: Any, **options: Any) -> PubAck:
            self.tries += 1
            if self.tries == 1:
                raise TimeoutError
            return await self._real.publish(*args, **options)

    async with open_dispatcher_harness(*servers) as harness:
        job_id = await harness.submit()
        job = await harness.job(job_id)
        among = aggregate("acme", "job", job_id)
        claims = [
            encode(
                JobStarted(attempt=1, run_id="run_1", device="cpu", worker=worker),
                tenant="acme",
                subject_id=job_id,
                source="/worker/run_1",
                event_id="run_1.started",
            )
            for worker in ("twin", "other twin")
        ]
        assert await harness.store.publish(claims[0], after=job.sequence, among=among)
        deaf = EventStore(harness.client)
        deaf._jetstream = LosesTheFirstAnswer(harness.client.jetstream())
        with pytest.raises(Conflict):
            await deaf.publish(claims[1], after=job.sequence, among=among)
        # The one that won may hear of it late, and then it has won.
        late = EventStore(harness.client)
        late._jetstream = LosesTheFirstAnswer(harness.client.jetstream())
        assert await late.publish(claims[0], after=job.sequence, among=among) == job.sequence + 1


async def test_a_worker_that_ended_while_nobody_dispatched(servers: Servers) -> None:
    die = asyncio.Event()

    async def dies_when_told(worker: Worker) -> None:
        await worker.claim()
        await die.wait()
        raise Killed

    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, dies_when_told, works)
        running = asyncio.create_task(harness.dispatcher(executor).run(asyncio.Event()))
        job_id = await harness.submit()
        await harness.reach(job_id, State.RUNNING)
        await kill(running)
        await harness.forget_lease()
        die.set()
        async with harness.dispatching(harness.dispatcher(executor)):
            job = await harness.reach(job_id)
        assert (job.state, job.attempt) == (State.SUCCEEDED, 2)


async def test_a_worker_that_does_not_go_is_seen_off(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.dispatcher.scheduling.reconciler._LINGER_S", 0.1)
    monkeypatch.setattr("services.dispatcher.scheduling.reconciler._RESYNC_S", 0.1)

    async def lingers(worker: Worker) -> None:
        await worker.claim()
        await worker.succeed()
        await asyncio.sleep(60)

    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, lingers)
        async with harness.dispatching(harness.dispatcher(executor)):
            job_id = await harness.submit()
            assert (await harness.reach(job_id)).state is State.SUCCEEDED
            for _ in range(100):
                if not executor.at_work():
                    break
                await asyncio.sleep(0.05)
            assert not executor.at_work()


async def test_the_bus_may_be_killed_at_any_moment(nats_server: NatsServer, s3_server: S3Server, seed: int) -> None:
    async def takes_a_while(worker: Worker) -> None:
        if await worker.claim():
            await asyncio.sleep(0.2)
            await worker.succeed()

    print(f"seed {seed}")
    async with open_dispatcher_harness(nats_server, s3_server) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, takes_a_while)
        async with harness.dispatching(harness.dispatcher(executor, lease_s=2.0)):
            job_ids = []
            for number in range(3):
                job_ids.append(await harness.submit())
                await asyncio.sleep((seed >> 8 * number & 0xFF) / 1000)
                nats_server.kill()
                nats_server.start()
            for job_id in job_ids:
                job = await harness.reach(job_id, timeout_s=20)
                assert (job.state, job.attempt) == (State.SUCCEEDED, 1)
                verbs = await harness.verbs(job_id)
                assert len(verbs) == len(set(verbs)), verbs


async def test_another_stream_is_noticed(nats_server: NatsServer, s3_server: S3Server) -> None:
    async with open_dispatcher_harness(nats_server, s3_server) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket)
        running = asyncio.create_task(harness.dispatcher(executor).run(asyncio.Event()))
        await harness.reach(await harness.submit())
        await request(harness.client, f"STREAM.DELETE.{EVENTS.name}", {})
        await declare(harness.client)
        nats_server.kill()
        nats_server.start()
        with pytest.raises((EpochChanged, StreamReplaced)):  # the tail's, or that of the reactions
            await asyncio.wait_for(running, 15)
        async with harness.dispatching(harness.dispatcher(executor)):
            assert (await harness.reach(await harness.submit())).state is State.SUCCEEDED


async def test_what_cannot_be_read_stops_nothing(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        await harness.client.jetstream().publish("saccade.evt.acme.job.job_broken.submitted", b"no event")
        await harness.client.publish("saccade.prog.acme.job.job_broken.progressed", b"no event either")
        executor = ScriptedExecutor(harness.store, harness.bucket)
        async with harness.dispatching(harness.dispatcher(executor)):
            assert (await harness.reach(await harness.submit())).state is State.SUCCEEDED


async def test_health_and_metrics_say_what_is_true(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:

        async def works_for_ever(worker: Worker) -> None:
            await worker.claim()
            await worker.work_until_stopped()

        executor = ScriptedExecutor(harness.store, harness.bucket, works_for_ever)
        async with harness.dispatching(harness.dispatcher(executor, slots=1)) as dispatcher:
            first, second = await harness.submit(), await harness.submit()
            await harness.reach(first, State.RUNNING)
            job = await harness.reach(second, State.QUEUED)
            assert await dispatcher.tail.wait_for(job.sequence, 5)
            report = await dispatcher.health.report()
            assert (report.status, report.checks["lease"].detail) == ("ok", "leading")
            text = dispatcher.metrics.exposition()[0].decode()
            for line in (
                'saccade_dispatcher_jobs{state="running"} 1.0',
                'saccade_dispatcher_jobs{state="queued"} 1.0',
                'saccade_dispatcher_slots_held{kind="job"} 1.0',
                "saccade_dispatcher_leading 1.0",
                'saccade_dispatcher_job_events_total{type="job.submitted"} 2.0',
            ):
                assert line in text, text
        await executor.end()


class OneHost(ScriptedExecutor):
    """The local executor of one host: it knows the workers that it has started, and no others."""

    name = "local"


async def test_a_dispatcher_on_another_host_does_not_lead_over_workers_that_live(servers: Servers) -> None:
    go_on = asyncio.Event()

    async def works_for_long(worker: Worker) -> None:
        await worker.claim()
        while not go_on.is_set():
            await worker.beat()
            await asyncio.sleep(0.05)
        await worker.succeed()

    async with open_dispatcher_harness(*servers) as harness:
        one, other = (OneHost(harness.store, harness.bucket, works_for_long) for _ in range(2))
        leading = asyncio.create_task(harness.dispatcher(one).run(asyncio.Event()))
        at_work = await harness.submit()
        await harness.reach(at_work, State.RUNNING)
        await kill(leading)  # its worker goes on
        elsewhere = harness.dispatcher(other)
        elsewhere.foreign_runs = ForeignRuns(other, elsewhere.jobs, listen_s=0.5)
        async with harness.dispatching(elsewhere):
            later = await harness.submit()
            await until_heard(elsewhere)
            assert not elsewhere.reconciler.leading
            assert await harness.verbs(later) == ["submitted"], "nothing is launched meanwhile"
            go_on.set()
            assert ((job := await harness.reach(at_work)).state, job.attempt) == (State.SUCCEEDED, 1)
            assert (await harness.reach(later)).state is State.SUCCEEDED
        assert [len(executor.launched) for executor in (one, other)] == [1, 1]
        await one.end()


async def until_heard(dispatcher: Dispatcher) -> None:
    """Wait until a dispatcher has given way twice, with the lease in between."""
    released = 0
    release = dispatcher.lease.release

    async def counted() -> None:
        nonlocal released
        released += 1
        await release()

    dispatcher.lease.release = counted  # type: ignore[method-assign]
    async with asyncio.timeout(30):
        while released < 2:
            await asyncio.sleep(0.05)


async def test_a_host_whose_workers_are_gone_keeps_nobody_from_leading(servers: Servers) -> None:
    async def dies(worker: Worker) -> None:
        await worker.claim()
        await asyncio.Event().wait()

    async with open_dispatcher_harness(*servers) as harness:
        one, other = OneHost(harness.store, harness.bucket, dies), OneHost(harness.store, harness.bucket)
        leading = asyncio.create_task(harness.dispatcher(one).run(asyncio.Event()))
        at_work = await harness.submit()
        await harness.reach(at_work, State.RUNNING)
        await kill(leading)
        await one.end()
        elsewhere = harness.dispatcher(other)
        elsewhere.foreign_runs = ForeignRuns(other, elsewhere.jobs, listen_s=0.5)
        async with harness.dispatching(elsewhere):
            job = await harness.reach(at_work)
        assert (job.state, job.attempt) == (State.SUCCEEDED, 2), "it was lost, and is started again here"


async def test_a_dispatcher_leads_when_it_has_folded_every_event_and_not_the_first_it_lacked(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.dispatcher.app._CATCH_UP_S", 0.5)
    async with open_dispatcher_harness(*servers) as harness:
        standby = harness.dispatcher(ScriptedExecutor(harness.store, harness.bucket, works))
        for _ in range(3):
            await harness.submit("behind")
        _, last = await epoch_of(harness.client, EVENTS.name)
        standby.tail._reach(last - 2)
        catching_up = asyncio.ensure_future(standby._has_caught_up())
        await asyncio.sleep(0.2)
        standby.tail._reach(last - 1)
        assert not await catching_up
        # The newest ones are deleted: there is nothing to wait for.
        await delete_message(harness.client, EVENTS.name, last)
        assert await standby._has_caught_up()
