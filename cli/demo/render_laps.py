"""Rendering of the demo's two laps, with progress."""

from __future__ import annotations

from pathlib import Path

from cli.demo.render_process import render_in_child
from cli.progress_bar import progress_bar


def render_laps(folder: Path, seed: int, duration_s: float, *, silent: bool = False) -> tuple[Path, Path, Path]:
    """Render two laps and return the paths of both videos and of the ground truth.

    Raises:
        Failure: the child process failed.
    """
    arguments = ["--seed", str(seed), "--duration-s", str(duration_s)]
    with progress_bar("Rendering two laps", silent=silent) as update:
        done = {"a": 0.0, "b": 0.0}
        for report in render_in_child("simulators.laps.two_laps", arguments, folder):
            done[report["lap"]] = report["fraction"]
            update(sum(done.values()) / 2, "")
    return folder / "lap_a.mp4", folder / "lap_b.mp4", folder / "truth.json"
