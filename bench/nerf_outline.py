"""Distance between the outline of alpha and the true one, both ways, without masks: several objects and paints.

What the pipeline itself says of its outline is printed beside it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from bench.needs import needs

needs("cv2", "pi_heif", "pycolmap", "torch")

import torch

from modal_workers.nerf.capture import job as capture
from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.poses import job as poses
from modal_workers.nerf.rendering import job as rendering
from modal_workers.nerf.training import job as training
from simulators.toy.comparison import compare_with_truth
from simulators.toy.other_objects import OBJECTS
from simulators.toy.photos import take_photos
from simulators.toy.room_scene import BOUNCED, BRIGHT
from tests.harness.vision.stage_context import FolderContext


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--things", nargs="+", choices=sorted(OBJECTS), default=["mug"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--dim", action="store_true", help="Less light in the shadows.")
    parser.add_argument("--crop-radius", type=float, default=0.45, help="Smaller than the object: it is cut.")
    wanted = parser.parse_args()
    torch.set_num_threads(2)
    print("thing        seed  alpha's near %  the true near %  by the table %  held-out dB  training s")
    for thing in wanted.things:
        for seed in wanted.seeds:
            with tempfile.TemporaryDirectory() as folder:
                measure(Path(folder), thing, seed, BOUNCED if wanted.dim else BRIGHT, wanted.crop_radius)


def measure(home: Path, thing: str, seed: int, bounced: float, crop_radius: float) -> None:
    truth = take_photos(home / "photos", seed=seed, thing=thing, bounced=bounced)
    params = NerfParams(frames=72, elevations=2, frame_size_px=256, ignore_verdict=True, crop_radius=crop_radius)
    photos = {"photos": sorted((home / "photos").glob("*.jpg"))}
    capture.run(params, FolderContext(home, inputs=photos, name="capture"))
    poses.run(params, FolderContext(home, name="poses"))
    began_s = time.monotonic()
    report = training.run(params, FolderContext(home, name="training"))
    took_s = time.monotonic() - began_s
    rendering.run(params, FolderContext(home, name="rendering"))
    found = compare_with_truth(home / "saved", truth)
    backed = "" if report.outline_agreement is None else f"{100 * report.outline_agreement:.1f}"
    print(
        f"{thing:12s} {seed:4d} {100 * found.edges_near:15.1f} {100 * found.edges_found:16.1f} {backed:>15s}"
        f" {report.psnr_db or 0:12.1f} {took_s:11.0f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
