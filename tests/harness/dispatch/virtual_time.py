"""An event loop whose time jumps to the next thing that is due: hours pass in seconds, and nothing really waits."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

_Result = TypeVar("_Result")

BEGIN = datetime(2026, 7, 1, tzinfo=UTC)


class _Jumping(selectors.DefaultSelector):
    """Instead of waiting it lets time pass."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("nothing is due ever again, and somebody waits")
        self.loop.passed_s += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock starts at 0 and stands still while code runs."""

    def __init__(self) -> None:
        self.passed_s = 0.0
        selector = _Jumping()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.passed_s


def now() -> datetime:
    """Return the time of day of the running virtual loop."""
    return BEGIN + timedelta(seconds=asyncio.get_running_loop().time())


def run(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run to the end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)
