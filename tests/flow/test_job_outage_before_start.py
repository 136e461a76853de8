"""An outage before a worker is launched costs the job no attempt: files that cannot be read, a bucket that is down."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from nats.aio.client import Client

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import encode
from contracts.ids import new_id
from contracts.job import State
from kit.bus.event_store import EventStore, StoredEvent
from tests.harness.dispatch.dispatcher import (
    DispatcherHarness,
    Servers,
    open_dispatcher_harness,
    shared_servers,
    workload,
)
from tests.harness.dispatch.scripted_executor import ScriptedExecutor
from tests.harness.rules.rule_events import completed, created

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with shared_servers(tmp_path_factory.mktemp("outage")) as both:
        yield both


class FailingStore(EventStore):
    """A store from which the first ``failures`` reads of uploads fail."""

    def __init__(self, client: Client, failures: int) -> None:
        super().__init__(client)
        self.failures = failures

    async def load(self, subjects: str, deadline_s: float = 5.0, **form: Any) -> list[StoredEvent]:
        if ".upload." in subjects and self.failures > 0:
            self.failures -= 1
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE)
        return await super().load(subjects, deadline_s, **form)


async def uploaded(harness: DispatcherHarness) -> str:
    upload_id = new_id("upl")
    for data in (created(), completed()):
        await harness.store.publish(encode(data, tenant="acme", subject_id=upload_id, source="/gateway"))
    return upload_id


async def test_files_that_cannot_be_read_cost_no_attempt(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket)
        upload_id = await uploaded(harness)
        store = FailingStore(harness.client, failures=2)
        dispatcher = harness.dispatcher(executor, workload(max_attempts=1), store=store)
        async with harness.dispatching(dispatcher):
            job_id = await harness.submit(input_ids={"photos": [upload_id]})
            job = await harness.reach(job_id)
        assert store.failures == 0
        assert (job.state, job.attempt) == (State.SUCCEEDED, 1)
        assert (await harness.verbs(job_id)).count("starting") == 1
        assert [file.upload_id for file in executor.launched[0].inputs["photos"]] == [upload_id]


async def test_files_whose_events_are_gone_end_the_job(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket)
        async with harness.dispatching(harness.dispatcher(executor, workload(max_attempts=1))):
            job = await harness.reach(await harness.submit(input_ids={"photos": [new_id("upl")]}))
        assert job.error
        assert (job.state, job.failure, job.error.code) == (State.FAILED, "user", ErrorCode.UPLOAD_NOT_FOUND)
        assert not executor.launched
