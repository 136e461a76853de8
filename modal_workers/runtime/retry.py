"""Retry of bucket and bus operations while the server is unavailable."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from contracts.errors import ErrorCode, SaccadeError

log = logging.getLogger(__name__)
T = TypeVar("T")

_UNAVAILABLE = frozenset({ErrorCode.STORAGE_UNAVAILABLE, ErrorCode.BUS_UNAVAILABLE, ErrorCode.EVENTS_FULL})
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0


async def while_unavailable(operation: Callable[[], Awaitable[T]], name: str, *, deadline_s: float = 600.0) -> T:
    """Return an operation's result; retry it with backoff while the bucket or the bus is unavailable.

    Raises:
        SaccadeError: STORAGE_UNAVAILABLE, BUS_UNAVAILABLE or EVENTS_FULL, after ``deadline_s``; any other at once.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline_s
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            return await operation()
        except SaccadeError as error:
            if error.code not in _UNAVAILABLE or loop.time() >= end:
                raise
            log.warning("%s: %s", name, error)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
