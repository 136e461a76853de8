"""Two short laps, filmed small: they and their comparison take 6 s of CPU time, those of the demo 60 s.

``python -m tests.harness.vision.short_laps LAP_A LAP_B`` renders them: the test itself loads no large library.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
SEED = 1


def render_short_laps(folder: Path, name_a: str = "lap_a.mp4", name_b: str = "lap_b.mp4") -> tuple[Path, Path]:
    """Render both laps in a process of their own, and return their files."""
    path_a, path_b = folder / name_a, folder / name_b
    command = [sys.executable, "-m", "tests.harness.vision.short_laps", str(path_a), str(path_b)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=300)
    return path_a, path_b


def main() -> None:
    """Render both laps."""
    from simulators.laps.circuit import make_circuit
    from simulators.laps.frame_renderer import CircuitWorld
    from tests.harness.vision.lap_videos import LENGTH_M, render_lap_a, render_lap_b, small_setting

    path_a, path_b = map(Path, sys.argv[1:])
    world = CircuitWorld(make_circuit(SEED, LENGTH_M), 4.0)
    render_lap_a(path_a.parent, SEED, world)[0].rename(path_a)
    render_lap_b(path_b, small_setting(SEED, "clean"), world)


if __name__ == "__main__":
    main()
