"""Rules of the Linux kernel that a thread sets for itself, for the threads and processes that it starts, and for good.

Landlock says which paths may be opened, seccomp which system calls succeed. Neither needs a privilege; a kernel or
container that lacks one says so. Both hold for the calling thread and what it starts from then on, not for others.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38
_SECCOMP_FILTER: Final = 2
_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446
_VERSION: Final = 1
_PATH_BENEATH: Final = 1
#: Rights over files that each version of Landlock knows: the number of them, which are the lowest bits.
_FILE_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_ALL_TCP, _ALL_SCOPES = 0b11, 0b11
#: Execute, read files, list folders.
_READ: Final = 0b1101
_LIST: Final = 0b1000
#: Character and block devices, which nobody makes.
_MAKE_DEVICE: Final = 1 << 6 | 1 << 11
#: The rights that a file has which is no folder: execute, write, read, truncate, control a device.
_OF_FILE: Final = 0b111 | 1 << 14 | 1 << 15

#: A step of a seccomp program: code, jump if true, jump if false, value (linux/filter.h).
Step = tuple[int, int, int, int]
#: Codes of steps.
LOAD, JUMP_EQUAL, JUMP_GREATER_EQUAL, RETURN = 0x20, 0x15, 0x35, 0x06
#: Outcomes of a program: the call is made; it fails with EPERM.
ALLOW, FAIL = 0x7FFF0000, 0x00050000 | errno.EPERM
#: Where a program finds the architecture that a call is made for, the call's number, and its first argument (the lower
#: half, which is all of a number of 32 bits).
ARCHITECTURE_OFFSET, NUMBER_OFFSET, ARGUMENT_OFFSET = 4, 0, 16
#: Number of each architecture (linux/audit.h).
ARCHITECTURES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def libc() -> Any:
    """Return the C library; None where the kernel is not Linux."""
    if platform.system() != "Linux":
        return None
    try:
        return ctypes.CDLL(None, use_errno=True)
    except (OSError, TypeError):
        return None


def forgo_privileges(library: Any) -> bool:
    """Drop what a program with special rights would add: without that no rule is accepted."""
    return bool(library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)


def landlock_version(library: Any) -> int:
    """Return the version of the kernel's Landlock; below 1 without it."""
    return int(library.syscall(_CREATE, None, ctypes.c_size_t(0), _VERSION))


def restrict_files(
    library: Any, *, listed: Iterable[Path] = (), readable: Iterable[Path] = (), writable: Iterable[Path] = ()
) -> bool:
    """Deny every path but these, TCP and signals to what is outside, as far as the kernel's Landlock knows them.

    Return whether it is in force. Folders that are ``listed`` show their names only. What does not exist is left out.
    """
    version = landlock_version(library)
    if version < 1:
        return False
    files = (1 << _FILE_RIGHTS[min(version, max(_FILE_RIGHTS))]) - 1
    rights = struct.pack("=QQQ", files, _ALL_TCP if version >= 4 else 0, _ALL_SCOPES if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = library.syscall(_CREATE, rights, ctypes.c_size_t(size), 0)
    if ruleset < 0:
        return False
    try:
        for paths, allowed in ((listed, _LIST), (readable, _READ), (writable, ~_MAKE_DEVICE)):
            for path in paths:
                _allow(library, ruleset, path, files & allowed)
        return bool(library.syscall(_RESTRICT, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


def _allow(library: Any, ruleset: int, path: Path, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rights = rights if path.is_dir() else rights & _OF_FILE
        library.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, place), 0)
    finally:
        os.close(place)


def filter_calls(library: Any, steps: Sequence[Step]) -> bool:
    """Install a program that decides on each system call; return whether it is in force."""
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = struct.pack("=HxxxxxxQ", len(steps), ctypes.addressof(code))
    return bool(library.prctl(_PR_SET_SECCOMP, _SECCOMP_FILTER, program, 0, 0) == 0)
