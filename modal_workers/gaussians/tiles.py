"""Tiles of pixels: the splats that each tile has to evaluate, nearest first, grouped for batched arithmetic."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modal_workers.gaussians.camera import Camera
from modal_workers.gaussians.projection import ALPHA_MIN, COEFFICIENTS, ProjectedSplats

#: Side of a tile. Larger tiles evaluate more splats that do not touch most of their pixels.
TILE_PX: Final = 8
#: Most tiles per operation: more make fewer and longer operations, which no longer fit in the cache.
GROUP_TILES: Final = 256


@dataclass(frozen=True)
class TileGroup:
    """G tiles with lists of similar length, padded to the longest, K."""

    tiles: Tensor  # [G] index of each tile, row by row
    centres: Tensor  # [G, 2] px
    splats: Tensor  # [K, G] rank by depth of the k-th nearest splat of each tile, M for none


@dataclass(frozen=True)
class Tiling:
    """The tiles of an image; tiles without splats are in no group. M splats touch at least one tile."""

    columns: int
    rows: int
    groups: list[TileGroup]
    order: Tensor  # [M] indices of these splats, nearest first
    places: Tensor  # [P] position of each (splat, tile) pair in the concatenated lists of all groups, splat by splat
    starts: Tensor  # [M + 1] start of each splat in places


@torch.no_grad()
def build_tiling(projected: ProjectedSplats, camera: Camera) -> Tiling:
    """List for every tile the splats that reach ALPHA_MIN between its pixels' centres, by depth."""
    columns, rows = -(-camera.width_px // TILE_PX), -(-camera.height_px // TILE_PX)
    table = projected.table.detach()
    order = _by_depth(table[6], torch.nonzero(projected.halves_px[0] > 0)[:, 0])
    ellipses = torch.cat([table[:COEFFICIENTS], projected.halves_px]).index_select(1, order)
    ellipses[5] -= math.log(ALPHA_MIN)
    first_row, last_row = _reach(ellipses[1], -ellipses[7], ellipses[7], camera.height_px)
    heights = (last_row - first_row + 1).clamp(min=0)
    row_ends = heights.cumsum(0)
    of_row = torch.repeat_interleave(heights)
    row = torch.arange(len(of_row), device=order.device) + (first_row - row_ends + heights).index_select(0, of_row)
    left, right = _spans(ellipses.index_select(1, of_row), row)
    first, last = _reach(ellipses[0].index_select(0, of_row), left, right, camera.width_px)
    widths = (last - first + 1).clamp(min=0)
    ends = widths.cumsum(0)
    of_pair = torch.repeat_interleave(widths)
    tiles = torch.arange(len(of_pair), device=order.device)
    tiles += (row * columns + first - ends + widths).index_select(0, of_pair)
    ranks = of_row.index_select(0, of_pair)
    groups, places = _grouped(ranks, tiles, columns, len(order), ellipses.dtype)
    starts = torch.cat([ends.new_zeros(1), ends]).index_select(0, torch.cat([row_ends.new_zeros(1), row_ends]))
    return Tiling(columns, rows, groups, order, places, starts)


def _reach(centres: Tensor, low: Tensor, high: Tensor, size_px: int) -> tuple[Tensor, Tensor]:
    """Return the first and the last tile along one side with a pixel centre in centre + low .. centre + high."""
    first = (centres + (low - 0.5)).ceil_().clamp_(min=0)
    last = (centres + (high - 0.5)).floor_().clamp_(max=size_px - 1)
    # none between two centres or outside the image
    last = torch.where(last < first, -1.0, last)
    return (first * (1 / TILE_PX)).long(), (last * (1 / TILE_PX)).floor_().long()


def _spans(ellipses: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far an ellipse extends left and right of its centre within a row of tiles.

    Its part within the row is convex, so it touches all tiles of the row in between and no others. Its boundary is
    x = -b y / a +- sqrt(2 limit / a (1 - y^2 / half^2)), with its extreme at y = -+ b / c half.
    Source: Hanson et al., "Speedy-Splat", 2025, section 4.
    """
    _, y, a, b, c, limit, half_x, half_y = ellipses.unbind()
    top = (row * TILE_PX + 0.5).to(y.dtype) - y
    bottom = top + (TILE_PX - 1)
    furthest, lean, reach = half_x * b / c, b / a, (2 * limit / a).sqrt_()
    at_left, at_right = torch.clamp(furthest, top, bottom), torch.clamp(-furthest, top, bottom)
    wide_left, wide_right = (reach * (1 - (at / half_y).square_()).clamp_(min=0).sqrt_() for at in (at_left, at_right))
    # rounding must not lose a pixel on the boundary
    return -lean * at_left - wide_left - 1e-3, -lean * at_right + wide_right + 1e-3


def _by_depth(depths: Tensor, seen: Tensor) -> Tensor:
    """Return the indices ``seen`` by depth, nearest first; of equal depths the smaller index first."""
    depths = depths[seen]
    if depths.device.type != "cpu" or depths.dtype != torch.float32:
        return seen[torch.argsort(depths, stable=True)]
    # positive floats sort as their bits: two passes of 16 bits each are five times faster than a sort
    bits = depths.view(torch.int32).numpy()
    low = np.argsort(bits.astype(np.uint16), kind="stable")
    high = np.argsort((bits >> 16).astype(np.uint16)[low], kind="stable")
    return seen[torch.from_numpy(low[high])]


def _by_tile(tiles: Tensor, below: int) -> Tensor:
    if tiles.device.type == "cpu" and below <= 2**16:
        # numpy sorts 16-bit numbers by radix
        return torch.from_numpy(np.argsort(tiles.numpy().astype(np.uint16), kind="stable"))
    return torch.argsort(tiles, stable=True)


def _grouped(
    ranks: Tensor, tiles: Tensor, columns: int, none: int, dtype: torch.dtype
) -> tuple[list[TileGroup], Tensor]:
    """Group tiles with lists of similar length; return the position of each pair too."""
    counts = torch.bincount(tiles)
    by_length = torch.argsort(counts, descending=True, stable=True)
    bounds = _bounds(counts[by_length].cpu().numpy())
    sizes = [length * (end - begin) for begin, end, length in bounds]
    offsets = [0, *itertools.accumulate(sizes)]
    base, width = torch.zeros_like(counts), torch.zeros_like(counts)
    for (begin, end, _), offset in zip(bounds, offsets, strict=False):
        base[by_length[begin:end]] = torch.arange(offset, offset + end - begin, device=base.device)
        width[by_length[begin:end]] = end - begin
    starts = counts.cumsum(0) - counts
    sorted_tiles = torch.repeat_interleave(counts)
    in_order = torch.arange(len(tiles), device=base.device) * width.index_select(0, sorted_tiles)
    in_order += (base - starts * width).index_select(0, sorted_tiles)
    places = torch.empty_like(tiles).scatter_(0, _by_tile(tiles, len(counts)), in_order)
    lists = torch.full((offsets[-1],), none, dtype=ranks.dtype, device=ranks.device).scatter_(0, places, ranks)
    groups = []
    for (begin, end, length), offset in zip(bounds, offsets, strict=False):
        chosen = by_length[begin:end]
        centres = (torch.stack([chosen % columns, chosen // columns], -1).to(dtype) + 0.5) * TILE_PX
        groups.append(TileGroup(chosen, centres, lists[offset : offset + length * (end - begin)].view(length, -1)))
    return groups, places


def _bounds(lengths: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Split descending lengths into groups: begin, end and the longest; lengths of 0 are in none."""
    bounds = []
    begin, nonzero = 0, int(np.count_nonzero(lengths))
    while begin < nonzero:
        longest = int(lengths[begin])
        # to limit padding, a tile whose list is much shorter starts a new group
        similar = int(np.searchsorted(-lengths, -0.7 * longest, "right"))
        end = min(begin + GROUP_TILES, similar, nonzero)
        bounds.append((begin, end, longest))
        begin = end
    return bounds
