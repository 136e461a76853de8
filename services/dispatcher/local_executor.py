"""Workers as child processes, each in a session and a folder of its own; they outlive the dispatcher."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import psutil

from contracts.assignment import Assignment
from contracts.ids import is_id
from contracts.limits import MIB, WORKER_GRACE_S
from contracts.workload import Compute
from services.dispatcher.executor import CallState, CallStatus, LaunchFailed
from services.dispatcher.process_tree import MARK, alive, family, kill, marked, memory_bytes, proportional_bytes
from services.kit.settings import NatsSettings, S3Settings, as_environment, inherited_environment

log = logging.getLogger(__name__)

_KILL_S: Final = 0.8
_LOOK_S: Final = 0.02
#: Between two looks at what the workers hold in memory and have written into their logs.
_WATCH_S: Final = 1.0
_LOG_BYTES: Final = 4 * MIB
#: A worker's own limit makes allocations fail at its compute's memory; its whole family is killed this far above.
_FAMILY_ALLOWANCE_BYTES: Final = 256 * MIB
#: What must be free in the data directory to start a worker at all.
_ROOM_BYTES: Final = 64 * MIB
#: How long an ended run's log is kept.
_KEEP_S: Final = 48 * 3600.0
#: Exit codes with which a worker has said by events how it went (modal_workers.runtime.attempt).
_SAID: Final = frozenset({0, 10})
_NO_MEMORY: Final = ("bad_alloc", "MemoryError", "Cannot allocate memory", "Insufficient memory")
_ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class _Worker:
    """What is kept of a worker in its run's folder."""

    pid: int
    memory_bytes: int


