"""Folder of one local run: its worker's process, log and exit status. It survives the dispatcher."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from contracts.limits import MIB
from kit.process_tree import ran_out_of_memory
from services.dispatcher.executors.executor import CallState, CallStatus

_LOG_BYTES: Final = 4 * MIB
#: Folders that the worker fills (modal_workers.runtime.files.workspace); they are not needed after its end.
_BULKY: Final = ("scratch", "inputs", "checkpoints")


@dataclass(frozen=True)
class WorkerProcess:
    """Process of a run, with its memory limit."""

    pid: int
    #: Unix time, seconds.
    created_s: float
    memory_bytes: int


class RunFolder:
    """Folder of one run."""

    def __init__(self, path: Path) -> None:
        """Set the paths; the folder is created elsewhere."""
        self.path = path
        self.log = path / "worker.log"
        self.lock = path / "launch.lock"
        self.assignment = path / "assignment.json"
        self._worker = path / "worker.json"
        self._ended = path / "ended.json"
        self._exit = path / "exit"
        self._over_memory = path / "over_memory"

    def worker(self) -> WorkerProcess | None:
        """Return the worker's process; None before it was started."""
        try:
            return WorkerProcess(**json.loads(self._worker.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write_worker(self, worker: WorkerProcess) -> None:
        """Write the worker's process.

        Raises:
            OSError: the file cannot be written.
        """
        _write(self._worker, json.dumps(asdict(worker)))

    def ended(self) -> CallStatus | None:
        """Return the status of the ended worker; None if it is not written yet."""
        try:
            fields = json.loads(self._ended.read_text())
            return CallStatus(**(fields | {"state": CallState(fields["state"])}))
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write_ended(self, status: CallStatus) -> bool:
        """Write the status of the ended worker and remove its large folders; return whether it was written."""
        for name in _BULKY:
            shutil.rmtree(self.path / name, ignore_errors=True)
        try:
            _write(self._ended, json.dumps(asdict(status)))
        except OSError:
            return False
        return True

    def exit_code(self) -> int | None:
        """Return the exit code that the worker wrote just before its end; None if it wrote none."""
        try:
            return int(self._exit.read_text())
        except (OSError, ValueError):
            return None

    def mark_over_memory(self) -> None:
        """Write that the worker is killed because it exceeded its memory limit."""
        with contextlib.suppress(OSError):
            self._over_memory.touch()

    def ran_out_of_memory(self, exit_code: int | None) -> bool:
        """Return whether there is evidence that the worker ended for lack of memory."""
        return self._over_memory.exists() or ran_out_of_memory(exit_code, self.log)

    def truncate_log(self) -> None:
        """Keep only the newer half of a log that is too long; the worker continues to append to the same file.

        Raises:
            OSError: the log is missing or cannot be written.
        """
        if self.log.stat().st_size <= _LOG_BYTES:
            return
        with self.log.open("r+b") as file:
            file.seek(-_LOG_BYTES // 2, os.SEEK_END)
            newer = file.read(_LOG_BYTES // 2)
            file.seek(0)
            file.write(newer)
            file.truncate()


def disk_error_message(error: OSError) -> str:
    """Return what is wrong with the data directory and what to do, without its path."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "The disk of the data directory is full: free some space, then retry the job."
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "The data directory is not writable: make it writable for the dispatcher, then retry the job."
    if error.errno in (errno.EAGAIN, errno.ENOMEM):
        return "The machine cannot start another process: stop some processes, then retry the job."
    why = os.strerror(error.errno or 0)
    return f"No worker can be started in the data directory ({why}): check DISPATCHER_DATA_DIR."


def _write(path: Path, text: str) -> None:
    """Write a file atomically."""
    part = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
    try:
        part.write_text(text)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
