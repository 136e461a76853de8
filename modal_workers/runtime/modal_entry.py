"""Body of every worker's Modal function: runs the worker as a child process and kills all its descendants afterwards.

The child is the one that the local executor starts, so that a crash, out of memory or a job that ignores signals look
the same in both. ``modal`` is not imported here: ``app.py`` passes what only Modal knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import psutil

from contracts.assignment import Assignment
from contracts.ids import is_id, time_of
from contracts.launch import BusAccess, Launch
from contracts.limits import MIB, WORKER_GRACE_S
from kit.process_tree import MARK, kill, oom_kill_count, over_limit, ran_out_of_memory, with_descendants
from kit.settings import (
    INHERITED,
    NatsSettings,
    S3Settings,
    as_environment,
    inherited_environment,
    numeric_library_threads,
)
from modal_workers import catalog
from modal_workers.runtime import import_check
from modal_workers.runtime.child_processes import adopt_orphans
from modal_workers.runtime.device import actual_device

log = logging.getLogger(__name__)

#: Inherited in addition: the GPUs that the container was given, and the folders of weights.
_INHERITED: Final = (*INHERITED, "NVIDIA_VISIBLE_DEVICES", "HF_HOME", "TORCH_HOME")
#: With ``_KILL_S`` less than the time that a preempted container has.
_GRACE_S: Final = WORKER_GRACE_S + 1.0
_KILL_S: Final = 0.8
_POLL_S: Final = 0.5
_LOG_BYTES: Final = 4 * MIB

#: Folder of our own source in the container, for the child's PYTHONPATH.
_SOURCE_ROOT: Final = Path(__file__).resolve().parents[2]

_calls_before = 0


def run(argument: dict[str, Any], call_id: str | None) -> dict[str, Any]:
    """Run a ``Launch``; return ``exit_code`` (as a shell counts) and ``out_of_memory``.

    The worker reports everything else by events. An exception from outside (``KeyboardInterrupt`` for a preemption,
    Modal's ``InputCancellation``) ends the worker first and is raised again. A deploy asks by another argument whether
    the worker's modules can be imported (``import_check``).

    Raises:
        ValidationError: the argument is not a ``Launch``.
        SaccadeError: STORAGE_UNAVAILABLE, if the assignment is in the bucket and cannot be downloaded.
    """
    if (checked := import_check.wanted(argument)) is not None:
        return import_check.run(checked)
    with _single_interrupt():
        began_s = _billed_since_s()
        launch = Launch.model_validate(argument)
        assignment = launch.assignment or _download(launch.assignment_key or "")
        billed_since_s = _not_before_launch(began_s, assignment.run_id)
        assignment = assignment.model_copy(update={"device": actual_device(assignment.device)})
        adopt_orphans()
        # Unique to this call: its path marks every process of the run.
        parent = Path(tempfile.mkdtemp(prefix="saccade-"))
        folder = parent / assignment.run_id
        folder.mkdir()
        try:
            environment = _environment(launch.bus, assignment, folder) | {"WORKER_BILLED_SINCE_S": repr(billed_since_s)}
            if call_id:
                environment["WORKER_CALL_ID"] = call_id
            return _WorkerProcess(assignment, environment, folder).result()
        finally:
            # A cancel is an exception that may be raised between any two lines, also right after the child has started.
            _clean(parent, folder)


@contextlib.contextmanager
def _single_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt on the first SIGINT, also where the process was started with SIGINT ignored.

    Modal repeats the signal: a second exception could end the handling of the first between any two lines.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler if before is signal.SIG_IGN else before)


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ignore SIGINT: after a cancel, it would end what gives the worker its grace period."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _clean(parent: Path, folder: Path) -> None:
    """Remove every process and file of a run; start over when another signal arrives."""
    while True:
        try:
            kill(psutil.Process().children(recursive=True), folder, _KILL_S)
            shutil.rmtree(parent, ignore_errors=True)
        except KeyboardInterrupt:
            continue
        return


def _billed_since_s() -> float:
    """Return the start of billing of this call, unix seconds: the container's start, for its first call."""
    global _calls_before  # noqa: PLW0603 - one process per container
    _calls_before += 1
    return psutil.Process().create_time() if _calls_before == 1 else time.time()


def _not_before_launch(began_s: float, run_id: str) -> float:
    """Return the start of billing of a run, unix seconds: not before it was launched, the time that its id holds.

    A warm container was started before its run: what it waited is an operator's cost and no tenant's (deployment.py).
    """
    launched_s = time_of(run_id).timestamp() if is_id(run_id, "run") else began_s
    return min(max(began_s, launched_s), time.time())  # a dispatcher's clock may be ahead


def _download(key: str) -> Assignment:
    # Imported only for a large assignment: a container is billed while it imports the bucket's client.
    from kit.bucket import open_bucket  # noqa: PLC0415

    async def fetch() -> bytes:
        async with open_bucket(S3Settings()) as bucket:
            return await bucket.get(key)

    # In a thread of its own: Modal's event loop runs in this one.
    with ThreadPoolExecutor(1) as thread:
        return Assignment.model_validate_json(thread.submit(asyncio.run, fetch()).result())


def _environment(bus: BusAccess, assignment: Assignment, folder: Path) -> dict[str, str]:
    """Return the complete environment of the child."""
    compute = catalog.workload(assignment.workload).compute
    if bus.kind == "ingest":
        nats, ingest = None, {"INGEST_URL": bus.url, "INGEST_TOKEN": bus.secret.get_secret_value()}
    else:
        nats, ingest = NatsSettings(url=bus.url, credentials=bus.secret, inbox_prefix=bus.inbox_prefix), {}
    return (
        inherited_environment(_INHERITED)
        | as_environment(nats, S3Settings())
        | ingest
        | {MARK: str(folder), "WORKER_MEMORY_BYTES": str(compute.memory_bytes)}
        | {"PYTHONPATH": str(_SOURCE_ROOT), "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
        | numeric_library_threads(max(1, int(compute.cpu_cores)))
    )


class _WorkerProcess:
    """Worker process, from its start until none of its descendants is left."""

    def __init__(self, assignment: Assignment, environment: dict[str, str], folder: Path) -> None:
        self._folder = folder
        self._log = folder / "worker.log"
        self._limit_bytes = int(environment["WORKER_MEMORY_BYTES"])
        self._over_memory = False
        self._killed_before = oom_kill_count()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "modal_workers.runtime.worker_process"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
        self._log_thread = threading.Thread(target=self._copy_log, daemon=True)
        self._log_thread.start()
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # it has ended already; its exit code says why
            self._process.stdin.write(assignment.model_dump_json().encode())
            self._process.stdin.close()

    def result(self) -> dict[str, Any]:
        """Wait for the process and return how it ended."""
        try:
            while self._wait(_POLL_S) is None:
                members = self._family()
                if over_limit(members, self._limit_bytes):
                    self._over_memory = True
                    kill(members, self._folder, _KILL_S)
        except BaseException:
            self._stop()
            raise
        self._clear()
        code = self._process.returncode
        code = 128 - code if code < 0 else code
        # A container runs one worker at a time, so a process that the kernel has killed meanwhile was the worker's.
        by_kernel = code == 128 + signal.SIGKILL and oom_kill_count() > self._killed_before
        out_of_memory = self._over_memory or by_kernel or ran_out_of_memory(code, self._log)
        return {"exit_code": code, "out_of_memory": out_of_memory}

    def _wait(self, timeout_s: float) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout_s)
        return None

    def _family(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            return with_descendants(psutil.Process(self._process.pid))
        return []

    def _stop(self) -> None:
        """Send SIGTERM, give the worker time to publish its end, then kill it; ignore further signals meanwhile."""
        with _interrupts_ignored():
            members = self._family()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
            self._wait(_GRACE_S)
            self._clear(members)

    def _clear(self, members: list[psutil.Process] | None = None) -> None:
        if not kill(members or self._family(), self._folder, _KILL_S):
            log.error("processes of %s could not be killed", self._folder.name)
        self._wait(_KILL_S)
        self._log_thread.join(_KILL_S)

    def _copy_log(self) -> None:
        """Copy the worker's log to the container's log, and keep its end in a file."""
        assert self._process.stderr
        with self._log.open("wb") as copy:
            for line in self._process.stderr:
                sys.stderr.buffer.write(line)
                sys.stderr.flush()
                if copy.tell() > _LOG_BYTES:
                    copy.seek(0)
                    copy.truncate()
                copy.write(line)
                copy.flush()
