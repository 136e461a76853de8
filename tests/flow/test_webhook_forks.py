"""Webhooks over restores: no event reaches an endpoint twice, and none of today's stream is missed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from contracts.events.base import Cursor, decode
from kit.bus.connection import declare, epoch_of, request
from kit.bus.tail import EpochChanged
from services.notifier.webhooks.deliveries.planned_position import PlannedPosition
from tests.harness.servers.embedded import EmbeddedNats
from tests.harness.servers.stream_backups import StreamBackup, back_up, restore
from tests.harness.streams.notifier import Publisher, publisher, succeeded
from tests.harness.webhooks.delivery import RunningWebhooks, run_webhooks
from tests.harness.webhooks.listeners import WebhookListener, listening

pytestmark = pytest.mark.anyio


async def submit(bus: Publisher, count: int) -> list[str]:
    """Submit jobs, one event each."""
    return [await bus.submit() for _ in range(count)]


async def stored_ids(bus: Publisher, after: int = 0) -> list[str]:
    """Return the ids of the stored events after a sequence."""
    return [decode(stored.body).id async for stored in bus.store.history(after)]


async def backups_of(bus: Publisher, streams: Sequence[str]) -> list[StreamBackup]:
    return [await back_up(bus.client, stream) for stream in streams]


async def saved_position(bus: Publisher, here: RunningWebhooks) -> None:
    """Store the planned position as the notifier does after a while."""
    epoch, _ = await epoch_of(bus.client, "EVENTS")
    await PlannedPosition(bus.client).save(epoch, here.view.complete_to())


async def expect(listener: WebhookListener, ids: list[str]) -> None:
    """Wait for these events, and check that each came once, and no other."""
    await listener.wait(len(ids))
    await asyncio.sleep(0.3)
    assert Counter(listener.ids()) == Counter(ids)


@pytest.mark.parametrize("keeps_file", [True, False])
async def test_events_restored_to_an_older_point_then_others(
    nats_server: EmbeddedNats, tmp_path: Path, keeps_file: bool
) -> None:
    """The records of the lost events remain, and name sequences that now stand for others."""
    settings = nats_server.settings
    async with publisher(settings) as bus, listening() as receiver:
        async with run_webhooks(settings, tmp_path / "a") as here:
            endpoint = await here.make(receiver.url)
            await submit(bus, 3)
            await here.settled(endpoint.id, 3)
            [backup] = await backups_of(bus, ["EVENTS"])
            await submit(bus, 4)
            await here.settled(endpoint.id, 7)
            await saved_position(bus, here)
        sent = receiver.ids()
        await restore(bus.client, backup)
        await submit(bus, 6)  # before any service looks
        async with run_webhooks(settings, tmp_path / ("a" if keeps_file else "b")) as here:
            await here.settled(endpoint.id, 9)
            await expect(receiver, sent + await stored_ids(bus, 3))
            await submit(bus, 1)
            await expect(receiver, sent + await stored_ids(bus, 3))
            listed = here.view.list(endpoint.id)[0]
            assert [one.event_id for one in reversed(listed)] == await stored_ids(bus)
            assert [str(one.state) for one in listed] == ["delivered"] * 10


async def test_an_endpoint_made_on_the_lost_branch_gets_what_is_stored_after_the_fork(
    nats_server: EmbeddedNats, tmp_path: Path
) -> None:
    settings = nats_server.settings
    async with publisher(settings) as bus, listening() as receiver:
        async with run_webhooks(settings, tmp_path) as here:
            await submit(bus, 3)
            [backup] = await backups_of(bus, ["EVENTS"])
            await submit(bus, 5)
            endpoint = await here.make(receiver.url)  # after 8
            await submit(bus, 1)
            await here.settled(endpoint.id, 1)
        sent = receiver.ids()
        await restore(bus.client, backup)
        await submit(bus, 8)  # up to 11: 4 to 8 are older than the endpoint by their sequence
        async with run_webhooks(settings, tmp_path) as here:
            await here.settled(endpoint.id, 8)
            await expect(receiver, sent + await stored_ids(bus, 3))


async def test_newest_state_restored_repeats_nothing(nats_server: EmbeddedNats, tmp_path: Path) -> None:
    settings = nats_server.settings
    async with publisher(settings) as bus, listening() as receiver:
        async with run_webhooks(settings, tmp_path) as here:
            endpoint = await here.make(receiver.url)
            await submit(bus, 5)
            await here.settled(endpoint.id, 5)
        for backup in await backups_of(bus, ["EVENTS", "DELIVERIES", "WEBHOOKS"]):
            await restore(bus.client, backup)
        async with run_webhooks(settings, tmp_path) as here:
            assert here.states(endpoint.id) == ["delivered"] * 5  # from the file: nothing is read again
            await submit(bus, 2)
            await here.settled(endpoint.id, 7)
            await expect(receiver, await stored_ids(bus))


async def test_records_restored_to_an_older_point_repeat_nothing_where_the_file_is(
    nats_server: EmbeddedNats, tmp_path: Path
) -> None:
    settings = nats_server.settings
    async with publisher(settings) as bus, listening() as receiver:
        async with run_webhooks(settings, tmp_path) as here:
            endpoint = await here.make(receiver.url)
            await submit(bus, 2)
            await here.settled(endpoint.id, 2)
            [backup] = await backups_of(bus, ["DELIVERIES"])
            await submit(bus, 3)
            await here.settled(endpoint.id, 5)
        await restore(bus.client, backup)
        async with run_webhooks(settings, tmp_path) as here:
            # Asked for by a record that has the number of a lost one: it is newer all the same.
            await here.redeliver(endpoint, sequences=[5])
            await receiver.wait(6)
            await submit(bus, 4)
            await here.settled(endpoint.id, 9)
            await asyncio.sleep(0.3)
            assert Counter(receiver.ids()) == Counter([*await stored_ids(bus), (await stored_ids(bus))[4]])


@pytest.mark.parametrize("keeps_file", [True, False])
async def test_what_was_sent_of_lost_events_is_not_listed(
    nats_server: EmbeddedNats, tmp_path: Path, keeps_file: bool
) -> None:
    settings = nats_server.settings
    async with publisher(settings) as bus, listening() as receiver:
        async with run_webhooks(settings, tmp_path / "a") as here:
            endpoint = await here.make(receiver.url)
            await submit(bus, 2)
            [backup] = await backups_of(bus, ["EVENTS"])
            await submit(bus, 3)
            await here.settled(endpoint.id, 5)
        await restore(bus.client, backup)
        async with run_webhooks(settings, tmp_path / ("a" if keeps_file else "b")) as here:
            await submit(bus, 1)
            await here.settled(endpoint.id, 3)
            await here.until(lambda: here.webhooks.file.recorded == 6)
            assert [one.sequence for one in here.view.list(endpoint.id)[0]] == [3, 2, 1]


async def test_two_forks_in_a_row_and_a_cursor_of_each(nats_server: EmbeddedNats, tmp_path: Path) -> None:
    settings = nats_server.settings
    async with publisher(settings) as bus, listening() as receiver:
        sent: list[str] = []
        fork, backup, epochs = 0, None, []
        for kept, more in ((2, 3), (1, 2), (0, 4)):
            if backup is not None:
                await restore(bus.client, backup)
            async with run_webhooks(settings, tmp_path) as here:
                if backup is None:
                    endpoint = await here.make(receiver.url)
                await submit(bus, kept)
                await here.settled(endpoint.id, fork + kept)
                [backup] = await backups_of(bus, ["EVENTS"])
                await submit(bus, more)
                await here.settled(endpoint.id, fork + kept + more)
                epochs.append((await epoch_of(bus.client, "EVENTS"))[0])
                sent += await stored_ids(bus, fork)
                fork += kept
                await expect(receiver, sent)
                lineage = here.webhooks.projector.event_lineage.lineage
        positions = [lineage.position_of(Cursor(epoch, 3)) for epoch in epochs]
        assert positions == [None, 3, 3]


async def test_a_notifier_that_has_not_noticed_leaves_what_others_write_to_its_next_start(
    nats_server: EmbeddedNats, tmp_path: Path
) -> None:
    """It must neither skip nor keep a record of an epoch that it does not know: both would repeat or lose events."""
    settings = nats_server.settings
    async with publisher(settings) as bus, listening() as receiver:
        recorded = 0

        async def run_until_it_leaves() -> None:
            nonlocal recorded
            async with run_webhooks(settings, tmp_path) as here:
                endpoint = await here.make(receiver.url)
                await submit(bus, 2)
                await here.settled(endpoint.id, 2)
                recorded = here.webhooks.file.recorded
                record = [one async for one in here.webhooks.projector.records.history(0)][-1]
                stranger = record.body.replace(b'"epoch":"', b'"epoch":"f').replace(b'"id":"', b'"id":"x', 1)
                await bus.client.jetstream().publish(record.subject, stranger)
                await bus.client.jetstream().publish(record.subject, record.body)
                await asyncio.sleep(0.5)
                assert here.webhooks.file.recorded == recorded

        with pytest.raises(EpochChanged):  # which ends the process, and its supervisor starts it again
            await run_until_it_leaves()
        async with run_webhooks(settings, tmp_path) as here:
            await here.until(lambda: here.webhooks.file.recorded == recorded + 2)
            await expect(receiver, await stored_ids(bus))


async def test_an_attempt_in_flight_over_the_fork_counts_for_its_own_event(
    nats_server: EmbeddedNats, tmp_path: Path
) -> None:
    """The record comes after the restore, of a process that has not noticed: it is not that of today's event."""
    settings = nats_server.settings
    async with publisher(settings) as bus, listening() as receiver:
        async with run_webhooks(settings, tmp_path / "a") as here:
            endpoint = await here.make(receiver.url)
            await submit(bus, 2)
            await here.settled(endpoint.id, 2)
            [backup] = await backups_of(bus, ["EVENTS"])
            await bus.say(await bus.submit(), succeeded())
            await here.settled(endpoint.id, 4)
            late = [one async for one in here.webhooks.projector.records.history(0)][-1]
        sent = receiver.ids()
        await restore(bus.client, backup)
        async with run_webhooks(settings, tmp_path / "b") as here:
            receiver.status = 503
            await submit(bus, 2)
            await here.until(lambda: here.view.attempts(endpoint.id, 4))
            await bus.client.jetstream().publish(late.subject, late.body, headers={"Nats-Msg-Id": "again"})
            receiver.status = 200
            here.pass_(minutes=2)
            await here.settled(endpoint.id, 4)
            today = await stored_ids(bus)
            assert [one.event_id for one in reversed(here.view.list(endpoint.id)[0])] == today
            assert set(today[2:]) <= set(receiver.ids())
            assert set(sent) & set(await stored_ids(bus, 2)) == set()


