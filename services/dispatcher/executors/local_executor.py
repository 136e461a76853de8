"""Workers as child processes, each in a session and a folder of its own; they outlive the dispatcher."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import psutil

from contracts.assignment import Assignment
from contracts.ids import is_id
from contracts.limits import MIB, WORKER_GRACE_S
from contracts.workload import Compute
from kit.process_tree import MARK, kill, live_process, marked_processes, over_limit, with_descendants
from kit.settings import NatsSettings, S3Settings, as_environment, inherited_environment
from services.dispatcher.executors.executor import CallBacklog, CallState, CallStatus, LaunchFailed, status_of_exit
from services.dispatcher.executors.run_folder import RunFolder, WorkerProcess, sentence

log = logging.getLogger(__name__)

#: Together with WORKER_GRACE_S less than the two seconds that a cancel may take.
_KILL_S: Final = 0.8
_LOOK_S: Final = 0.02
#: Between two looks at what the workers hold in memory and have written into their logs.
_WATCH_S: Final = 1.0
#: What must be free in the data directory to start a worker at all.
_ROOM_BYTES: Final = 64 * MIB
#: How long an ended run's folder, by then little more than its log, is kept, and how many of them.
_KEEP_S: Final = 48 * 3600.0
_KEPT: Final = 500
_ROOT: Final = Path(__file__).resolve().parents[3]


class LocalExecutor:
    """An ``Executor`` whose call id is the run's id: a run has one worker, however often it is launched."""

    name = "local"
    queues = False

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
        self._runs = data_folder.absolute() / "runs"
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
        self._looked_after: set[str] = set()
        self._watching: asyncio.Task[None] | None = None

    def devices(self, compute: Compute, gpu: str | None) -> tuple[str, ...]:  # noqa: ARG002 - here is only one
        """Name the device: always ``cpu``."""
        return ("cpu",)

    async def launch(self, assignment: Assignment, compute: Compute) -> str:
        """Start a worker, unless the run has or had one, and give its call id.

        Raises:
            LaunchFailed: the data directory is full, read-only or not ours, or the process could not be made.
        """
        run_id = assignment.run_id
        if not is_id(run_id, "run"):
            raise LaunchFailed(f"{run_id!r} is not the id of a run.")
        await asyncio.to_thread(self._start, assignment, compute)
        self._look_after(run_id)
        return run_id

    async def poll(self, call_id: str, *, urgent: bool = False) -> CallStatus:  # noqa: ARG002 - looking is free here
        """Tell how a worker is; of one that has ended the leftovers are killed and its scratch space freed."""
        if not is_id(call_id, "run"):
            return _lost("No such call.")
        if self._runs_on(call_id):
            self._look_after(call_id)
            return CallStatus(CallState.RUNNING)
        self._looked_after.discard(call_id)
        ended = self._folder(call_id).ended()
        return await asyncio.to_thread(self._tidy, call_id) if ended is None else ended

    async def backlog(self, workload: str, device: str) -> CallBacklog | None:  # noqa: ARG002 - a worker starts at once
        """Nothing waits here."""
        return None

    async def rates(self) -> Mapping[str, float]:
        """Nothing is billed here."""
        return {}

    async def cancel(self, call_id: str) -> None:
        """Ask the worker to end, wait ``WORKER_GRACE_S``, then kill it and every process of its run."""
        if not is_id(call_id, "run"):
            return
        process = self._process(call_id)
        members = with_descendants(process) if process else []
        if process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGTERM)
            end = time.monotonic() + WORKER_GRACE_S
            while time.monotonic() < end and self._runs_on(call_id):  # noqa: ASYNC110 - nobody tells us
                await asyncio.sleep(_LOOK_S)
        if not await asyncio.to_thread(kill, members, self._folder(call_id).path, _KILL_S):
            log.error("processes of %s could not be killed", call_id)
        if child := self._children.get(call_id):
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(child.wait, _KILL_S)

    async def find(self, run_id: str) -> str | None:
        """Give the run's call id if a worker was ever started for it."""
        if not is_id(run_id, "run"):
            return None
        return run_id if await asyncio.to_thread(_was_started, self._folder(run_id)) else None

    async def clear_cache(self, job_id: str) -> None:
        """Remove a job's folder of the cache, where the operator gave workers one: they read the bucket next door."""
        cache = self._environment.get("WORKER_CACHE_FOLDER")
        if cache and is_id(job_id, "job"):
            await asyncio.to_thread(shutil.rmtree, Path(cache) / job_id, ignore_errors=True)

    async def close(self) -> None:
        """Stop looking after the workers; they go on."""
        if self._watching:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        for child in self._children.values():
            child.returncode = child.poll() or 0  # Popen warns about children that are meant to go on
        self._children.clear()

    def _folder(self, run_id: str) -> RunFolder:
        return RunFolder(self._runs / run_id)

    def _start(self, assignment: Assignment, compute: Compute) -> None:
        """Make the run's folder and start its worker, unless there is or was one.

        Raises:
            LaunchFailed: either could not be done.
        """
        folder = self._folder(assignment.run_id)
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(folder.path).free < _ROOM_BYTES:
                raise OSError(errno.ENOSPC, "too little room")
            self._remove_old()
            with folder.lock.open("wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # a standby that takes itself for the active one waits here
                if not _was_started(folder):
                    self._spawn(assignment, compute, folder)
        except OSError as error:
            raise LaunchFailed(sentence(error)) from error

    def _spawn(self, assignment: Assignment, compute: Compute, folder: RunFolder) -> None:
        """Start the process and write down which it is.

        Raises:
            OSError: either could not be done; there is no process.
        """
        folder.assignment.write_text(assignment.model_dump_json())
        environment = self._environment | {MARK: str(folder.path), "WORKER_MEMORY_BYTES": str(compute.memory_bytes)}
        with folder.assignment.open("rb") as stdin, folder.log.open("ab") as output:
            child = subprocess.Popen(
                [sys.executable, "-m", "modal_workers.runtime.worker_process"],
                stdin=stdin,
                stdout=output,
                stderr=output,
                cwd=folder.path,
                env=environment,
                start_new_session=True,
            )
        try:
            created_s = psutil.Process(child.pid).create_time()
            folder.write_worker(WorkerProcess(child.pid, created_s, compute.memory_bytes))
        except OSError:
            kill([], folder.path, _KILL_S)
            child.wait()
            raise
        self._children[assignment.run_id] = child

    def _process(self, run_id: str) -> psutil.Process | None:
        folder = self._folder(run_id)
        worker = folder.worker()
        return live_process(worker.pid, worker.created_s, folder.path) if worker else None

    def _runs_on(self, run_id: str) -> bool:
        # Of a child only its exit code counts: while a process ends, its mark is gone before it is a zombie.
        if run_id in self._children:
            return self._exit_code(run_id) is None
        return self._process(run_id) is not None

    def _exit_code(self, run_id: str) -> int | None:
        """Reap the worker if it is our child and has ended, and give its exit code as a shell counts."""
        child = self._children.get(run_id)
        code = child.poll() if child else None
        return None if code is None else 128 - code if code < 0 else code

    def _tidy(self, run_id: str) -> CallStatus:
        """Kill what an ended worker left running, write down how it ended, free the room it took."""
        folder = self._folder(run_id)
        kill([], folder.path, _KILL_S)
        status = self._ending(run_id, folder)
        if folder.path.exists() and folder.write_ended(status):
            self._children.pop(run_id, None)
        return status

    def _ending(self, run_id: str, folder: RunFolder) -> CallStatus:
        """Work out how a worker ended: from its exit code, or from the word it left if it was not our child."""
        code = self._exit_code(run_id)
        if code is None:
            code = folder.exit_code()
        return status_of_exit(code, out_of_memory=folder.ran_out_of_memory(code))

    def _look_after(self, run_id: str) -> None:
        self._looked_after.add(run_id)
        self._watching = self._watching or asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        """Kill families that hold too much memory, cut logs that grow too long."""
        while True:
            for run_id in list(self._looked_after):
                try:
                    await asyncio.to_thread(self._look_at, self._folder(run_id))
                except (OSError, psutil.Error) as error:
                    log.warning("cannot look at %s: %s", run_id, error)
            await asyncio.sleep(_WATCH_S)

    def _look_at(self, folder: RunFolder) -> None:
        worker = folder.worker()
        process = self._process(folder.path.name)
        if worker is None or process is None:
            self._looked_after.discard(folder.path.name)
            return
        members = with_descendants(process)
        if over_limit(members, worker.memory_bytes):
            folder.note_over_memory()
            kill(members, folder.path, _KILL_S)
        folder.cut_log()

    def _remove_old(self) -> None:
        """Remove folders of runs that ended long ago, and the oldest of too many."""
        folders = sorted(self._runs.glob("run_*"), reverse=True)  # their ids sort by time
        oldest = time.time() - _KEEP_S
        for number, path in enumerate(folders):
            with contextlib.suppress(FileNotFoundError):  # another executor was quicker
                if (number >= _KEPT or path.stat().st_mtime < oldest) and self._process(path.name) is None:
                    shutil.rmtree(path, ignore_errors=True)


def _was_started(folder: RunFolder) -> bool:
    # By its mark: a dispatcher may have died between starting a worker and writing it down.
    return folder.worker() is not None or bool(marked_processes(folder.path))


def _lost(detail: str) -> CallStatus:
    return CallStatus(CallState.ENDED, None, detail, "lost")
