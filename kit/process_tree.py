"""The processes of one run: its worker, its descendants, and those that have left the family but carry its mark."""

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
_LOOK_S: Final = 0.02
#: A worker's own limit makes allocations fail at its stage's memory; its whole family is killed this far above.
_ALLOWANCE_BYTES: Final = 256 * MIB
#: Where the kernel counts what it does for want of memory in this container (cgroup v2; elsewhere is no such file).
_MEMORY_EVENTS: Final = Path("/sys/fs/cgroup/memory.events")
#: How much of a log's end is searched for what an allocator said last.
_LAST_WORDS_BYTES: Final = 16 * KIB
_NO_MEMORY: Final = ("bad_alloc", "MemoryError", "Cannot allocate memory", "Insufficient memory")


def live_process(pid: int, created_s: float, folder: Path) -> psutil.Process | None:
    """Give the process of this number if it is the run's and has not ended; a zombie has.

    Its mark tells, for the time of its creation moves when the machine's clock is set. Right after its start and right
    before its end a process has no environment to read: then the time has to do.
    """
    try:
        process = psutil.Process(pid)
        environment = process.environ()
        ours = environment.get(MARK) == str(folder) if environment else abs(process.create_time() - created_s) < 1.0
        return process if ours and _lives(process) else None
    except (psutil.Error, OSError):
        return None


def with_descendants(process: psutil.Process) -> list[psutil.Process]:
    """Give a process and all its descendants."""
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
            if matches(process.environ().get(name, "")) and _lives(process):
                found.append(process)
    return found


def kill(processes: Iterable[psutil.Process], folder: Path, deadline_s: float) -> bool:
    """Kill processes and all that carry the mark, again until none is left; tell whether that was reached.

    Blocks; call it in a thread.
    """
    end = time.monotonic() + deadline_s
    left = list(processes)
    while True:
        for process in left:
            with contextlib.suppress(psutil.Error):
                for member in with_descendants(process):
                    member.kill()
        left = [process for process in {*left, *marked_processes(folder)} if _lives(process)]
        if not left or time.monotonic() >= end:
            return not left
        time.sleep(_LOOK_S)


def memory_bytes(processes: Iterable[psutil.Process]) -> int:
    """Add up what processes hold in memory; shared pages count in each."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def proportional_bytes(processes: Iterable[psutil.Process]) -> int:
    """Add up what processes hold in memory, shared pages divided among their holders; slow (Linux; else as above)."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            full = process.memory_full_info()
            total += getattr(full, "pss", full.rss)
    return total


def ran_out_of_memory(exit_code: int | None, log: Path) -> bool:
    """Tell whether a process that was aborted or killed said in its last words that there was no memory."""
    if exit_code not in (134, 137):
        return False
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST_WORDS_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return False
    return any(words in text for words in _NO_MEMORY)


def oom_kill_count(events: Path = _MEMORY_EVENTS) -> int:
    """Count the processes of this container that the kernel has killed for want of memory; 0 where it does not say."""
    try:
        counts = dict(line.split() for line in events.read_text().splitlines())
        return int(counts["oom_kill"])
    except (OSError, ValueError, KeyError):
        return 0


def over_limit(processes: list[psutil.Process], limit_bytes: int) -> bool:
    """Tell whether processes hold more than their limit and some allowance; shared pages are counted once."""
    limit_bytes += _ALLOWANCE_BYTES
    return memory_bytes(processes) > limit_bytes and proportional_bytes(processes) > limit_bytes


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
