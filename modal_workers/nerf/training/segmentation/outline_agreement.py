"""Whether alpha ends where photos stop showing the table: a judgement of masks that were found, without knowing better.

PSNR of held-out photos is taken inside of masks that were found in the same way as those of the others, so it stays
high where all are wrong alike. The table is another witness: where it is known (``ground``), a photo shows it or does
not, whatever was taken for the object.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import torch

from modal_workers.gaussians.rasterize import rasterize
from modal_workers.gaussians.splats import Splats
from modal_workers.nerf.outlines import Flags, distance_px, outline
from modal_workers.nerf.training.fitting import TargetImage
from modal_workers.nerf.training.segmentation.table_model import (
    TABLE_COLOUR_LIMIT,
    TableModel,
    compare_with_table,
    limit_size,
)

#: So near, as a share of the long side, an outline is where it should be: 2 px of 320.
_NEAR: Final = 2 / 320
#: Pieces that are smaller, as a share of alpha, are no gaps and no parts: colours happen to be alike.
_PIECE: Final = 0.003
#: Fewer pixels of outline are no evidence.
_LEAST_PX: Final = 200
_AROUND: Final = np.ones((5, 5), np.uint8)


@torch.no_grad()
def outline_agreement(splats: Splats, targets: list[TargetImage], ground: TableModel) -> float | None:
    """Give which share of alpha's outline in photos with masks is near to where they stop showing the table.

    Only where the table is known on both sides of it; None where that is hardly anywhere.
    """
    near = counted = 0
    for target in map(limit_size, targets):
        look = compare_with_table(ground, target)
        if look is None:
            continue
        drawn = rasterize(splats, target.camera, target.camera_from_world)
        alpha = np.asarray((drawn.alpha[..., 0] > 0.5).cpu().numpy())
        least = _PIECE * float(alpha.sum())
        shown = _without_specks(np.where(look.known, look.apart >= TABLE_COLOUR_LIMIT, alpha), least)
        own = outline(alpha) & (cv2.erode(look.known.astype(np.uint8), _AROUND) > 0)
        near += int((distance_px(outline(shown))[own] <= max(1.5, _NEAR * max(alpha.shape))).sum())
        counted += int(own.sum())
    return None if counted < _LEAST_PX else near / counted


def _without_specks(shape: Flags, least: float) -> Flags:
    """Take away pieces and fill holes of fewer pixels."""
    for _ in range(2):
        count, labels, stats, _ = cv2.connectedComponentsWithStats(shape.astype(np.uint8), connectivity=8)
        large = 1 + np.flatnonzero(stats[1:count, cv2.CC_STAT_AREA] >= least)
        shape = ~np.isin(labels, large)
    return shape
