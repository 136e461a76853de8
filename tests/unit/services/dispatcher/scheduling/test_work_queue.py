"""Order of the work queue, delays, and waiters."""

from __future__ import annotations

import asyncio

import pytest

from services.dispatcher.scheduling.work_queue import WorkQueue

pytestmark = pytest.mark.anyio


async def drain(queue: WorkQueue, count: int) -> list[str]:
    jobs = []
    for _ in range(count):
        jobs.append(await asyncio.wait_for(queue.take(), 1))
        queue.done(jobs[-1])
    return jobs


async def test_urgent_jobs_are_first_then_tenants_alternate() -> None:
    queue = WorkQueue()
    for number in range(4):
        queue.add(f"flood{number}", "flood", urgent=False)
    queue.add("quiet", "quiet", urgent=False)
    queue.add("running", "flood", urgent=True)
    assert await drain(queue, 6) == ["running", "flood0", "quiet", "flood1", "flood2", "flood3"]


async def test_a_job_is_processed_once_at_a_time_and_queued_again_if_added_meanwhile() -> None:
    queue = WorkQueue()
    queue.add("one", "acme", urgent=True)
    queue.add("one", "acme", urgent=True)
    assert await queue.take() == "one"
    queue.add("one", "acme", urgent=True)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.take(), 0.05)
    queue.done("one")
    assert await drain(queue, 1) == ["one"]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.take(), 0.05)


async def test_a_delayed_job_is_queued_later_and_adding_it_cancels_the_delay() -> None:
    queue = WorkQueue()
    queue.add_after("one", "acme", 0.05, urgent=True)
    assert "one" in queue
    assert await drain(queue, 1) == ["one"]
    queue.add_after("one", "acme", 3600, urgent=True)
    queue.add("one", "acme", urgent=True)
    assert await drain(queue, 1) == ["one"]
    assert "one" not in queue, "the delay is cancelled"


async def test_the_newest_delay_replaces_the_previous_one() -> None:
    queue = WorkQueue()
    queue.add_after("one", "acme", 0.02, urgent=True)
    queue.add_after("one", "acme", 3600, urgent=True)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.take(), 0.1)
    queue.clear()
    assert "one" not in queue


async def test_every_waiter_gets_a_job() -> None:
    queue = WorkQueue()
    waiters = [asyncio.create_task(queue.take()) for _ in range(3)]
    await asyncio.sleep(0)
    for name in "abc":
        queue.add(name, "acme", urgent=False)
    assert sorted(await asyncio.wait_for(asyncio.gather(*waiters), 1)) == ["a", "b", "c"]


async def test_one_job_wakes_one_of_hundreds_of_waiters() -> None:
    queue = WorkQueue()
    waiters = [asyncio.create_task(queue.take()) for _ in range(300)]
    await asyncio.sleep(0)
    queue.add("one", "acme", urgent=True)
    await asyncio.sleep(0)
    assert len(queue._waiters) == 299, "the others are not woken"
    for waiter in waiters:
        waiter.cancel()
    done = await asyncio.gather(*waiters, return_exceptions=True)
    assert [job_id for job_id in done if isinstance(job_id, str)] == ["one"]


async def test_a_waiter_that_is_cancelled_after_its_wake_up_wakes_the_next() -> None:
    queue = WorkQueue()
    first, second = (asyncio.create_task(queue.take()) for _ in range(2))
    await asyncio.sleep(0)
    queue.add("one", "acme", urgent=True)
    first.cancel()
    assert await asyncio.wait_for(second, 1) == "one"
    assert first.cancelled()
