"""Dead letters are handled again as their consumers are, deleted only then, or set aside with a reason."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from contracts.commands import CommandSender, DiscardDeadLetter, RedriveDeadLetter
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Message, encode
from contracts.events.job import JobQueued
from contracts.events.upload import MediaFacts, UploadCompleted
from contracts.ids import new_id
from contracts.job import State
from kit.bus.dead_letters import DeadLetters
from kit.bus.event_store import EventStore
from services.dispatcher.rules.upload_rules import UploadRules
from tests.harness.dispatch.dispatcher import Servers, shared_servers
from tests.harness.dispatch.operators import Waiting, change, dead_letter_of, records, until, verbs, without_operations
from tests.harness.dispatch.scripted_executor import ScriptedExecutor, works
from tests.harness.history.archive_stage import archive_stage

pytestmark = pytest.mark.anyio
NOBODY = CommandSender()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with shared_servers(tmp_path_factory.mktemp("letters")) as both:
        yield both


async def test_a_folds_dead_letter_is_folded_again_and_deleted_only_then(servers: Servers) -> None:
    async with without_operations(servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, Waiting())
        async with harness.dispatching(harness.dispatcher(executor)) as dispatcher:
            job_id = await harness.submit()
            job = await harness.reach(job_id, State.RUNNING)
            await dispatcher.tail.wait_for(job.sequence, 5)
            letters, commands = DeadLetters(EventStore(harness.client, "DEADLETTERS")), dispatcher.operations.commands
            number = await dead_letter_of(harness, job_id)
            looked = await commands.redrive_dead_letter(
                RedriveDeadLetter(dead_letter=number, dry_run=True, request_id=new_id("req")), NOBODY
            )
            assert (looked.action, looked.handled, looked.record, looked.error) == (
                "refold", False, None, "KeyError: 'x'",
            )  # fmt: skip
            assert await records(harness) == []
            with pytest.raises(SaccadeError) as silent:
                await commands.redrive_dead_letter(
                    RedriveDeadLetter(dead_letter=number, request_id=new_id("req")), NOBODY
                )
            assert silent.value.code is ErrorCode.MALFORMED_REQUEST
            done = await commands.redrive_dead_letter(
                RedriveDeadLetter(**change(dead_letter=number)), CommandSender("ada")
            )
            assert (done.handled, done.record) == (True, 2)
            assert (await letters.get(number)).number == number, "it is kept; the record is what hides it"
            again = await commands.redrive_dead_letter(RedriveDeadLetter(**change(dead_letter=number)), NOBODY)
            assert (again.handled, again.record) == (True, 2), "it is handled once"
            outcome = (await records(harness))[-1]
            assert (outcome.tenant, outcome.noun, outcome.subject_id) == ("acme", "dead_letter", str(number))
            assert (outcome.data.by, outcome.data.by_verified) == ("ada", True)
        await executor.end()


async def test_a_folds_letter_without_its_event_is_folded_again_too(servers: Servers) -> None:
    """The event was too large for the letter, or one of very many: the job's history has it."""
    async with without_operations(servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, works)
        async with harness.dispatching(harness.dispatcher(executor)) as dispatcher:
            job_id = await harness.submit()
            job = await harness.reach(job_id, State.SUCCEEDED)
            await dispatcher.tail.wait_for(job.sequence, 5)
            number = await dead_letter_of(harness, job_id, with_body=False)
            done = await dispatcher.operations.commands.redrive_dead_letter(
                RedriveDeadLetter(**change(dead_letter=number)), NOBODY
            )
            assert (done.action, done.handled) == ("refold", True)


