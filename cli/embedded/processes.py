"""Child processes that end with us: started with a mark in their environment, by which they are found after a crash."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from contracts.limits import MIB
from kit.http.connection_channel import channel_ends
from kit.process_tree import with_environment

#: Log files are rotated at this size, so that a child never fills the disk.
LOG_BYTES: Final = 16 * MIB
_PR_SET_PDEATHSIG: Final = 1
#: Environment variable of every child; its value is the data folder. Process ids are reused, and start times move when
#: the clock is set; the mark stays.
MARK: Final = "SACCADE_CHILD_OF"


@dataclass(frozen=True)
class Program:
    """Program of a child: command, environment and readiness check."""

    name: str
    command: tuple[str, ...]
    is_ready: Callable[[], Awaitable[bool]]
    environment: dict[str, str] = field(default_factory=dict)
    #: Returns why the program cannot write any more although it runs: only a restart helps. None if it can.
    write_error: Callable[[], Awaitable[str | None]] | None = None
    #: Takes our end of a new channel for passed connections at every start; the child's is in its environment.
    connect: Callable[[socket.socket], None] | None = None
    #: Whether the program answers that it is not ready yet: then it is waited for, however long that takes.
    is_starting: Callable[[], Awaitable[bool]] | None = None


def _load_prctl() -> Callable[[int, int], int] | None:
    if sys.platform != "linux":
        return None
    # Loaded before the fork: between fork and exec a child should do as little as possible.
    library = ctypes.CDLL(None, use_errno=True)
    return library.prctl if hasattr(library, "prctl") else None


_prctl = _load_prctl()
#: False: the kernel does not end our children with us, so cli/embedded/watchdog.py does.
KERNEL_ENDS_CHILDREN: Final = _prctl is not None


def _prepare_child(parent: int) -> Callable[[], None]:
    """Return what a child runs between fork and exec."""
    prctl = _prctl

    def prepare() -> None:
        # A background shell or a supervisor may ignore SIGINT, and an ignored signal stays ignored after exec.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)  # the parent died between fork and prctl

    return prepare


async def start_child(
    program: Program, folder: Path, log: Path, environment: Mapping[str, str]
) -> asyncio.subprocess.Process:
    """Start a child with our mark, in a session of its own: Ctrl-C in the terminal reaches only us."""
    rotate_log(log)
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(log.open("ab"))
        variables = {**environment, **program.environment, MARK: str(folder)}
        inherited: tuple[int, ...] = ()
        if program.connect:
            ours, theirs = channel_ends()
            stack.enter_context(theirs)
            program.connect(ours)
            variables["SACCADE_CONNECTIONS_FD"] = str(theirs.fileno())
            inherited = (theirs.fileno(),)
        return await asyncio.create_subprocess_exec(
            *program.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=variables,
            pass_fds=inherited,
            start_new_session=True,
            preexec_fn=_prepare_child(os.getpid()),
        )


def children_of(folder: Path) -> list[psutil.Process]:
    """Return the live children of a folder's embedded system, whatever their parent is now."""
    return with_environment(MARK, lambda value: value == str(folder))


def end_processes(processes: Iterable[psutil.Process], grace_s: float) -> None:
    """Send SIGTERM to processes and the groups they lead, then SIGKILL after ``grace_s``."""
    asked = list(processes)
    for process in asked:
        _signal(process, signal.SIGTERM)
    _, alive = psutil.wait_procs(asked, timeout=grace_s)
    for process in asked:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=1.0)


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    """Signal the group that a process leads (even after its own end), or else the process."""
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
    """Move the last part of a large log to ``<name>.1`` and truncate it; its writers append."""
    with contextlib.suppress(OSError):  # missing, or no room for what is kept: tried again later
        size = log.stat().st_size
        if size < LOG_BYTES:
            return
        with log.open("rb") as old, log.with_suffix(".log.1").open("wb") as kept:
            old.seek(-LOG_BYTES // 4, os.SEEK_END)
            kept.write(old.read())
        os.truncate(log, 0)


def last_line(log: Path) -> str:
    """Return the last line of a log, for an error message."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    return lines[-1][:300] if lines else ""
