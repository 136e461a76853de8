"""The preloaded process: ``python -m tests.harness.preloaded.preloaded_process SOCKET …``; it ends with its parent.

It has one thread, no event loop and no open files, so a fork of it is like a new process. Each program is forked twice,
and the process between ends at once: the program becomes a child of the test process, which the kernel has asked to
adopt orphans at that moment (PR_SET_CHILD_SUBREAPER in prctl(2)) and which waits for it as for any child. Linux only.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import gc
import importlib
import io
import os
import runpy
import signal
import socket
import sys
import tempfile
import time
import types
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.harness.preloaded import popen
from tests.harness.preloaded.start_request import MAXIMUM_BYTES, ROOT, StartRequest

#: What the programs run, and what they import only when they run.
_MODULES = (
    "cli.__main__",
    "cli.embedded.up",
    "cli.jobs.events",
    "cli.operators.dispatch",
    "cli.operators.key",
    "cli.replays.replay",
    "cli.sessions.sessions",
    "httpx",
    "kit.bucket",
    "modal_workers.runtime.attempt",
    "modal_workers.runtime.worker_process",
    "services.dispatcher.__main__",
    "services.gateway.__main__",
    "services.notifier.__main__",
)
_MAXIMUM_DESCRIPTORS = 16
_PR_SET_PDEATHSIG = 1
_ADOPTION_POLL_S = 0.0002
#: Where in /proc/self/stat the addresses of a process's arguments and variables begin, after its name (proc(5)).
_ADDRESSES = 45
#: Locales in which the interpreter lets any byte pass in the standard files.
_PLAIN_LOCALES = ("C", "POSIX", "C.UTF-8", "C.utf8", "UTF-8")
#: The first is PYTHONPATH of the preloaded process.
_INTERPRETERS_PATH = sys.path[1:]


def preload() -> None:
    """Import what the programs import; no garbage collection of a program looks through it."""
    gc.disable()
    for name in _MODULES:
        importlib.import_module(name)
    catalog = importlib.import_module("modal_workers.catalog")
    catalog.workloads()
    catalog.forget_found()  # a program may have others; the imported specifications stay
    asyncio.run(_open_s3_client())
    for name in _MODULES:
        if name.endswith(("__main__", "_process")):
            del sys.modules[name]  # it runs as ``__main__``
    gc.collect()
    gc.freeze()
    gc.enable()
    threads = len(list(Path("/proc/self/task").iterdir()))
    assert threads == 1, f"an import has started {threads - 1} threads, which a fork does not have"


async def _open_s3_client() -> None:
    """Make botocore read its descriptions of S3, 1 MB of JSON; a client that is only opened connects to nothing."""
    bucket, settings = importlib.import_module("kit.bucket"), importlib.import_module("kit.settings")
    nowhere = settings.S3Settings(endpoint_url="http://127.0.0.1:9", access_key_id="none", secret_access_key="none")
    async with bucket.open_bucket(nowhere):
        pass


def wait_for_start(requests: socket.socket) -> StartRequest | None:
    """Fork a process for each request; return the request in the fork, None when the parent has ended."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, MAXIMUM_BYTES, _MAXIMUM_DESCRIPTORS)
        if not message:
            return None
        reading, writing = os.pipe()
        between = os.fork()
        if between == 0:
            _fork_program(writing)
            # Only the program comes here.
            requests.detach()
            request = StartRequest.decoded(message)
            _become(request)
            os.close(_take_descriptors(descriptors, request.descriptors, writing))  # the program is ready
            return request
        os.close(writing)
        os.waitpid(between, 0)
        requests.sendall(_read_to_end(reading))
        for descriptor in (reading, *descriptors):
            os.close(descriptor)


def _fork_program(report: int) -> None:
    """Fork the program, report its id and end; return in the program once it has its parent."""
    between = os.getpid()
    program = os.fork()
    if program:
        os.write(report, f"{program}".encode())
        os._exit(0)
    while os.getppid() == between:
        time.sleep(_ADOPTION_POLL_S)


def _read_to_end(descriptor: int) -> bytes:
    parts = []
    while part := os.read(descriptor, 64):
        parts.append(part)
    return b"".join(parts)


