"""What is decided from a cluster's answers: conflicts, reads of what was acknowledged, one record of a key, claims."""

from __future__ import annotations

import asyncio
from itertools import permutations

import pytest

from contracts.audit import Act, Attribution, ChainVerifier
from contracts.ids import new_id
from contracts.streams import OPS, aggregate
from kit.bus.audit_log import AuditLog
from kit.bus.connection import request
from kit.bus.event_store import Conflict, EventStore
from kit.bus.idempotency import Idempotency, idempotency_key
from kit.bus.lease import Lease, is_held
from kit.bus.newest_message import newest_message
from tests.harness.servers.cluster import EmbeddedCluster
from tests.harness.servers.cluster_stores import TENANT, queued, stores_of

pytestmark = pytest.mark.anyio
#: Rounds of a race: a third of two-way races met the other write in flight.
ROUNDS = 300
ORIGIN = Attribution(by="test", by_verified=False, why="a test", request_id="req_test")


def among(job_id: str) -> str:
    return aggregate(TENANT, "job", job_id)


async def test_one_of_two_writers_wins_and_the_other_is_told_of_the_conflict(stores: list[EventStore]) -> None:
    pairs = list(permutations(stores, 2))
    for number in range(ROUNDS):
        job_id, (one, other) = new_id("job"), pairs[number % len(pairs)]
        outcomes = await asyncio.gather(
            one.publish(queued(job_id, 1), after=0, among=among(job_id)),
            other.publish(queued(job_id, 2), after=0, among=among(job_id)),
            return_exceptions=True,
        )
        (won,) = [outcome for outcome in outcomes if isinstance(outcome, int)]
        (lost,) = [outcome for outcome in outcomes if not isinstance(outcome, int)]
        assert isinstance(lost, Conflict), f"round {number}: {lost!r}"
        assert lost.newest == won
        assert [stored.sequence for stored in await stores[number % 3].load(among(job_id))] == [won]


async def test_a_message_that_is_sent_twice_at_once_is_stored_once(stores: list[EventStore]) -> None:
    for number in range(100):
        message = queued(new_id("job"))
        first, second = await asyncio.gather(
            stores[number % 3].publish(message), stores[(number + 1) % 3].publish(message)
        )
        assert first == second, f"round {number}"


async def test_every_read_contains_what_was_acknowledged_before_it(stores: list[EventStore]) -> None:
    for number in range(100):
        job_id = new_id("job")
        sequence = await stores[number % 3].publish(queued(job_id))
        for store in stores:
            found = await asyncio.gather(
                store.load(among(job_id)),
                store.load(f"saccade.evt.*.job.{job_id}.queued"),
                store.load(f"saccade.evt.{TENANT}.job.{job_id}.queued", with_headers=True),
                store.load(among(job_id), up_to=sequence),
                batch_of(store, job_id),
                history_of(store, job_id),
            )
            assert [[stored.sequence for stored in part] for part in found] == [[sequence]] * 6, f"round {number}"
            headers = found[2][0].headers
            assert headers["Nats-Msg-Id"]
            assert headers["Nats-Time-Stamp"]
            newest = await newest_message(store.client, store.stream, among(job_id))
            assert newest is not None
            assert newest.sequence == sequence
    assert await stores[0].load(among(new_id("job"))) == []


async def batch_of(store: EventStore, job_id: str) -> list:
    found, remaining = await store.batch(0, among(job_id))
    while remaining:
        more, remaining = await store.batch(found[-1].sequence, among(job_id))
        found += more
    return found


async def history_of(store: EventStore, job_id: str) -> list:
    return [stored async for stored in store.history(0, among(job_id))]


async def test_a_read_for_display_asks_no_leader_and_finds_it_soon(stores: list[EventStore]) -> None:
    job_id = new_id("job")
    sequence = await stores[0].publish(queued(job_id))
    shown = EventStore(stores[1].client, for_display=True)
    async with asyncio.timeout(30):
        while not (found := await shown.load(among(job_id))):
            await asyncio.sleep(0.01)
    assert [stored.sequence for stored in found] == [sequence]


async def test_what_was_deleted_is_not_read_from_a_replica_that_still_has_it(stores: list[EventStore]) -> None:
    for number in range(60):
        job_id = new_id("job")
        sequence = await stores[number % 3].publish(queued(job_id))
        deleted = await request(
            stores[number % 3].client, "STREAM.MSG.DELETE.EVENTS", {"seq": sequence, "no_erase": True}
        )
        assert deleted.get("success"), deleted
        assert [await store.load(among(job_id)) for store in stores] == [[], [], []], f"round {number}"


async def test_requests_with_one_key_at_once_get_one_id(cluster: EmbeddedCluster) -> None:
    async with stores_of(cluster, "IDEMPOTENCY") as stores:
        records = [Idempotency(store) for store in stores]
        for number in range(ROUNDS):
            key = idempotency_key(TENANT, "/v1/jobs", new_id("evt"), {"n": number})
            wanted = [new_id("job") for _ in range(2 + number % 2)]
            got = await asyncio.gather(
                *(records[(number + place) % 3].claim(key, made) for place, made in enumerate(wanted))
            )
            assert len(set(got)) == 1, f"round {number}"
            assert got[0] in wanted
            assert [await record.recall(key) for record in records] == [got[0]] * 3, f"round {number}"


async def test_many_writers_at_all_nodes_make_one_chain(cluster: EmbeddedCluster) -> None:
    async with stores_of(cluster, OPS.name) as stores:
        logs = [AuditLog(store, "/test") for store in stores]

        async def write(log: AuditLog, number: int) -> None:
            intent = await log.intent(Act(TENANT, "job", f"job_{number}"), "refold_requested", ORIGIN)
            await log.outcome(intent, "refolded", {"n": number})

        for number in range(4):
            await asyncio.gather(*(write(log, number) for log in logs))
        verifier = ChainVerifier()
        async for stored in stores[1].history(0):
            verifier.add(stored.sequence, stored.subject, stored.body)
        assert (verifier.records, verifier.faults, verifier.open_intents) == (24, [], {})


async def test_others_see_at_once_whether_a_lease_is_held(stores: list[EventStore]) -> None:
    for number in range(20):
        subject = f"cluster-{number}"
        lease = Lease(stores[number % 3].client, subject, 30.0)
        await lease.acquire()
        held = [await is_held(store.client, f"saccade.lease.{subject}") for store in stores]
        assert held == [True] * 3, f"round {number}"
        standby = Lease(stores[(number + 1) % 3].client, subject, 30.0)
        assert await standby.current_holder() == lease.holder
        await lease.release()
        held = [await is_held(store.client, f"saccade.lease.{subject}") for store in stores]
        assert held == [False] * 3, f"round {number}"


async def test_one_of_three_acquires_a_lease(stores: list[EventStore]) -> None:
    for number in range(20):
        leases = [Lease(store.client, f"race-{number}", 30.0) for store in stores]
        await asyncio.wait([asyncio.create_task(acquired(lease)) for lease in leases])
        assert sum(lease.held for lease in leases) == 1, f"round {number}"


async def acquired(lease: Lease) -> None:
    try:
        async with asyncio.timeout(0.3):
            await lease.acquire()
    except TimeoutError:
        return
