"""First process of a container: all processes end with it, in any session and with any parent.

Runs alone, without any package: `python -I -S first_process.py PROGRAM ARGUMENT...`. SIGINT is handed on to the
program only; SIGTERM, or the end of the process that started this one, kills everything at once, as the loss of a host
or of memory does. It ends with the program's exit code, or 128 + the number of the signal that ended the program.
Linux only: orphans become its children by PR_SET_CHILD_SUBREAPER (prctl(2)).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_WATCHED = {signal.SIGINT, signal.SIGTERM, signal.SIGCHLD}


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


def main() -> int:
    """Run the program as the first process of its container."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    started_by = os.getppid()
    library = ctypes.CDLL(None, use_errno=True)
    library.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    library.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != started_by:
        return 128 + signal.SIGKILL
    program = os.fork()
    if program == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
        # The tests may have been started with SIGINT ignored (a background shell): a container never is.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.execv(sys.argv[1], sys.argv[1:])
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


if __name__ == "__main__":
    sys.exit(main())
