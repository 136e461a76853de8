"""What is kept on disk of one local run: who its worker is, its log, how it ended. Survives the dispatcher."""

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
#: Folders that the worker fills (modal_workers.runtime.files.workspace) and that are worth nothing after its end.
_BULKY: Final = ("scratch", "inputs", "checkpoints")


@dataclass(frozen=True)
class WorkerProcess:
    """The process of a run and how much memory its stage may take."""

    pid: int
    #: Unix time, seconds.
    created_s: float
    memory_bytes: int


class RunFolder:
    """One run's folder."""

    def __init__(self, path: Path) -> None:
        """Name the folder; ``make`` makes it."""
        self.path = path
        self.log = path / "worker.log"
        self.lock = path / "launch.lock"
        self.assignment = path / "assignment.json"
        self._worker = path / "worker.json"
        self._ended = path / "ended.json"
        self._exit = path / "exit"
        self._over_memory = path / "over_memory"

    def worker(self) -> WorkerProcess | None:
        """Read who the worker is; None before one was started."""
        try:
            return WorkerProcess(**json.loads(self._worker.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write_worker(self, worker: WorkerProcess) -> None:
        """Write down who the worker is.

        Raises:
            OSError: the disk does not take it.
        """
        _write(self._worker, json.dumps(asdict(worker)))

    def ended(self) -> CallStatus | None:
        """Read how the worker ended; None before that was written down."""
        try:
            kept = json.loads(self._ended.read_text())
            return CallStatus(**(kept | {"state": CallState(kept["state"])}))
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write_ended(self, status: CallStatus) -> bool:
        """Write down how the worker ended and free the room it took; tell whether that was written."""
        for name in _BULKY:
            shutil.rmtree(self.path / name, ignore_errors=True)
        try:
            _write(self._ended, json.dumps(asdict(status)))
        except OSError:
            return False
        return True

    def exit_code(self) -> int | None:
        """Read the exit code that the worker wrote down itself just before its end; None where it could not."""
        try:
            return int(self._exit.read_text())
        except (OSError, ValueError):
            return None

    def note_over_memory(self) -> None:
        """Write down that the worker is killed for its memory."""
        with contextlib.suppress(OSError):
            self._over_memory.touch()

    def ran_out_of_memory(self, exit_code: int | None) -> bool:
        """Tell whether there is evidence that memory was what ended the worker."""
        return self._over_memory.exists() or ran_out_of_memory(exit_code, self.log)

    def cut_log(self) -> None:
        """Keep the newer half of a log that is too long; the worker appends to the same file on.

        Raises:
            OSError: the log is gone or cannot be written.
        """
        if self.log.stat().st_size <= _LOG_BYTES:
            return
        with self.log.open("r+b") as file:
            file.seek(-_LOG_BYTES // 2, os.SEEK_END)
            newer = file.read(_LOG_BYTES // 2)
            file.seek(0)
            file.write(newer)
            file.truncate()


def sentence(error: OSError) -> str:
    """Say what is wrong with the data directory and what to do, without its path."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "The disk of the data directory is full: free some space, then retry the job."
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "The data directory cannot be written to: make it writable for the dispatcher, then retry the job."
    if error.errno in (errno.EAGAIN, errno.ENOMEM):
        return "The machine has no room for another process: end some, then retry the job."
    why = os.strerror(error.errno or 0)
    return f"No worker can be started in the data directory ({why}): check the dispatcher's DISPATCHER_DATA_DIR."


def _write(path: Path, text: str) -> None:
    """Write a file so that a reader finds all of it or nothing."""
    part = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
    try:
        part.write_text(text)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
