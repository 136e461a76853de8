"""Landlock alone: what it closes in a process that has none of the other layers, as where a container forbids them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modal_workers.footage.kernel_rules import landlock_version, libc

#: A process that tries everything, closes its files, and tries again.
TRIES = """
import json, os, socket, sys
from modal_workers.footage.kernel_rules import forgo_privileges, libc, restrict_files

folder, port, name, process_id = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
kept = open(f"{folder}/kept", "r+")
for number in range(2):
    os.mkdir(f"{folder}/old folder {number}")
    os.symlink("kept", f"{folder}/old link {number}")

def connect(family, address):
    with socket.socket(family) as connection:
        connection.connect(address)

def bind():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))

tries = {
    "read a file": lambda: os.close(os.open(f"{folder}/kept", os.O_RDONLY)),
    "write to a file": lambda: os.close(os.open(f"{folder}/kept", os.O_WRONLY)),
    "list a folder": lambda: os.listdir(folder),
    "list the root": lambda: os.listdir("/"),
    "make a file": lambda: os.close(os.open(f"{folder}/file {number}", os.O_WRONLY | os.O_CREAT)),
    "make a folder": lambda: os.mkdir(f"{folder}/folder {number}"),
    "remove a folder": lambda: os.rmdir(f"{folder}/old folder {number}"),
    "make a link": lambda: os.symlink("kept", f"{folder}/link {number}"),
    "remove a link": lambda: os.unlink(f"{folder}/old link {number}"),
    "run a program": lambda: os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0),
    "connect by TCP": lambda: connect(socket.AF_INET, ("127.0.0.1", port)),
    "bind a TCP port": bind,
    "connect to a socket without a path": lambda: connect(socket.AF_UNIX, "\\0" + name),
    "signal the parent": lambda: os.kill(process_id, 0),
    "read what is open": lambda: kept.seek(0) or kept.read(),
    "write what is open": lambda: kept.write("more") and kept.flush(),
}

def outcomes():
    found = {}
    for name, attempt in tries.items():
        try:
            attempt()
            found[name] = "done"
        except OSError as error:
            found[name] = type(error).__name__
    return found

library = libc()
number = 0
before = outcomes()
number = 1
assert forgo_privileges(library)
closed = restrict_files(library)
print(json.dumps([closed, before, outcomes()]))
"""
#: The version of Landlock that forbids it first; 0: it stays allowed.
SINCE = {
    "connect by TCP": 4,
    "bind a TCP port": 4,
    "connect to a socket without a path": 6,
    "signal the parent": 6,
    "read what is open": 0,
    "write what is open": 0,
}


def tried(folder: Path) -> tuple[bool, dict[str, str], dict[str, str]]:
    """Return whether a process could close its files, and what it could do before and after."""
    (folder / "kept").write_text("here")
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as local:
        name = f"saccade-test-{os.getpid()}"
        local.bind(f"\0{name}")
        local.listen()
        words = [str(folder), str(tcp.getsockname()[1]), name, str(os.getpid())]
        done = subprocess.run(
            [sys.executable, "-c", TRIES, *words], capture_output=True, text=True, check=False, timeout=60
        )
    assert done.returncode == 0, done.stderr
    found: tuple[Any, Any, Any] = json.loads(done.stdout)
    return found


def test_landlock_alone_leaves_a_process_what_it_has_open(tmp_path: Path) -> None:
    library = libc()
    version = landlock_version(library) if library else 0
    if version < 1:
        pytest.skip("the kernel has no Landlock")
    closed, before, after = tried(tmp_path)
    assert closed
    assert set(before.values()) == {"done"}, before
    forbidden = {name for name in before if 0 < SINCE.get(name, 1) <= version}
    assert after == {name: "PermissionError" if name in forbidden else "done" for name in before}
