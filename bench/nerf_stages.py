"""Measures each stage of the photos' pipeline on a CPU: seconds by the clock and of processors, and memory at its peak.

    python bench/nerf_stages.py [--photos 30 30] [--width 320 480] [--frame 128 256] [--frames 144]

The simulated capture goes through the stages, each in a process of its own, as a job is: what it takes to start Python
and to import PyTorch is in its seconds, the bus and the bucket are not. Where a stage has processes of its own (poses
has: pycolmap) their processor seconds are added and the memory of the largest stands beside the stage's. Frames a
second of rendering and encoding against encoding alone are in ``nerf_render.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.needs import needs

needs("cv2", "pi_heif", "pycolmap", "torch")

# Nothing large is imported here: a process of a stage would begin with this one's peak (getrusage(2), ru_maxrss).
STAGES = ("capture", "poses", "training", "rendering", "exhibit")
SHARD_FRAMES = 144


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds and memory of each stage.")
    parser.add_argument("--photos", type=int, nargs="+", default=[30, 30])
    parser.add_argument("--width", type=int, nargs="+", default=[320, 480], help="of the photos, px")
    parser.add_argument("--frame", type=int, nargs="+", default=[128, 256], help="width and height of frames, px")
    parser.add_argument("--frames", type=int, default=SHARD_FRAMES)
    parser.add_argument("--stage", nargs=4, help="one stage here: its name, folder, frames and their size")
    wanted = parser.parse_args()
    if wanted.stage:
        name, home, *sizes = wanted.stage
        print(json.dumps(stage(name, Path(home), *map(int, sizes))))
        return
    print("| photos | frames | stage | wall s | processor s | peak MiB | its processes' MiB | what came out |")
    print("|---|---|---|---|---|---|---|---|")
    for photos, width, frame_px in zip(wanted.photos, wanted.width, wanted.frame, strict=True):
        with tempfile.TemporaryDirectory() as home:
            photographed(Path(home), photos, width)
            measure(home, photos, width, wanted.frames, frame_px)


def photographed(home: Path, photos: int, width: int) -> None:
    """Take the photos in a process of their own."""
    code = (
        "import sys; from pathlib import Path; from simulators.toy.photos import photograph;"
        "from simulators.toy.room_scene import BRIGHT; width = int(sys.argv[3]);"
        "photograph(Path(sys.argv[1]), photos=int(sys.argv[2]), size_px=(width, width * 3 // 4), bounced=BRIGHT)"
    )
    subprocess.run([sys.executable, "-c", code, str(home / "photos"), str(photos), str(width)], check=True, cwd=ROOT)


def measure(home: str, photos: int, width: int, frames: int, frame_px: int) -> None:
    """Run the stages one after the other, and print a row of each and one of all."""
    shown = f"| {photos} of {width} x {width * 3 // 4} | {frames} of {frame_px} px |"
    wall_s = cpu_s = peak_mib = 0.0
    for name in STAGES:
        command = [sys.executable, __file__, "--stage", name, home, str(frames), str(frame_px)]
        began_s = time.perf_counter()
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=surroundings())
        took_s = time.perf_counter() - began_s
        found = json.loads(done.stdout.splitlines()[-1])
        below = f"{found['below_mib']:.0f}" if found["below_mib"] else ""
        figures = f"{took_s:.1f} | {found['cpu_s']:.1f} | {found['peak_mib']:.0f} | {below} | {found['told']} |"
        print(f"{shown} {name} | {figures}", flush=True)
        wall_s, cpu_s = wall_s + took_s, cpu_s + found["cpu_s"]
        peak_mib = max(peak_mib, found["peak_mib"], found["below_mib"])
    print(f"{shown} **all** | {wall_s:.1f} | {cpu_s:.1f} | {peak_mib:.0f} | | |", flush=True)


def surroundings() -> dict[str, str]:
    """Return the environment of a stage, as the local executor does where there are as many slots as cores."""
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return dict(os.environ) | threads | {"PYTHONPATH": str(ROOT)}  # noqa: TID251 - a child's whole environment


def stage(name: str, home: Path, frames: int, frame_px: int) -> dict[str, Any]:
    """Do one stage here, all shards of rendering among it."""
    import importlib

    # Only here: see above.
    from modal_workers.nerf.params import NerfParams
    from tests.harness.vision.stage_context import FolderContext

    job = importlib.import_module(f"modal_workers.nerf.{name}.job")
    elevations = 4 if frames % 4 == 0 else 1
    params = NerfParams(frames=frames, elevations=elevations, frame_size_px=frame_px)
    photos = sorted((home / "photos").glob("*.jpg"))
    shards = params.batches if name == "rendering" else 1
    for shard in range(shards):
        report = job.run(params, FolderContext(home, inputs={"photos": photos}, shard=(shard, shards), name=name))
    below = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "cpu_s": time.process_time() + below.ru_utime + below.ru_stime,
        "peak_mib": peak_mib(),
        # Of poses alone: the others start no process whose memory could count.
        "below_mib": below.ru_maxrss / 1024 if name == "poses" else 0.0,
        "told": told(name, report),
    }


def peak_mib() -> float:
    """Return the peak of this process; getrusage starts with that of the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) / 1024


def told(name: str, report: Any) -> str:
    """Return a short summary of a stage."""
    match name:
        case "capture":
            return f"{report.photos} photos, {report.verdict.accept}"
        case "poses":
            return f"{report.photos_registered} placed, {report.points:,} points"
        case "training":
            return f"{report.splats:,} splats, {report.iterations:,} steps, {report.psnr_db:.1f} dB"
        case "rendering":
            return f"{report.frames_per_second} frames/s, encoded"
        case _:
            return f"{report.frames.verified} frames shown"


if __name__ == "__main__":
    main()