async def test_what_cannot_be_handled_again_is_said_and_kept(servers: Servers) -> None:
    async with without_operations(servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, works)
        async with harness.dispatching(harness.dispatcher(executor)) as dispatcher:
            await until(lambda: dispatcher.reconciler.leading)
            letters, commands = DeadLetters(EventStore(harness.client, "DEADLETTERS")), dispatcher.operations.commands
            known = {letter.number async for letter in letters.all()}
            await harness.client.jetstream().publish(f"saccade.evt.acme.job.{new_id('job')}.submitted", b"no event")
            await harness.store.publish(Message("saccade.dlq.EVENTS.billing-job-succeeded", new_id("evt"), b"{}"))
            end = asyncio.get_running_loop().time() + 5
            while len(found := [letter async for letter in letters.all() if letter.number not in known]) < 2:
                assert asyncio.get_running_loop().time() < end
                await asyncio.sleep(0.02)
            for letter in found:
                with pytest.raises(SaccadeError) as refused:
                    await commands.redrive_dead_letter(RedriveDeadLetter(**change(dead_letter=letter.number)), NOBODY)
                assert refused.value.code is ErrorCode.DEAD_LETTER_NOT_REDRIVABLE
                assert refused.value.hint
                await commands.discard_dead_letter(DiscardDeadLetter(**change(dead_letter=letter.number)), NOBODY)
                assert (await letters.get(letter.number)).body == letter.body
            assert [verb for verb in await verbs(harness) if "redrive" not in verb] == [
                "dead_letter.discard_requested",
                "dead_letter.discarded",
            ] * 2


async def test_a_letter_is_not_set_aside_while_it_is_handled_again(servers: Servers) -> None:
    async with without_operations(servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, works)
        async with harness.dispatching(harness.dispatcher(executor)) as dispatcher:
            await until(lambda: dispatcher.reconciler.leading)
            commands, handling, go_on = dispatcher.operations.commands, asyncio.Event(), asyncio.Event()

            class Slow(UploadRules):
                async def apply(self, *_: Any) -> None:
                    handling.set()
                    await go_on.wait()

            dispatcher.upload_rules.__class__ = Slow
            facts = MediaFacts(media="image", container="png", codec="png", width_px=1, height_px=1)
            data = UploadCompleted(size_bytes=1, sha256="a", media=facts)
            event = encode(data, tenant="acme", subject_id=new_id("upl"), source="/gateway")
            headers = {"Saccade-Subject": event.subject, "Saccade-Sequence": "1", "Saccade-Deliveries": "8"}
            letter = Message("saccade.dlq.EVENTS.dispatcher-upload-completed", new_id("evt"), event.body)
            fields = change(dead_letter=await harness.store.publish(letter, headers=headers))
            redriving = asyncio.create_task(commands.redrive_dead_letter(RedriveDeadLetter(**fields), NOBODY))
            await asyncio.wait_for(handling.wait(), 8)
            discarding = asyncio.create_task(commands.discard_dead_letter(DiscardDeadLetter(**fields), NOBODY))
            await asyncio.sleep(0.5)  # a record takes some milliseconds
            go_on.set()
            await asyncio.gather(redriving, discarding)
            assert [verb for verb in await verbs(harness) if verb.startswith("dead_letter")] == [
                "dead_letter.redrive_requested",
                "dead_letter.redriven",
                "dead_letter.discard_requested",
                "dead_letter.discarded",
            ]