async def test_an_endpoint_of_an_epoch_that_began_meanwhile_waits_for_the_next_start(
    nats_server: EmbeddedNats, tmp_path: Path
) -> None:
    """Taken for one of a lost stream, it would get the whole history."""
    settings = nats_server.settings
    async with publisher(settings) as bus, listening() as receiver:

        async def run_until_it_leaves() -> None:
            async with run_webhooks(settings, tmp_path) as here:
                await submit(bus, 3)
                await here.until(lambda: here.webhooks.file.planned == 3)
                await here.make(receiver.url, since=1, since_epoch="begun")
                await asyncio.sleep(0.3)
                assert receiver.got == []

        with pytest.raises(EpochChanged):
            await run_until_it_leaves()


async def test_a_redelivery_of_a_lost_event_sends_no_other(nats_server: EmbeddedNats, tmp_path: Path) -> None:
    """A single event is sent again whatever its type; the one that has its sequence now was never subscribed to."""
    settings = nats_server.settings
    async with publisher(settings) as bus, listening() as receiver:
        async with run_webhooks(settings, tmp_path) as here:
            endpoint = await here.make(receiver.url, types=("job.succeeded",))
            await submit(bus, 2)
            [backup] = await backups_of(bus, ["EVENTS"])
            await bus.say("job_1", succeeded())
            await here.settled(endpoint.id, 1)
            lost, _ = await epoch_of(bus.client, "EVENTS")
        await restore(bus.client, backup)
        await submit(bus, 2)
        async with run_webhooks(settings, tmp_path) as here:
            await here.redeliver(endpoint, sequences=[3], epoch=lost)
            await here.redeliver(endpoint, since_sequence=0, until_sequence=3, epoch=lost)
            await asyncio.sleep(0.5)
            assert [got.type for got in receiver.got] == ["job.succeeded"]


async def test_records_of_a_stream_that_is_lost_are_no_reason_to_leave(
    nats_server: EmbeddedNats, tmp_path: Path
) -> None:
    settings = nats_server.settings
    async with publisher(settings) as bus, listening() as receiver:
        async with run_webhooks(settings, tmp_path) as here:
            endpoint = await here.make(receiver.url)
            await submit(bus, 3)
            await here.settled(endpoint.id, 3)
        sent = receiver.ids()
        await request(bus.client, "STREAM.DELETE.EVENTS", {})
        await declare(bus.client)
        await submit(bus, 4)
        async with run_webhooks(settings, tmp_path) as here:
            await here.settled(endpoint.id, 4)
            await expect(receiver, sent + await stored_ids(bus))
