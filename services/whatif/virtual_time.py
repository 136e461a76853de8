"""An event loop whose time jumps to the next thing that is due: hours pass in seconds, and nothing really waits."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

_Result = TypeVar("_Result")

BEGIN = datetime(2026, 7, 1, tzinfo=UTC)


#: The loop has no files but its own, for signals and other threads: it looks at them now and then.
_TURNS_WITHOUT_FILES = 100


class _Jumping(selectors.DefaultSelector):
    """Instead of waiting it lets time pass."""

    loop: VirtualLoop
    _turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("nothing is due ever again, and somebody waits")
        if timeout > 0:
            self.loop.passed_s += timeout
        self._turns += 1
        return [] if self._turns % _TURNS_WITHOUT_FILES else super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock starts at 0 and stands still while code runs."""

    def __init__(self) -> None:
        self.passed_s = 0.0
        selector = _Jumping()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        """Return the seconds that have passed."""
        return self.passed_s


def now() -> datetime:
    """Return the time of day of the running virtual loop."""
    return BEGIN + timedelta(seconds=asyncio.get_running_loop().time())


def run(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run to the end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)