async def test_a_reactions_dead_letter_is_handled_again_once_and_kept(servers: Servers) -> None:
    """With the event's own sequence, from which on rules apply."""
    async with without_operations(servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, works)
        async with harness.dispatching(harness.dispatcher(executor)) as dispatcher:
            await until(lambda: dispatcher.reconciler.leading)
            commands, letters = dispatcher.operations.commands, DeadLetters(EventStore(harness.client, "DEADLETTERS"))
            calls: list[tuple[str, int]] = []

            class Noting(UploadRules):
                async def apply(self, *event: Any) -> None:
                    calls.append((event[1], event[2]))

            dispatcher.upload_rules.__class__ = Noting
            upload_id = new_id("upl")
            facts = MediaFacts(media="image", container="png", codec="png", width_px=1, height_px=1)
            data = UploadCompleted(size_bytes=1, sha256="a", media=facts)
            event = encode(data, tenant="acme", subject_id=upload_id, source="/gateway")
            sequence = await harness.store.publish(event)
            assert await dispatcher.tail.wait_for(sequence, 5)
            headers = {"Saccade-Subject": event.subject, "Saccade-Sequence": str(sequence), "Saccade-Deliveries": "8"}
            consumer = "saccade.dlq.EVENTS.dispatcher-upload-completed"
            bad, good = [
                await harness.store.publish(Message(consumer, new_id("evt"), body), headers=headers)
                for body in (b"no event", event.body)
            ]
            with pytest.raises(SaccadeError, match="failed again"):
                await commands.redrive_dead_letter(RedriveDeadLetter(**change(dead_letter=bad)), NOBODY)
            assert (await letters.get(bad)).deliveries == 8
            done = await commands.redrive_dead_letter(RedriveDeadLetter(**change(dead_letter=good)), NOBODY)
            assert (done.action, done.handled, done.subject) == ("handle", True, event.subject)
            await until(lambda: calls == [(upload_id, sequence)] * 2)  # live, and by the command
            assert [letter.number async for letter in letters.all() if letter.number in (bad, good)] == [bad, good]
            assert await verbs(harness) == [
                "dead_letter.redrive_requested",
                "dead_letter.redrive_failed",
                "dead_letter.redrive_requested",
                "dead_letter.redriven",
            ]
            assert {record.tenant for record in await records(harness)} == {"acme"}


async def test_a_reactions_letter_without_its_event_gets_it_from_where_it_is(servers: Servers) -> None:
    """From the stream, then from the archive; when it is nowhere, that is said before the handler is called."""
    nats, s3 = servers
    async with without_operations(servers) as harness, archive_stage(nats, s3, segment_bytes=2_000) as stage:
        executor = ScriptedExecutor(harness.store, harness.bucket, works)
        dispatcher = harness.dispatcher(executor, snapshot_events=10**9)
        async with harness.dispatching(dispatcher):
            await until(lambda: dispatcher.reconciler.leading)
            redrive = dispatcher.operations.commands.redrive_dead_letter
            calls: list[tuple[str, int]] = []

            class Noting(UploadRules):
                async def apply(self, *event: Any) -> None:
                    calls.append((event[1], event[2]))

            dispatcher.upload_rules.__class__ = Noting
            upload_id = new_id("upl")
            facts = MediaFacts(media="image", container="png", codec="png", width_px=1, height_px=1)
            data = UploadCompleted(size_bytes=1, sha256="a", media=facts)
            event = encode(data, tenant="acme", subject_id=upload_id, source="/gateway")
            sequence = await harness.store.publish(event)
            await until(lambda: calls == [(upload_id, sequence)])

            async def letter() -> int:
                headers = {"Saccade-Subject": event.subject, "Saccade-Sequence": str(sequence)}
                empty = Message("saccade.dlq.EVENTS.dispatcher-upload-completed", new_id("evt"), b"")
                return await harness.store.publish(empty, headers=headers)

            await redrive(RedriveDeadLetter(**change(dead_letter=await letter())), NOBODY)
            assert calls == [(upload_id, sequence)] * 2
            for _ in range(20):
                await harness.publish(new_id("job"), "acme", JobQueued(position=0))
            await stage.archive_all()
            await stage.purge_archived()
            assert await stage.history.first_in_stream() > sequence
            assert dispatcher.archive_writer
            dispatcher.archive_writer._archive._lists.clear()  # as half a minute later
            await redrive(RedriveDeadLetter(**change(dead_letter=await letter())), NOBODY)
            assert calls == [(upload_id, sequence)] * 3
            for segment in await stage.stored():
                await stage.bucket.put(segment.key, b"cut off")
        again = harness.dispatcher(executor, snapshot_events=10**9)
        async with harness.dispatching(again):
            await until(lambda: again.reconciler.leading)
            with pytest.raises(SaccadeError) as refused:
                await again.operations.commands.redrive_dead_letter(
                    RedriveDeadLetter(**change(dead_letter=await letter())), NOBODY
                )
            assert refused.value.code is ErrorCode.DEAD_LETTER_NOT_REDRIVABLE
