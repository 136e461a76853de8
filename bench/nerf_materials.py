"""Difficult materials through capture and poses (and, with --train, training): what is registered, found and doubted.

The object is painted, of one colour per part, nearly black, or chrome; thin ones are a stool and a basket; exposures
differ from photo to photo.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import zipfile
from pathlib import Path

from bench.needs import needs

needs("cv2", "pi_heif", "pycolmap", "torch")

import numpy as np
import torch

from contracts.errors import SaccadeError
from modal_workers.nerf.axis_conventions import OPENGL_FROM_OPENCV
from modal_workers.nerf.capture import job as capture
from modal_workers.nerf.found_object import FoundObject
from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.poses import job as poses
from modal_workers.nerf.rendering import job as rendering
from modal_workers.nerf.training import job as training
from simulators.toy.comparison import compare_with_truth
from simulators.toy.ground_truth import SimilarityTransform, ToyGroundTruth, pose_errors
from simulators.toy.photos import NO_FLAWS, Flaws, take_photos
from simulators.toy.room_scene import Material
from tests.harness.vision.stage_context import FolderContext

#: Name in the table, thing, material, spread of the exposure in stops, bare table.
CASES: dict[str, tuple[str, Material, float, bool]] = {
    "painted": ("locomotive", "painted", 0.0, False),
    "textureless": ("locomotive", "plain", 0.0, False),
    "textureless, table too": ("locomotive", "painted", 0.0, True),
    "dark": ("locomotive", "dark", 0.0, False),
    "reflective": ("locomotive", "mirror", 0.0, False),
    "thin legs": ("stool", "painted", 0.0, False),
    "thin handle": ("basket", "painted", 0.0, False),
    "exposure ± 1 stop": ("locomotive", "painted", 1.0, False),
    "exposure ± 2 stops": ("locomotive", "painted", 2.0, False),
}
PARAMS = NerfParams(frames=24, elevations=2, frame_size_px=128, preset="draft", ignore_verdict=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=["reflective"])
    parser.add_argument("--train", action="store_true", help="Train and render too: minutes on a CPU.")
    parser.add_argument("--photos", type=int, default=28)
    wanted = parser.parse_args()
    torch.set_num_threads(2)
    print("| object | registered | points | camera error | object: centre off | size | confidence | model |")
    print("|---|---|---|---|---|---|---|---|")
    for name in wanted.cases:
        with tempfile.TemporaryDirectory() as folder:
            print(f"| {name} | {measure(Path(folder), name, wanted.photos, train=wanted.train)} |", flush=True)


def measure(home: Path, name: str, photos: int, *, train: bool) -> str:
    """Return one row of the table."""
    thing, material, spread, bare = CASES[name]
    flaws = Flaws(exposure_spread_stops=spread, textureless=bare) if spread or bare else NO_FLAWS
    truth = take_photos(home / "photos", photos=photos, thing=thing, material=material, flaws=flaws)
    inputs = {"photos": sorted((home / "photos").glob("*.jpg"))}
    verdict = capture.run(PARAMS, FolderContext(home, inputs=inputs, name="capture")).verdict.accept
    try:
        report = poses.run(PARAMS, FolderContext(home, name="poses"))
    except SaccadeError as error:
        return f"none: {error.code} ({verdict} before) | | | | | | "
    placed = _placed(home / "kept" / "dataset.zip")
    errors, similarity = pose_errors(placed, truth)
    assert report.object is not None
    off, size = _compared(report.object, similarity, truth)
    doubt = f", {report.object.doubt}" if report.object.doubt else ""
    model = _trained(home, truth) if train else ""
    return (
        f"{report.photos_registered} of {photos} | {report.points:,} | {100 * np.sqrt(np.mean(errors**2)):.2f} % | "
        f"{100 * off:.0f} % | {size:.2f} | {report.object.confidence:.2f}{doubt} | {model}"
    )


def _placed(dataset: Path) -> dict[str, np.ndarray]:
    """Return the poses by the names of the photos as they were taken."""
    with zipfile.ZipFile(io.BytesIO(dataset.read_bytes())) as archive:
        frames = json.loads(archive.read("transforms.json"))["frames"]
    return {
        f"{Path(frame['file_path']).stem[5:]}.jpg": np.array(frame["transform_matrix"]) @ OPENGL_FROM_OPENCV
        for frame in frames
    }


def _compared(found: FoundObject, similarity: SimilarityTransform, truth: ToyGroundTruth) -> tuple[float, float]:
    """Return how far the centre of the box is off, over the true radius, and its radius over the true one."""
    low, high = (np.array(corner) for corner in truth.bounds_m)
    centre = similarity.scale * similarity.rotation @ np.array(found.chosen.centre) + similarity.shift
    radius = float(np.linalg.norm(high - low)) / 2
    return float(np.linalg.norm(centre - (low + high) / 2)) / radius, similarity.scale * found.chosen.radius / radius


def _trained(home: Path, truth: ToyGroundTruth) -> str:
    report = training.run(PARAMS, FolderContext(home, name="training"))
    rendering.run(PARAMS, FolderContext(home, name="rendering"))
    found = compare_with_truth(home / "saved", truth)
    gains = ", gains learned" if report.gains else ""
    return (
        f"{report.psnr_db or 0:.1f} dB held out, {found.psnr_db:.1f} dB on true views, outline "
        f"{100 * found.edges_near:.0f} and {100 * found.edges_found:.0f} %{gains}"
    )


if __name__ == "__main__":
    main()
