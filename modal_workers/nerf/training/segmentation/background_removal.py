"""Removes remaining background splats from a trained object and centres it in a frame of its own."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modal_workers.gaussians.splats import Splats
from modal_workers.nerf.scene import TrainedScene
from modal_workers.nerf.training.fitting import TargetImage
from modal_workers.nerf.training.placement import Placement
from modal_workers.nerf.training.visibility import seen_through, share_inside

#: A splat whose centre is inside fewer than this share of the masks is background.
_INSIDE_SHARE: Final = 0.6
_GROWN_SHARE: Final = 0.01
_MIN_OPACITY: Final = 0.02
_SEEN_OPACITY: Final = 0.3


@torch.no_grad()
def belongs_to_object(points: Tensor, targets: list[TargetImage], radius: float) -> Tensor:
    """Return which points [N, 3] belong to the object, by the masks of all photos, uncropped."""
    grown_px = max(1, round(_GROWN_SHARE * max(max(t.camera.width_px, t.camera.height_px) for t in targets)))
    near: Tensor = points.norm(dim=1) < radius
    inside: Tensor = share_inside(points, targets, grown_px=grown_px) > _INSIDE_SHARE
    return near & inside & ~seen_through(points, targets)


@torch.no_grad()
def remove_background(splats: Splats, targets: list[TargetImage], radius: float) -> Splats:
    """Return the splats of the object."""
    solid = (splats.logit_opacities.sigmoid() > _MIN_OPACITY) & splats.finite()
    return splats.select(solid & belongs_to_object(splats.means, targets, radius))


@torch.no_grad()
def centred_scene(
    splats: Splats, placement: Placement, world_from_camera: list[NDArray[np.float64]], seen_by: NDArray[np.bool_]
) -> TrainedScene:
    """Return the scene with the centre of the object at the origin; poses [4, 4] are in the placed frame.

    ``seen_by`` [N, V]: which splat is visible in which photo.
    """
    solid = splats.select(splats.logit_opacities.sigmoid() > _SEEN_OPACITY)
    means = (solid if len(solid) > 20 else splats).means.double().cpu().numpy()
    low, high = np.percentile(means, [0.5, 99.5], axis=0)
    centre = (low + high) / 2
    size = float(np.median(splats.log_scales.exp().mean(1).cpu().numpy()))
    radius = float(np.percentile(np.linalg.norm(means - centre, axis=1), 99.5)) + 2 * size
    moved = np.eye(4)
    moved[:3, 3] = centre
    centres = np.stack([pose[:3, 3] for pose in world_from_camera]) - centre
    distances = np.linalg.norm(centres, axis=1)
    elevations = np.degrees(np.arcsin(centres[:, 2] / distances))
    low_deg, high_deg = (float(angle) for angle in np.percentile(elevations, [5, 95]))
    shift = torch.from_numpy(centre).to(splats.means)
    return TrainedScene(
        radius,
        float(np.median(distances)),
        (low_deg, high_deg),
        placement.sfm_from_scene @ moved,
        Splats(**{**splats.tensors(), "means": splats.means - shift}),
        None if placement.table_z is None else placement.table_z - float(centre[2]),
        centres,
        seen_by,
    )