def _become(request: StartRequest) -> None:
    """Take on the session, folder, variables and arguments of the program."""
    if request.new_session:
        os.setsid()
    if request.ends_with:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != request.ends_with:
            os._exit(1)  # it has ended between the fork and prctl
    os.chdir(request.folder)
    os.environ.clear()  # noqa: TID251 - the program's own
    os.environ.update(request.environment)  # noqa: TID251
    if not request.environment.get("LC_ALL") and _locale(request.environment) in ("C", "POSIX"):
        os.environ["LC_CTYPE"] = "C.UTF-8"  # noqa: TID251 - as the interpreter does (PEP 538)
    time.tzset()
    tempfile.tempdir = None
    sys.orig_argv[:] = [sys.executable, "-m", request.module, *request.arguments]
    sys.argv[:] = ["-m", *request.arguments]
    _show(sys.orig_argv, [f"{name}={value}" for name, value in request.environment.items()])
    sys.dont_write_bytecode = bool(request.environment.get("PYTHONDONTWRITEBYTECODE"))
    given = request.environment.get("PYTHONPATH", "")
    first = () if "PYTHONSAFEPATH" in request.environment else (request.folder,)
    # As the interpreter has it at its start; its own part is the end of our path.
    sys.path[:] = [*first, *filter(None, given.split(os.pathsep)), *_INTERPRETERS_PATH]


def _locale(variables: Mapping[str, str]) -> str:
    return next((variables[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if variables.get(name)), "C")


def _show(arguments: Sequence[str], variables: Sequence[str]) -> None:
    """Write arguments and variables where the kernel shows them to other processes; both had enough room at the start.

    Processes of a run are found by a variable of theirs (kit/process_tree.py).
    """
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    addresses = [int(field) for field in fields[_ADDRESSES : _ADDRESSES + 4]]
    for words, start, end in ((arguments, *addresses[:2]), (variables, *addresses[2:])):
        text = b"".join(os.fsencode(word) + b"\0" for word in words)
        assert len(text) < end - start, "the preloaded process was started with too little room"
        ctypes.memset(start, 0, end - start)
        ctypes.memmove(start, text, len(text))


def _take_descriptors(received: Sequence[int], numbers: Sequence[int], report: int) -> int:
    """Move the received files to their numbers, close all others but ``report``, and return its new number."""
    targets = (0, 1, 2, *numbers)
    above = max(targets) + 1
    report, *moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, above) for descriptor in (report, *received)]
    for target, descriptor in zip(targets, moved, strict=True):
        os.dup2(descriptor, target)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - numbers, not paths
        if int(name) not in (*targets, report):
            with contextlib.suppress(OSError):  # that of the listing itself
                os.close(int(name))
    return report


def _open_standard_files(variables: Mapping[str, str]) -> None:
    """Make the standard files as the interpreter does: new ones, buffered as their kind and the variables say."""
    errors = "surrogateescape" if _locale(variables) in _PLAIN_LOCALES else "strict"
    is_buffered = not variables.get("PYTHONUNBUFFERED")
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        raw = io.FileIO(number, mode, closefd=False)
        raw.name = f"<{name}>"
        buffered = io.BufferedReader(raw) if mode == "r" else io.BufferedWriter(raw) if is_buffered else raw
        text = io.TextIOWrapper(
            buffered,  # type: ignore[arg-type] # as the interpreter does it
            encoding="utf-8",
            errors="backslashreplace" if name == "stderr" else errors,
            line_buffering=is_buffered and (name == "stderr" or raw.isatty()),
            write_through=mode == "w" and not is_buffered,
        )
        setattr(sys, name, text)
        setattr(sys, f"__{name}__", text)


def fork_preloaded_process(root: Path = ROOT) -> StartRequest | None:
    """Fork a preloaded process of the program, which has not begun; return what is asked for in the forks of that.

    The program starts its children, which are below ``root``, as such forks once `popen.install` is called.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork():
        theirs.close()
        popen.PRELOADED.take(ours, root)
        return None
    ours.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends with the program
    nothing = os.open(os.devnull, os.O_RDWR)
    requests = _take_descriptors([nothing] * 3, [], theirs.detach())
    _show(["preloaded"], [])  # found by no mark of the program
    request = wait_for_start(socket.socket(fileno=requests))
    if request is None:
        os._exit(0)
    return request


def run(request: StartRequest) -> None:
    """Run the module as ``python -m`` does."""
    while request.starts_programs:
        if (forked := fork_preloaded_process()) is None:
            popen.install()
            break
        request = forked
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _open_standard_files(request.environment)
    sys.modules["__main__"] = module = types.ModuleType("__main__")
    module.__annotations__ = {}
    runpy._run_module_as_main(request.module)  # type: ignore[attr-defined] # what `python -m` calls


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the test process, in the same session, ends us
    preload()
    started = wait_for_start(socket.socket(fileno=int(sys.argv[1])))
    if started is not None:
        run(started)
