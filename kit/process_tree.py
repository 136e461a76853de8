"""Process tree of one run: its worker, the descendants, and detached processes that carry its mark."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import psutil

from contracts.limits import KIB, MIB

#: Every process of a run inherits this variable with the run's folder as its value.
MARK: Final = "WORKER_RUN_FOLDER"
_POLL_S: Final = 0.02
#: Allocations of a worker fail at its stage's memory; its process tree is killed at this much more.
_TOLERANCE_BYTES: Final = 256 * MIB
#: Counters of the kernel's out-of-memory killer in this container (cgroup v2; missing elsewhere).
_MEMORY_EVENTS: Final = Path("/sys/fs/cgroup/memory.events")
#: End of a log that is searched for errors of an allocator.
_LOG_TAIL_BYTES: Final = 16 * KIB
_MEMORY_ERRORS: Final = ("bad_alloc", "MemoryError", "Cannot allocate memory", "Insufficient memory")


def live_process(pid: int, created_s: float, folder: Path) -> psutil.Process | None:
    """Return the process ``pid`` if it belongs to the run and is alive; a zombie is not. None otherwise.

    It is identified by its mark, because its creation time changes when the machine's clock is set. Just after its
    start and just before its end a process has no readable environment: then the creation time is compared.
    """
    try:
        process = psutil.Process(pid)
        environment = process.environ()
        ours = environment.get(MARK) == str(folder) if environment else abs(process.create_time() - created_s) < 1.0
        return process if ours and _is_alive(process) else None
    except (psutil.Error, OSError):
        return None


def with_descendants(process: psutil.Process) -> list[psutil.Process]:
    """Return a process and all its descendants."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def marked_processes(folder: Path) -> list[psutil.Process]:
    """Return the live processes that carry a run's mark, whatever their parent is now."""
    return with_environment(MARK, lambda value: value == str(folder))


def with_environment(name: str, matches: Callable[[str], bool]) -> list[psutil.Process]:
    """Return the live processes whose environment variable ``name`` has a value that ``matches``."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if matches(process.environ().get(name, "")) and _is_alive(process):
                found.append(process)
    return found


def kill(processes: Iterable[psutil.Process], folder: Path, deadline_s: float) -> bool:
    """Kill processes, their descendants and all that carry the mark, until none is left; return whether none is.

    Blocks; call it in a thread.
    """
    end = time.monotonic() + deadline_s
    remaining = list(processes)
    while True:
        for process in remaining:
            with contextlib.suppress(psutil.Error):
                for member in with_descendants(process):
                    member.kill()
        remaining = [process for process in {*remaining, *marked_processes(folder)} if _is_alive(process)]
        if not remaining or time.monotonic() >= end:
            return not remaining
        time.sleep(_POLL_S)


def memory_bytes(processes: Iterable[psutil.Process]) -> int:
    """Return the resident memory of processes; shared pages count in each."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def proportional_bytes(processes: Iterable[psutil.Process]) -> int:
    """Return the proportional set size of processes: shared pages are divided; slow (Linux; elsewhere resident)."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            full = process.memory_full_info()
            total += getattr(full, "pss", full.rss)
    return total


def ran_out_of_memory(exit_code: int | None, log: Path) -> bool:
    """Return whether the log of an aborted or killed process ends with an allocation error."""
    if exit_code not in (134, 137):
        return False
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return False
    return any(message in text for message in _MEMORY_ERRORS)


def oom_kill_count(events: Path = _MEMORY_EVENTS) -> int:
    """Return how many processes of this container the out-of-memory killer has killed; 0 where that is unknown."""
    try:
        counts = dict(line.split() for line in events.read_text().splitlines())
        return int(counts["oom_kill"])
    except (OSError, ValueError, KeyError):
        return 0


def over_limit(processes: list[psutil.Process], limit_bytes: int) -> bool:
    """Return whether processes use more than their limit and a tolerance; shared pages are counted once."""
    limit_bytes += _TOLERANCE_BYTES
    return memory_bytes(processes) > limit_bytes and proportional_bytes(processes) > limit_bytes


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
