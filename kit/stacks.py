"""Stacks of a process's threads and of its event loop's tasks, as text: where it waits."""

from __future__ import annotations

import asyncio
import faulthandler
import signal
import sys
import threading
import traceback
from types import FrameType
from typing import Final

#: Signal that has a process write its stacks to standard error.
SIGNAL: Final = signal.SIGUSR1
#: Innermost frames that are shown of each.
_FRAMES: Final = 6
_TASKS: Final = 40


def task_stacks(loop: asyncio.AbstractEventLoop) -> list[str]:
    """Return one line for each task of a loop that has not ended; also from another thread."""
    shown = []
    for task in _tasks(loop):
        coroutine: object = task.get_coro()
        frames: list[str] = []
        while coroutine is not None and len(frames) < _FRAMES:
            frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
            if frame is not None:
                frames.append(_place(frame, frame.f_lineno))
            coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
        shown.append(f"task {task.get_name()}: {' > '.join(frames) or 'not begun'}")
    return shown[:_TASKS]


def thread_stacks() -> list[str]:
    """Return one line for each thread but the calling one."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    shown = []
    for number, frame in sys._current_frames().items():  # noqa: SLF001 - the documented way, for debuggers
        if number != threading.get_ident():
            frames = [_place(inner, line) for inner, line in traceback.walk_stack(frame)][:_FRAMES]
            shown.append(f"thread {names.get(number, number)}: {' > '.join(reversed(frames))}")
    return shown


def write_stacks_on_signal(loop: asyncio.AbstractEventLoop) -> None:
    """Write all stacks to standard error on SIGUSR1; those of the threads also while the event loop is blocked."""

    def write_tasks(*_: object) -> None:
        sys.stderr.write("".join(f"{line}\n" for line in task_stacks(loop)))
        sys.stderr.flush()

    signal.signal(SIGNAL, write_tasks)
    faulthandler.register(SIGNAL, all_threads=True, chain=True)


def _tasks(loop: asyncio.AbstractEventLoop) -> list[asyncio.Task[object]]:
    try:
        return sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())
    except RuntimeError:  # the set was changed a thousand times while it was copied
        return []


def _place(frame: FrameType, line: int) -> str:
    code = frame.f_code
    return f"{code.co_qualname} ({'/'.join(code.co_filename.rsplit('/', 2)[-2:])}:{line})"
