"""Thread with an event loop of its own, so that bus and bucket I/O continues while the job computes.

On Modal the loop of an application is suspended between inputs (measured: a background task ran once in 2 s).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from modal_workers.runtime.stop import StopFlag

T = TypeVar("T")

#: Interval at which a waiting thread checks the stop flag.
_CHECK_S: Final = 0.05


class LoopThread:
    """Event loop for threads that have none."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="saccade-loop", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(2.0)

    def start(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start a coroutine on the loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def wait(self, coroutine: Coroutine[Any, Any, T], stop: StopFlag | None = None) -> T:
        """Run a coroutine on the loop and return its result.

        Raises:
            Stopped: a stop was requested meanwhile; the coroutine was cancelled.
        """
        future = self.start(coroutine)
        while True:
            try:
                return future.result(_CHECK_S)
            except TimeoutError:
                if future.done():  # raised by the coroutine itself
                    return future.result()
            except BaseException:
                future.cancel()
                raise
            if stop is not None and stop.requested:
                future.cancel()
                stop.check()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=1.0))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()
