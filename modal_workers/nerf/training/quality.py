"""How well a model shows photos that it was not trained on: PSNR and SSIM, of the object or of everything."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch

from modal_workers.gaussians.image_metrics import psnr_db, ssim
from modal_workers.gaussians.rasterize import rasterize
from modal_workers.gaussians.splats import Splats
from modal_workers.nerf.training.fitting import TargetImage

#: What is behind the object when two pictures of it are compared.
_GREY: Final = 0.5
_SPILL: Final = 0.02
_MARGIN: Final = 0.06


def crop_to_object(target: TargetImage) -> TargetImage | None:
    """Cut a photo to its object and a margin around it; None where its mask is empty."""
    assert target.mask is not None
    rows, columns = (torch.nonzero(target.mask[..., 0].amax(axis) > 127)[:, 0].cpu().numpy() for axis in (1, 0))
    if not len(rows):
        return None
    camera = target.camera
    margin = max(4, round(_MARGIN * max(camera.width_px, camera.height_px)))
    top, left = max(0, int(rows[0]) - margin), max(0, int(columns[0]) - margin)
    bottom, right = (
        min(camera.height_px, int(rows[-1]) + margin + 1),
        min(camera.width_px, int(columns[-1]) + margin + 1),
    )
    return target.cut(slice(top, bottom), slice(left, right))


@torch.no_grad()
def score_held_out(splats: Splats, targets: list[TargetImage]) -> tuple[float, float] | None:
    """Give mean PSNR in dB and mean SSIM over photos; None where there are none.

    With masks PSNR is over the pixels that are the object's or that the splats cover, both on grey: where neither is,
    pictures agree by themselves, and that says nothing. Where it is open (``Target``) the photo is compared as it is,
    with the table behind the splats. SSIM is over the whole of what is given.
    """
    found = [_one(splats, target) for target in targets]
    if not found:
        return None
    psnr, similarity = (float(np.mean(each)) for each in zip(*found, strict=True))
    return psnr, similarity


def _one(splats: Splats, target: TargetImage) -> tuple[float, float]:
    drawn = rasterize(splats, target.camera, target.camera_from_world)
    if target.mask is None:
        colour, picture = drawn.colour.clamp(0, 1), target.picture.to(drawn.colour.dtype) / 255
        return min(99.0, psnr_db(colour, picture)), float(ssim(colour, picture))
    mask = target.mask.to(drawn.colour.dtype) / 255
    picture, behind, _ = target.before(drawn.colour.new_full((3,), _GREY))
    colour = (drawn.colour + (1 - drawn.alpha) * behind).clamp(0, 1)
    counted = ((mask > _SPILL) | (drawn.alpha > _SPILL))[..., 0]
    error = float((colour - picture)[counted].square().mean()) if bool(counted.any()) else 0.0
    return min(99.0, -10 * math.log10(max(error, 1e-10))), float(ssim(colour, picture))
