"""Dead letters of the three kinds from fault to end: gateway, dispatcher and notifier on one bus."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.errors import ErrorCode
from contracts.events.base import decode_at
from contracts.ids import new_id
from contracts.job import State
from contracts.streams import DELIVERIES
from kit.auth.api_keys import AuthSettings
from kit.bus.event_store import EventStore
from tests.harness.dead_letters import LetterMaker, OperatorClient
from tests.harness.dispatch.dispatcher import Servers, shared_servers, workload
from tests.harness.dispatch.operators import dead_letter_of, records, until, without_operations
from tests.harness.dispatch.scripted_executor import ScriptedExecutor, Worker, works
from tests.harness.servers.gateway import code_of, running_gateway
from tests.harness.streams.notifier import notifier
from tests.harness.webhooks.callers import create, webhook_settings
from tests.harness.webhooks.receivers import answering, ok, receiving

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with shared_servers(tmp_path_factory.mktemp("dead_letters")) as both:
        yield both


class Fault:
    """A script of workers that fail while the fault is there."""

    def __init__(self) -> None:
        self.there = True

    async def __call__(self, worker: Worker) -> None:
        if not self.there:
            await works(worker)
        elif await worker.claim():
            await worker.interrupted("user", ErrorCode.INPUT_UNREADABLE, "frame 3 is broken")


async def test_a_failed_job_and_an_event_come_back_or_are_verified(servers: Servers, tmp_path: Path) -> None:
    async with (
        without_operations(servers) as harness,
        running_gateway(servers[0].settings, servers[1].settings, tmp_path) as running,
    ):
        fault, operator = Fault(), OperatorClient(running)
        executor = ScriptedExecutor(harness.store, harness.bucket, fault)
        async with harness.dispatching(harness.dispatcher(executor, workload("lap_compare"))) as dispatcher:
            await until(lambda: dispatcher.reconciler.leading)
            jobs = [await harness.submit(tenant="local", workload="lap_compare") for _ in range(3)]
            failed = [await harness.reach(job_id, State.FAILED, tenant="local") for job_id in jobs]
            assert await operator.ids(kind="job") == set(jobs)
            (group,) = (await operator.ls(kind="job"))["groups"]
            assert (group["count"], group["error"]) == (3, "input_unreadable: frame N is broken")

            # The fault is still there: the letter is back, with one attempt more.
            assert (await operator.post(f"{jobs[0]}/redrive")).status_code == 200
            async with asyncio.timeout(10):
                while (shown := await operator.show(jobs[0]))["attempt"] == failed[0].attempt:
                    await asyncio.sleep(0.02)
            assert (shown["state"], shown["attempt"]) == ("open", failed[0].attempt + 1)

            fault.there = False
            answer = await operator.post("redrive", group=group["id"], expected_count=3, why="fixed")
            plan = await operator.ended(answer.json()["id"])
            assert (plan["done"], plan["failed"], plan["skipped"]) == (3, 0, 0)
            for job_id in jobs:
                await harness.reach(job_id, State.SUCCEEDED, tenant="local")
                shown = await operator.show(job_id)
                assert (shown["state"], shown["verified"]) == ("redriven", True)
            assert await operator.ids(kind="job") == set()

            number = await dead_letter_of(harness, jobs[0], "local", with_body=False)
            assert (await operator.show(number))["event"]["type"] == "job.succeeded", "found by its sequence"
            unreadable = await LetterMaker(harness.client, "local").event("dispatcher", body=b"no event")
            assert (await operator.post(f"{number}/redrive", why="fixed")).status_code == 200
            assert code_of(await operator.post(f"{unreadable}/redrive")) == ErrorCode.DEAD_LETTER_NOT_REDRIVABLE
            shown = await operator.show(number)
            assert (shown["state"], shown["verified"]) == ("redriven", True)
            assert [act["verb"] for act in shown["acts"]] == ["redrive_requested", "redriven"]
            assert code_of(await operator.post(f"{number}/redrive")) == ErrorCode.DEAD_LETTER_SETTLED
            assert await operator.ids() >= {str(unreadable)}
            assert (await operator.show(unreadable))["attempt"] == 2
        await executor.end()
        written = await records(harness)
        assert {record.data.by for record in written} == {"local"}
        assert {record.source for record in written} == {"/gateway", "/dispatcher"}


async def test_a_delivery_is_sent_again_and_its_letter_is_verified(servers: Servers, tmp_path: Path) -> None:
    async with (
        without_operations(servers) as harness,
        running_gateway(servers[0].settings, servers[1].settings, tmp_path) as running,
        receiving(answering(ok())) as receiver,
        notifier(servers[0].settings, AuthSettings(), webhook_settings(), None) as streams,
    ):
        operator, make = OperatorClient(running), LetterMaker(harness.client, "local")
        endpoint = (await create(streams.http, f"http://127.0.0.1:{receiver.port}/hook"))["id"]
        await make.job()
        deliveries = EventStore(harness.client, DELIVERIES.name)
        async with asyncio.timeout(10):
            while not (delivered := await deliveries.load(f"saccade.dlv.local.webhook.{endpoint}.delivered")):
                await asyncio.sleep(0.05)
        sent = decode_at(delivered[-1].subject, delivered[-1].body).data
        sequence, event_id = sent["sequence"], sent["event_id"]
        # What the notifier records when the last attempt of its schedule has failed.
        await make.delivery(endpoint, sequence, attempt=9, event_id=event_id)
        letter_id = f"{endpoint}:{sequence}"
        assert await operator.ids(kind="delivery") == {letter_id}
        answer = await operator.post(f"{letter_id}/redrive", why="the receiver is back")
        assert answer.status_code == 200, answer.text
        async with asyncio.timeout(10):
            while (shown := await operator.show(letter_id))["verified"] is None:
                await asyncio.sleep(0.05)
        assert (shown["state"], shown["verified"]) == ("redriven", True)
        assert await operator.ids(kind="delivery") == set()
        await make.delivery(endpoint, sequence, attempt=11, event_id=event_id)
        assert (await operator.show(letter_id))["attempt"] == 11
        assert await operator.ids(kind="delivery") == {letter_id}
        unknown = f"{new_id('whk')}:{sequence}"
        await make.delivery(unknown.partition(":")[0], sequence)
        assert code_of(await operator.post(f"{unknown}/redrive")) == ErrorCode.WEBHOOK_NOT_FOUND
        assert unknown in await operator.ids(kind="delivery")
