"""Ends tasks for certain: a cancellation can be swallowed, and then has to be asked for again.

``asyncio.wait_for`` of Python 3.11 loses a cancellation that comes in the moment in which what it waits for is done
(https://github.com/python/cpython/issues/86296); libraries that we call use it. Our own code uses ``asyncio.timeout``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

#: A task that is told to end and goes on is told again after this.
_ASK_AGAIN_S: Final = 0.5


async def end(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks until each has ended, whatever they end with.

    Being cancelled meanwhile is passed on once they have.
    """
    cancelled: asyncio.CancelledError | None = None
    while going := [task for task in tasks if not task.done()]:
        for task in going:
            task.cancel()
        try:
            await asyncio.wait(going, timeout=_ASK_AGAIN_S)
        except asyncio.CancelledError as error:
            cancelled = error
    for task in tasks:
        if not task.cancelled():
            task.exception()  # looked at: asyncio need not complain that nobody did
    if cancelled is not None:
        raise cancelled


async def first_of(*coroutines: Coroutine[Any, Any, Any]) -> None:
    """Run all until the first ends, then end the others.

    Raises:
        BaseException: what one of those that had ended by themselves raised.
    """
    tasks = [asyncio.ensure_future(one) for one in coroutines]
    done: set[asyncio.Future[Any]] = set()
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(*tasks)
    for task in done:
        task.result()
