"""A GPU that is the first rung of a ladder: the larger ones follow it when it has too little memory."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from contracts.budget import BudgetLimits
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import EventData, decode, encode
from contracts.events.job import JobInterrupted, JobQueued, JobRetrying, JobStarting, JobSubmitted
from services.whatif.memory_store import MemoryStore
from services.whatif.virtual_time import BEGIN, run
from tests.harness.dispatch.gpu_market_run import DispatcherSeries

JOB = "job_1"


async def after_too_little_memory(gpu: str, *, fallback: bool) -> dict[str, object]:
    """Return the event that follows on an attempt for whose memory the chosen GPU was too small."""
    store = MemoryStore(random.Random(1))
    error = SaccadeError(ErrorCode.OUT_OF_MEMORY, "The GPU is too small.").body()
    events: list[EventData] = [
        JobSubmitted(
            workload="splat", workload_version="1", inputs={}, params={}, gpu=gpu, gpu_fallback=fallback,
            deadline=BEGIN + timedelta(seconds=9000),
        ),
        JobQueued(position=1),
        JobStarting(attempt=1, run_id="run_1", executor="modal", device=gpu),
        JobInterrupted(attempt=1, run_id="run_1", failure="out_of_memory", error=error),
    ]  # fmt: skip
    for data in events:
        await store.publish(encode(data, tenant="acme", subject_id=JOB, source="/dispatcher", time=BEGIN))
    series = DispatcherSeries(1, store, BudgetLimits())
    series.begin()
    assert series.lifecycle
    await series.lifecycle.advance(JOB, "acme", granted=False)
    await series.kill()
    last = decode(store.log[-1].body)
    return {"type": last.type, **last.data}


@pytest.mark.parametrize(
    ("gpu", "fallback", "climbs"), [("A10", True, True), ("A10", False, False), ("A100-40GB", True, False)]
)
def test_the_ladder_goes_on_above_the_chosen_gpu_if_that_is_asked(gpu: str, fallback: bool, climbs: bool) -> None:
    told = run(after_too_little_memory(gpu, fallback=fallback))
    assert (told["type"] == JobRetrying.type) is climbs
    if climbs:
        assert told["rung"] == 1
