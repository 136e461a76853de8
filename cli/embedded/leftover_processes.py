"""Processes that an earlier run left on a data folder: ours are ended; other servers on the folder are an error."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import psutil

from cli.embedded.processes import children_of, end_processes
from cli.failure import Failure
from contracts.limits import WORKER_GRACE_S
from kit.process_tree import MARK as WORKER_MARK
from kit.process_tree import with_environment

_SERVERS: Final = ("nats-server", "rclone")


def end_leftovers(folder: Path, report: Callable[[str], None]) -> None:
    """End the children of an earlier run; its workers continue, and the dispatcher takes them over.

    Raises:
        Failure: a server that was not started by Saccade uses the folder.
    """
    if found := children_of(folder):
        names = ", ".join(f"{_name(process)} (process {process.pid})" for process in found)
        report(f"Ended processes of an earlier run: {names}.")
        end_processes(found, grace_s=2.0)
    for process in _servers_using(folder):
        raise Failure(
            f"{process.name()} (process {process.pid}) uses {folder} and was not started by Saccade.",
            code="folder_in_use",
            hint=f"Stop it with: kill {process.pid}",
        )


def end_workers(folder: Path, grace_s: float = WORKER_GRACE_S) -> None:
    """End the workers of running jobs; the jobs resume at the next start."""
    runs = f"{folder / 'dispatcher'}/"
    end_processes(with_environment(WORKER_MARK, lambda value: value.startswith(runs)), grace_s)


def _name(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        words: list[str] = process.cmdline()
        return next((word for word in words if word.startswith("services.")), str(process.name()))
    return "a process"


def _servers_using(folder: Path) -> Iterator[psutil.Process]:
    """Yield servers whose command line names a path inside the folder."""
    inside = f"{folder}/"
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            named = (inside in word or word == str(folder) for word in process.cmdline())
            if process.name() in _SERVERS and any(named):
                yield process
