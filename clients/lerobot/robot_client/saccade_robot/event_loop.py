"""Event loop whose blocking calls never delay the end of the program."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

_T = TypeVar("_T")


class DaemonLoop(asyncio.SelectorEventLoop):
    """Event loop that runs blocking calls in daemon threads: a DNS lookup may take half a minute, uncancellable.

    The interpreter waits for the threads of asyncio's own executor before it exits.
    """

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., _T], *args: Any
    ) -> asyncio.Future[_T]:
        """Call a function in a new daemon thread; ``executor`` is ignored."""
        del executor
        future: asyncio.Future[_T] = self.create_future()

        def answer(result: _T | None, error: BaseException | None) -> None:
            if future.done():  # cancelled
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        def call() -> None:
            result, error = None, None
            try:
                result = func(*args)
            except BaseException as raised:  # noqa: BLE001 - passed to the future
                error = raised
            try:
                self.call_soon_threadsafe(answer, result, error)
            except RuntimeError:  # the loop is closed
                return

        threading.Thread(target=call, name="saccade-robot-call", daemon=True).start()
        return future
