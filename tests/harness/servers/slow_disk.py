"""A disk that is slow, or hangs, for one process: each of its writes to files and each sync waits, in one queue.

The process is started under a seccomp filter whose listener this process holds: Linux asks it before each of these
system calls, it waits, and lets the call go on. Needs no rights and no file system of its own, and works for programs
that do not use the C library, such as nats-server. A disk has one queue, so the calls of a process wait for each other.

What is read is not slowed: a server that has its data in the page cache reads none either.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import os
import platform
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence

_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
#: pwrite64, pwritev, fsync, fdatasync, ftruncate, rename, renameat, renameat2.
_CALLS = {"x86_64": (18, 296, 74, 75, 77, 82, 264, 316), "aarch64": (68, 70, 82, 83, 46, 38, 276)}
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SET_NO_NEW_PRIVS = 38
_SET_FILTER, _NEW_LISTENER, _WAIT_KILLABLE = 1, 1 << 3, 1 << 5
_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ASK = 0x7FFF0000, 0x7FC00000
_RECEIVE, _SEND, _IS_VALID = 0xC0502100, 0xC0182101, 0x40082102
_REQUEST_BYTES, _GO_ON = 80, 1
#: After this a hanging call is looked at again: its process may have been killed.
_LOOK_S = 0.2


class SlowDisk:
    """The disk of one process at a time; as fast as it is, until ``slow``."""

    def __init__(self) -> None:
        #: Calls that had to wait.
        self.delayed = 0
        self._delay_s = 0.0
        self._changed = threading.Condition()

    def slow(self, delay_s: float) -> None:
        """Let each write and sync take so much longer from now on: for ever with ``inf``, and not at all with 0."""
        with self._changed:
            self._delay_s = delay_s
            self._changed.notify_all()

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a program on this disk."""
        here, there = socket.socketpair()
        with here, there:
            process = subprocess.Popen(
                [sys.executable, "-S", __file__, str(there.fileno()), *command],
                env=environment,
                pass_fds=[there.fileno()],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            there.close()
            here.settimeout(60)
            _, (listener, *_), _, _ = socket.recv_fds(here, 1, 1)
        threading.Thread(target=self._serve, args=(listener,), daemon=True).start()
        return process

    def _serve(self, listener: int) -> None:
        """Answer the calls of a process until it has ended."""
        calls = select.poll()
        calls.register(listener, select.POLLIN)
        try:
            while calls.poll()[0][1] & select.POLLIN:
                request = bytearray(_REQUEST_BYTES)
                with contextlib.suppress(OSError):  # the process was killed meanwhile
                    fcntl.ioctl(listener, _RECEIVE, request)
                    self._wait(listener, bytes(request[:8]))
                    fcntl.ioctl(listener, _SEND, struct.pack("=8sqiI", request[:8], 0, 0, _GO_ON))
        finally:
            os.close(listener)

    def _wait(self, listener: int, request_id: bytes) -> None:
        """Wait as long as this disk takes now.

        Raises:
            OSError: the process was killed meanwhile.
        """
        began = time.monotonic()
        with self._changed:
            self.delayed += self._delay_s > 0
            while (remaining_s := began + self._delay_s - time.monotonic()) > 0:
                fcntl.ioctl(listener, _IS_VALID, request_id)
                self._changed.wait(min(remaining_s, _LOOK_S))


@functools.cache
def is_possible() -> bool:
    """Return whether this kernel, and the container, let a process be slowed."""
    if sys.platform != "linux" or platform.machine() not in _CALLS:
        return False
    here, there = socket.socketpair()
    with here, there:
        command = [sys.executable, "-S", __file__, str(there.fileno()), "/bin/true"]
        done = subprocess.run(command, pass_fds=[there.fileno()], stderr=subprocess.DEVNULL, check=False, timeout=60)
    return done.returncode == 0


def _filtered(libc: ctypes.CDLL) -> int:
    """Filter the system calls of this process from now on; return the listener.

    Raises:
        OSError: the kernel or a container does not allow it.
    """
    machine = platform.machine()
    calls = _CALLS[machine]
    steps = [
        (_LOAD, 0, 0, 4),
        (_JUMP_EQUAL, 0, len(calls) + 1, _ARCHITECTURE[machine]),
        (_LOAD, 0, 0, 0),
        *((_JUMP_EQUAL, len(calls) - place, 0, number) for place, number in enumerate(calls)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ASK),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = struct.pack("=HxxxxxxQ", len(steps), ctypes.addressof(code))
    if libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        for flags in (_NEW_LISTENER | _WAIT_KILLABLE, _NEW_LISTENER):  # the former since Linux 5.19
            listener: int = libc.syscall(_SECCOMP[machine], _SET_FILTER, flags, program)
            if listener >= 0:
                return listener
    raise OSError(ctypes.get_errno(), "no listener of seccomp")


def _run(channel: int, command: Sequence[str]) -> None:
    """Become a program whose writes are asked about over ``channel``."""
    with socket.socket(fileno=channel) as parent:
        listener = _filtered(ctypes.CDLL(None, use_errno=True))
        socket.send_fds(parent, [b"1"], [listener])
        os.close(listener)
    os.execve(command[0], list(command), os.environ)  # noqa: TID251 - that of the start, unchanged


if __name__ == "__main__":
    _run(int(sys.argv[1]), sys.argv[2:])
