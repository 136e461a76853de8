"""An embedded system as a child process of a command: it ends with the command, however that ends."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cli.failure import Failure
from cli.settings import child_environment

_END_S = 10.0


@contextmanager
def attached_system(data: Path, port: int) -> Iterator[str]:
    """Run an embedded system and give its URL once it is ready.

    Raises:
        Failure: it did not start, with its own reason.
    """
    command = [sys.executable, "-m", "cli", "up", "--attached", "--json", "--port", str(port), "--data", str(data)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=child_environment(),
        start_new_session=True,
        text=True,
    )
    try:
        yield _wait_until_ready(process)
    finally:
        # The end of its standard input is its sign to stop.
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stderr:
            process.stderr.close()


def _wait_until_ready(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    assert process.stderr
    for text in process.stdout:
        said = json.loads(text)
        if said["event"] == "ready":
            return str(said["url"])
    raise _failure(process.stderr.read())


def _failure(text: str) -> Failure:
    for line in text.splitlines():
        try:
            error: dict[str, Any] = json.loads(line)["error"]
        except (ValueError, KeyError, TypeError):
            continue
        return Failure(error["message"], code=error["code"], hint=error["hint"])
    last = text.strip().splitlines()[-1:] or ["it said nothing"]
    return Failure(f"The embedded system did not start: {last[0]}", code="program_failed")
