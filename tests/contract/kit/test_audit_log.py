"""The audit log on a real nats-server: one chain of all writers, nothing deleted, one outcome for each intent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from contracts.audit import SYSTEM, Act, Attribution, ChainVerifier, audit_subject
from contracts.errors import ErrorCode, SaccadeError
from contracts.streams import OPS
from kit.bus.audit_log import AuditLog
from kit.bus.connection import connect, declare, request
from kit.bus.event_store import EventStore
from kit.bus.recorded_act import recorded
from tests.harness.servers.embedded import EmbeddedNats, NatsServer

pytestmark = pytest.mark.anyio
ORIGIN = Attribution(by="ada", why="because", request_id="req_1")


@asynccontextmanager
async def opened(server: NatsServer, count: int = 1) -> AsyncIterator[list[AuditLog]]:
    client = await connect(server.settings, "test")
    try:
        await declare(client)
        yield [AuditLog(EventStore(client, OPS.name), f"/writer/{number}") for number in range(count)]
    finally:
        await client.close()


async def verified(log: AuditLog) -> ChainVerifier:
    verifier = ChainVerifier()
    async for stored in log.store.history(0):
        verifier.add(stored.sequence, stored.subject, stored.body)
    return verifier


async def test_many_writers_make_one_chain(nats_server: NatsServer) -> None:
    async with opened(nats_server, 4) as logs:

        async def write(log: AuditLog, number: int) -> None:
            act = Act("acme", "job", f"job_{number}")
            await log.outcome(await log.intent(act, "refold_requested", ORIGIN), "refolded", {"n": number})

        await asyncio.gather(*(write(log, number) for number in range(6) for log in logs))
        found = await verified(logs[0])
        assert (found.records, found.head_sequence) == (48, 48)
        assert (found.faults, found.open_intents) == ([], {})


async def test_an_intent_gets_one_outcome(nats_server: NatsServer) -> None:
    async with opened(nats_server, 2) as (one, other):
        intent = await one.intent(Act(SYSTEM, "lease", "dispatcher"), "rotate_requested", ORIGIN)
        assert [open_intent.id for open_intent in (await other.open_intents())[0]] == [intent.id]
        first, second = await asyncio.gather(
            one.outcome(intent, "rotated", {"by": 1}), other.outcome(intent, "rotate_abandoned", {"by": 2})
        )
        assert first.sequence == second.sequence
        assert first == second
        open_intents, looked_at = await other.open_intents()
        assert (open_intents, looked_at) == ([], first.sequence)
        assert (await other.open_intents(looked_at)) == ([], looked_at)
        assert (await verified(one)).faults == []


async def test_a_command_that_was_given_up_is_not_reported_as_done(nats_server: NatsServer) -> None:
    async with opened(nats_server, 2) as (one, other):

        async def give_up() -> dict[str, str]:
            (intent,), _ = await other.open_intents()
            await other.outcome(intent, "drain_abandoned", {})
            return {}

        act = Act(SYSTEM, "dispatcher", "dispatcher")
        with pytest.raises(SaccadeError) as raised:
            await recorded(one, ORIGIN, act, verb="drain", done="drained", perform=give_up)
        assert raised.value.code is ErrorCode.TIMED_OUT
        assert "drain_abandoned" in raised.value.message
        assert (await verified(one)).faults == []


async def test_nothing_is_deleted(nats_server: NatsServer) -> None:
    async with opened(nats_server) as (log,):
        intent = await log.intent(Act(SYSTEM, "lease", "dispatcher"), "rotate_requested", ORIGIN)
        client = log.store.client
        for subject, body in (
            ("STREAM.MSG.DELETE.OPS", {"seq": intent.sequence}),
            ("STREAM.PURGE.OPS", {}),
            ("STREAM.PURGE.OPS", {"filter": intent.act.subject("rotate_requested")}),
        ):
            assert "not permitted" in (await request(client, subject, body))["error"]["description"]
        config = (await request(client, "STREAM.INFO.OPS", {}))["config"]
        refused = await request(client, "STREAM.UPDATE.OPS", config | {"deny_delete": False})
        assert "error" in refused
        await declare(client)  # a service that starts again changes nothing
        info = (await request(client, "STREAM.INFO.OPS", {}))["config"]
        assert (info["deny_delete"], info["deny_purge"], info["max_age"]) == (True, True, 0)


async def test_it_goes_on_after_a_restart_of_the_server(nats_server: EmbeddedNats) -> None:
    async with opened(nats_server) as (log,):
        await log.intent(Act(SYSTEM, "lease", "dispatcher"), "rotate_requested", ORIGIN)
        nats_server.kill()
        nats_server.start()
        await log.intent(Act(SYSTEM, "lease", "dispatcher"), "rotate_requested", ORIGIN)
        found = await verified(log)
        assert found.faults == []
        assert len(found.open_intents) == found.records
        newest = await log.newest_of_each(audit_subject(SYSTEM, "lease", "*", "*"))
        assert [record.sequence for record in newest] == [found.head_sequence]
