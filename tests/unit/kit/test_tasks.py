"""Tasks that are to end do, whatever they and we are doing at that moment."""

from __future__ import annotations

import asyncio

import pytest

from kit.tasks import end, first_of

pytestmark = pytest.mark.anyio


async def deaf(times: int) -> None:
    """Go on after being cancelled, a few times, as ``asyncio.wait_for`` can make any coroutine do."""
    for _ in range(times):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue
    await asyncio.Event().wait()


async def fail() -> None:
    raise ValueError("broken")


async def test_what_swallows_its_cancellation_is_cancelled_again() -> None:
    task = asyncio.ensure_future(deaf(2))
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await end(task)
    assert task.cancelled()


async def test_being_cancelled_while_ending_others_is_passed_on_when_they_have_ended() -> None:
    task = asyncio.ensure_future(deaf(2))
    ending = asyncio.ensure_future(end(task))
    await asyncio.sleep(0.1)
    ending.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await ending
    assert task.cancelled()


async def test_the_first_to_end_ends_the_others() -> None:
    other = asyncio.ensure_future(asyncio.Event().wait())

    async def follow() -> None:
        await other

    async with asyncio.timeout(10):
        await first_of(asyncio.sleep(0), follow())
    assert other.cancelled()


async def test_what_the_first_raises_is_raised() -> None:
    with pytest.raises(ValueError, match="broken"):
        await first_of(asyncio.Event().wait(), fail())


async def test_a_cancelled_first_of_ends_all_and_is_cancelled() -> None:
    """Also when it was just ending the others: a loop around it must not begin another round."""
    running = asyncio.ensure_future(first_of(asyncio.sleep(0.05), deaf(1)))
    await asyncio.sleep(0.15)  # the first has ended, the other does not go yet
    running.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_what_has_ended_by_itself_is_left_as_it_is() -> None:
    failed = asyncio.ensure_future(fail())
    done = asyncio.ensure_future(asyncio.sleep(0, "value"))
    await asyncio.wait([failed, done])
    await end(failed, done)
    assert done.result() == "value"
    assert isinstance(failed.exception(), ValueError)
