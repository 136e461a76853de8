"""What-if on a running system: events of a real bus, in real time, are read and decided the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from cli.whatif.recorded_window import read_question
from contracts.errors import ErrorCode
from kit.history.event_lines import decode_lines
from services.whatif.answer import ask
from services.whatif.child_input import encode_question, window_of_input
from services.whatif.replay_settings import ReplaySettings
from services.whatif.virtual_time import VirtualLoop
from tests.harness.dispatch.dispatcher import Servers, open_dispatcher_harness, shared_servers, workload
from tests.harness.dispatch.scripted_executor import Killed, ScriptedExecutor, Worker, works

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with shared_servers(tmp_path_factory.mktemp("whatif")) as started:
        yield started


async def is_lost(worker: Worker) -> None:
    if await worker.claim():
        raise Killed


async def is_refused(worker: Worker) -> None:
    if await worker.claim():
        await worker.interrupted("user", ErrorCode.CLIP_STATIC)


async def test_what_a_dispatcher_did_a_moment_ago_is_decided_the_same(servers: Servers) -> None:
    known = {one.name: one for one in (workload(max_attempts=3), workload("other", 2))}
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, is_lost, works)
        executor.name = "local"
        async with harness.dispatching(harness.dispatcher(executor, *known.values(), slots=2)):
            jobs = [await harness.submit(workload=name) for name in ("echo", "other", "echo", "echo")]
            for job_id in jobs:
                await harness.reach(job_id)
            executor.scripts = [is_refused]
            jobs.append(await harness.submit())
            await harness.reach(jobs[-1])
            question = await read_question(harness.client, None, None, {}, {})
    assert question.settings["slots"] == 2
    head, _, lines = encode_question(question).partition(b"\n")
    window = window_of_input(json.loads(head), decode_lines(lines, "the window"))
    answer = await asyncio.to_thread(ask, VirtualLoop(), window, known, ReplaySettings(question.settings), {})
    assert (answer.answer, list(answer.findings)) == ("same", [])
    assert answer.jobs == len(jobs)
    assert answer.compared["job.retrying"] >= len(jobs) - 1
