"""What operators order is done, holds over restarts, is recorded before and after, and a death in between shows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from contracts.audit import AuditRecord
from contracts.commands import (
    CommandSender,
    Drain,
    GetStatus,
    PauseWorkload,
    RedriveDeadLetter,
    RefoldJob,
    Resume,
    ResumeWorkload,
    RotateLease,
)
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Message
from contracts.ids import new_id
from contracts.job import State
from contracts.streams import OPS
from kit.bus.audit_log import AuditLog
from kit.bus.connection import request
from kit.bus.dead_letters import DeadLetters
from kit.bus.event_store import EventStore
from services.dispatcher.app import Dispatcher
from services.dispatcher.commands.abandoned_commands import AbandonedCommands
from tests.harness.dispatch.dispatcher import (
    Servers,
    kill,
    shared_servers,
    workload,
)
from tests.harness.dispatch.operators import Waiting, change, dead_letter_of, records, until, verbs, without_operations
from tests.harness.dispatch.pipelines import reach_part, relay, show_a_file, stage_executor
from tests.harness.dispatch.scripted_executor import ScriptedExecutor, Worker, works

pytestmark = pytest.mark.anyio
NOBODY = CommandSender()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with shared_servers(tmp_path_factory.mktemp("operators")) as both:
        yield both


async def test_a_drain_lets_running_jobs_end_and_holds_over_restarts(servers: Servers) -> None:
    async with without_operations(servers) as harness:
        script = Waiting()
        executor = ScriptedExecutor(harness.store, harness.bucket, script)
        async with harness.dispatching(harness.dispatcher(executor)) as dispatcher:
            first = await harness.submit()
            await harness.reach(first, State.RUNNING)
            drained = await dispatcher.operations.commands.drain(Drain(**change()), NOBODY)
            assert (drained.running, drained.waiting) == (1, 0)
            second = await harness.submit()
            await harness.reach(second, State.QUEUED)
            script.go_on.set()
            assert (await harness.reach(first)).state is State.SUCCEEDED
            report = (await dispatcher.health.report()).checks["launches"]
            assert report.detail is not None
            assert report.detail.startswith("drained since ")
            assert report.detail.endswith(" by ada: a test")
            assert "saccade_dispatcher_drained 1.0" in dispatcher.metrics.exposition()[0].decode()
        async with harness.dispatching(harness.dispatcher(executor)) as after:
            await until(lambda: after.reconciler.leading)
            third = await harness.submit()
            await harness.reach(third, State.QUEUED)
            await asyncio.sleep(0.3)
            status = await after.operations.commands.status(GetStatus(), NOBODY)
            assert (status.running, status.waiting) == (0, 2)
            assert status.drained is not None
            assert len(executor.launched) == 1
            await after.operations.commands.resume(Resume(**change()), NOBODY)
            for job_id in (second, third):
                assert (await harness.reach(job_id)).state is State.SUCCEEDED
        assert await verbs(harness) == [
            "dispatcher.drain_requested",
            "dispatcher.drained",
            "dispatcher.resume_requested",
            "dispatcher.resumed",
        ]


async def test_what_was_read_before_an_order_is_not_followed_after_it(servers: Servers) -> None:
    async with without_operations(servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, works)
        async with harness.dispatching(harness.dispatcher(executor)) as dispatcher:
            await until(lambda: dispatcher.reconciler.leading)
            operations, has_read, go_on = dispatcher.operations, asyncio.Event(), asyncio.Event()

            class SlowToRead(AuditLog):
                async def newest_of_each(self, subjects: str) -> list[AuditRecord]:
                    found = await super().newest_of_each(subjects)
                    if asyncio.current_task() is refreshing:
                        has_read.set()
                        await go_on.wait()
                    return found

            refreshing = asyncio.create_task(operations.load_holds())
            operations.audit.__class__ = SlowToRead
            await asyncio.wait_for(has_read.wait(), 8)
            draining = asyncio.create_task(operations.commands.drain(Drain(**change()), NOBODY))
            for _ in range(200):
                if "dispatcher.drained" in await verbs(harness):
                    break
            await asyncio.wait([draining], timeout=0.5)  # it has to wait for the older read
            go_on.set()
            await asyncio.gather(refreshing, draining)
            assert dispatcher.reconciler.holds.drained
            assert dispatcher.lease.details["holds"]["drained"]


async def test_a_retry_is_a_launch_too(servers: Servers) -> None:
    """A job whose attempt is lost while the dispatcher is drained waits for the end of the drain."""
    die = asyncio.Event()

    async def dies(worker: Worker) -> None:
        await worker.claim()
        await die.wait()
        await worker.interrupted("preempted", ErrorCode.WORKER_LOST)

    async with without_operations(servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, dies, works)
        async with harness.dispatching(harness.dispatcher(executor)) as dispatcher:
            job_id = await harness.submit()
            await harness.reach(job_id, State.RUNNING)
            await dispatcher.operations.commands.drain(Drain(**change()), NOBODY)
            die.set()
            await harness.reach(job_id, State.RETRYING)
            await asyncio.sleep(0.4)
            assert (await harness.job(job_id)).state is State.RETRYING
            await dispatcher.operations.commands.resume(Resume(**change()), NOBODY)
            assert (await harness.reach(job_id)).attempt == 2


async def test_a_paused_workload_stays_queued_over_restarts_and_others_go_on(servers: Servers) -> None:
    async with without_operations(servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, works)
        declared = workload(), workload("other")
        async with harness.dispatching(harness.dispatcher(executor, *declared)) as dispatcher:
            await until(lambda: dispatcher.reconciler.leading)
            await dispatcher.operations.commands.pause_workload(PauseWorkload(**change(workload="echo")), NOBODY)
            paused = await harness.submit()
            assert (await harness.reach(await harness.submit(workload="other"))).state is State.SUCCEEDED
            with pytest.raises(SaccadeError) as unknown:
                await dispatcher.operations.commands.pause_workload(PauseWorkload(**change(workload="nothing")), NOBODY)
            assert unknown.value.code is ErrorCode.UNKNOWN_WORKLOAD
        async with harness.dispatching(harness.dispatcher(executor, *declared)) as after:
            assert (await harness.reach(await harness.submit(workload="other"))).state is State.SUCCEEDED
            assert (await harness.job(paused)).state is State.QUEUED
            assert after.reconciler.holds.paused["echo"].why == "a test"
            assert 'saccade_dispatcher_paused{workload="echo"} 1.0' in after.metrics.exposition()[0].decode()
            resumed = await after.operations.commands.resume_workload(ResumeWorkload(**change(workload="echo")), NOBODY)
            assert resumed.waiting == 1
            assert (await harness.reach(paused)).state is State.SUCCEEDED
        assert [executor.launched[-1].job_id, len(executor.launched)] == [paused, 3]


async def test_the_stages_of_a_running_pipeline_go_on_unless_they_are_paused_themselves(servers: Servers) -> None:
    async with without_operations(servers) as harness:
        working = Waiting()

        async def first_stage(worker: Worker) -> None:
            if await worker.claim():
                await working.go_on.wait()
                await show_a_file(worker)
                await worker.succeed()

        executor = stage_executor(harness, {("gather", 0): [first_stage]})
        async with harness.dispatching(harness.dispatcher(executor, *relay())) as dispatcher:
            await until(lambda: dispatcher.reconciler.leading)
            commands = dispatcher.operations.commands
            pipeline = await harness.submit(workload="relay")
            await reach_part(harness, pipeline, "gather", 0, State.RUNNING)
            for name in ("relay", "relay_bind"):
                await commands.pause_workload(PauseWorkload(**change(workload=name)), NOBODY)
            waiting = await harness.submit(workload="relay")
            working.go_on.set()
            await reach_part(harness, pipeline, "shape", 0)
            bind = await reach_part(harness, pipeline, "bind", 0, State.QUEUED)
            await asyncio.sleep(0.3)
            assert (await harness.job(bind.id)).state is State.QUEUED
            assert (await harness.job(waiting)).state is State.QUEUED
            await commands.resume_workload(ResumeWorkload(**change(workload="relay_bind")), NOBODY)
            assert (await harness.reach(pipeline)).state is State.SUCCEEDED
            assert (await harness.job(waiting)).state is State.QUEUED
            await commands.resume_workload(ResumeWorkload(**change(workload="relay")), NOBODY)
            assert (await harness.reach(waiting)).state is State.SUCCEEDED
        await executor.end()


async def test_a_job_that_is_cancelled_while_its_workload_is_paused_ends(servers: Servers) -> None:
    async with without_operations(servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, works)
        async with harness.dispatching(harness.dispatcher(executor)) as dispatcher:
            await until(lambda: dispatcher.reconciler.leading)
            await dispatcher.operations.commands.pause_workload(PauseWorkload(**change(workload="echo")), NOBODY)
            job_id, late = await harness.submit(), await harness.submit(deadline_s=0.8)
            await harness.reach(job_id, State.QUEUED)
            await harness.cancel(job_id)
            assert (await harness.reach(job_id)).state is State.CANCELLED
            ended = await harness.reach(late)
            assert ended.error
            assert (ended.state, ended.error.code) == (State.FAILED, ErrorCode.DEADLINE_EXCEEDED)
        assert executor.launched == []


async def test_the_lease_goes_to_a_standby_and_back_to_its_holder_without_one(servers: Servers) -> None:
    async with without_operations(servers) as harness:
        script = Waiting()
        executor = ScriptedExecutor(harness.store, harness.bucket, script)
        # Leases that outlive the test: only a release hands them over.
        async with harness.dispatching(harness.dispatcher(executor, lease_s=60)) as leader:
            job_id = await harness.submit()
            await harness.reach(job_id, State.RUNNING)
            with pytest.raises(SaccadeError) as alone:
                await leader.operations.commands.rotate_lease(RotateLease(**change()), NOBODY)
            assert alone.value.code is ErrorCode.NO_STANDBY
            await until(lambda: leader.reconciler.leading)
            async with harness.dispatching(harness.dispatcher(executor, lease_s=60)) as standby:
                await standby.tail.caught_up.wait()
                await asyncio.sleep(0.2)
                rotated = await leader.operations.commands.rotate_lease(RotateLease(**change()), NOBODY)
                assert (rotated.before, rotated.after) == (leader.lease.holder, standby.lease.holder)
                await until(lambda: standby.reconciler.leading)
                assert not leader.reconciler.leading
                script.go_on.set()
                job = await harness.reach(job_id)
                assert (job.state, job.attempt) == (State.SUCCEEDED, 1)
        assert await verbs(harness) == [
            "lease.rotate_requested",
            "lease.rotate_failed",
            "lease.rotate_requested",
            "lease.rotated",
        ]


async def test_a_job_is_folded_from_its_history_again(servers: Servers) -> None:
    async with without_operations(servers) as harness:
        script = Waiting()
        executor = ScriptedExecutor(harness.store, harness.bucket, script)
        async with harness.dispatching(harness.dispatcher(executor)) as dispatcher:
            job_id = await harness.submit()
            job = await harness.reach(job_id, State.RUNNING)
            await dispatcher.tail.wait_for(job.sequence, 5)
            commands = dispatcher.operations.commands
            right = await commands.refold_job(RefoldJob(**change(job_id=job_id)), NOBODY)
            assert (right.state, right.in_memory, right.differences) == ("running", True, [])
            # What a fault in the fold would leave.
            known = dispatcher.reconciler.jobs.get(job_id)
            assert known
            dispatcher.reconciler.jobs.replace(replace(known, device="wrong", attempt=7))
            found = await commands.refold_job(RefoldJob(**change(job_id=job_id)), NOBODY)
            assert {one.field: one.memory for one in found.differences} == {"device": "wrong", "attempt": 7}
            script.go_on.set()
            assert (await harness.reach(job_id)).attempt == 1
            with pytest.raises(SaccadeError) as missing:
                await commands.refold_job(RefoldJob(**change(job_id=new_id("job"))), NOBODY)
            assert missing.value.code is ErrorCode.JOB_NOT_FOUND
        assert (await verbs(harness))[-2:] == ["job.refold_requested", "job.refolded"]
        assert (await records(harness))[-1].tenant == "acme"


class _DiesBeforeOutcome(EventStore):
    """The audit log's store in a process that ends before its first outcome is stored."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.dead = asyncio.Event()

    async def publish(self, message: Message, **condition: Any) -> int:
        if b'"phase":"outcome"' in message.body:
            self.dead.set()
            await asyncio.Future()
        return await super().publish(message, **condition)


