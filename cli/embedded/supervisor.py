"""Supervisor of an embedded system's children: starts, restarts and stops them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from cli.embedded.data_folder import MIN_FREE_BYTES, DataFolder
from cli.embedded.processes import KERNEL_ENDS_CHILDREN, Program, last_line, rotate_log, start_child
from cli.failure import Failure
from contracts.limits import DISK_RESERVE_BYTES, MIB
from kit.tasks import end_within

_READY_S: Final = 60.0
_POLL_S: Final = 0.03
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0
#: A child that ran this long is restarted at once: it is not in a crash loop.
_STABLE_S: Final = 30.0
_GRACE_S: Final = 1.5
#: Time for our own tasks to end, and for children to be gone after SIGKILL.
_TASKS_S: Final = 3.0
_KILLED_S: Final = 5.0
_START_ATTEMPTS: Final = 3
_HOUSEKEEPING_S: Final = 30.0
_WRITE_CHECK_S: Final = 2.0


class Supervisor:
    """Supervisor of the children of one data folder."""

    def __init__(self, folder: DataFolder, environment: Mapping[str, str], report: Callable[[str], None]) -> None:
        """Supervise children of ``folder``.

        Args:
            folder: the data folder.
            environment: environment of every child.
            report: called with messages for the user.
        """
        self._folder = folder
        self._environment = dict(environment)
        self._report = report
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        #: Children that were ended because they could not write.
        self._ended_to_write: set[str] = set()
        self._watchdog: asyncio.subprocess.Process | None = None

    def process_id(self, name: str) -> int | None:
        """Return the process id of a running child."""
        process = self._running.get(name)
        return process.pid if process and process.returncode is None else None

    async def start(self, programs: Sequence[Program]) -> None:
        """Start children in parallel and return when all are ready.

        Raises:
            Failure: one of them does not become ready.
        """
        if not self._tasks:
            self._tasks.append(asyncio.create_task(self._do_housekeeping()))
            await self._start_watchdog()
        ready = [asyncio.create_task(self._start_until_ready(program)) for program in programs]
        try:
            await asyncio.gather(*ready)
        except BaseException:
            await end_within(_TASKS_S, *ready)  # none starts a child when the others are stopped
            raise
        self._tasks += [asyncio.create_task(self._restart_whenever_ended(program)) for program in programs]
        self._tasks += [asyncio.create_task(self._restart_to_write(program)) for program in programs]

    async def stop(self, names: Sequence[str]) -> None:
        """Stop these children in parallel, with SIGKILL after a grace period; none is restarted."""
        self._stopping = True
        await self._end(names)

    async def _end(self, names: Sequence[str]) -> None:
        """End these children in parallel."""
        processes = [process for name in names if (process := self._running.get(name)) and process.returncode is None]
        for process in processes:
            _send(process, signal.SIGTERM)
        waiting = [asyncio.create_task(process.wait()) for process in processes]
        if waiting:
            await asyncio.wait(waiting, timeout=_GRACE_S)
        for process in processes:
            if process.returncode is None:
                _send(process, signal.SIGKILL)
        await self._wait_for_killed({name: self._running[name] for name in names if name in self._running})

    async def close(self) -> None:
        """Kill what still runs; no task and no child is waited for without an end."""
        self._stopping = True
        for task in await end_within(_TASKS_S, *self._tasks):
            self._report(f"{_name_of(task)} has not ended within {_TASKS_S:.0f} s; it is left.")
        self.kill()
        await self._wait_for_killed(self._running)
        if self._watchdog and self._watchdog.stdin:
            self._watchdog.stdin.close()
            await self._wait_for_killed({"the watchdog": self._watchdog})

    async def _wait_for_killed(self, processes: Mapping[str, asyncio.subprocess.Process]) -> None:
        """Wait for the end of processes, but not without an end: the kernel ends none that waits for a disk."""
        waiting = [asyncio.create_task(process.wait()) for process in processes.values()]
        if waiting:
            await asyncio.wait(waiting, timeout=_KILLED_S)
        for task in waiting:
            task.cancel()
        for name, process in processes.items():
            if process.returncode is None:
                what = f"{name} (process {process.pid})"
                self._report(f"{what} has not ended {_KILLED_S:g} s after SIGKILL; it is left to the system.")

    def kill(self) -> None:
        """Kill every child."""
        for process in self._running.values():
            if process.returncode is None:
                _send(process, signal.SIGKILL)

    async def _start(self, program: Program) -> asyncio.subprocess.Process:
        process = await start_child(program, self._folder.path, self._folder.log(program.name), self._environment)
        self._running[program.name] = process
        return process

    async def _start_until_ready(self, program: Program) -> None:
        """Start a child and wait until it is ready; retry if it ends early."""
        loop, reported = asyncio.get_running_loop(), False
        end = loop.time() + _READY_S
        for _ in range(_START_ATTEMPTS):
            process = await self._start(program)
            while process.returncode is None:
                if await program.is_ready():
                    return
                if loop.time() > end:
                    if program.is_starting is None or not await program.is_starting():
                        raise self._failed(program, f"was not ready after {_READY_S:.0f} s")
                    if not reported:
                        self._report(f"{program.name} is still reading its history.")
                    reported, end = True, loop.time() + _READY_S
                await asyncio.sleep(_POLL_S)
            await asyncio.sleep(_FIRST_PAUSE_S)
        raise self._failed(program, f"ended during its start ({_exit_reason(process.returncode)})")

    def _failed(self, program: Program, what: str) -> Failure:
        log = self._folder.log(program.name)
        line = last_line(log)
        return Failure(
            f"{program.name} {what}{': ' + line if line else ''}", code="program_failed", hint=f"See its log: {log}"
        )

    async def _restart_whenever_ended(self, program: Program) -> None:
        """Restart a child whenever it ends, with growing pauses while it crashes repeatedly."""
        loop = asyncio.get_running_loop()
        process = self._running[program.name]
        pause_s = _FIRST_PAUSE_S
        while True:
            started = loop.time()
            code = await process.wait()
            if self._stopping:
                return
            pause_s = _FIRST_PAUSE_S if loop.time() - started > _STABLE_S else min(2 * pause_s, _LONGEST_PAUSE_S)
            if program.name in self._ended_to_write:
                self._ended_to_write.remove(program.name)
            else:
                self._report(f"{program.name} ended ({_exit_reason(code)}); restarting it.")
            restarted = await self._restart(program, pause_s)
            if restarted is None:
                return
            process = restarted

    async def _restart(self, program: Program, pause_s: float) -> asyncio.subprocess.Process | None:
        """Start a child after a pause, unless the system is stopping."""
        while True:
            await asyncio.sleep(pause_s)
            if self._stopping:
                return None
            try:
                return await self._start(program)
            except OSError as error:
                self._report(f"{program.name} could not be started ({error.strerror or error}); retrying.")
                pause_s = _LONGEST_PAUSE_S

    async def _restart_to_write(self, program: Program) -> None:
        """Restart a child that runs but cannot write any more, once the disk has room."""
        waiting = False
        while program.write_error:
            await asyncio.sleep(_WRITE_CHECK_S)
            error = await program.write_error()
            if self._stopping:
                return
            if error is None:
                waiting = False
            elif self._folder.free_bytes() < DISK_RESERVE_BYTES:
                if not waiting:
                    self._report(
                        f"The disk of {self._folder.path} is full: nothing can be stored, and jobs wait. "
                        "Free some space; everything continues by itself."
                    )
                waiting = True
            else:
                self._report(f"{program.name} could not write ({error}); restarting it.")
                self._ended_to_write.add(program.name)
                await self._end([program.name])
                await asyncio.sleep(_LONGEST_PAUSE_S)

    async def _do_housekeeping(self) -> None:
        """Rotate logs, and warn once when the disk is nearly full."""
        warned = False
        while True:
            await asyncio.sleep(_HOUSEKEEPING_S)
            for name in self._running:
                rotate_log(self._folder.log(name))
            free = self._folder.free_bytes()
            if free < MIN_FREE_BYTES and not warned:
                self._report(f"Only {free // MIB} MB are free on the disk of {self._folder.path}: free some space.")
            warned = free < MIN_FREE_BYTES

    async def _start_watchdog(self) -> None:
        if not KERNEL_ENDS_CHILDREN:
            self._watchdog = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "cli.embedded.watchdog", str(self._folder.path)),
                stdin=asyncio.subprocess.PIPE,
                env=self._environment,
                start_new_session=True,
            )


def _send(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


def _name_of(task: asyncio.Future[None]) -> str:
    coroutine = task.get_coro() if isinstance(task, asyncio.Task) else None
    return str(getattr(coroutine, "__qualname__", task))


def _exit_reason(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
