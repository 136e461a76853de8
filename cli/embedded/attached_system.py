"""Embedded system as a child process of a command; it stops when the command ends, however that happens."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from cli.failure import Failure
from cli.output import print_note
from cli.settings import child_environment

#: More than the child takes to end itself, with its workers, where a stop hangs.
_STOP_S: Final = 45.0


@contextmanager
def attached_system(data: Path, port: int) -> Iterator[str]:
    """Run an embedded system; yield its URL when it is ready.

    Raises:
        Failure: it did not start; with the child's own reason.
    """
    command = [sys.executable, "-m", "cli", "up", "--attached", "--json", "--port", str(port), "--data", str(data)]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=child_environment(),
            start_new_session=True,
            text=True,
        )
        assert process.stdin
        assert process.stdout
        try:
            yield _wait_until_ready(process.stdout, errors)
        finally:
            # The child stops at the end of its standard input.
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(output: IO[str], errors: IO[str]) -> str:
    """Read the child's output until it is ready and return its URL; a thread prints later notes.

    Raises:
        Failure: the child ended before.
    """
    for line in output:
        message = json.loads(line)
        if message["event"] == "ready":
            threading.Thread(target=_print_notes, args=(output,), daemon=True).start()
            return str(message["url"])
        if message["event"] == "note":
            print_note(message["message"])
    output.close()
    errors.seek(0)
    raise _failure(errors.read())


def _print_notes(output: IO[str]) -> None:
    with output:
        for line in output:
            message = json.loads(line)
            if message["event"] == "note":
                print_note(message["message"])


def _failure(text: str) -> Failure:
    for line in text.splitlines():
        try:
            error: dict[str, Any] = json.loads(line)["error"]
        except (ValueError, KeyError, TypeError):
            continue
        return Failure(error["message"], code=error["code"], hint=error["hint"])
    last = text.strip().splitlines()[-1:] or ["it printed no reason"]
    return Failure(f"The embedded system did not start: {last[0]}", code="program_failed")
