"""How a delivery ends: handled once, retried later and later, a dead letter, or given to another process."""

from __future__ import annotations

import asyncio
import time

import pytest
from nats.aio.msg import Msg
from saccade_events import Event, Reject, RetryPolicy
from saccade_events.event import decode_event

from contracts.events.base import encode
from contracts.events.upload import UploadCompleted, UploadFailed
from contracts.ids import new_id
from contracts.limits import EVENT_BYTES
from contracts.streams import DEADLETTERS, EVENTS
from kit.bus.connection import declare
from tests.harness.streams.reaction_stage import CONSUMER, RETRY, Stage, complete_upload, fail, succeed

pytestmark = pytest.mark.anyio


async def test_a_failure_is_retried_later_and_later_and_then_a_dead_letter(stage: Stage) -> None:
    stage.act = fail
    async with stage.running():
        upload_id = await complete_upload(stage.store)
        (letter,) = await stage.until_dead_letters(1)
        first, second, third = (at for _, at in stage.calls)
        assert second - first >= 0.16
        assert third - second >= 0.32
        await asyncio.sleep(0.8)
        assert stage.called_with == [upload_id] * 3
    raw = await stage.client.jetstream().get_msg(DEADLETTERS.name, letter.sequence)
    (event,) = await stage.store.load(f"saccade.evt.acme.upload.{upload_id}.completed")
    assert raw.subject == f"saccade.dlq.EVENTS.{CONSUMER}"
    assert raw.data == event.body
    assert {name: value for name, value in (raw.headers or {}).items() if name.startswith("Saccade-")} == {
        "Saccade-Sequence": str(event.sequence),
        "Saccade-Subject": event.subject,
        "Saccade-Consumer": CONSUMER,
        "Saccade-Deliveries": "3",
        "Saccade-Error": "OSError: the network is down",
    }


async def test_a_handler_gives_up_at_once(stage: Stage) -> None:
    async def reject(event: Event[UploadCompleted]) -> None:
        raise Reject("no such tenant")

    stage.act = reject
    async with stage.running():
        await complete_upload(stage.store)
        await stage.until_dead_letters(1)
        await stage.until_settled()
    assert len(stage.calls) == 1


