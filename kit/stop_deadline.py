"""Deadline of a stop: a process that has not ended by then says where it waits, and is ended.

Every wait of a stop should have a deadline of its own. Some are not ours to limit: ``asyncio.run`` waits for tasks that
ignore their cancellation and for threads that are blocked, the interpreter for threads that nobody joined.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import signal
import threading
from collections.abc import Callable, Iterable
from typing import Final

from kit.stacks import task_stacks, thread_stacks, write_stacks_on_signal

#: Exit code of a process that was ended so.
EXIT_FORCED: Final = 1
#: Less than the 10 s after which `docker stop` and compose kill a container, which says nothing.
STOP_S: Final = 8.0
#: What is said and done before the end must not keep the process either.
_LAST_WORDS_S: Final = 2.0


class StopDeadline:
    """Deadline of one process; it begins with the first signal to stop."""

    def __init__(
        self, limit_s: float, say: Callable[[str, list[str]], None], before_end: Callable[[], None] | None = None
    ) -> None:
        """End the process ``limit_s`` after the beginning.

        ``say`` gets the sentence and the stacks, ``before_end`` ends what the process has started; each in a thread.
        Call it in the event loop.
        """
        self._limit_s, self._say, self._before_end = limit_s, say, before_end
        self._loop = asyncio.get_running_loop()
        self._has_begun = False

    def begin(self) -> None:
        """Count from now on; further calls change nothing."""
        if self._has_begun:
            return
        self._has_begun = True
        # Where a library holds the interpreter, no thread of ours runs; this one is not Python's.
        with contextlib.suppress(ValueError, OSError, RuntimeError):  # standard error is closed, or no file
            faulthandler.dump_traceback_later(self._limit_s + 3 * _LAST_WORDS_S, exit=True)
        threading.Thread(target=self._end, name="stop-deadline", daemon=True).start()

    def begin_on(self, numbers: Iterable[signal.Signals]) -> None:
        """Begin with the first of these signals, which the event loop handles.

        A handler of Python's own runs also while the event loop is blocked, and asyncio's is told all the same.
        """
        for number in numbers:
            signal.signal(number, lambda *_: self.begin())

    def _end(self) -> None:
        threading.Event().wait(self._limit_s)
        sentence = f"the stop has not ended within {self._limit_s:.0f} s: ending the process"
        _for_a_moment(lambda: self._say(sentence, [*task_stacks(self._loop), *thread_stacks()]))
        if self._before_end:
            _for_a_moment(self._before_end)
        os._exit(EXIT_FORCED)


def prepare_stop(deadline: StopDeadline, numbers: Iterable[signal.Signals], on_signal: Callable[[], None]) -> None:
    """Call ``on_signal`` in the event loop on these signals, with a deadline; write all stacks on SIGUSR1."""
    loop, numbers = asyncio.get_running_loop(), tuple(numbers)
    for number in numbers:
        loop.add_signal_handler(number, on_signal)
    deadline.begin_on(numbers)
    write_stacks_on_signal(loop)


def _for_a_moment(function: Callable[[], None]) -> None:
    """Run a function in a thread and wait for it, but not for a lock or a pipe that a thread waits for which hangs."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(_LAST_WORDS_S)
