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
import os
import platform
import resource
from typing import Any, Final

from modal_workers.footage.kernel_rules import (
    ALLOW,
    ARCHITECTURE_OFFSET,
    ARCHITECTURES,
    ARGUMENT_OFFSET,
    FAIL,
    JUMP_EQUAL,
    LOAD,
    NUMBER_OFFSET,
    RETURN,
    filter_calls,
    forgo_privileges,
    libc,
    restrict_files,
)

#: Layers that the kernel may lack, as they are named in the log.
LAYERS: Final = ("own user", "own network", "landlock", "seccomp")

_NOBODY: Final = 65534
_NEW_USER, _NEW_NETWORK, _NEW_IPC = 0x10000000, 0x40000000, 0x08000000
_PR_SET_DUMPABLE: Final = 4

#: Numbers of the system calls that are left: x86-64, and ARM64 (asm-generic).
_ALLOWED: Final = {
    "x86_64": (
        0, 1, 3, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 19, 20, 25, 28, 35, 39, 60, 63, 72, 96, 98, 99, 131, 186, 202,
        204, 228, 229, 230, 231, 262, 271, 273, 318, 324, 334,
    ),
    "aarch64": (
        25, 57, 62, 63, 64, 65, 66, 67, 73, 79, 80, 93, 94, 98, 99, 101, 113, 114, 115, 123, 124, 132, 134, 135,
        139, 160, 165, 169, 172, 178, 179, 214, 215, 216, 222, 226, 233, 278, 283, 293,
    ),
}  # fmt: skip
#: Those that may name this process alone, with which glibc reads limits and aborts: prlimit64 and tgkill. Of another
#: process of the same user the one would change limits, the other end it.
_OF_ITSELF: Final = {"x86_64": (302, 234), "aarch64": (261, 131)}


def lock_down(*, memory_bytes: int, cpu_s: int) -> tuple[str, ...]:
    """Lock this process down and return which of ``LAYERS`` are in force. It must have one thread."""
    limit_resources(memory_bytes, cpu_s)
    library = libc()
    if library is None:
        return ()
    layers = {
        "own user": _leave_user(),
        "own network": library.unshare(_NEW_USER | _NEW_NETWORK | _NEW_IPC) == 0,
    }
    layers["own user"] |= layers["own network"]
    library.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if forgo_privileges(library):
        layers["landlock"] = restrict_files(library)
        layers["seccomp"] = _filter_calls(library)
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


def _filter_calls(library: Any) -> bool:
    """Allow the system calls on the list; every other one fails."""
    machine = platform.machine()
    if machine not in _ALLOWED:
        return False
    allowed = _ALLOWED[machine]
    limits, signal = _OF_ITSELF[machine]
    count = len(allowed)
    # After the numbers: limits?, signal?; load the process, this one by 0?; load it, this one by its id?; fail, allow.
    steps = [
        (LOAD, 0, 0, ARCHITECTURE_OFFSET),  # the architecture: the numbers of another one mean other calls
        (JUMP_EQUAL, 0, count + 7, ARCHITECTURES[machine]),
        (LOAD, 0, 0, NUMBER_OFFSET),
        *((JUMP_EQUAL, count - index + 6, 0, number) for index, number in enumerate(allowed)),
        (JUMP_EQUAL, 1, 0, limits),
        (JUMP_EQUAL, 2, 4, signal),
        (LOAD, 0, 0, ARGUMENT_OFFSET),
        (JUMP_EQUAL, 3, 2, 0),
        (LOAD, 0, 0, ARGUMENT_OFFSET),
        (JUMP_EQUAL, 1, 0, os.getpid()),
        (RETURN, 0, 0, FAIL),
        (RETURN, 0, 0, ALLOW),
    ]
    return filter_calls(library, steps)
