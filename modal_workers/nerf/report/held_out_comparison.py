"""Held-out photos beside the model rendered from the same poses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from modal_workers.gaussians.camera import Camera
from modal_workers.gaussians.rasterize import rasterize
from modal_workers.nerf.scene import TrainedScene
from modal_workers.nerf.training.dataset import HELD_OUT_EVERY, TrainingPhoto, read_dataset

Image = NDArray[np.uint8]
Floats = NDArray[np.float64]

_SIZE_PX: Final = 480
_BACKGROUND: Final = 244


@dataclass(frozen=True)
class HeldOutComparison:
    """A held-out photo, the model from the same pose, and their difference: RGB of one size."""

    name: str
    photo: Image
    model: Image
    difference: Image


def compare_held_out(
    dataset: Path, scene: Path, *, at_most: int = 3, size_px: int = _SIZE_PX
) -> list[HeldOutComparison]:
    """Render the model from the poses of held-out photos; empty where the model has no splats.

    Where a photo has a mask, both are shown on a light background; otherwise the photo is cut by what the model covers.
    """
    model = TrainedScene.load(scene)
    if model.splats is None:
        return []
    photos = read_dataset(dataset, size_px).photos
    held_out = [photo for index, photo in enumerate(photos) if index % HELD_OUT_EVERY == 0]
    count = min(at_most, len(held_out))
    chosen = [held_out[index * len(held_out) // count] for index in range(count)]
    return [_compare(model, photo) for photo in chosen]


@torch.no_grad()
def _compare(model: TrainedScene, held_out: TrainingPhoto) -> HeldOutComparison:
    assert model.splats is not None
    camera, pose = held_out.camera, _in_scene(model.sfm_from_scene, held_out.world_from_camera)
    rendered = rasterize(model.splats, camera, torch.from_numpy(np.linalg.inv(pose)).float())
    alpha = np.asarray(rendered.alpha.numpy().reshape(camera.height_px, camera.width_px, 1), np.float32)
    shown = _bytes(np.asarray(rendered.colour.numpy(), np.float32) * 255 + (1 - alpha) * _BACKGROUND)
    mask = alpha
    if held_out.mask is not None:
        mask = np.asarray(held_out.mask[..., None] / 255, np.float32)
    photo = _bytes(held_out.image.astype(np.float32) * mask + (1 - mask) * _BACKGROUND)
    differences = np.abs(photo.astype(np.int16) - shown).mean(2)
    difference = cv2.applyColorMap(np.clip(differences * 3, 0, 255).astype(np.uint8), cv2.COLORMAP_MAGMA)
    window = _window(mask, camera)
    return HeldOutComparison(
        held_out.name, photo[window], shown[window], np.asarray(difference[..., ::-1][window], np.uint8)
    )


def _in_scene(sfm_from_scene: Floats, world_from_camera: Floats) -> Floats:
    """Return a camera pose in the frame of the scene, without the scale of the similarity."""
    scale = np.cbrt(np.linalg.det(sfm_from_scene[:3, :3]))
    pose = np.linalg.inv(sfm_from_scene) @ world_from_camera
    pose[:3, :3] *= scale
    return np.asarray(pose, np.float64)


def _window(mask: NDArray[np.float32], camera: Camera) -> tuple[slice, slice]:
    """Return the crop to the object and a margin."""
    rows, columns = (np.flatnonzero(mask[..., 0].max(axis) > 0.5) for axis in (1, 0))
    if not len(rows) or not len(columns):
        return slice(None), slice(None)
    margin = max(6, camera.width_px // 24)
    return (
        slice(max(0, int(rows[0]) - margin), int(rows[-1]) + margin),
        slice(max(0, int(columns[0]) - margin), int(columns[-1]) + margin),
    )


def _bytes(values: NDArray[np.float32]) -> Image:
    return np.clip(values, 0, 255).round().astype(np.uint8)
