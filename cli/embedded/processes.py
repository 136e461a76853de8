"""Child processes that die with us: started with a mark, found by it after a crash, and ended."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from contracts.limits import MIB
from kit.process_tree import with_environment

#: Log files are cut at a start and while a child runs, so that a loud child never fills the disk.
LOG_BYTES: Final = 16 * MIB
_PR_SET_PDEATHSIG: Final = 1
#: Every child inherits this variable with its data folder as its value. A process id may be another process's by
#: now, and a create time moves when the clock is set; the mark stays.
MARK: Final = "SACCADE_CHILD_OF"


@dataclass(frozen=True)
class Program:
    """A child to run: its command and environment, and how to tell that it is ready."""

    name: str
    command: tuple[str, ...]
    is_ready: Callable[[], Awaitable[bool]]
    environment: dict[str, str] = field(default_factory=dict)


def _load_prctl() -> Callable[[int, int], int] | None:
    if sys.platform != "linux":
        return None
    # Loaded before any fork: after one, the child may do little more than call it.
    library = ctypes.CDLL(None, use_errno=True)
    return library.prctl if hasattr(library, "prctl") else None


_prctl = _load_prctl()
#: Where the kernel does not end our children with us, cli/embedded/watchdog.py does.
KERNEL_ENDS_CHILDREN: Final = _prctl is not None


def _die_with(parent: int) -> Callable[[], None] | None:
    if _prctl is None:
        return None
    prctl = _prctl

    def arrange() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)  # the parent died between fork and prctl

    return arrange


async def start_child(
    program: Program, folder: Path, log: Path, environment: Mapping[str, str]
) -> asyncio.subprocess.Process:
    """Start a child in its own session (Ctrl-C reaches only us), with our mark."""
    rotate_log(log)
    with log.open("ab") as out:
        return await asyncio.create_subprocess_exec(
            *program.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**environment, **program.environment, MARK: str(folder)},
            start_new_session=True,
            preexec_fn=_die_with(os.getpid()),
        )


def children_of(folder: Path) -> list[psutil.Process]:
    """Find the children of the embedded system of a folder, whoever their parent is now."""
    return with_environment(MARK, lambda value: value == str(folder))


def end_processes(processes: Iterable[psutil.Process], grace_s: float) -> None:
    """Ask processes to end, with the groups they lead, and kill those that are still there after ``grace_s``."""
    asked = list(processes)
    for process in asked:
        _signal(process, signal.SIGTERM)
    _, alive = psutil.wait_procs(asked, timeout=grace_s)
    for process in asked:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=1.0)


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    """Signal the group that a process leads (it may have ended and left children), or the process."""
    with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
        try:
            leads = os.getpgid(process.pid) == process.pid
        except ProcessLookupError:
            leads = True
        if leads:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)


def rotate_log(log: Path) -> None:
    """Keep a log's last part under ``<name>.1`` and start over once it is large (its writers append)."""
    with contextlib.suppress(FileNotFoundError):
        size = log.stat().st_size
        if size < LOG_BYTES:
            return
        with log.open("rb") as old, log.with_suffix(".log.1").open("wb") as kept:
            old.seek(-LOG_BYTES // 4, os.SEEK_END)
            kept.write(old.read())
        os.truncate(log, 0)


def last_line(log: Path) -> str:
    """Give the last line of a log, for an error message."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    return lines[-1][:300] if lines else ""
