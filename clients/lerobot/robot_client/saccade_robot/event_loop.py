"""An event loop whose blocking calls never keep the program from ending."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

_T = TypeVar("_T")


class DaemonLoop(asyncio.SelectorEventLoop):
    """Calls what blocks in daemon threads: looking a name up may take half a minute, and nothing can cut it short.

    The threads of asyncio's own executor are waited for when the interpreter ends.
    """

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., _T], *args: Any
    ) -> asyncio.Future[_T]:
        """Call a function in a daemon thread of its own; ``executor`` is asyncio's and is not used."""
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
            except BaseException as raised:  # noqa: BLE001 - whoever awaits the future is told
                error = raised
            try:
                self.call_soon_threadsafe(answer, result, error)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return

        threading.Thread(target=call, name="saccade-robot-call", daemon=True).start()
        return future
