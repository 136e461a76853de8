"""Cancellation of tasks: each task ends, also when a cancellation is lost."""

from __future__ import annotations

import asyncio

import pytest

from kit.tasks import all_of, end, end_within, first_of, map_concurrently

pytestmark = pytest.mark.anyio


async def deaf(times: int) -> None:
    """Ignore ``times`` cancellations, as ``asyncio.wait_for`` can make any coroutine do."""
    for _ in range(times):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue
    await asyncio.Event().wait()


async def fail() -> None:
    raise ValueError("broken")


async def test_a_task_that_ignores_its_cancellation_is_cancelled_again() -> None:
    task = asyncio.ensure_future(deaf(2))
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await end(task)
    assert task.cancelled()


async def test_a_cancellation_during_end_is_raised_after_the_tasks_ended() -> None:
    task = asyncio.ensure_future(deaf(2))
    ending = asyncio.ensure_future(end(task))
    await asyncio.sleep(0.1)
    ending.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await ending
    assert task.cancelled()


async def test_first_of_cancels_the_others() -> None:
    other = asyncio.ensure_future(asyncio.Event().wait())

    async def follow() -> None:
        await other

    async with asyncio.timeout(10):
        await first_of(asyncio.sleep(0), follow())
    assert other.cancelled()


async def test_all_of_waits_for_all() -> None:
    ended = []

    async def work(seconds: float) -> None:
        await asyncio.sleep(seconds)
        ended.append(seconds)

    await all_of(work(0.05), work(0))
    assert ended == [0, 0.05]


async def test_all_of_cancels_again_what_ignores_its_cancellation_when_one_fails() -> None:
    async with asyncio.timeout(10):
        with pytest.raises(ValueError, match="broken"):
            await all_of(deaf(2), fail())


async def test_first_of_raises_the_error_of_the_first() -> None:
    with pytest.raises(ValueError, match="broken"):
        await first_of(asyncio.Event().wait(), fail())


async def test_a_cancelled_first_of_cancels_all() -> None:
    """Also while it was ending the others: a loop around it must not start again."""
    running = asyncio.ensure_future(first_of(asyncio.sleep(0.05), deaf(1)))
    await asyncio.sleep(0.15)  # the first has ended, the other does not go yet
    running.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_end_ignores_finished_tasks() -> None:
    failed = asyncio.ensure_future(fail())
    done = asyncio.ensure_future(asyncio.sleep(0, "value"))
    await asyncio.wait([failed, done])
    await end(failed, done)
    assert done.result() == "value"
    assert isinstance(failed.exception(), ValueError)


async def test_items_are_mapped_in_order_and_no_more_than_asked_at_once() -> None:
    running = most = 0

    async def double(item: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001 * (item % 3))
        running -= 1
        return 2 * item

    assert await map_concurrently(double, range(20), 4) == [2 * item for item in range(20)]
    assert most == 4
    assert await map_concurrently(double, [], 4) == []


async def test_what_runs_beside_a_failure_has_ended_before_it_is_raised() -> None:
    ended: list[int] = []

    async def work(item: int) -> None:
        try:
            await asyncio.sleep(0.01 if item == 1 else 60)
            await fail()
        finally:
            ended.append(item)

    with pytest.raises(ValueError, match="broken"):
        await map_concurrently(work, range(10), 3)
    assert sorted(ended) == [0, 1, 2]


async def test_a_task_that_never_ends_is_left_after_the_limit() -> None:
    never, soon = asyncio.ensure_future(deaf(1000)), asyncio.ensure_future(deaf(1))
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        assert await end_within(1.2, never, soon) == [never]
    assert soon.cancelled()
    async with asyncio.timeout(600):
        while not never.done():
            never.cancel()
            await asyncio.sleep(0)
