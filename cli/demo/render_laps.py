"""Rendering of the demo's two laps in a child process, with progress."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from cli.failure import Failure
from cli.progress_bar import progress_bar
from cli.settings import child_environment


def render_laps(folder: Path, seed: int, duration_s: float, *, silent: bool = False) -> tuple[Path, Path, Path]:
    """Render two laps and return the paths of both videos and of the ground truth.

    Raises:
        Failure: the child process failed.
    """
    module = "simulators.laps.two_laps"
    command = [sys.executable, "-m", module, str(folder), "--seed", str(seed), "--duration-s", str(duration_s)]
    environment = child_environment() | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    log = folder / "render.log"
    folder.mkdir(parents=True, exist_ok=True)
    with log.open("w") as errors, progress_bar("Rendering two laps", silent=silent) as update:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, env=environment, start_new_session=True, text=True
        )
        assert process.stdout
        done = {"a": 0.0, "b": 0.0}
        try:
            for line in process.stdout:
                report = json.loads(line)
                done[report["lap"]] = report["fraction"]
                update(sum(done.values()) / 2, "")
            process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()
    if process.returncode != 0:
        raise Failure("The laps could not be rendered.", code="filming_failed", hint=f"See its log: {log}")
    return folder / "lap_a.mp4", folder / "lap_b.mp4", folder / "truth.json"
