"""Photos that the model never saw, next to what it shows from there."""

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
from modal_workers.nerf.training.dataset import TrainingPhoto, read_dataset

Picture = NDArray[np.uint8]
Floats = NDArray[np.float64]

#: As the training holds them out: the first of every so many.
HELD_OUT_EVERY: Final = 8
_SIZE_PX: Final = 480
_GROUND: Final = 244


@dataclass(frozen=True)
class HeldOutComparison:
    """A photo, the model from the same place, and where they differ: RGB of one size."""

    name: str
    photo: Picture
    model: Picture
    difference: Picture


def compare_held_out(
    dataset: Path, scene: Path, *, at_most: int = 3, size_px: int = _SIZE_PX
) -> list[HeldOutComparison]:
    """Draw the model from where held-out photos were taken; none where the model is not of splats.

    Where a photo has a mask, both are shown on a light ground; otherwise the photo as it is.
    """
    model = TrainedScene.load(scene)
    if model.splats is None:
        return []
    views = read_dataset(dataset, size_px).views
    held_out = [view for index, view in enumerate(views) if index % HELD_OUT_EVERY == 0]
    count = min(at_most, len(held_out))
    chosen = [held_out[index * len(held_out) // count] for index in range(count)]
    return [_pair(model, view) for view in chosen]


@torch.no_grad()
def _pair(model: TrainedScene, view: TrainingPhoto) -> HeldOutComparison:
    assert model.splats is not None
    camera, pose = view.camera, _in_scene(model.sfm_from_scene, view.world_from_camera)
    drawn = rasterize(model.splats, camera, torch.from_numpy(np.linalg.inv(pose)).float())
    alpha = np.asarray(drawn.alpha.numpy().reshape(camera.height_px, camera.width_px, 1), np.float32)
    shown = _bytes(np.asarray(drawn.colour.numpy(), np.float32) * 255 + (1 - alpha) * _GROUND)
    mask = alpha
    if view.mask is not None:
        mask = np.asarray(view.mask[..., None] / 255, np.float32)
    photo = _bytes(view.picture.astype(np.float32) * mask + (1 - mask) * _GROUND)
    apart = np.abs(photo.astype(np.int16) - shown).mean(2)
    difference = cv2.applyColorMap(np.clip(apart * 3, 0, 255).astype(np.uint8), cv2.COLORMAP_MAGMA)
    window = _window(mask, camera)
    return HeldOutComparison(
        view.name, photo[window], shown[window], np.asarray(difference[..., ::-1][window], np.uint8)
    )


def _in_scene(sfm_from_scene: Floats, world_from_camera: Floats) -> Floats:
    """Give a camera's pose in the scene's frame: the similarity's scale is no part of a pose."""
    scale = np.cbrt(np.linalg.det(sfm_from_scene[:3, :3]))
    pose = np.linalg.inv(sfm_from_scene) @ world_from_camera
    pose[:3, :3] *= scale
    return np.asarray(pose, np.float64)


def _window(mask: NDArray[np.float32], camera: Camera) -> tuple[slice, slice]:
    """Cut to the object and a margin."""
    rows, columns = (np.flatnonzero(mask[..., 0].max(axis) > 0.5) for axis in (1, 0))
    if not len(rows) or not len(columns):
        return slice(None), slice(None)
    margin = max(6, camera.width_px // 24)
    return (
        slice(max(0, int(rows[0]) - margin), int(rows[-1]) + margin),
        slice(max(0, int(columns[0]) - margin), int(columns[-1]) + margin),
    )


def _bytes(values: NDArray[np.float32]) -> Picture:
    return np.clip(values, 0, 255).round().astype(np.uint8)
