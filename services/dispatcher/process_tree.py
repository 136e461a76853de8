"""The processes of one run: its worker, its descendants, and those that have left the family but carry its mark."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import psutil

#: Every process of a run inherits this variable with the run's folder as its value.
MARK: Final = "WORKER_RUN_FOLDER"
_LOOK_S: Final = 0.02


def alive(pid: int, created_s: float, folder: Path) -> psutil.Process | None:
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


def family(process: psutil.Process) -> list[psutil.Process]:
    """Give a process and all its descendants."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def marked(folder: Path) -> list[psutil.Process]:
    """Find every process that carries a run's mark, whoever its parent is now."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == str(folder) and _lives(process):
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
                for member in family(process):
                    member.kill()
        left = [process for process in {*left, *marked(folder)} if _lives(process)]
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


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
