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
#: Tiles worked on at once, at most: more of them make fewer and longer operations, but longer ones leave the cache.
GROUP_TILES: Final = 128


@dataclass(frozen=True)
class Group:
    """G tiles with lists of about the same length, padded to the longest, K."""

    tiles: Tensor  # [G] index of each tile, row by row
    centres: Tensor  # [G, 2] px
    splats: Tensor  # [K, G] rank by depth of the k-th nearest splat of each tile, or M for none


@dataclass(frozen=True)
class Tiling:
    """The picture in tiles; those that no splat touches are in no group. M splats touch one at least."""

    columns: int
    rows: int
    groups: list[Group]
    order: Tensor  # [M] which splats these are, nearest first
    places: Tensor  # [P] where each pair of a splat and a tile is in all groups' lists laid end to end, splat by splat
    starts: Tensor  # [M + 1] where each splat's places begin


@torch.no_grad()
def tile(projected: Projected, camera: Camera) -> Tiling:
    """List for every tile the splats that reach ALPHA_MIN at one of its pixels at least, by depth."""
    columns, rows = -(-camera.width_px // TILE_PX), -(-camera.height_px // TILE_PX)
    order = _by_depth(projected.depths.detach(), torch.nonzero(projected.halves_px[:, 0] > 0)[:, 0])
    limits = projected.log_opacities.detach() - math.log(ALPHA_MIN)
    ellipses = torch.cat([projected.means2d.detach(), projected.conics.detach(), limits[:, None]], 1)[order]
    halves = projected.halves_px[order]
    # the first and the last tile that has a pixel centre inside the box
    most = torch.tensor([camera.width_px - 1, camera.height_px - 1], device=order.device)
    first = (ellipses[:, :2] - halves - 0.5).ceil().clamp(min=0).long()
    last = torch.minimum((ellipses[:, :2] + halves - 0.5).floor().long(), most)
    some = (last >= first).all(-1)
    first, last = first // TILE_PX, last // TILE_PX
    spans = (last - first + 1) * some[:, None]
    counts = spans[:, 0] * spans[:, 1]
    ranks = torch.repeat_interleave(counts)
    within = torch.arange(len(ranks), device=order.device) - (counts.cumsum(0) - counts)[ranks]
    width = spans[:, 0][ranks]
    down = within // width
    across = first[:, 0][ranks] + within - down * width
    down += first[:, 1][ranks]
    touching = _touches(torch.nn.functional.embedding(ranks, ellipses), across, down)
    ranks, tiles = ranks[touching], (down * columns + across)[touching]
    groups, places = _grouped(ranks, tiles, columns, len(order), halves.dtype)
    starts = torch.cat([ranks.new_zeros(1), torch.bincount(ranks, minlength=len(order)).cumsum(0)])
    return Tiling(columns, rows, groups, order, places, starts)


def _by_depth(depths: Tensor, seen: Tensor) -> Tensor:
    """Give the indices ``seen`` by depth, nearest first; of equal depths the smaller index first."""
    depths = depths[seen]
    if depths.device.type != "cpu" or depths.dtype != torch.float32:
        return seen[torch.argsort(depths, stable=True)]
    # positive floats are ordered as their bits are: two passes of 16 bits each are five times faster than a sort
    bits = depths.view(torch.int32).numpy()
    low = np.argsort(bits.astype(np.uint16), kind="stable")
    high = np.argsort((bits >> 16).astype(np.uint16)[low], kind="stable")
    return seen[torch.from_numpy(low[high])]


def _by_tile(tiles: Tensor, below: int) -> Tensor:
    if tiles.device.type == "cpu" and below <= 2**16:
        # numpy sorts 16-bit numbers by radix
        return torch.from_numpy(np.argsort(tiles.numpy().astype(np.uint16), kind="stable"))
    return torch.argsort(tiles, stable=True)


def _touches(ellipses: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """Say of each pair whether the ellipse reaches the rectangle of the tile's pixel centres [P].

    The smallest value of a convex quadratic on a rectangle that its minimum is outside of is on an edge that faces it.
    Source: Radl et al., "StopThePop", 2024, section 4.2.
    """
    x, y, a, b, c, limit = ellipses.T.contiguous().unbind()
    left, top = (across * TILE_PX + 0.5).to(x.dtype) - x, (down * TILE_PX + 0.5).to(x.dtype) - y
    right, bottom = left + (TILE_PX - 1), top + (TILE_PX - 1)
    near_x, near_y = left.clamp(min=0) + right.clamp(max=0), top.clamp(min=0) + bottom.clamp(max=0)
    along_y = torch.clamp(-b / c * near_x, top, bottom)
    along_x = torch.clamp(-b / a * near_y, left, right)
    on_side = 0.5 * (a * near_x * near_x + c * along_y * along_y) + b * near_x * along_y
    on_end = 0.5 * (a * along_x * along_x + c * near_y * near_y) + b * along_x * near_y
    return torch.minimum(on_side, on_end) <= limit


def _grouped(
    ranks: Tensor, tiles: Tensor, columns: int, none: int, dtype: torch.dtype
) -> tuple[list[Group], Tensor]:
    """Put tiles with lists of about one length together; say where each pair went."""
    counts = torch.bincount(tiles)
    by_length = torch.argsort(counts, descending=True, stable=True)
    lengths: list[int] = counts[by_length].tolist()
    bounds = []
    begin = 0
    while begin < len(lengths) and lengths[begin] > 0:
        end = begin + 1
        # little is padded: a tile whose list is much shorter starts a group of its own
        while end < len(lengths) and end - begin < GROUP_TILES and lengths[end] >= max(1.0, 0.7 * lengths[begin]):
            end += 1
        bounds.append((begin, end))
        begin = end
    offsets = [0]
    for begin, end in bounds:
        offsets.append(offsets[-1] + lengths[begin] * (end - begin))
    base, width = torch.zeros_like(counts), torch.zeros_like(counts)
    for (begin, end), offset in zip(bounds, offsets, strict=False):
        base[by_length[begin:end]] = torch.arange(offset, offset + end - begin, device=base.device)
        width[by_length[begin:end]] = end - begin
    by_tile = _by_tile(tiles, len(counts))
    sorted_tiles = torch.repeat_interleave(counts)
    rank_in_tile = torch.arange(len(tiles), device=base.device) - (counts.cumsum(0) - counts)[sorted_tiles]
    places = torch.empty_like(tiles)
    places[by_tile] = base[sorted_tiles] + rank_in_tile * width[sorted_tiles]
    lists = torch.full((offsets[-1],), none, dtype=ranks.dtype, device=ranks.device)
    lists[places] = ranks
    groups = []
    for (begin, end), offset in zip(bounds, offsets, strict=False):
        chosen = by_length[begin:end]
        centres = (torch.stack([chosen % columns, chosen // columns], -1).to(dtype) + 0.5) * TILE_PX
        size = lengths[begin] * (end - begin)
        groups.append(Group(chosen, centres, lists[offset : offset + size].reshape(lengths[begin], end - begin)))
    return groups, places
