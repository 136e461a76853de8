"""Quality on held-out photos: PSNR and SSIM, of the object or of the whole photo."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch

from modal_workers.gaussians.image_metrics import psnr_db, ssim
from modal_workers.gaussians.rasterize import rasterize
from modal_workers.gaussians.splats import Splats
from modal_workers.nerf.training.fitting import TargetImage

#: Background when two images of the object are compared.
_GREY: Final = 0.5
_SPILL: Final = 0.02
_MARGIN: Final = 0.06


def crop_to_object(target: TargetImage) -> TargetImage | None:
    """Crop a photo to its object and a margin; None where its mask is empty."""
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
    return target.crop(slice(top, bottom), slice(left, right))


@torch.no_grad()
def score_held_out(splats: Splats, targets: list[TargetImage]) -> tuple[float, float] | None:
    """Return mean PSNR in dB and mean SSIM over photos; None where there are none.

    With masks, PSNR is computed over the pixels that the object or the splats cover, both on grey: elsewhere the images
    agree trivially. Ambiguous pixels (``TargetImage``) are compared with the photo, with the table behind the splats.
    SSIM is computed over the whole image.
    """
    found = [_score(splats, target) for target in targets]
    if not found:
        return None
    psnr, similarity = (float(np.mean(each)) for each in zip(*found, strict=True))
    return psnr, similarity


def _score(splats: Splats, target: TargetImage) -> tuple[float, float]:
    rendered = rasterize(splats, target.camera, target.camera_from_world)
    if target.mask is None:
        colour, image = rendered.colour.clamp(0, 1), target.image.to(rendered.colour.dtype) / 255
        return min(99.0, psnr_db(colour, image)), float(ssim(colour, image))
    mask = target.mask.to(rendered.colour.dtype) / 255
    image, background, _ = target.composite(rendered.colour.new_full((3,), _GREY))
    colour = (rendered.colour + (1 - rendered.alpha) * background).clamp(0, 1)
    counted = ((mask > _SPILL) | (rendered.alpha > _SPILL))[..., 0]
    error = float((colour - image)[counted].square().mean()) if bool(counted.any()) else 0.0
    return min(99.0, -10 * math.log10(max(error, 1e-10))), float(ssim(colour, image))
