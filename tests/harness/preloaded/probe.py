"""A program that reports what it has from its start, as one line of JSON: ``python -m tests.harness.preloaded.probe``.

Another first argument has it do something else: end with a code, wait for a signal, fail, copy its input to its output,
draw random numbers, or start another probe and report the number of its own forks.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil

from tests.harness.preloaded.popen import PRELOADED


def report() -> dict[str, Any]:
    """Return everything that a program has from its parent and from the interpreter's start."""
    process = psutil.Process()
    return {
        "arguments": sys.argv[1:],
        "program": sys.argv[0],
        "original arguments": sys.orig_argv,
        "shown arguments": [word for word in process.cmdline() if word],
        "variables": dict(os.environ),  # noqa: TID251 - what it was started with
        "shown variables": process.environ(),
        "folder": str(Path.cwd()),
        "imports": sys.path,
        "parent": os.getppid(),
        "session": os.getsid(0) - os.getpid() and os.getsid(0),
        "group": os.getpgid(0) - os.getpid() and os.getpgid(0),
        "open files": sorted(number for number in range(64) if _is_open(number)),
        "threads": process.num_threads(),
        "children": len(process.children()),
        "signals": {number.name: str(signal.getsignal(number)) for number in signal.Signals},
        "blocked signals": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "niceness": process.nice(),
        "module": [__name__, getattr(sys.modules["__main__"].__spec__, "name", None), __file__],
        "globals": sorted(name for name in vars(sys.modules["__main__"]) if name.startswith("__")),
        "line buffering": [sys.stdout.line_buffering, sys.stderr.line_buffering],
        "write through": [sys.stdout.write_through, sys.stderr.write_through],
        "encodings": [(file.encoding, file.errors) for file in (sys.stdin, sys.stdout, sys.stderr)],
        "names": [file.name for file in (sys.stdin, sys.stdout, sys.stderr)],
        "writes bytecode": not sys.dont_write_bytecode,
        "temporary folder": tempfile.gettempdir(),
    }


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def main() -> None:
    """Do what the first argument says."""
    match sys.argv[1:]:
        case ["exit", code]:
            sys.exit(int(code))
        case ["wait"]:
            print("waiting", flush=True)
            signal.pause()
        case ["raise"]:
            raise ValueError("asked for")
        case ["copy"]:
            sys.stdout.write(sys.stdin.read())
        case ["start", *words]:
            command = [sys.executable, "-m", "tests.harness.preloaded.probe", *words]
            with subprocess.Popen(command, cwd=os.getcwd()) as process:  # noqa: PTH109 - as it is
                code = process.wait(60)
            print(json.dumps({"forks": PRELOADED.forks, "process": process.pid, "code": code}))
        case ["random"]:
            print(random.random(), os.urandom(8).hex())
        case _:
            print(json.dumps(report()))


if __name__ == "__main__":
    main()