@pytest.mark.parametrize("order", ["pause_workload", "refold_job", "redrive_dead_letter"])
async def test_a_death_between_intent_and_outcome_shows_and_is_ended_by_the_next_leader(
    servers: Servers, order: str
) -> None:
    async with without_operations(servers) as harness:
        script = Waiting()
        executor = ScriptedExecutor(harness.store, harness.bucket, script)
        dying = harness.dispatcher(executor)
        running = asyncio.create_task(dying.run(asyncio.Event()))
        job_id = await harness.submit()
        job = await harness.reach(job_id, State.RUNNING)
        await dying.tail.wait_for(job.sequence, 5)
        letter = await dead_letter_of(harness, job_id)
        dying.operations.audit.store = store = _DiesBeforeOutcome(harness.client, OPS.name)
        wanted = {
            "pause_workload": PauseWorkload(**change(workload="echo")),
            "refold_job": RefoldJob(**change(job_id=job_id)),
            "redrive_dead_letter": RedriveDeadLetter(**change(dead_letter=letter)),
        }[order]
        command = asyncio.create_task(getattr(dying.operations.commands, order)(wanted, NOBODY))
        await asyncio.wait_for(store.dead.wait(), 5)
        await kill(running)
        await kill(command)
        assert [record.data.phase for record in await records(harness)] == ["intent"]

        await harness.forget_lease()
        following = harness.dispatcher(executor)
        following.operations.abandoned = AbandonedCommands(following.operations.audit, after_s=0.1, interval_s=0.1)
        async with harness.dispatching(following):
            end = asyncio.get_running_loop().time() + 8
            while len(await records(harness)) < 2:
                assert asyncio.get_running_loop().time() < end
                await asyncio.sleep(0.05)
            intent, outcome = await records(harness)
            assert (outcome.data.phase, outcome.data.intent) == ("outcome", intent.id)
            assert outcome.verb == f"{intent.verb.removesuffix('_requested')}_abandoned"
            assert outcome.data.details["meaning"]
            # Nothing was half done: no workload is paused, the letter is there, and the same command does it.
            assert following.reconciler.holds.paused == {}
            assert (await DeadLetters(EventStore(harness.client, "DEADLETTERS")).get(letter)).number == letter
            answer = await getattr(following.operations.commands, order)(wanted, NOBODY)
            assert answer.record == 4
            script.go_on.set()
            assert (await harness.reach(job_id)).attempt == 1


