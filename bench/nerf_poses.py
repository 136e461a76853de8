"""Seconds of each step of the poses stage, its memory, and how far cameras are from the truth: simulated captures."""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

from bench.needs import needs

needs("cv2", "pycolmap")

import cv2
import numpy as np

from modal_workers.nerf.axis_conventions import OPENGL_FROM_OPENCV
from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.poses import job
from simulators.toy.ground_truth import pose_errors
from simulators.toy.photos import take_photos
from tests.harness.vision.textured_boxes import Shot, context_with, dataset_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, nargs="+", default=[40, 40])
    parser.add_argument("--width", type=int, nargs="+", default=[320, 640])
    parser.add_argument("--matcher", default="auto")
    parser.add_argument("--unordered", action="store_true")
    wanted = parser.parse_args()
    print(
        "photos width  matcher      pairs  features  match    map  finish    all s  MiB  registered  px   rms %  max %"
    )
    for photos, width in zip(wanted.photos, wanted.width, strict=True):
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), photos, width, wanted.matcher, ordered=not wanted.unordered)


def measure(folder: Path, photos: int, width: int, matcher: str, *, ordered: bool) -> None:
    size = (width, width * 3 // 4)
    truth = take_photos(folder / "photos", photos=photos, size_px=size)
    shots = [
        Shot(path.name, cv2.imread(str(path)), np.zeros((1, 1), np.uint8), np.eye(4))
        for path in sorted((folder / "photos").glob("*.jpg"))
    ]
    desk = context_with(folder / "desk", shots, ordered=ordered)
    began_s = time.monotonic()
    report = job.run(NerfParams(matcher=matcher), desk)  # type: ignore[arg-type]
    all_s = time.monotonic() - began_s
    told = json.loads(dataset_of(desk).read("transforms.json"))
    poses = {
        Path(frame["file_path"]).name: np.array(frame["transform_matrix"]) @ OPENGL_FROM_OPENCV
        for frame in told["frames"]
    }
    errors, _ = pose_errors(poses, truth)
    spent_s = report.durations_s
    # of the largest process: one of pycolmap's
    peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(
        f"{photos:6d} {width:6d}  {report.matcher:11s} {report.attempts[-1].pairs:6d} {spent_s['features']:9.1f}"
        f" {spent_s['match']:6.1f} {spent_s['map']:6.1f} {spent_s['finish']:7.1f} {all_s:8.1f} {peak_mib:4.0f}"
        f"  {report.photos_registered:5d}/{report.photos_given:<4d} {report.reprojection_error_px:.2f}"
        f"  {100 * float(np.sqrt((errors**2).mean())):6.3f} {100 * float(errors.max()):6.3f}"
    )


if __name__ == "__main__":
    main()
