"""Locks a process that decodes what users sent, for good: it computes, reads and writes what is open, and ends.

The layers do not depend on each other; a kernel or container that lacks one leaves the others in force:

* limits of memory, processor time, written files and open files, everywhere;
* the user "nobody" where the process may change to it, or a user namespace of its own, with a network that is empty;
* Landlock: no path can be opened, no TCP connection made, no process outside signalled;
* seccomp: an allowlist of system calls; every other one fails with EPERM.

Import everything that is needed before: no module can be loaded afterwards.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import resource
import struct
from typing import Any, Final

#: Layers that the kernel may lack, as they are named in the log.
LAYERS: Final = ("own user", "own network", "landlock", "seccomp")

_NOBODY: Final = 65534
_NEW_USER, _NEW_NETWORK, _NEW_IPC = 0x10000000, 0x40000000, 0x08000000
_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 4, 22, 38
_SECCOMP_FILTER: Final = 2
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446
_LANDLOCK_VERSION: Final = 1
#: Rights over files that each version of Landlock knows: the number of them, which are the lowest bits.
_FILE_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_ALL_TCP, _ALL_SCOPES = 0b11, 0b11

#: Numbers of the system calls that are left: x86-64, and ARM64 (asm-generic).
_ALLOWED: Final = {
    "x86_64": (
        0, 1, 3, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 19, 20, 25, 28, 35, 39, 60, 63, 72, 96, 98, 99, 131, 186, 202,
        204, 228, 229, 230, 231, 234, 262, 271, 273, 302, 318, 324, 334,
    ),
    "aarch64": (
        25, 57, 62, 63, 64, 65, 66, 67, 73, 79, 80, 93, 94, 98, 99, 101, 113, 114, 115, 123, 124, 131, 132, 134, 135,
        139, 160, 165, 169, 172, 178, 179, 214, 215, 216, 222, 226, 233, 261, 278, 283, 293,
    ),
}  # fmt: skip
_ARCHITECTURE: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000 | errno.EPERM


def lock_down(*, memory_bytes: int, cpu_s: int) -> tuple[str, ...]:
    """Lock this process down and return which of ``LAYERS`` are in force. It must have one thread."""
    limit_resources(memory_bytes, cpu_s)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
    except (OSError, TypeError):
        return ()
    if platform.system() != "Linux":
        return ()
    layers = {
        "own user": _leave_user(),
        "own network": libc.unshare(_NEW_USER | _NEW_NETWORK | _NEW_IPC) == 0,
    }
    layers["own user"] |= layers["own network"]
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        layers["landlock"] = _close_files(libc)
        layers["seccomp"] = _filter_calls(libc)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    return tuple(name for name in LAYERS if layers.get(name))


def limit_resources(memory_bytes: int, cpu_s: int) -> None:
    """Limit memory and processor time of this process; it writes no file, and leaves no memory image behind."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _leave_user() -> bool:
    """Become "nobody" without groups, if this is root; return whether that was possible."""
    if os.geteuid() != 0:
        return False
    with contextlib.suppress(OSError):
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        return True
    return False


def _close_files(libc: Any) -> bool:
    """Deny every path, TCP and what is outside, as far as the kernel's version of Landlock knows it."""
    version = libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), _LANDLOCK_VERSION)
    if version < 1:
        return False
    files = (1 << _FILE_RIGHTS[min(version, max(_FILE_RIGHTS))]) - 1
    rights = struct.pack("=QQQ", files, _ALL_TCP if version >= 4 else 0, _ALL_SCOPES if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = libc.syscall(_LANDLOCK_CREATE, rights, ctypes.c_size_t(size), 0)
    if ruleset < 0:
        return False
    try:
        return bool(libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


def _filter_calls(libc: Any) -> bool:
    """Allow the system calls on the list; every other one fails."""
    machine = platform.machine()
    if machine not in _ALLOWED:
        return False
    allowed = _ALLOWED[machine]
    count = len(allowed)
    steps = [
        (_LOAD, 0, 0, 4),  # the architecture: the numbers of another one mean other calls
        (_JUMP_EQUAL, 0, count + 1, _ARCHITECTURE[machine]),
        (_LOAD, 0, 0, 0),
        *((_JUMP_EQUAL, count - index, 0, number) for index, number in enumerate(allowed)),
        (_RETURN, 0, 0, _FAIL),
        (_RETURN, 0, 0, _ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = struct.pack("=HxxxxxxQ", len(steps), ctypes.addressof(code))
    return bool(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_FILTER, program, 0, 0) == 0)
