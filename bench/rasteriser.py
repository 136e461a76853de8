"""Measures rendering and gradients of splats per second, and the cost of a training step.

    python bench/rasteriser.py [--repeats 15] [--threads 1]

Ours is compared with the same lists of splats composited by torch's own differentiation, alternating in one run, and
with gsplat where CUDA is available. CPU figures are seconds of this process's CPU time, the fastest of all repeats, to
reduce the influence of other work on the machine. Scenes are random: splats in a box that fills the image.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

# before torch is imported: threads that wait must not spin
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # noqa: TID251

from bench.needs import needs

needs("torch")

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from modal_workers.gaussians.camera import Camera
from modal_workers.gaussians.projection import ALPHA_MIN, OPACITY_MAX, project
from modal_workers.gaussians.rasterize import rasterize
from modal_workers.gaussians.splats import Splats
from modal_workers.gaussians.tiles import TILE_PX, build_tiling
from modal_workers.gaussians.training import LearningRates, Optimiser, train_step

SIZES = ((5_000, 160, 120), (5_000, 320, 240), (20_000, 160, 120), (20_000, 320, 240))
#: Values per operation of the plain variant: the fastest of 0.1 to 8 million over both scene sizes.
PLAIN_VALUES = 500_000


def scene(count: int, *, scale_m: float = 0.02) -> Splats:
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    means = torch.rand(count, 3, generator=generator) * torch.tensor([2.4, 1.8, 1.0]) + torch.tensor([-1.2, -0.9, 1.5])
    return Splats(means, math.log(scale_m) + 0.5 * normal(count, 3), normal(count, 4), normal(count), normal(count, 3))


def plain(splats: Splats, camera: Camera, pose: Tensor) -> Tensor:
    """Render [H, W, 4] with the same projection and lists, differentiated by torch."""
    projected = project(splats, camera, pose)
    tiling = build_tiling(projected, camera)
    nothing = torch.tensor([0.0] * 5 + [-1e9] + [0.0] * 4)
    table = torch.cat([projected.table.T[tiling.order], nothing[None]])
    side = torch.arange(TILE_PX) + 0.5 - TILE_PX / 2
    local = torch.stack(torch.meshgrid(side, side, indexing="xy"), -1).reshape(-1, 2)
    found, which = [], []
    for group in tiling.groups:
        at_once = max(1, PLAIN_VALUES // (len(group.splats) * TILE_PX**2))
        for first in range(0, len(group.tiles), at_once):
            some = slice(first, first + at_once)
            rows = table[group.splats[:, some].T]  # [G, K, 10]
            dx, dy = ((group.centres[some, None] + local)[:, :, None, axis] - rows[:, None, :, axis] for axis in (0, 1))
            a, b, c, log_opacity = rows[:, None, :, 2:6].unbind(-1)
            alpha = (log_opacity - 0.5 * (a * dx * dx + c * dy * dy) - b * dx * dy).exp().clamp(max=OPACITY_MAX)
            alpha = torch.where(alpha >= ALPHA_MIN, alpha, torch.zeros_like(alpha))
            logs = torch.log1p(-alpha)
            summed = logs.cumsum(-1)
            weights = alpha * (summed - logs).exp()
            found.append(torch.cat([weights @ rows[..., 7:], -torch.expm1(summed[..., -1:])], -1))
            which.append(group.tiles[some])
    picture = torch.zeros(tiling.rows * tiling.columns, TILE_PX**2, 4)
    picture = picture.index_copy(0, torch.cat(which), torch.cat(found))
    picture = picture.reshape(tiling.rows, tiling.columns, TILE_PX, TILE_PX, 4).transpose(1, 2)
    return picture.reshape(tiling.rows * TILE_PX, -1, 4)[: camera.height_px, : camera.width_px]


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def cuda_seconds(work: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def both_ways(draw: Callable[[], Tensor]) -> None:
    draw().square().mean().backward()


def on_cpu(count: int, width: int, height: int, repeats: int) -> str:
    camera = Camera(width, height, 0.9 * width, 0.9 * width, width / 2, height / 2)
    splats = scene(count).map(Tensor.requires_grad_)
    pose = torch.eye(4)
    optimiser = Optimiser(splats, LearningRates(1e-6, 1e-6, 1e-6, 1e-6, 1e-6))
    picture = torch.full((height, width, 3), 0.5)

    def ours() -> Tensor:
        rendered = rasterize(splats, camera, pose, backend="ours")
        return torch.cat([rendered.colour, rendered.alpha], -1)

    with torch.no_grad():
        difference = float((ours() - plain(splats, camera, pose)).abs().max())
        if difference > 2e-3:
            raise SystemExit(f"the two pictures differ by {difference}")
        pairs = len(build_tiling(project(splats, camera, pose), camera).places)

    def drawn_only() -> None:
        with torch.no_grad():
            ours()

    works: list[Callable[[], object]] = [
        lambda: both_ways(ours),
        lambda: both_ways(lambda: plain(splats, camera, pose)),
        drawn_only,
        lambda: train_step(optimiser, camera, pose, picture),
    ]
    best = [math.inf] * len(works)
    for _ in range(repeats):
        best = [min(old, cpu_seconds(work)) for old, work in zip(best, works, strict=True)]
    mine, theirs, forward, whole = best
    return (
        f"| {count} | {width} x {height} | {pairs} | {1 / mine:.1f} | {1 / theirs:.1f} | {theirs / mine:.1f} "
        f"| {1e3 * mine:.1f} | {1e3 * forward:.1f} | {1e3 * whole:.1f} | {1 / whole:.1f} |"
    )


def on_cuda(count: int, width: int, height: int, repeats: int) -> str:
    camera = Camera(width, height, 0.9 * width, 0.9 * width, width / 2, height / 2)
    splats = scene(count).to("cuda").map(Tensor.requires_grad_)
    pose = torch.eye(4, device="cuda")

    def draw() -> Tensor:
        return rasterize(splats, camera, pose, backend="gsplat").colour

    both_ways(draw)
    best = min(cuda_seconds(lambda: both_ways(draw)) for _ in range(10 * repeats))
    return f"| {count} | {width} x {height} | {1 / best:.0f} | {1e3 * best:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="Rasteriser: steps a second.")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"CPU, {arguments.threads} thread(s), torch {torch.__version__}: forward and backward, times a CPU second\n")
    print("| splats | picture | pairs | ours | plain autograd | ratio | ours ms | forward ms | training ms | steps/s |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for size in SIZES:
        print(on_cpu(*size, arguments.repeats), flush=True)
    if not torch.cuda.is_available():
        print("\nNo CUDA here: gsplat is not measured.")
        return
    print(f"\ngsplat on {torch.cuda.get_device_name()}: forward and backward, times a second\n")
    print("| splats | picture | gsplat | ms |\n|---|---|---|---|")
    for size in SIZES:
        print(on_cuda(*size, arguments.repeats), flush=True)


if __name__ == "__main__":
    main()
