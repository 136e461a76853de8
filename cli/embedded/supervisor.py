"""Keeps the children of an embedded system alive: starts them in order, starts again what died, ends them all."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from cli.embedded.data_folder import FREE_BYTES, DataFolder
from cli.embedded.processes import KERNEL_ENDS_CHILDREN, Program, last_line, rotate_log, start_child
from cli.failure import Failure
from contracts.limits import MIB

_READY_S: Final = 60.0
_LOOK_S: Final = 0.03
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0
#: A child that lived this long is started again at once: its end was no loop of deaths.
_LIVED_S: Final = 30.0
_GRACE_S: Final = 1.5
_TRIES_AT_START: Final = 3
_HOUSEKEEPING_S: Final = 30.0


class Supervisor:
    """The children of one data folder."""

    def __init__(self, folder: DataFolder, environment: Mapping[str, str], say: Callable[[str], None]) -> None:
        """Supervise for ``folder``; ``environment`` is what every child gets, ``say`` takes notes for the user."""
        self._folder = folder
        self._environment = dict(environment)
        self._say = say
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._watchdog: asyncio.subprocess.Process | None = None

    def process_id(self, name: str) -> int | None:
        """Tell the process id of a child that runs."""
        process = self._running.get(name)
        return process.pid if process and process.returncode is None else None

    async def start(self, programs: Sequence[Program]) -> None:
        """Start children side by side and come back when all are ready.

        Raises:
            Failure: one does not stay up.
        """
        if not self._tasks:
            self._tasks.append(asyncio.create_task(self._keep_house()))
            await self._start_watchdog()
        ready = [asyncio.create_task(self._bring_up(program)) for program in programs]
        try:
            await asyncio.gather(*ready)
        except BaseException:
            for task in ready:
                task.cancel()
            raise
        self._tasks += [asyncio.create_task(self._keep(program)) for program in programs]

    async def stop(self, names: Sequence[str]) -> None:
        """End these children side by side, kill what does not go; none is started again."""
        self._stopping = True
        processes = [process for name in names if (process := self._running.get(name)) and process.returncode is None]
        for process in processes:
            _send(process, signal.SIGTERM)
        waiting = [asyncio.create_task(process.wait()) for process in processes]
        if waiting:
            await asyncio.wait(waiting, timeout=_GRACE_S)
        for process in processes:
            if process.returncode is None:
                _send(process, signal.SIGKILL)
                await process.wait()

    async def close(self) -> None:
        """End what still runs, at once."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.kill()
        await asyncio.gather(*(process.wait() for process in self._running.values()))
        if self._watchdog and self._watchdog.stdin:
            self._watchdog.stdin.close()
            await self._watchdog.wait()

    def kill(self) -> None:
        """Kill every child."""
        for process in self._running.values():
            if process.returncode is None:
                _send(process, signal.SIGKILL)

    async def _start(self, program: Program) -> asyncio.subprocess.Process:
        process = await start_child(program, self._folder.path, self._folder.log(program.name), self._environment)
        self._running[program.name] = process
        return process

    async def _bring_up(self, program: Program) -> None:
        """Start a child and wait until it is ready; a few early deaths are forgiven."""
        end = asyncio.get_running_loop().time() + _READY_S
        for _ in range(_TRIES_AT_START):
            process = await self._start(program)
            while process.returncode is None:
                if await program.is_ready():
                    return
                if asyncio.get_running_loop().time() > end:
                    raise self._failed(program, f"was not ready after {_READY_S:.0f} s")
                await asyncio.sleep(_LOOK_S)
            await asyncio.sleep(_FIRST_PAUSE_S)
        raise self._failed(program, f"stopped at its start ({_how_it_ended(process.returncode)})")

    def _failed(self, program: Program, what: str) -> Failure:
        log = self._folder.log(program.name)
        said = last_line(log)
        return Failure(
            f"{program.name} {what}{': ' + said if said else ''}", code="program_failed", hint=f"Its log is {log}"
        )

    async def _keep(self, program: Program) -> None:
        """Start a child again whenever it dies, with longer pauses while it keeps dying."""
        loop = asyncio.get_running_loop()
        process = self._running[program.name]
        pause_s = _FIRST_PAUSE_S
        while True:
            started = loop.time()
            code = await process.wait()
            if self._stopping:
                return
            pause_s = _FIRST_PAUSE_S if loop.time() - started > _LIVED_S else min(2 * pause_s, _LONGEST_PAUSE_S)
            self._say(f"{program.name} stopped ({_how_it_ended(code)}); starting it again.")
            again = await self._start_again(program, pause_s)
            if again is None:
                return
            process = again

    async def _start_again(self, program: Program, pause_s: float) -> asyncio.subprocess.Process | None:
        """Start a child after a pause, unless everything was told to stop meanwhile."""
        while True:
            await asyncio.sleep(pause_s)
            if self._stopping:
                return None
            try:
                return await self._start(program)
            except OSError as error:
                self._say(f"{program.name} could not be started ({error.strerror or error}); trying again.")
                pause_s = _LONGEST_PAUSE_S

    async def _keep_house(self) -> None:
        """Cut logs that grow, and warn once when the disk runs full."""
        warned = False
        while True:
            await asyncio.sleep(_HOUSEKEEPING_S)
            for name in self._running:
                rotate_log(self._folder.log(name))
            free = self._folder.free_bytes()
            if free < FREE_BYTES and not warned:
                self._say(f"Only {free // MIB} MB are left on the disk of {self._folder.path}: free some space.")
            warned = free < FREE_BYTES

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


def _how_it_ended(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
