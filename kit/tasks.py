"""Reliable cancellation of tasks: a lost cancellation is repeated.

``asyncio.wait_for`` of Python 3.11 loses a cancellation that arrives just when the awaited future is done
(https://github.com/python/cpython/issues/86296), and libraries use it. This repository uses ``asyncio.timeout``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

#: Delay before a task that ignored its cancellation is cancelled again.
_RETRY_S: Final = 0.5


async def end(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait until each has ended; their results and errors are ignored.

    A cancellation of the caller is raised after they have ended.
    """
    cancelled: asyncio.CancelledError | None = None
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        try:
            await asyncio.wait(running, timeout=_RETRY_S)
        except asyncio.CancelledError as error:
            cancelled = error
    for task in tasks:
        if not task.cancelled():
            task.exception()  # marks it as retrieved, so that asyncio logs no warning
    if cancelled is not None:
        raise cancelled


async def first_of(*coroutines: Coroutine[Any, Any, Any]) -> None:
    """Run coroutines until the first ends, then cancel the others.

    Raises:
        BaseException: the error of one that ended by itself.
    """
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    done: set[asyncio.Future[Any]] = set()
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(*tasks)
    for task in done:
        task.result()
