"""Rules and uploads that are deleted while a rule's job is being submitted: no such job begins."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from nats.aio.client import Client

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Message
from contracts.job import State
from contracts.streams import aggregate
from contracts.upload import Upload
from kit.bus.connection import request
from kit.bus.event_store import EventStore
from services.dispatcher.jobs.late_jobs import LateJobs
from services.dispatcher.jobs.stored_uploads import StoredUploads
from tests.harness.dispatch.dispatcher import DispatcherHarness, Servers, open_dispatcher_harness, shared_servers
from tests.harness.dispatch.scripted_executor import ScriptedExecutor
from tests.harness.rules.rule_events import TENANT
from tests.harness.rules.rule_nodes import WORKLOADS, RuleHarness, RuleNode, open_rule_harness

pytestmark = pytest.mark.anyio

#: What is deleted of a rule and two uploads.
Deletion = Callable[["Bus", str, str], Awaitable[Any]]


@dataclass
class Bus:
    """The bus of one test, with what is done to rules and what is done to jobs."""

    rules: RuleHarness
    jobs: DispatcherHarness

    async def job_of(self, prepare: Callable[[RuleNode], Awaitable[Any]], node: RuleNode) -> str:
        """Return the job that a dispatcher submits, which dies before it does anything else."""
        await prepare(node)
        (job_id,) = await self.rules.until(self.rules.jobs)
        await node.die()
        return str(job_id)

    @asynccontextmanager
    async def dispatching(self) -> AsyncIterator[ScriptedExecutor]:
        executor = ScriptedExecutor(self.jobs.store, self.jobs.bucket)
        async with self.jobs.dispatching(self.jobs.dispatcher(executor, *WORKLOADS)):
            yield executor


class Overtaken(EventStore):
    """A store in which something happens right before a job is stored, or right after."""

    def __init__(self, client: Client, act: Callable[[], Awaitable[Any]], *, after: bool = False) -> None:
        super().__init__(client)
        self._act, self._after = act, after

    async def publish(self, message: Message, **condition: Any) -> int:
        is_job = message.subject.endswith(".submitted")
        if is_job and not self._after:
            await self._act()
        sequence = await super().publish(message, **condition)
        if is_job and self._after:
            await self._act()
        return sequence


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with shared_servers(tmp_path_factory.mktemp("races")) as started:
        yield started


@pytest.fixture
async def bus(servers: Servers) -> AsyncIterator[Bus]:
    async with open_dispatcher_harness(*servers) as jobs, open_rule_harness(servers[0].settings) as rules:
        yield Bus(rules, jobs)


async def delete_rule(bus: Bus, rule_id: str, _: str) -> None:
    await bus.rules.delete_rule(rule_id)


async def delete_upload(bus: Bus, _: str, upload_id: str) -> None:
    await bus.rules.delete_upload(upload_id)


async def erase_upload(bus: Bus, _: str, upload_id: str) -> None:
    await request(bus.rules.client, "STREAM.PURGE.EVENTS", {"filter": aggregate(TENANT, "upload", upload_id)})


DELETIONS = [
    (delete_rule, ErrorCode.RULE_NOT_FOUND),
    (delete_upload, ErrorCode.UPLOAD_ALREADY_ENDED),
    (erase_upload, ErrorCode.UPLOAD_ALREADY_ENDED),
]


async def check_refused(bus: Bus, job_id: str, code: ErrorCode) -> None:
    """Check that the next dispatcher ends a job before it waits for a slot, and says why."""
    async with bus.dispatching() as executor:
        job = await bus.jobs.reach(job_id)
        assert await bus.jobs.verbs(job_id) == ["submitted", "failed"]
    assert job.error
    assert (job.state, job.failure, job.error.code) == (State.FAILED, "user", code)
    assert executor.launched == []


@pytest.mark.parametrize(("delete", "code"), DELETIONS)
async def test_the_job_of_an_upload(bus: Bus, delete: Deletion, code: ErrorCode) -> None:
    rule_id, upload = await bus.rules.rule(), await bus.rules.upload()
    store = Overtaken(bus.rules.client, lambda: delete(bus, rule_id, upload[0]))
    node = await bus.rules.node(own_store=store)
    job_id = await bus.job_of(lambda node: bus.rules.apply(node, upload), node)
    await check_refused(bus, job_id, code)


@pytest.mark.parametrize(("delete", "code"), DELETIONS)
async def test_the_job_of_a_group(bus: Bus, delete: Deletion, code: ErrorCode) -> None:
    rule_id = await bus.rules.rule(group={"needs": 2})
    uploads = [await bus.rules.upload() for _ in range(2)]
    store = Overtaken(bus.rules.client, lambda: delete(bus, rule_id, uploads[1][0]))
    node = await bus.rules.node(own_store=store)
    node.lead()

    async def add(node: RuleNode) -> None:
        for upload in uploads:
            await bus.rules.apply(node, upload)

    await check_refused(bus, await bus.job_of(add, node), code)


@pytest.mark.parametrize("delete", [delete_rule, delete_upload])
async def test_a_job_that_was_stored_first_goes_on(bus: Bus, delete: Deletion) -> None:
    """Its upload keeps the bytes, and a rule leaves its jobs."""
    rule_id, upload = await bus.rules.rule(), await bus.rules.upload()
    store = Overtaken(bus.rules.client, lambda: delete(bus, rule_id, upload[0]), after=True)
    node = await bus.rules.node(own_store=store)
    job_id = await bus.job_of(lambda node: bus.rules.apply(node, upload), node)
    async with bus.dispatching():
        assert (await bus.jobs.reach(job_id)).state is State.SUCCEEDED


class Damaged(StoredUploads):
    """Uploads whose events are in a segment of the archive that nobody can read."""

    async def load_all(self, tenant: str, upload_ids: Any) -> list[Upload]:  # noqa: ARG002
        raise SaccadeError(ErrorCode.SEGMENT_DAMAGED)


async def test_a_job_whose_upload_nobody_can_read_does_not_wait_for_ever(bus: Bus) -> None:
    await bus.rules.rule()
    upload = await bus.rules.upload()
    node = await bus.rules.node()
    job_id = await bus.job_of(lambda node: bus.rules.apply(node, upload), node)
    job = await bus.jobs.job(job_id, TENANT)
    assert job.submitted.rule
    assert await LateJobs(bus.jobs.store, Damaged(bus.jobs.store)).refusal(job) is None


async def test_who_wants_the_job_of_a_deleted_rule_nevertheless_retries_it(bus: Bus) -> None:
    rule_id, upload = await bus.rules.rule(), await bus.rules.upload()
    node = await bus.rules.node(own_store=Overtaken(bus.rules.client, lambda: bus.rules.delete_rule(rule_id)))
    job_id = await bus.job_of(lambda node: bus.rules.apply(node, upload), node)
    async with bus.dispatching():
        assert (await bus.jobs.reach(job_id)).state is State.FAILED
        await bus.jobs.retry(job_id)
        assert (await bus.jobs.reach(job_id, State.SUCCEEDED)).state is State.SUCCEEDED