async def test_an_event_ends_only_when_its_dead_letter_is_stored(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saccade_events.settle._BUS_AWAY_S", 0.5)
    await stage.client.jetstream().delete_stream(DEADLETTERS.name)
    stage.act = fail
    async with stage.running(stage.bus(RetryPolicy(maximum_attempts=1))):
        await complete_upload(stage.store)
        await stage.until_called(1)
        await asyncio.sleep(1.0)
        assert (await stage.consumer()).num_ack_pending == 1, "without a dead letter the event is not ended"
        await declare(stage.client)
        assert len(await stage.until_dead_letters(1)) == 1
        await stage.until_settled()


async def test_an_event_that_failed_while_the_bus_took_no_writes_is_handled_when_it_does(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saccade_events.settle._BUS_AWAY_S", 0.5)
    await stage.client.jetstream().delete_stream(DEADLETTERS.name)
    stage.act = fail
    async with stage.running(stage.bus(RetryPolicy(maximum_attempts=1))):
        await complete_upload(stage.store)
        await stage.until_called(1)
        stage.act = succeed
        await declare(stage.client)
        await stage.until_called(2)
        await stage.until_settled()
        assert not await stage.until_dead_letters(0)


async def test_a_lost_end_of_an_event_stores_no_second_dead_letter(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(message: Msg) -> None:
        monkeypatch.undo()

    monkeypatch.setattr(Msg, "term", lost)
    stage.act = fail
    async with stage.running(stage.bus(RetryPolicy(maximum_attempts=1, ack_wait_s=0.5))):
        await complete_upload(stage.store)
        await stage.until_dead_letters(1)
        await stage.until_settled()
    assert len(await stage.dead_letters()) == 1


async def test_a_lost_acknowledgement_does_not_call_the_handler_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(message: Msg) -> None:
        monkeypatch.undo()

    monkeypatch.setattr(Msg, "ack", lost)
    async with stage.running(stage.bus(RetryPolicy(ack_wait_s=0.5))):
        await complete_upload(stage.store)
        info = await stage.until_settled()
    assert info.delivered
    assert (info.delivered.consumer_seq, len(stage.calls)) == (2, 1), "delivered twice, handled once"


async def test_an_event_of_the_same_id_on_another_subject_is_no_repeat(stage: Stage) -> None:
    """A worker chooses the ids of its own events: it must not be able to keep another's from being handled."""
    async with stage.running():
        await complete_upload(stage.store)
        await stage.until_called(1)
        (event,) = await stage.store.load("saccade.evt.acme.upload.*.completed")
        decoded = UploadCompleted.model_validate_json(event.body[event.body.index(b'"data":') + 7 : -1])
        taken = event.body.partition(b'"id":"')[2].partition(b'"')[0].decode()
        other = new_id("upl")
        message = encode(decoded, tenant="victim", subject_id=other, source="/test", event_id=taken)
        # Not through the store: the server drops a repeated message id within its window, too.
        await stage.client.jetstream().publish(message.subject, message.body)
        await stage.until_called(2)
    assert stage.called_with[1] == other


async def test_what_cannot_be_read_or_belongs_elsewhere_is_a_dead_letter_and_never_handled(stage: Stage) -> None:
    jetstream, other = stage.client.jetstream(), new_id("upl")
    async with stage.running():
        await jetstream.publish(f"saccade.evt.acme.upload.{other}.completed", b"{")
        upload_id = await complete_upload(stage.store)
        (event,) = (
            one for one in await stage.store.load("saccade.evt.acme.upload.*.completed") if upload_id in one.subject
        )
        await jetstream.publish(f"saccade.evt.victim.upload.{other}.completed", event.body)
        letters = await stage.until_dead_letters(2)
        await stage.until_settled()
    assert len(letters) == 2
    assert stage.called_with == [upload_id]


async def test_the_handlers_event_is_read_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    given: list[int] = []

    async def counted(event: type[UploadCompleted], message: object) -> Event[UploadCompleted]:
        decoded = await decode_event(event, message)
        read.append(id(decoded))
        return decoded

    async def note(event: Event[UploadCompleted]) -> None:
        assert type(event.data) is UploadCompleted
        given.append(id(event))
        assert event.sequence == (await stage.client.jetstream().stream_info(EVENTS.name)).state.last_seq

    monkeypatch.setattr("saccade_events.reactions.decode_event", counted)
    stage.act = note
    async with stage.running():
        await complete_upload(stage.store)
        await stage.until_settled()
    assert read == given
    assert len(read) == 1
    assert not await stage.dead_letters()


async def test_a_header_does_not_make_the_service_publish_or_choose_how_it_reads(stage: Stage) -> None:
    victim = f"saccade.evt.victim.upload.{new_id('upl')}.{UploadFailed.type.partition('.')[2]}"
    forged = {"reply_to": victim, "correlation_id": "x", "content-type": "text/plain"}
    async with stage.running():
        await complete_upload(stage.store, headers=forged)
        await stage.until_settled()
        assert len(stage.calls) == 1
        assert not await stage.store.load(victim)


async def test_the_dead_letter_of_an_event_of_the_largest_size_has_all_of_it(stage: Stage) -> None:
    subject = f"saccade.evt.acme.upload.{new_id('upl')}.completed"
    async with stage.running():
        await stage.client.jetstream().publish(subject, b"x" * EVENT_BYTES)
        (letter,) = await stage.until_dead_letters(1)
        await stage.until_settled()
    assert len(letter.body) == EVENT_BYTES


async def test_a_slow_handler_keeps_its_event_and_waiting_events_are_called_once(stage: Stage) -> None:
    async def slow(event: Event[UploadCompleted]) -> None:
        await asyncio.sleep(1.0)

    stage.act = slow
    uploads = {await complete_upload(stage.store) for _ in range(10)}
    async with stage.running(stage.bus(RetryPolicy(ack_wait_s=0.6))):
        await stage.until_settled()
    assert sorted(stage.called_with) == sorted(uploads)


async def test_a_handler_that_hangs_is_cancelled_and_counts_as_failed(stage: Stage) -> None:
    async def hang(event: Event[UploadCompleted]) -> None:
        await asyncio.Event().wait()

    stage.act = hang
    async with stage.running(stage.bus(RetryPolicy(maximum_attempts=2, initial_interval_s=0.1, handler_timeout_s=0.2))):
        await complete_upload(stage.store)
        await stage.until_dead_letters(1)
    assert len(stage.calls) == 2


@pytest.mark.parametrize(("takes_s", "calls"), [(0.3, 1), (20.0, 2)])
async def test_a_stop_waits_for_handlers_and_gives_others_what_takes_longer(
    stage: Stage, caplog: pytest.LogCaptureFixture, takes_s: float, calls: int
) -> None:
    async def slow(event: Event[UploadCompleted]) -> None:
        await asyncio.sleep(takes_s)

    stage.act = slow
    async with stage.running(stage.bus(stop_s=0.7)) as running:
        await complete_upload(stage.store)
        await stage.until_called(1)
        begin = time.monotonic()
        for _ in range(4):  # kit/tasks.py cancels again what does not end at once
            running.cancel()
            await asyncio.wait([running], timeout=0.1)
        await asyncio.wait([running])
        assert time.monotonic() - begin < 10.0
    stage.act = succeed
    async with stage.running():
        await asyncio.sleep(1.0)  # without an answer the event would be held back for 30 s
    assert len(stage.calls) == calls
    assert "CancelledError" not in caplog.text


def test_the_delay_doubles_up_to_its_maximum_and_is_spread() -> None:
    policy = RetryPolicy(initial_interval_s=1.0, maximum_interval_s=10.0)
    for delivery, interval_s in ((1, 1.0), (2, 2.0), (4, 8.0), (5, 10.0), (2_000, 10.0)):
        delays = [policy.delay_s(delivery) for _ in range(50)]
        assert 0.8 * interval_s <= min(delays) < max(delays) <= 1.2 * interval_s
    assert RETRY.maximum_attempts == 3


async def test_a_deleted_event_is_no_obstacle(stage: Stage) -> None:
    """Events end by age; a consumer that waits to deliver one again goes on with the next."""
    stage.act = fail
    async with stage.running(stage.bus(RetryPolicy(initial_interval_s=0.3))):
        await complete_upload(stage.store)
        await stage.until_called(1)
        await stage.client.jetstream().purge_stream(EVENTS.name)
        stage.act = succeed
        upload_id = await complete_upload(stage.store)
        await stage.until(lambda: upload_id in stage.called_with)
