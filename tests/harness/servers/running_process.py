"""What is known of a process that should have ended: for the message of the test that waited for it.

The temporary folder of a failed test is deleted after a few further runs, and with it the logs.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from kit.stacks import SIGNAL

#: Time for a process to write its stacks; on a busy machine.
_WRITES_S = 3.0
_LOG_BYTES = 6_000


def why_it_runs(process: subprocess.Popen[str], others: Iterable[psutil.Process], logs: Iterable[Path]) -> str:
    """Return what a process, its descendants and ``others`` do now, what it has written, and the ends of the logs.

    Each is asked for the stacks of its threads and tasks, which go to its standard error; services log that.
    """
    found: set[psutil.Process] = set(others)
    with contextlib.suppress(psutil.Error):
        itself = psutil.Process(process.pid)
        found |= {itself, *itself.children(recursive=True)}
    states = [_state(one) for one in sorted(found, key=lambda one: one.pid)]
    for one in found:
        if _catches_signal(one.pid):
            with contextlib.suppress(psutil.Error):
                one.send_signal(SIGNAL)
    time.sleep(_WRITES_S)
    ends = [f"--- end of {log.name}\n{_end_of(log)}" for log in logs]
    return "\n".join([*states, f"--- standard error of process {process.pid}", _written(process), *ends])


def _state(process: psutil.Process) -> str:
    """Return a process's line: its state, and where in the kernel it waits."""
    try:
        line = f"process {process.pid}, child of {process.ppid()}, {process.status()}, {process.num_threads()} threads"
        return f"{line}, waits in {_read(process.pid, 'wchan') or '?'}: {' '.join(process.cmdline())[:200]}"
    except psutil.Error as error:
        return f"process {process.pid}: {error}"


def _catches_signal(process_id: int) -> bool:
    """Return whether a process handles the signal: others would end by it."""
    fields = dict(line.split(":", 1) for line in _read(process_id, "status").splitlines() if ":" in line)
    return bool(int(fields.get("SigCgt", "0"), 16) >> (SIGNAL - 1) & 1)


def _read(process_id: int, name: str) -> str:
    try:
        return Path(f"/proc/{process_id}/{name}").read_text()
    except OSError:
        return ""


def _written(process: subprocess.Popen[str]) -> str:
    """Return what is in the pipe of standard error now."""
    if process.stderr is None:
        return ""
    os.set_blocking(process.stderr.fileno(), False)
    parts = []
    with contextlib.suppress(BlockingIOError):
        while part := os.read(process.stderr.fileno(), 65_536):
            parts.append(part)
    return b"".join(parts).decode(errors="replace")


def _end_of(log: Path) -> str:
    try:
        return log.read_bytes()[-_LOG_BYTES:].decode(errors="replace")
    except OSError as error:
        return str(error)
