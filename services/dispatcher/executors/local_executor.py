"""Local executor: workers are child processes that outlive the dispatcher, each with its own session and folder."""

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
from contracts.limits import MIB, SCRATCH_RETENTION_H, WORKER_GRACE_S
from contracts.workload import Compute
from kit.process_tree import MARK, kill, live_process, marked_processes, over_limit, with_descendants
from kit.settings import NatsSettings, S3Settings, as_environment, inherited_environment, numeric_library_threads
from kit.tasks import end
from services.dispatcher.costs.attempt_cost import CPU
from services.dispatcher.executors.executor import CallBacklog, CallState, CallStatus, LaunchFailed, status_of_exit
from services.dispatcher.executors.run_folder import RunFolder, WorkerProcess, disk_error_message

log = logging.getLogger(__name__)

#: Together with WORKER_GRACE_S below the two seconds that a cancel may take.
_KILL_S: Final = 0.8
_POLL_S: Final = 0.02
#: Interval of the checks of the workers' memory and logs.
_CHECK_S: Final = 1.0
#: Minimum free space in the data directory to start a worker.
_MINIMUM_FREE_BYTES: Final = 64 * MIB
#: Retention of the folders of ended runs, which contain little more than a log, and their maximum number.
_RETENTION_S: Final = SCRATCH_RETENTION_H * 3600.0
_MAXIMUM_FOLDERS: Final = 500
_ROOT: Final = Path(__file__).resolve().parents[3]


