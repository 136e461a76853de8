"""Outline agreement: whether alpha ends where the photos stop showing the table. Judges masks without ground truth.

PSNR of held-out photos is computed inside masks that were found like all others, so it stays high when all are wrong
alike. The table is independent evidence: where it is known (``table_model``), a photo shows it or not.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import torch

from modal_workers.gaussians.rasterize import rasterize
from modal_workers.gaussians.splats import Splats
from modal_workers.nerf.outlines import Bools, distance_px, outline
from modal_workers.nerf.training.fitting import TargetImage
from modal_workers.nerf.training.segmentation.table_model import (
    TABLE_COLOUR_LIMIT,
    TableModel,
    compare_with_table,
    limit_size,
)

#: Distance of a correct outline, as a share of the long side: 2 px of 320.
_NEAR: Final = 2 / 320
#: Components smaller than this share of alpha are noise: colours are alike by chance.
_PIECE: Final = 0.003
#: Minimum of outline pixels for a result.
_LEAST_PX: Final = 200
_AROUND: Final = np.ones((5, 5), np.uint8)


@torch.no_grad()
def outline_agreement(splats: Splats, targets: list[TargetImage], table: TableModel) -> float | None:
    """Return the share of the outline of alpha that is near to where the photos stop showing the table.

    Only where the table is known on both sides; None where that is hardly anywhere.
    """
    near = counted = 0
    for target in map(limit_size, targets):
        comparison = compare_with_table(table, target)
        if comparison is None:
            continue
        rendered = rasterize(splats, target.camera, target.camera_from_world)
        alpha = np.asarray((rendered.alpha[..., 0] > 0.5).cpu().numpy())
        least = _PIECE * float(alpha.sum())
        shown = _without_specks(np.where(comparison.known, comparison.difference >= TABLE_COLOUR_LIMIT, alpha), least)
        outline_pixels = outline(alpha) & (cv2.erode(comparison.known.astype(np.uint8), _AROUND) > 0)
        near += int((distance_px(outline(shown))[outline_pixels] <= max(1.5, _NEAR * max(alpha.shape))).sum())
        counted += int(outline_pixels.sum())
    return None if counted < _LEAST_PX else near / counted


def _without_specks(shape: Bools, least: float) -> Bools:
    """Remove components and fill holes of fewer pixels than ``least``."""
    for _ in range(2):
        count, labels, stats, _ = cv2.connectedComponentsWithStats(shape.astype(np.uint8), connectivity=8)
        large = 1 + np.flatnonzero(stats[1:count, cv2.CC_STAT_AREA] >= least)
        shape = ~np.isin(labels, large)
    return shape
