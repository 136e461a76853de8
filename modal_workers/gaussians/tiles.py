"""Which splats a tile of pixels has to look at, nearest first, and how tiles are grouped for batched arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from modal_workers.gaussians.camera import Camera
from modal_workers.gaussians.projection import ALPHA_MIN, Projected

#: The side of a tile. Larger tiles look at more splats that do not touch most of their pixels.
TILE_PX: Final = 8
#: Tiles worked on at once, at most; with the layers of a chunk this keeps what is worked on in the L2 cache.
GROUP_TILES: Final = 64


@dataclass(frozen=True)
class Group:
    """G tiles with lists of about the same length, padded to the longest with the index N (no splat)."""

    tiles: Tensor  # [G] index of each tile, row by row
    centres: Tensor  # [G, 2] px
    splats: Tensor  # [K, G] which splat is the k-th nearest one in each tile


@dataclass(frozen=True)
class Tiling:
    """The picture in tiles; those that no splat touches are in no group."""

    columns: int
    rows: int
    groups: list[Group]


@torch.no_grad()
def tile(projected: Projected, camera: Camera) -> Tiling:
    """List for every tile the splats that reach ALPHA_MIN at one of its pixels at least, by depth."""
    columns, rows = -(-camera.width_px // TILE_PX), -(-camera.height_px // TILE_PX)
    order = _order(projected.depths.detach(), torch.nonzero(projected.halves_px[:, 0] > 0)[:, 0])
    means, halves = projected.means2d.detach()[order], projected.halves_px[order]
    # the first and the last pixel centre inside the box
    limit = torch.tensor([camera.width_px - 1, camera.height_px - 1], device=means.device)
    first = (means - halves - 0.5).ceil().clamp(min=0).long()
    last = torch.minimum((means + halves - 0.5).floor().long(), limit)
    some = (last >= first).all(-1)
    first, last = first // TILE_PX, last // TILE_PX
    spans = (last - first + 1) * some[:, None]
    counts = spans[:, 0] * spans[:, 1]
    pair = torch.repeat_interleave(torch.arange(len(order), device=means.device), counts)
    within = torch.arange(len(pair), device=means.device) - (counts.cumsum(0) - counts)[pair]
    across = first[pair, 0] + within % spans[pair, 0]
    down = first[pair, 1] + within // spans[pair, 0]
    touching = _touches(projected, order[pair], across, down)
    splats, tiles = order[pair][touching], (down * columns + across)[touching]
    by_tile = _stable_argsort(tiles, columns * rows)
    return Tiling(columns, rows, _grouped(splats[by_tile], tiles, columns, len(projected.depths), means.dtype))


def _order(depths: Tensor, seen: Tensor) -> Tensor:
    """Give the indices ``seen`` by depth, nearest first; of equal depths the smaller index first."""
    return seen[torch.argsort(depths[seen], stable=True)]


def _stable_argsort(values: Tensor, below: int) -> Tensor:
    if values.device.type == "cpu" and below <= 2**16:
        # numpy sorts 16-bit numbers by radix, several times faster than torch
        return torch.from_numpy(np.argsort(values.numpy().astype(np.uint16), kind="stable"))
    return torch.argsort(values, stable=True)


def _touches(projected: Projected, splats: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """Say of each pair whether the ellipse reaches the rectangle of the tile's pixel centres [P].

    The smallest value of a convex quadratic on a rectangle that its minimum is outside of is on an edge that faces it.
    Source: Radl et al., "StopThePop", 2024, section 4.2.
    """
    x, y = projected.means2d[splats].unbind(-1)
    a, b, c = projected.conics[splats].unbind(-1)
    limit = (projected.log_opacities - math.log(ALPHA_MIN))[splats]
    left, top = across * TILE_PX + 0.5 - x, down * TILE_PX + 0.5 - y
    right, bottom = left + (TILE_PX - 1), top + (TILE_PX - 1)
    zero = torch.zeros_like(x)
    near_x, near_y = torch.clamp(zero, left, right), torch.clamp(zero, top, bottom)
    along_y = torch.clamp(-b / c * near_x, top, bottom)
    along_x = torch.clamp(-b / a * near_y, left, right)
    on_side = 0.5 * (a * near_x * near_x + c * along_y * along_y) + b * near_x * along_y
    on_end = 0.5 * (a * along_x * along_x + c * near_y * near_y) + b * along_x * near_y
    return torch.minimum(on_side, on_end) <= limit


def _grouped(splats: Tensor, tiles: Tensor, columns: int, none: int, dtype: torch.dtype) -> list[Group]:
    """Put tiles with lists of about one length together; ``splats`` are sorted by tile, ``tiles`` need not be."""
    counts = torch.bincount(tiles)
    starts = counts.cumsum(0) - counts
    by_length = torch.argsort(counts, descending=True, stable=True)
    lengths: list[int] = counts[by_length].tolist()
    splats = torch.cat([splats, splats.new_tensor([none])])
    groups = []
    at = 0
    while at < len(lengths) and lengths[at] > 0:
        longest, end = lengths[at], at + 1
        # little is padded: a tile whose list is much shorter starts a group of its own
        while end < len(lengths) and end - at < GROUP_TILES and lengths[end] >= max(1, 0.7 * longest):
            end += 1
        chosen = by_length[at:end]
        rank = torch.arange(longest, device=splats.device)[:, None]
        places = torch.where(rank < counts[chosen], starts[chosen] + rank, len(splats) - 1)
        centres = (torch.stack([chosen % columns, chosen // columns], -1).to(dtype) + 0.5) * TILE_PX
        groups.append(Group(chosen, centres, splats[places]))
        at = end
    return groups