class LocalExecutor:
    """Executor whose call id is the run's id: a run has one worker, even if it is launched several times."""

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
        """Store runs under ``data_folder``; ``slots`` workers share the cores.

        ``environment`` is inherited by the workers; the default is an allow-list of the dispatcher's environment.
        """
        self._runs = data_folder.absolute() / "runs"
        inherited = inherited_environment() if environment is None else dict(environment)
        self._environment = (
            inherited
            | as_environment(nats, s3)
            | {"PYTHONPATH": str(_ROOT), "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
            | numeric_library_threads(max(1, (os.cpu_count() or 1) // max(1, slots)))
        )
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._watched_runs: set[str] = set()
        self._watch_task: asyncio.Task[None] | None = None

    def devices(self, compute: Compute, gpu: str | None) -> tuple[str, ...]:  # noqa: ARG002 - there is only one
        """Return the only device, ``cpu``."""
        return (CPU,)

    async def launch(self, assignment: Assignment, compute: Compute) -> str:
        """Start a worker, unless the run has or had one, and return its call id.

        Raises:
            LaunchFailed: the data directory is full or not writable, or the process could not be started.
        """
        run_id = assignment.run_id
        if not is_id(run_id, "run"):
            raise LaunchFailed(f"{run_id!r} is not the id of a run.")
        await asyncio.to_thread(self._start, assignment, compute)
        self._watch_run(run_id)
        return run_id

    async def poll(self, call_id: str, *, urgent: bool = False) -> CallStatus:  # noqa: ARG002 - a poll costs nothing here
        """Return the status of a worker; clean up after one that has ended."""
        if not is_id(call_id, "run"):
            return _lost("No such call.")
        if self._is_running(call_id):
            self._watch_run(call_id)
            return CallStatus(CallState.RUNNING)
        self._watched_runs.discard(call_id)
        ended = self._folder(call_id).ended()
        return await asyncio.to_thread(self._clean_up, call_id) if ended is None else ended

    async def backlog(self, workload: str, device: str) -> CallBacklog | None:  # noqa: ARG002 - workers start at once
        """Return None: calls never wait for a device."""
        return None

    async def rates(self) -> Mapping[str, float]:
        """Return no prices: nothing is billed."""
        return {}

    async def cancel(self, call_id: str) -> None:
        """Terminate the worker, wait ``WORKER_GRACE_S``, then kill it and every process of its run."""
        if not is_id(call_id, "run"):
            return
        process = self._process(call_id)
        members = with_descendants(process) if process else []
        if process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGTERM)
            deadline = time.monotonic() + WORKER_GRACE_S
            while time.monotonic() < deadline and self._is_running(call_id):  # noqa: ASYNC110 - there is no notification
                await asyncio.sleep(_POLL_S)
        if not await asyncio.to_thread(kill, members, self._folder(call_id).path, _KILL_S):
            log.error("processes of %s could not be killed", call_id)
        if child := self._children.get(call_id):
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(child.wait, _KILL_S)

    async def find(self, run_id: str) -> str | None:
        """Return the run's call id if a worker was started for it."""
        if not is_id(run_id, "run"):
            return None
        return run_id if await asyncio.to_thread(_was_started, self._folder(run_id)) else None

    async def clear_cache(self, job_id: str) -> None:
        """Remove a job's folder from the cache, if the operator configured one for workers."""
        cache = self._environment.get("WORKER_CACHE_FOLDER")
        if cache and is_id(job_id, "job"):
            await asyncio.to_thread(shutil.rmtree, Path(cache) / job_id, ignore_errors=True)

    async def close(self) -> None:
        """Stop watching the workers; they continue."""
        if self._watch_task:
            await end(self._watch_task)
        for child in self._children.values():
            child.returncode = child.poll() or 0  # otherwise Popen warns about children that still run
        self._children.clear()

    def _folder(self, run_id: str) -> RunFolder:
        return RunFolder(self._runs / run_id)

    def _start(self, assignment: Assignment, compute: Compute) -> None:
        """Create the run's folder and start its worker, unless there is or was one.

        Raises:
            LaunchFailed: the folder or the process could not be created.
        """
        folder = self._folder(assignment.run_id)
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(folder.path).free < _MINIMUM_FREE_BYTES:
                raise OSError(errno.ENOSPC, "too little free space")
            self._remove_old()
            with folder.lock.open("wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # a standby that wrongly believes it leads waits here
                if not _was_started(folder):
                    self._spawn(assignment, compute, folder)
        except OSError as error:
            raise LaunchFailed(disk_error_message(error)) from error

    def _spawn(self, assignment: Assignment, compute: Compute, folder: RunFolder) -> None:
        """Start the process and write its id to the folder.

        Raises:
            OSError: one of both failed; no process is left.
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

    def _is_running(self, run_id: str) -> bool:
        # For a child only the exit code counts: an ending process loses its environment mark before it is a zombie.
        if run_id in self._children:
            return self._exit_code(run_id) is None
        return self._process(run_id) is not None

    def _exit_code(self, run_id: str) -> int | None:
        """Reap the worker if it is our child and has ended; return its exit code in the convention of shells."""
        child = self._children.get(run_id)
        code = child.poll() if child else None
        return None if code is None else 128 - code if code < 0 else code

    def _clean_up(self, run_id: str) -> CallStatus:
        """Kill processes that an ended worker left running, write its status, and remove its large folders."""
        folder = self._folder(run_id)
        kill([], folder.path, _KILL_S)
        status = self._status_of_ended(run_id, folder)
        if folder.path.exists() and folder.write_ended(status):
            self._children.pop(run_id, None)
        return status

    def _status_of_ended(self, run_id: str, folder: RunFolder) -> CallStatus:
        """Return the status of an ended worker from its exit code, or from its folder if it was not our child."""
        code = self._exit_code(run_id)
        if code is None:
            code = folder.exit_code()
        return status_of_exit(code, out_of_memory=folder.ran_out_of_memory(code))

    def _watch_run(self, run_id: str) -> None:
        self._watched_runs.add(run_id)
        self._watch_task = self._watch_task or asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        """Kill runs that use too much memory, truncate logs that are too long."""
        while True:
            for run_id in list(self._watched_runs):
                try:
                    await asyncio.to_thread(self._check_run, self._folder(run_id))
                except (OSError, psutil.Error) as error:
                    log.warning("cannot check %s: %s", run_id, error)
            await asyncio.sleep(_CHECK_S)

    def _check_run(self, folder: RunFolder) -> None:
        worker = folder.worker()
        process = self._process(folder.path.name)
        if worker is None or process is None:
            self._watched_runs.discard(folder.path.name)
            return
        members = with_descendants(process)
        if over_limit(members, worker.memory_bytes):
            folder.mark_over_memory()
            kill(members, folder.path, _KILL_S)
        folder.truncate_log()

    def _remove_old(self) -> None:
        """Remove the folders of runs that ended long ago, and the oldest ones beyond the maximum number."""
        folders = sorted(self._runs.glob("run_*"), reverse=True)  # ids sort by time
        oldest = time.time() - _RETENTION_S
        for number, path in enumerate(folders):
            with contextlib.suppress(FileNotFoundError):  # another executor has removed it
                if (number >= _MAXIMUM_FOLDERS or path.stat().st_mtime < oldest) and self._process(path.name) is None:
                    shutil.rmtree(path, ignore_errors=True)


def _was_started(folder: RunFolder) -> bool:
    # Also by the environment mark: a dispatcher may have died between starting a worker and writing its id.
    return folder.worker() is not None or bool(marked_processes(folder.path))


def _lost(detail: str) -> CallStatus:
    return CallStatus(CallState.ENDED, None, detail, "lost")