class LocalExecutor:
    """An ``Executor`` whose call id is the run's id."""

    name = "local"

    def __init__(
        self,
        data_folder: Path,
        nats: NatsSettings,
        s3: S3Settings,
        *,
        slots: int = 1,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Keep runs under ``data_folder``; ``slots`` workers share the cores.

        ``environment`` is what workers inherit; by default an allow-list of our own.
        """
        self._runs = data_folder / "runs"
        threads = str(max(1, (os.cpu_count() or 1) // max(1, slots)))
        inherited = inherited_environment() if environment is None else dict(environment)
        self._environment = (
            inherited
            | as_environment(nats, s3)
            | {"PYTHONPATH": str(_ROOT), "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
            | {"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE", "OPENBLAS_NUM_THREADS": threads}
            | {"MKL_NUM_THREADS": threads, "OPENCV_FOR_THREADS_NUM": threads}
        )
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._watching: asyncio.Task[None] | None = None

    def device_for(self, compute: Compute) -> str:  # noqa: ARG002 - the protocol's; here is only one device
        """Name the device: always ``cpu``."""
        return "cpu"

    async def launch(self, assignment: Assignment, compute: Compute) -> str:
        """Start a worker, unless one of the same run is alive, and give its call id.

        Raises:
            LaunchFailed: the data directory is full, read-only or not ours, or the process could not be made.
        """
        run_id = assignment.run_id
        if not is_id(run_id, "run"):
            raise LaunchFailed(f"{run_id!r} is not the id of a run.")
        await asyncio.to_thread(self._start, assignment, compute)
        self._watching = self._watching or asyncio.create_task(self._watch())
        return run_id

    async def poll(self, call_id: str) -> CallStatus:
        """Tell how a worker is; of one that has ended the leftovers are killed and its scratch space removed."""
        if not is_id(call_id, "run"):
            return _lost("No such call.")
        if self._runs_on(call_id):
            return CallStatus(CallState.RUNNING)
        if not (self._folder(call_id) / "ended.json").exists():
            await asyncio.to_thread(self._tidy, call_id)
        return self._ended(call_id)

    async def cancel(self, call_id: str) -> None:
        """Ask the worker to end, wait ``WORKER_GRACE_S``, then kill it and every process of its run."""
        if not is_id(call_id, "run"):
            return
        process = self._process(call_id)
        members = family(process) if process else []
        if process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGTERM)
            end = time.monotonic() + WORKER_GRACE_S
            while time.monotonic() < end and self._runs_on(call_id):  # noqa: ASYNC110 - nobody tells us
                await asyncio.sleep(_LOOK_S)
        if not await asyncio.to_thread(kill, members, self._folder(call_id), _KILL_S):
            log.error("processes of %s could not be killed", call_id)
        if child := self._children.get(call_id):
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(child.wait, _KILL_S)

    async def find(self, run_id: str) -> str | None:
        """Give the run's call id if a worker was started for it and is alive, or has left word how it ended."""
        if not is_id(run_id, "run"):
            return None
        return run_id if await asyncio.to_thread(self._was_started, self._folder(run_id)) else None

    async def close(self) -> None:
        """Stop looking after the workers; they go on."""
        if self._watching:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        for child in self._children.values():
            child.returncode = child.poll() or 0  # Popen warns about children that are meant to go on
        self._children.clear()

    def _was_started(self, folder: Path) -> bool:
        # By its mark: a dispatcher may have died between starting a worker and writing it down.
        return (folder / "worker.json").exists() or bool(marked(folder))

    def _folder(self, run_id: str) -> Path:
        return self._runs / run_id

    def _start(self, assignment: Assignment, compute: Compute) -> None:
        """Make the run's folder and start its worker, unless there is or was one.

        Raises:
            LaunchFailed: either could not be done.
        """
        folder = self._folder(assignment.run_id)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(folder).free < _ROOM_BYTES:
                raise OSError(errno.ENOSPC, "too little room")
            self._remove_old()
            with (folder / "launch.lock").open("wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # a standby that believes to be the active one waits here
                if not self._was_started(folder):
                    self._spawn(assignment, compute, folder)
        except OSError as error:
            raise LaunchFailed(_sentence(error)) from error

    def _spawn(self, assignment: Assignment, compute: Compute, folder: Path) -> None:
        """Start the process and write down which it is.

        Raises:
            OSError: either could not be done; there is no process.
        """
        told = folder / "assignment.json"
        told.write_text(assignment.model_dump_json())
        environment = self._environment | {MARK: str(folder), "WORKER_MEMORY_BYTES": str(compute.memory_bytes)}
        with told.open("rb") as stdin, (folder / "worker.log").open("ab") as output:
            child = subprocess.Popen(
                [sys.executable, "-m", "modal_workers.runtime.local"],
                stdin=stdin,
                stdout=output,
                stderr=output,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
        try:
            _write(folder / "worker.json", json.dumps(asdict(_Worker(child.pid, compute.memory_bytes))))
        except OSError:
            kill([], folder, _KILL_S)
            child.wait()
            raise
        self._children[assignment.run_id] = child

    def _process(self, run_id: str) -> psutil.Process | None:
        worker = self._worker(run_id)
        return alive(worker.pid, self._folder(run_id)) if worker else None

    def _runs_on(self, run_id: str) -> bool:
        # Of a child only its exit code counts: while a process ends, its mark is gone before it is a zombie.
        if run_id in self._children:
            return self._exit_code(run_id) is None
        return self._process(run_id) is not None

    def _worker(self, run_id: str) -> _Worker | None:
        try:
            return _Worker(**json.loads((self._folder(run_id) / "worker.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def _exit_code(self, run_id: str) -> int | None:
        """Reap the worker if it is our child and has ended, and give its exit code as a shell counts."""
        child = self._children.get(run_id)
        code = child.poll() if child else None
        return None if code is None else 128 - code if code < 0 else code

    def _tidy(self, run_id: str) -> None:
        """Kill what an ended worker left running, write down how it ended, free the room it took."""
        folder = self._folder(run_id)
        kill([], folder, _KILL_S)
        if not folder.exists():
            return
        status = self._ending(run_id)
        with contextlib.suppress(OSError):
            _write(folder / "ended.json", json.dumps(asdict(status)))
            for name in ("scratch", "inputs", "checkpoints"):
                shutil.rmtree(folder / name, ignore_errors=True)
        self._children.pop(run_id, None)

    def _ended(self, run_id: str) -> CallStatus:
        try:
            kept = json.loads((self._folder(run_id) / "ended.json").read_text())
            return CallStatus(**(kept | {"state": CallState(kept["state"])}))
        except (OSError, ValueError, TypeError, KeyError):
            return self._ending(run_id)

    def _ending(self, run_id: str) -> CallStatus:
        """Work out how a worker ended: from its exit code, or from the word it left if it was not our child."""
        folder = self._folder(run_id)
        code = self._exit_code(run_id)
        if code is None:
            with contextlib.suppress(OSError, ValueError):
                code = int((folder / "exit").read_text())
        if code in _SAID:
            return CallStatus(CallState.ENDED, code, "The worker ended in order.")
        if (folder / "killed_for_memory").exists() or (code in (134, 137) and _ran_out_of_memory(folder)):
            return CallStatus(CallState.ENDED, code, "The worker took more memory than it may.", "out_of_memory")
        if code is None:
            return _lost("The worker is gone and nobody saw how it ended.")
        how = f"signal {code - 128}" if code > 128 else f"exit code {code}"
        return CallStatus(CallState.ENDED, code, f"The worker ended by {how}.", "lost")

    async def _watch(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._look_at_all)
            except OSError as error:
                log.warning("cannot look at the workers: %s", error)
            await asyncio.sleep(_WATCH_S)

    def _look_at_all(self) -> None:
        """Kill families that hold too much memory, cut logs that grow too long."""
        for folder in self._runs.glob("run_*"):
            if (folder / "ended.json").exists():
                continue
            worker, process = self._worker(folder.name), self._process(folder.name)
            if worker is None or process is None:
                continue
            members = family(process)
            limit = worker.memory_bytes + _FAMILY_ALLOWANCE_BYTES
            if memory_bytes(members) > limit and proportional_bytes(members) > limit:
                (folder / "killed_for_memory").touch()
                kill(members, folder, _KILL_S)
            _cut(folder / "worker.log")

    def _remove_old(self) -> None:
        oldest = time.time() - _KEEP_S
        for folder in self._runs.glob("run_*"):
            if folder.stat().st_mtime < oldest and self._process(folder.name) is None:
                shutil.rmtree(folder, ignore_errors=True)


def _lost(detail: str) -> CallStatus:
    return CallStatus(CallState.ENDED, None, detail, "lost")


def _write(path: Path, text: str) -> None:
    """Write a file so that a reader finds all of it or nothing."""
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)


def _cut(path: Path) -> None:
    """Keep the newer half of a log that is too long; the worker appends to the same file on."""
    if path.stat().st_size <= _LOG_BYTES:
        return
    with path.open("r+b") as file:
        file.seek(-_LOG_BYTES // 2, os.SEEK_END)
        newer = file.read()
        file.seek(0)
        file.write(newer)
        file.truncate()


def _ran_out_of_memory(folder: Path) -> bool:
    """Look for the words that allocators leave before a process dies of it."""
    try:
        with (folder / "worker.log").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 16 * 1024))
            text = file.read().decode(errors="replace")
    except OSError:
        return False
    return any(words in text for words in _NO_MEMORY)


def _sentence(error: OSError) -> str:
    """Say what is wrong with the data directory and what to do, without its path."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "The disk of the data directory is full: free some space, then retry the job."
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "The data directory cannot be written to: make it writable for the dispatcher, then retry the job."
    if error.errno in (errno.EAGAIN, errno.ENOMEM):
        return "The machine has no room for another process: end some, then retry the job."
    return f"The worker could not be started ({os.strerror(error.errno or 0)}): see the dispatcher's data directory."
