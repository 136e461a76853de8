"""Groups of tasks of which none outlives its caller; a lost cancellation is repeated.

``asyncio.wait_for`` of Python 3.11 loses a cancellation that arrives just when the awaited future is done
(https://github.com/python/cpython/issues/86296), and libraries use it. This repository uses ``asyncio.timeout``.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Final, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Delay before a task that ignored its cancellation is cancelled again.
_RETRY_S: Final = 0.5


async def end(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait until each has ended; their results and errors are ignored.

    A cancellation of the caller is raised after they have ended.
    """
    await end_within(math.inf, *tasks)


async def end_within(limit_s: float, *tasks: asyncio.Future[Any]) -> list[asyncio.Future[Any]]:
    """Cancel tasks, again and again for ``limit_s`` at most; return those that still run.

    A cancellation of the caller is raised after they have ended, or the time is over.
    """
    loop = asyncio.get_running_loop()
    latest = loop.time() + limit_s
    cancelled: asyncio.CancelledError | None = None
    while (running := [task for task in tasks if not task.done()]) and (left_s := latest - loop.time()) > 0:
        for task in running:
            task.cancel()
        try:
            await asyncio.wait(running, timeout=min(_RETRY_S, left_s))
        except asyncio.CancelledError as error:
            cancelled = error
    for task in tasks:
        if task.done() and not task.cancelled():
            task.exception()  # marks it as retrieved, so that asyncio logs no warning
    if cancelled is not None:
        raise cancelled
    return running


async def first_of(*coroutines: Coroutine[Any, Any, Any]) -> None:
    """Run coroutines until the first ends, then cancel the others.

    Raises:
        BaseException: the error of one that ended by itself.
    """
    await _run_until(asyncio.FIRST_COMPLETED, coroutines)


async def all_of(*coroutines: Coroutine[Any, Any, Any]) -> None:
    """Run coroutines until all have ended; when one fails, cancel the others.

    ``asyncio.TaskGroup`` cancels its tasks once, and waits for ever where that is lost.

    Raises:
        BaseException: the error of one that failed.
    """
    await _run_until(asyncio.FIRST_EXCEPTION, coroutines)


async def _run_until(return_when: str, coroutines: Iterable[Coroutine[Any, Any, Any]]) -> None:
    """Run coroutines until ``asyncio.wait`` returns, and cancel those that still run; raise an error of the others."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    done: set[asyncio.Future[Any]] = set()
    try:
        done, _ = await asyncio.wait(tasks, return_when=return_when)
    finally:
        await end(*tasks)
    for task in done:
        task.result()


async def map_concurrently(
    function: Callable[[Item], Awaitable[Result]], items: Iterable[Item], at_once: int
) -> list[Result]:
    """Call a function with each item, at most ``at_once`` at the same time; return the results in the items' order.

    However many items there are, there are ``at_once`` tasks; ``asyncio.gather`` leaves those running that it started
    when one of them fails.

    Raises:
        BaseException: the first error, after the calls that were running have been cancelled.
    """
    results: dict[int, Result] = {}
    numbered = enumerate(items)

    async def work() -> None:
        for number, item in numbered:
            results[number] = await function(item)

    await all_of(*(work() for _ in range(at_once)))
    return [results[number] for number in range(len(results))]
