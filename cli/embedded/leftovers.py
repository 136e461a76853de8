"""What an earlier run left behind in a data folder: ours is ended, with a note; a stranger's is named and left."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import psutil

from cli.embedded.processes import end, recorded
from cli.failure import Failure
from contracts.limits import WORKER_GRACE_S

_SERVERS: Final = ("nats-server", "rclone")


def clear(folder: Path, say: Callable[[str], None]) -> None:
    """End the recorded processes of an earlier run; their workers go on, the dispatcher takes them over.

    Raises:
        Failure: a server that Saccade did not start uses the folder.
    """
    records = sorted((folder / "processes").glob("*.json"))
    found = [(record.stem, process) for record in records if (process := recorded(record))]
    if found:
        names = ", ".join(f"{name} (process {process.pid})" for name, process in found)
        say(f"An earlier run left {names} behind; ended it.")
        end([process for _, process in found], grace_s=2.0)
    for record in records:
        record.unlink(missing_ok=True)
    for process in _using(folder):
        raise Failure(
            f"{process.name()} (process {process.pid}) uses {folder} and was not started by this Saccade.",
            code="folder_in_use",
            hint=f"Stop it with: kill {process.pid}",
        )


def end_workers(folder: Path, grace_s: float = WORKER_GRACE_S) -> None:
    """End the workers of running jobs; their jobs go on at the next start."""
    records = (folder / "dispatcher").glob("**/worker.json")
    end([process for record in records if (process := recorded(record))], grace_s=grace_s)


def _using(folder: Path) -> Iterator[psutil.Process]:
    """Find servers whose command line names a path inside the folder."""
    inside = f"{folder}/"
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.name() in _SERVERS and any(inside in word or word == str(folder) for word in process.cmdline()):
                yield process
