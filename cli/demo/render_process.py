"""Rendering of a demo's input in a child process, which reports its progress as one JSON object per line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cli.failure import Failure
from cli.settings import child_environment


def render_in_child(module: str, arguments: Sequence[str], folder: Path) -> Iterator[dict[str, Any]]:
    """Run a simulator's module with ``folder`` and more arguments; yield its progress reports.

    Raises:
        Failure: the child process failed.
    """
    environment = child_environment() | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    log = folder / "render.log"
    folder.mkdir(parents=True, exist_ok=True)
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(folder), *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            start_new_session=True,
            text=True,
        )
        assert process.stdout
        try:
            for line in process.stdout:
                yield json.loads(line)
            process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()
    if process.returncode != 0:
        raise Failure("The demo's input could not be rendered.", code="filming_failed", hint=f"See its log: {log}")
