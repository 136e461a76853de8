"""Starter of containers, and the first process of each: with it end all, in any session and with any parent.

Runs in the containers' interpreter, outside of the project: `python first_process.py SOCKET`. The starter imports
Modal's runtime once and forks it for each container: the import costs several times as much as a container's own work.
For each container it receives on SOCKET the path of a folder, with two file descriptors: a socket for the first
process's id and later the exit code, and the container's output. `start.json` in the folder has the variables.

The first process hands SIGINT on to the program only; SIGTERM, or the end of the starter, kills everything at once, as
the loss of a host or of memory does. It reports the program's exit code, or 128 + the number of the signal that ended
the program. Linux only: orphans become its children by PR_SET_CHILD_SUBREAPER (prctl(2)).

A worker that the program starts is a fork too, of a child that the program has from its beginning
(tests/harness/preloaded): it has imported packages only, so the worker imports the uploaded files like a new process.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
import tempfile
import time
import types
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_WATCHED = {signal.SIGINT, signal.SIGTERM, signal.SIGCHLD}
#: Modal's runtime, as `python -m` runs it.
_PROGRAM = "modal._container_entrypoint"
#: What most programs and workers import besides; nothing of the project is here.
_PACKAGES = ("psutil", "pydantic", "pydantic_settings", "aiohttp", "nats", "nats.js")
_ROOT = Path(__file__).parents[2]
_PATH_BYTES = 4096


def descendants() -> list[int]:
    """Find all processes below this one."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    children.setdefault(int(parent), []).append(int(entry.name))
    found, look = [], [os.getpid()]
    while look:
        below = children.get(look.pop(), [])
        found += below
        look += below
    return found


def reap(program: int) -> int | None:
    """Reap ended processes; return the program's exit code if it is among them."""
    code = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == program:
                ended = os.waitstatus_to_exitcode(status)
                code = ended if ended >= 0 else 128 - ended
    return code


def kill_all(program: int) -> int | None:
    """Kill all descendants until none is left; return the program's exit code if it ended by that."""
    code = None
    while victims := descendants():
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)
        ended = reap(program)
        code = ended if ended is not None else code
    ended = reap(program)
    return ended if ended is not None else code


def watch(program: int) -> int:
    """Wait until every process of the container has ended; return the program's exit code."""
    while True:
        received = signal.sigwait(_WATCHED)
        if received == signal.SIGTERM:
            code = kill_all(program)
            return 128 + signal.SIGKILL if code is None else code
        if received == signal.SIGINT:
            with contextlib.suppress(ProcessLookupError):
                os.kill(program, signal.SIGINT)
        elif (code := reap(program)) is not None:
            kill_all(program)
            return code


def run_first(starter: int, report: socket.socket) -> None:
    """Run as the first process of a container; return only in its program, which is a child."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    library = ctypes.CDLL(None, use_errno=True)
    library.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    library.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != starter:
        os._exit(128 + signal.SIGKILL)
    program = os.fork()
    if program == 0:
        report.close()
        # The tests may have been started with SIGINT ignored (a background shell): a container never is.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
        return
    report.sendall(f"{os.getpid()}\n".encode())
    code = watch(program)
    with contextlib.suppress(OSError):
        report.sendall(f"{code}\n".encode())
    os._exit(0)


def reap_first_processes(*_: object) -> None:
    """Reap the first processes that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def wait_for_container(requests: socket.socket) -> Path | None:
    """Fork the first process of each container; return its folder in its program, None when the starter ends."""
    starter = os.getpid()
    signal.signal(signal.SIGCHLD, reap_first_processes)
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, _PATH_BYTES, 2)
        if not message:
            return None
        # Blocked before the fork: a signal that comes at once is for the first process.
        signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        if os.fork() == 0:
            requests.close()
            os.setsid()
            report, output = socket.socket(fileno=descriptors[0]), descriptors[1]
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.close(output)
            run_first(starter, report)
            return Path(message.decode())
        for descriptor in descriptors:
            os.close(descriptor)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)


def enter(folder: Path) -> None:
    """Take on the folder and the variables of a container."""
    variables = json.loads((folder / "start.json").read_text())
    os.environ.clear()  # noqa: TID251 - the program's own
    os.environ.update(variables)  # noqa: TID251
    os.chdir(folder / "fs" / "root")
    tempfile.tempdir = None
    # As the interpreter sets it at its start: the working folder, PYTHONPATH, packages.
    sys.path[:] = [str(Path.cwd()), *variables["PYTHONPATH"].split(os.pathsep), *sys.path]


def import_forks() -> tuple[types.ModuleType, types.ModuleType]:
    """Import from the project what forks programs, and leave nothing of it to be found by a container."""
    sys.path.insert(0, str(_ROOT))
    try:
        names = ("preloaded_process", "popen")
        preloaded_process, popen = (importlib.import_module(f"tests.harness.preloaded.{name}") for name in names)
    finally:
        del sys.path[0]
        for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
            del sys.modules[name]
    return preloaded_process, popen


if __name__ == "__main__":
    del sys.path[0]  # this file's folder
    gc.disable()  # nothing of the imports is garbage
    preloaded_process, popen = import_forks()
    for name in (_PROGRAM, *_PACKAGES):
        importlib.import_module(name)
    del sys.modules[_PROGRAM]
    gc.collect()
    gc.freeze()
    gc.enable()
    container = wait_for_container(socket.socket(fileno=int(sys.argv[1])))
    if container is not None:
        enter(container)
        if sys.argv[2] == "forks":
            forked = preloaded_process.fork_preloaded_process(Path.cwd())
            if forked is not None:
                preloaded_process.run(forked)
            popen.install()
        sys.argv[1:] = []
        runpy._run_module_as_main(_PROGRAM)  # type: ignore[attr-defined] # what `python -m` calls
