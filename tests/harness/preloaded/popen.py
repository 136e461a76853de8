"""``subprocess.Popen`` that starts programs of this project as forks of this test process's preloaded process."""

from __future__ import annotations

import contextlib
import ctypes
import inspect
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.harness.preloaded.start_request import MAXIMUM_BYTES, ROOT, StartRequest, module_of

_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37
_NO_DESCRIPTOR = -1
#: What a start may not ask for: the preloaded process does not do it.
_DEFAULTS = {
    "executable": None,
    "close_fds": True,
    "shell": False,
    "restore_signals": True,
    "gid": None,
    "gids": None,
    "uid": None,
    "umask": -1,
    "process_group": -1,
}
_Popen = subprocess.Popen


class FirstStarts:
    """Commands whose first start in this process is a real one, while ``are_real``: later ones are forks."""

    def __init__(self) -> None:
        self.are_real = False
        self._started: set[tuple[str, ...]] = set()

    def may_fork(self, request: StartRequest) -> bool:
        """Return whether a program may be a fork, and note that it starts."""
        if not self.are_real:
            return True
        # "saccade rules create" and "saccade rules list" import the same.
        words = [word for word in request.arguments[:1] if not word.startswith("-")]
        command = (request.module, *words)
        if command in self._started:
            return True
        self._started.add(command)
        return False


_FIRST_STARTS = FirstStarts()


class PreloadedProcess:
    """The preloaded process of this process; it starts when it is first needed and ends with this process."""

    def __init__(self) -> None:
        #: Starts that were forks.
        self.forks = 0
        #: Folder of the programs.
        self.root = ROOT
        #: Whether another one follows one that has ended.
        self.can_start = True
        self._lock = threading.Lock()
        self._requests: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process_id(self) -> int | None:
        return self._process.pid if self._process else None

    def fork(self, request: StartRequest, descriptors: list[int]) -> int:
        """Fork a program as a child of this process and return its id; ``descriptors`` begin with the standard files.

        Raises:
            OSError: the preloaded process has ended.
        """
        with self._lock:
            if self._requests is None and not self.can_start:
                raise ConnectionResetError("the preloaded process has ended")
            requests = self._requests = self._requests or self._start()
            try:
                with _adopting_orphans():
                    socket.send_fds(requests, [request.encoded()], descriptors)
                    process_id = int(requests.recv(32) or 0)
            except OSError:
                process_id = 0
            if not process_id:  # the next start has a new one
                requests.close()
                self._requests = None
                if self._process:
                    self._process.kill()
                    self._process.wait(30)
                raise ConnectionResetError("the preloaded process has ended")
            self.forks += 1
            return process_id

    def take(self, requests: socket.socket, root: Path) -> None:
        """Use a preloaded process that was forked from this one, which is a program that has not begun yet."""
        self._requests, self._process, self._lock = requests, None, threading.Lock()
        self.root, self.can_start = root, root == ROOT

    def close(self) -> None:
        """End the preloaded process; the programs stay."""
        with self._lock:
            if self._requests and self._process:
                self._requests.close()
                self._process.wait(30)
            self._requests = self._process = None

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            room = "x" * MAXIMUM_BYTES
            self._process = _Popen(
                [sys.executable, "-m", f"{__package__}.preloaded_process", str(theirs.fileno()), room],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", "PRELOADED_ROOM": room},  # noqa: TID251
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        return ours


@contextlib.contextmanager
def _adopting_orphans() -> Iterator[None]:
    """Have the kernel make this process the parent of descendants whose parent ends."""
    library, before = ctypes.CDLL(None), ctypes.c_int()
    library.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    library.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        library.prctl(_PR_SET_CHILD_SUBREAPER, before.value, 0, 0, 0)


PRELOADED = PreloadedProcess()


class PreloadedPopen(_Popen):  # type: ignore[type-arg] # what it is of is what Popen is of
    """``Popen`` that forks the preloaded process where that is the same, and starts the program itself elsewhere."""

    def _execute_child(self, *arguments: Any) -> None:  # type: ignore[override] # differs between versions of Python
        # A private method: what comes after it, and all that waits for the process, stays Python's own.
        options = inspect.signature(_Popen._execute_child).bind(self, *arguments).arguments  # type: ignore[attr-defined]
        request = request_of(options)
        if request is None or not _FIRST_STARTS.may_fork(request):
            super()._execute_child(*arguments)  # type: ignore[misc]
            return
        given = (options["p2cread"], options["c2pwrite"], options["errwrite"])
        standard = [number if given_one == _NO_DESCRIPTOR else given_one for number, given_one in enumerate(given)]
        try:
            self.pid = PRELOADED.fork(request, [*standard, *request.descriptors])
        except ConnectionResetError:
            if PRELOADED.can_start:
                raise
            super()._execute_child(*arguments)  # type: ignore[misc]
            return
        self._child_created = True
        self._close_pipe_fds(*(options[name] for name in _PIPES))  # type: ignore[attr-defined]


_PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")


def request_of(options: Mapping[str, Any]) -> StartRequest | None:
    """Return the request for what ``Popen`` was given; None if the preloaded process cannot do the same."""
    if any(options[name] != default for name, default in _DEFAULTS.items()):
        return None
    prepare = options["preexec_fn"]
    # What `saccade up` does between fork and exec is known: a fork of the preloaded process does it too.
    is_child_of_up = getattr(prepare, "__module__", "") == "cli.embedded.processes"
    if prepare is not None and not is_child_of_up:
        return None
    if isinstance(options["args"], (str, bytes, os.PathLike)):
        return None
    own = dict(os.environ)  # noqa: TID251 - of another program
    command = [os.fspath(word) for word in options["args"]]
    environment = own if options["env"] is None else dict(options["env"])
    folder = str(Path(options["cwd"] or ".").absolute())
    module = module_of(command, environment, folder, own, PRELOADED.root)
    if module is None or not Path(folder).is_dir():
        return None
    descriptors = sorted(options["pass_fds"])
    ends_with = os.getpid() if is_child_of_up else 0
    request = StartRequest(
        module, command[3:], environment, folder, options["start_new_session"], descriptors, ends_with
    )
    return request if len(request.encoded()) < MAXIMUM_BYTES else None


def install(*, first_starts_are_real: bool = False) -> None:
    """Start programs of this project as forks from now on, in this process; or all but the first of each command."""
    _FIRST_STARTS.are_real = first_starts_are_real
    subprocess.Popen = PreloadedPopen  # type: ignore[misc]


def is_installed() -> bool:
    """Return whether programs of this project are started as forks."""
    return issubclass(subprocess.Popen, PreloadedPopen)


def uninstall() -> None:
    """Start all programs as Python does."""
    subprocess.Popen = _Popen  # type: ignore[misc]
