"""Runs a job's own code in a thread that may not do what a job does not need (docs/adr/0038).

The job opens what users sent, with decoders, in the process whose other thread has the connections to bus and bucket.
Its thread, the threads and the processes that it starts make no network connection, look into no other process, and
on a CPU open only the system's files, the code and the run's folder. Both threads have one memory: this refuses what a
file talks a decoder into opening, and holds the processes that the job starts; it does not hold native code that a file
has brought into the worker's own process.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import platform
import stat
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

from modal_workers.footage.kernel_rules import (
    ALLOW,
    ARCHITECTURE_OFFSET,
    ARCHITECTURES,
    ARGUMENT_OFFSET,
    FAIL,
    JUMP_EQUAL,
    JUMP_GREATER_EQUAL,
    LOAD,
    NUMBER_OFFSET,
    RETURN,
    Step,
    filter_calls,
    forgo_privileges,
    libc,
    restrict_files,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

_ROOT: Final = Path(__file__).resolve().parents[2]
#: Where systems keep programs, their configuration and what is known of the hardware.
_SYSTEM: Final = tuple(
    Path("/", name) for name in ("bin", "etc", "lib", "lib32", "lib64", "nix/store", "opt", "sbin", "sys", "usr")
)
#: Where hosts keep the settings of our services, and the code with its ``.env`` (docs/hosting.md): the secrets in them
#: are readable for the user of the workers.
_OWN: Final = (Path("/etc/saccade"), Path("/opt/saccade"))
#: What is known of the machine and of this process; other processes have their environment there.
_PROC: Final = tuple(
    Path("/proc", name)
    for name in ("cpuinfo", "filesystems", "loadavg", "meminfo", "self", "stat", "sys", "uptime", "version")
)
_DEVICES: Final = tuple(Path("/dev", name) for name in ("null", "zero", "full", "random", "urandom", "shm"))
#: Caches of libraries in the user's folder, which hold no secrets; they are read.
_CACHES: Final = (".cache/fontconfig", ".cache/matplotlib", ".config/matplotlib", ".cache/torch", ".fonts")

#: System calls by which a process leaves its limits or looks into others: x86-64, and ARM64.
_REFUSED: Final = {
    "x86_64": (
        101, 155, 161, 163, 165, 166, 167, 168, 169, 172, 173, 175, 176, 246, 248, 249, 250, 272, 298, 304, 308, 310,
        311, 313, 320, 321, 323, 425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 442,
    ),
    "aarch64": (
        39, 40, 41, 51, 89, 97, 104, 105, 106, 117, 142, 217, 218, 219, 224, 225, 241, 265, 268, 270, 271, 273, 280,
        282, 294, 425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 442,
    ),
}  # fmt: skip
_SOCKET: Final = {"x86_64": 41, "aarch64": 198}
#: Numbers from here on are those of a third way to make a call, of x86-64 alone.
_X32: Final = 0x40000000
_SAME_MACHINE: Final = 1


def run_locked(work: Callable[[], T], *, readable: tuple[Path, ...], writable: tuple[Path, ...], files: bool) -> T:
    """Return what ``work`` returns, called in a locked thread; its exception is raised here.

    With ``files``, only the system's files, the code and these folders can be opened. What holds it is logged.
    """
    outcome: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            _lock(readable, writable, files=files)
            outcome.append(work())
        except BaseException as error:  # noqa: BLE001 - the caller handles all that a job raises
            errors.append(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), name="saccade-job", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return outcome[0]


def _lock(readable: tuple[Path, ...], writable: tuple[Path, ...], *, files: bool) -> None:
    library = libc()
    layers: dict[str, bool] = {}
    if library is not None and forgo_privileges(library):
        if files:
            layers["landlock"] = restrict_files(
                library,
                listed=[_ROOT],  # to find the packages in it
                readable=[*_readable(), *readable],
                writable=[*writable, *_DEVICES],
            )
        layers["seccomp"] = _refuse_calls(library)
    held = ", ".join(name for name in ("landlock", "seccomp") if layers.get(name))
    log.info("the job's thread is held by: %s", held or "nothing, for the kernel has neither Landlock nor seccomp")


def _readable() -> Iterator[Path]:
    """Yield the folders that a job reads. Of the folder that holds our code only the packages: data may lie beside."""
    for folder in _SYSTEM:
        yield from without(folder, (_ROOT, *_OWN))
    yield from _PROC
    with contextlib.suppress(RuntimeError):  # a container may run as a user that it does not know
        yield from (Path.home() / name for name in _CACHES)
    yield from map(Path, (sys.prefix, sys.base_prefix, sys.executable))
    folders = {Path(entry).resolve() for entry in sys.path if entry}
    yield from folders - {_ROOT}
    yield from (marker.parent for marker in _ROOT.glob("*/__init__.py"))


def without(folder: Path, hidden: Collection[Path]) -> Iterator[Path]:
    """Yield a folder; or, where hidden ones are in it, what is beside them and readable by every user of the machine.

    A rule of Landlock holds for all that is below a folder, and no other takes a part of it back.
    """
    if folder in hidden:
        return
    if not any(path.is_relative_to(folder) for path in hidden):
        yield folder
        return
    entries: list[Path] = []
    with contextlib.suppress(OSError):
        entries.extend(folder.iterdir())
    for entry in entries:
        with contextlib.suppress(OSError):  # of this one: a mount of another user, for one
            # What a link leads to is listed where it is.
            if not entry.is_symlink() and entry.stat().st_mode & stat.S_IROTH:
                yield from without(entry, hidden)


def _refuse_calls(library: Any) -> bool:
    """Refuse some system calls, and every socket that reaches beyond this machine's own processes."""
    machine = platform.machine()
    if machine not in _REFUSED:
        return False
    refused = _REFUSED[machine]
    count = len(refused)
    # After the numbers: socket?, allow, load the family, family?, fail, allow.
    steps: list[Step] = [
        (LOAD, 0, 0, ARCHITECTURE_OFFSET),  # the architecture: the numbers of another one mean other calls
        (JUMP_EQUAL, 0, count + 6, ARCHITECTURES[machine]),
        (LOAD, 0, 0, NUMBER_OFFSET),
        (JUMP_GREATER_EQUAL, count + 4, 0, _X32),
        *((JUMP_EQUAL, count - index + 3, 0, number) for index, number in enumerate(refused)),
        (JUMP_EQUAL, 1, 0, _SOCKET[machine]),
        (RETURN, 0, 0, ALLOW),
        (LOAD, 0, 0, ARGUMENT_OFFSET),
        (JUMP_EQUAL, 1, 0, _SAME_MACHINE),
        (RETURN, 0, 0, FAIL),
        (RETURN, 0, 0, ALLOW),
    ]
    return filter_calls(library, steps)
