"""Measures frames a second of rendering and encoding beside encoding alone, memory at its peak, and training's steps.

    python bench/nerf_render.py [--frames 48] [--splats 6000] [--steps 60]

A ball of splats fills the frames, textured, so that PNGs are no smaller than those of products. Each size runs in a
process of its own: its peak of memory is its own. CPU seconds stand beside wall seconds, because other work on the
machine counts in the latter. The way is that of the stage: drawn, encoded beside it, kept in parts, zipped, read back.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# before torch is imported: threads that wait must not spin
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # noqa: TID251

from bench.needs import needs

needs("cv2", "torch")

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from modal_workers.gaussians.camera import Camera
from modal_workers.gaussians.densification import splats_from_points
from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.rendering.batch import check_batch, named_entries
from modal_workers.nerf.rendering.frames import SplatFrames, encode_png
from modal_workers.nerf.rendering.shard import render_batch
from modal_workers.nerf.scene import TrainedScene
from modal_workers.nerf.stored_zip import write_zip
from modal_workers.nerf.training.fitting import FitConfig, Fitting, TargetImage

SIZES_PX = (256, 512)
TRAINING_PX = (160, 320)


class Folder:
    """Stage context in a folder."""

    def __init__(self, path: Path) -> None:
        self.scratch, self._kept = path / "scratch", path / "kept"
        self.scratch.mkdir()
        self._kept.mkdir()

    def progress(self, fraction: float, message: str = "") -> None:
        """Discard the progress."""

    def checkpoint(self, name: str) -> Path | None:
        """Return a kept file."""
        path = self._kept / name
        return path if path.exists() else None

    def keep(self, path: Path, name: str) -> None:
        """Keep a copy."""
        shutil.copyfile(path, self._kept / name)


def ball(count: int) -> TrainedScene:
    generator = torch.Generator().manual_seed(2)
    ways = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1)
    colours = torch.rand(count, 3, generator=generator)
    return TrainedScene(
        0.2, 1.0, (10.0, 40.0), np.eye(4), splats_from_points(ways * 0.18, colours, 0.9 / count**0.5 * 0.18, 0.95)
    )


def timed(work: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def rendering(size_px: int, frames: int, splats: int) -> dict[str, float]:
    scene = ball(splats)
    orbit = scene.orbit(NerfParams(frames=frames, elevations=4, frame_size_px=size_px))
    source, wanted = SplatFrames(scene), range(frames)
    pictures = [rgba for _, rgba in source.frames(orbit, wanted)][:16]
    encode_wall, encode_cpu = timed(lambda: [encode_png(rgba) for rgba in pictures])
    _, render_cpu = timed(lambda: list(source.frames(orbit, wanted)))
    with tempfile.TemporaryDirectory() as folder:
        desk = Folder(Path(folder))

        def whole() -> None:
            drawn = render_batch(0, wanted, orbit, source, desk)
            write_zip(desk.scratch / "batch.zip", named_entries(sorted(drawn.frames.items())))
            check_batch(desk.scratch / "batch.zip", orbit, wanted)

        wall, cpu = timed(whole)
        size_bytes = (desk.scratch / "batch.zip").stat().st_size
    return {
        "frames/s": frames / wall,
        "ms CPU a frame": 1e3 * cpu / frames,
        "render alone ms CPU": 1e3 * render_cpu / frames,
        "encode alone ms CPU": 1e3 * encode_cpu / len(pictures),
        "encode alone frames/s": len(pictures) / encode_wall,
        "KiB a frame": size_bytes / frames / 1024,
        "peak MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def training(size_px: int, steps: int, splats: int) -> dict[str, float]:
    scene = ball(splats)
    orbit = scene.orbit(NerfParams(frames=24, elevations=2, frame_size_px=size_px))
    camera = Camera(size_px, size_px, orbit.focal_px, orbit.focal_px, size_px / 2, size_px / 2)
    targets = []
    for index, rgba in SplatFrames(scene).frames(orbit, range(24)):
        pose = torch.from_numpy(np.linalg.inv(orbit.world_from_camera(index))).float()
        colour, mask = torch.from_numpy(rgba[..., :3].copy()), torch.from_numpy(rgba[..., 3:].copy())
        targets.append(TargetImage(camera, pose, colour, mask, index))
    assert scene.splats is not None
    fitting = Fitting(scene.splats, targets, FitConfig(100 * steps, splats, 0))
    fitting.iteration = 50 * steps  # past the part at half the size
    wall, cpu = timed(lambda: [fitting.step() for _ in range(steps)])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"steps/s": steps / wall, "ms CPU a step": 1e3 * cpu / steps, "peak MiB": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description="Frames and steps a second.")
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--splats", type=int, default=6000)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--part", nargs=2, metavar=("KIND", "PX"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.part:
        kind, size_px = options.part[0], int(options.part[1])
        count = options.frames if kind == "rendering" else options.steps
        print(json.dumps((rendering if kind == "rendering" else training)(size_px, count, options.splats)))
        return
    for kind, sizes in (("rendering", SIZES_PX), ("training", TRAINING_PX)):
        for number, size_px in enumerate(sizes):
            own = [f"--{name}={getattr(options, name)}" for name in ("frames", "splats", "steps")]
            command = [sys.executable, __file__, *own, "--part", kind, str(size_px)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            if not number:
                print(f"\n| {kind}, {options.splats} splats | " + " | ".join(found) + " |")
                print("|---" * (len(found) + 1) + "|")
            print(f"| {size_px} px | " + " | ".join(f"{value:.1f}" for value in found.values()) + " |", flush=True)


if __name__ == "__main__":
    main()