async def test_holds_that_another_dispatcher_recorded_are_followed(servers: Servers, monkeypatch: Any) -> None:
    """A leader that has just lost its lease may carry out a last command, which its successor did not see."""
    monkeypatch.setattr("services.dispatcher.commands.operations._REFRESH_S", 0.1)
    async with without_operations(servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, works)
        async with harness.dispatching(harness.dispatcher(executor)) as dispatcher:
            await until(lambda: dispatcher.reconciler.leading)
            stale: Dispatcher = harness.dispatcher(executor)
            await stale.operations.commands.drain(Drain(**change()), NOBODY)
            await until(lambda: dispatcher.reconciler.holds.drained is not None)


async def test_without_a_record_nothing_is_done(servers: Servers) -> None:
    async with without_operations(servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, works)
        async with harness.dispatching(harness.dispatcher(executor)) as dispatcher:
            await until(lambda: dispatcher.reconciler.leading)

            config = (await request(harness.client, "STREAM.INFO.OPS", {}))["config"]
            assert "error" not in await request(harness.client, "STREAM.UPDATE.OPS", config | {"max_bytes": 1})
            with pytest.raises(SaccadeError) as refused:
                await dispatcher.operations.commands.drain(Drain(**change()), NOBODY)
            assert refused.value.code is ErrorCode.BUS_UNAVAILABLE
            assert dispatcher.reconciler.holds.drained is None
            assert (await harness.reach(await harness.submit())).state is State.SUCCEEDED
