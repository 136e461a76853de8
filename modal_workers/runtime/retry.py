"""How long a run waits for the bucket or the bus to come back before it gives up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from contracts.errors import ErrorCode, SaccadeError

log = logging.getLogger(__name__)
T = TypeVar("T")

_AWAY = frozenset({ErrorCode.STORAGE_UNAVAILABLE, ErrorCode.BUS_UNAVAILABLE})
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0


async def patiently(operation: Callable[[], Awaitable[T]], what: str, *, give_up_s: float = 600.0) -> T:
    """Do something again and again while the bucket or the bus is away.

    Raises:
        SaccadeError: STORAGE_UNAVAILABLE or BUS_UNAVAILABLE, after ``give_up_s``; any other at once.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + give_up_s
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            return await operation()
        except SaccadeError as error:
            if error.code not in _AWAY or loop.time() >= end:
                raise
            log.warning("%s: %s", what, error)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
