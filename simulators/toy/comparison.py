"""Comparison of the artifacts of a pipeline with the ground truth: cameras, outlines, colours."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.nerf.axis_conventions import OPENGL_FROM_OPENCV
from modal_workers.nerf.outlines import distance_px, outline
from simulators.toy.ground_truth import SimilarityTransform, ToyGroundTruth, pose_errors
from simulators.toy.ring_camera import PosedCamera
from simulators.toy.textures import Picture

Floats = NDArray[np.float64]

_NEAR_PX: Final = 2.0
_GREY: Final = 128.0


@dataclass(frozen=True)
class ReconstructionErrors:
    """Errors of a reconstruction."""

    photos: int
    #: Share of the orbit's radius, after alignment: root mean square and maximum over the cameras.
    pose_error_rms: float
    pose_error_worst: float
    #: Compared frames; share of their outlines within 2 px of the true ones, and the reverse.
    frames: int
    edges_near: float
    edges_found: float
    #: Frames against the true images, both on grey, over the pixels of either.
    psnr_db: float


def compare_with_truth(folder: Path, truth: ToyGroundTruth, *, at_most: int = 24) -> ReconstructionErrors:
    """Compare the artifacts in ``folder`` with the ground truth, on ``at_most`` evenly chosen frames.

    Raises:
        FileNotFoundError, KeyError: an artifact of a complete pipeline is missing.
        ValueError: too few cameras were placed.
    """
    poses = _poses(json.loads((folder / "dataset" / "transforms.json").read_text()))
    errors, similarity = pose_errors(poses, truth)
    found = [_frame(picture, camera, truth) for picture, camera in _frames(folder, similarity, at_most)]
    near, own, reached, true, squares, pixels = (float(sum(each)) for each in zip(*found, strict=True))
    return ReconstructionErrors(
        photos=len(poses),
        pose_error_rms=float(np.sqrt(np.mean(errors**2))),
        pose_error_worst=float(errors.max()),
        frames=len(found),
        edges_near=near / max(1.0, own),
        edges_found=reached / max(1.0, true),
        psnr_db=float(10 * np.log10(255.0**2 / max(1e-9, squares / max(1.0, pixels)))),
    )


def _poses(transforms: dict[str, Any]) -> dict[str, Floats]:
    """Return ``world_from_camera`` by the names of the uploaded photos."""
    poses = {}
    for frame in transforms["frames"]:
        name = re.sub(r"^[0-9]+_", "", Path(frame["file_path"]).stem) + ".jpg"
        poses[name] = np.array(frame["transform_matrix"], np.float64) @ OPENGL_FROM_OPENCV
    return poses


def _frames(folder: Path, similarity: SimilarityTransform, at_most: int) -> Iterator[tuple[Picture, PosedCamera]]:
    """Return frames (RGBA) and their cameras in the true world."""
    config = json.loads((folder / "model" / "config.json").read_text())
    poses_from_model = np.array(config["frame"]["poses_from_model"], np.float64)
    scale = np.cbrt(np.linalg.det(poses_from_model[:3, :3]))
    listed = [
        (path.with_suffix(".zip"), batch["camera"], frame)
        for path in sorted((folder / "frames").glob("batch_*.json"))
        for batch in [json.loads(path.read_text())]
        for frame in batch["frames"]
    ]
    step = max(1.0, len(listed) / at_most)
    for index in range(min(at_most, len(listed))):
        path, lens, frame = listed[int(index * step)]
        pose = poses_from_model @ np.array(frame["world_from_camera"], np.float64)
        pose[:3, :3] /= scale
        with zipfile.ZipFile(path) as archive:
            encoded = np.frombuffer(archive.read(frame["name"]), np.uint8)
        decoded = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
        assert decoded is not None
        picture = np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGRA2RGBA), np.uint8)
        yield picture, similarity.camera(pose, int(lens["w"]), int(lens["h"]), float(lens["fl_x"]))


def _frame(picture: Picture, camera: PosedCamera, truth: ToyGroundTruth) -> tuple[int, int, int, int, float, int]:
    """Count outline pixels near and all, of the frame's and of the truth's; sum squared errors over pixels."""
    cutout = truth.cutout(camera)
    own, true = outline(picture[..., 3] > 127), outline(cutout[..., 3] > 127)
    both = (picture[..., 3] > 8) | (cutout[..., 3] > 8)
    apart = (_on_grey(picture) - _on_grey(cutout))[both]
    return (
        int((distance_px(true)[own] <= _NEAR_PX).sum()),
        int(own.sum()),
        int((distance_px(own)[true] <= _NEAR_PX).sum()),
        int(true.sum()),
        float((apart**2).mean(-1).sum()),
        int(both.sum()),
    )


def _on_grey(picture: Picture) -> NDArray[np.float32]:
    alpha = picture[..., 3:].astype(np.float32) / 255
    return np.asarray(picture[..., :3] * alpha + _GREY * (1 - alpha), np.float32)
