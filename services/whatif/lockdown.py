"""Lockdown of a process that replays events: no network, no file to write, no other process; for good.

Where the kernel allows it, the process moves into a user and a network namespace of its own, in which there is no
network. In any case an audit hook refuses what opens something, which Python calls before the system does.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import sys
from typing import Any, Final

_NEW_USER: Final = 0x10000000
_NEW_NETWORK: Final = 0x40000000
#: Flags with which a file is opened for more than reading.
_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
#: Events of the audit hook by their beginnings: sockets, processes, native code, changes to files.
_REFUSED: Final = (
    "socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.startfile", "pty.",
    "ctypes.", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
    "os.chown", "os.chflags", "os.utime", "os.setxattr", "os.removexattr", "os.kill", "os.putenv", "shutil.",
    "tempfile.", "sqlite3.", "ftplib.", "smtplib.", "urllib.", "http.", "webbrowser.", "mmap.",
    "signal.pthread_kill", "syslog.",
)  # fmt: skip


class Refused(PermissionError):  # noqa: N818 - it is an answer
    """Raised when a replay tries to reach anything outside of it."""


def lock_down() -> bool:
    """Lock this process down; return whether the kernel took the network away besides."""
    isolated = _leave_network()
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.addaudithook(_refuse)
    return isolated


def _leave_network() -> bool:
    """Move into namespaces without a network; return whether the kernel allows it."""
    try:
        unshare = ctypes.CDLL(None, use_errno=True).unshare
    except (OSError, AttributeError):
        return False  # not Linux
    return int(unshare(_NEW_USER | _NEW_NETWORK)) == 0


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        flags = arguments[2] if len(arguments) > 2 else 0
        if isinstance(flags, int) and flags & _WRITES:
            raise Refused(f"a replay opens no file to write: {arguments[0]!r}")
        return
    if event.startswith(_REFUSED):
        raise Refused(f"a replay does nothing outside of itself: {event}")
