"""Operators' commands from the command line to a dispatcher and back, by NATS."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import nats.errors
import pytest
from click.testing import CliRunner, Result
from nats.aio.client import Client

from cli.__main__ import saccade
from cli.failure import Failure
from contracts.commands import Status, command
from contracts.errors import SaccadeError
from contracts.events.base import Message
from contracts.ids import new_id
from contracts.job import State
from contracts.streams import OPS
from kit.bus.connection import request
from kit.bus.event_store import EventStore
from services.dispatcher.app import Dispatcher
from tests.harness.dispatch.dispatcher import DispatcherHarness, Servers, open_dispatcher_harness, shared_servers
from tests.harness.dispatch.scripted_executor import ScriptedExecutor, works

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with shared_servers(tmp_path_factory.mktemp("operator_cli")) as both:
        yield both


@pytest.fixture
async def harness(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DispatcherHarness]:
    monkeypatch.setenv("NATS_URL", servers[0].settings.url)
    async with open_dispatcher_harness(*servers) as harness:
        await harness.forget_operations()
        yield harness


async def leading(dispatcher: Dispatcher, client: Client) -> None:
    """Wait until a dispatcher leads and answers: it subscribes to commands beside that."""
    async with asyncio.timeout(10):
        while not dispatcher.reconciler.leading:
            await asyncio.sleep(0.01)
        while True:
            with contextlib.suppress(nats.errors.NoRespondersError):
                await client.request(command("dispatcher", "status").subject, b"{}", timeout=5)
                return
            await asyncio.sleep(0.02)


async def run(*words: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, saccade, [*words])


async def printed(*words: str) -> list[dict[str, Any]]:
    done = await run(*words, "--json")
    assert done.exception is None, (done.exception, done.output)
    return [json.loads(line) for line in done.stdout.splitlines()]


async def refused(*words: str) -> str:
    error = (await run(*words)).exception
    assert isinstance(error, Failure | SaccadeError), error
    return str(error.code)


async def test_every_command_goes_there_and_back(harness: DispatcherHarness) -> None:
    executor = ScriptedExecutor(harness.store, harness.bucket, works)
    why = ("--why", "a test", "--by", "ada")
    async with harness.dispatching(harness.dispatcher(executor)) as dispatcher:
        await leading(dispatcher, harness.client)
        assert await printed("status") == [{"drained": None, "paused": {}, "running": 0, "waiting": 0}]
        assert await printed("drain", "--wait", *why) == [{"record": 2, "running": 0, "waiting": 0}]
        job_id = await harness.submit()
        await harness.reach(job_id, State.QUEUED)
        (status,) = await printed("status")
        assert (status["drained"]["by"], status["drained"]["why"], status["waiting"]) == ("ada", "a test", 1)
        await printed("pause", "echo", *why)
        assert (await printed("resume", *why))[0]["paused"] == ["echo"]
        (refolded,) = await printed("refold", job_id, *why)
        assert (refolded["state"], refolded["differences"]) == ("queued", [])
        assert (await harness.job(job_id)).state is State.QUEUED
        await printed("resume", "echo", *why)
        assert (await harness.reach(job_id)).state is State.SUCCEEDED
        assert await refused("lease", "rotate", *why) == "no_standby"
        assert await refused("pause", "nothing", *why) == "unknown_workload"
        assert await refused("drain", "--why", " ") == "usage"
        letters = EventStore(harness.client, "DEADLETTERS")
        number = await letters.publish(Message("saccade.dlq.EVENTS.gateway", new_id("evt"), b'{"a": 1}'))
        assert [letter["number"] for letter in await printed("dead-letters", "list", "--consumer", "gateway")] == [
            number
        ]
        assert (await printed("dead-letters", "show", str(number)))[0]["event"] == {"a": 1}
        assert await refused("dead-letters", "redrive", str(number), "--dry-run") == "dead_letter_not_redrivable"
        await printed("dead-letters", "discard", str(number), *why)
        assert await printed("dead-letters", "list", "--consumer", "gateway") == []
        (shown,) = await printed("dead-letters", "list", "--consumer", "gateway", "--all")
        assert shown["settled"] == "discarded"
    records = await printed("audit")
    assert [record["type"] for record in records][:2] == ["dispatcher.drain_requested", "dispatcher.drained"]
    assert {(record["by"], record["why"], record["by_verified"]) for record in records} == {("ada", "a test", False)}
    by_request = await printed("audit", "--request", records[0]["request_id"])
    assert [record["phase"] for record in by_request] == ["intent", "outcome"]
    (verified,) = await printed("audit", "verify")
    assert (verified["records"], verified["faults"], verified["open_intents"]) == (len(records), [], [])
    assert (await printed("audit", "verify", "--head", verified["head"]))[0]["faults"] == []
    assert await refused("audit", "verify", "--head", f"1:{verified['head'].partition(':')[2]}") == "audit_broken"


async def test_a_log_that_was_changed_is_broken(harness: DispatcherHarness) -> None:
    """Somebody who may administer streams makes the log anew, without a record."""
    executor = ScriptedExecutor(harness.store, harness.bucket, works)
    async with harness.dispatching(harness.dispatcher(executor)) as dispatcher:
        await leading(dispatcher, harness.client)
        for _ in range(2):
            await printed("drain", "--why", "a")
    stored = [record async for record in EventStore(harness.client, OPS.name).history(0)]
    await harness.forget_operations()
    for record in (stored[0], *stored[2:]):
        await EventStore(harness.client, OPS.name).publish(Message(record.subject, new_id("evt"), record.body))
    assert await refused("audit", "verify") == "audit_broken"


async def test_who_does_not_answer_is_said(
    harness: DispatcherHarness, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    assert await refused("status") == "service_unavailable"
    monkeypatch.setattr("cli.operators.operator_bus._STATUS_S", 0.5)
    executor = ScriptedExecutor(harness.store, harness.bucket, works)
    await request(harness.client, "STREAM.PURGE.LEASES", {})
    async with harness.dispatching(harness.dispatcher(executor)) as leader:
        await leading(leader, harness.client)
        async with harness.dispatching(harness.dispatcher(executor)) as standby:
            # Both hear it, one answers.
            inbox, answers = harness.client.new_inbox(), []

            async def on_answer(message: Any) -> None:
                answers.append(message.data)

            await harness.client.subscribe(inbox, cb=on_answer)
            await harness.client.publish(command("dispatcher", "status").subject, b"{}", reply=inbox)
            await asyncio.sleep(0.5)
            assert [Status.model_validate_json(answer).running for answer in answers] == [0]
            assert not standby.reconciler.leading
            # Who asks names the subject of the answer: an event's subject is not answered.
            victim = f"saccade.evt.acme.job.{new_id('job')}.failed"
            await harness.client.publish(command("dispatcher", "status").subject, b"{}", reply=victim)
            await harness.client.flush()
            await asyncio.sleep(0.2)
            assert await harness.store.load(victim) == []
    monkeypatch.delenv("NATS_URL")
    assert await refused("status", "--data", str(tmp_path)) == "nothing_to_operate"
    monkeypatch.setenv("NATS_URL", "nats://127.0.0.1:1")
    monkeypatch.setattr("cli.nats_connection._CONNECT_S", 0.5)
    assert await refused("status") == "bus_unavailable"
