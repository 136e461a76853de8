"""Alpha compositing over tiles and its hand-written gradient, which stores nothing large between the two.

At pixel p, log alpha_i(p) = log o_i - (p - m_i)^T Q_i (p - m_i) / 2 is a polynomial of degree 2 in p, so one matrix
product, coefficients [pairs, 6] x monomials [6, 64], gives it for all splats at all pixels of their tiles, and the
transposed product gives the gradient of the coefficients. The rest is a recursion over depth: with the transmittance
T_1 = 1, T_{i+1} = T_i (1 - alpha_i), the colour is sum w_i c_i with w_i = alpha_i T_i; the colour behind splat i - 1 is
B_i = alpha_i c_i + (1 - alpha_i) B_{i+1}, and d colour / d log alpha_i = w_i (c_i - B_{i+1}).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from modal_workers.gaussians.projection import ALPHA_MIN, COEFFICIENTS, OPACITY_MAX
from modal_workers.gaussians.tiles import TILE_PX, TileGroup, Tiling

PIXELS: Final = TILE_PX * TILE_PX
#: Values [layers x tiles x pixels] per operation. Fewer fit a core's own cache better, but then the overhead of many
#: short operations dominates.
CHUNK_VALUES: Final = 256 * 1024
#: If no pixel of a group has more transmittance than this, the remaining splats are skipped.
MIN_TRANSMITTANCE: Final = 1e-4
_TRANSPARENT: Final = -1e9


def _monomials(like: Tensor) -> Tensor:
    """Return 1, x, y, x^2, xy, y^2 [6, 64] of a tile's pixels relative to its centre."""
    side = torch.arange(TILE_PX, dtype=like.dtype, device=like.device) - (TILE_PX - 1) / 2
    y, x = (grid.reshape(-1) for grid in torch.meshgrid(side, side, indexing="ij"))
    return torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y])


@dataclass(frozen=True)
class _Lists:
    """The splats of the tiles of a group, in the layout of the arithmetic."""

    polynomial: Tensor  # [6, K G] coefficients of log alpha
    offsets: Tensor  # [2, K G] px from each splat to the tile's centre
    features: Tensor  # [K, G, F]

    @staticmethod
    def of(coefficients: Tensor, features: Tensor, group: TileGroup) -> _Lists:
        """Create from x, y, a, b, c, log opacity [6, M + 1] and features [M + 1, F]."""
        flat = group.splats.reshape(-1)
        x, y, a, b, c, log_opacity = coefficients.index_select(1, flat).unbind()
        polynomial = coefficients.new_empty(6, len(flat))
        offsets = coefficients.new_empty(2, len(flat))
        depth = len(group.splats)
        ex = torch.sub(group.centres[:, 0].repeat(depth), x, out=offsets[0])
        ey = torch.sub(group.centres[:, 1].repeat(depth), y, out=offsets[1])
        gx = torch.mul(a, ex, out=polynomial[1]).addcmul_(b, ey).neg_()
        gy = torch.mul(b, ex, out=polynomial[2]).addcmul_(c, ey).neg_()
        torch.addcmul(log_opacity, ex, gx, value=0.5, out=polynomial[0]).addcmul_(ey, gy, value=0.5)
        torch.mul(a, -0.5, out=polynomial[3])
        torch.neg(b, out=polynomial[4])
        torch.mul(c, -0.5, out=polynomial[5])
        return _Lists(polynomial, offsets, torch.nn.functional.embedding(group.splats, features))

    def gradient(self, of_polynomial: Tensor, into: Tensor) -> None:
        """Write the gradient of x, y, a, b, c, log opacity [K G, 6] from that of the polynomial [6, K G]."""
        d0, d1, d2, d3, d4, d5 = of_polynomial.unbind()
        ex, ey = self.offsets.unbind()
        _, gx, gy, a, b, c = self.polynomial.unbind()  # the last five negative, a and c halved
        into[:, 0] = -(gx * d0).add_(a * d1, alpha=2).addcmul_(b, d2)
        into[:, 1] = -(gy * d0).add_(c * d2, alpha=2).addcmul_(b, d1)
        into[:, 2] = (ex * d0).mul_(0.5).add_(d1).mul_(ex).add_(d3, alpha=0.5).neg_()
        into[:, 3] = (ey * d0).add_(d2).mul_(ex).addcmul_(ey, d1).add_(d4).neg_()
        into[:, 4] = (ey * d0).mul_(0.5).add_(d2).mul_(ey).add_(d5, alpha=0.5).neg_()
        into[:, 5] = d0


class _Chunks:
    """Chunks of layers of a group that fit in the cache, and a buffer for the alphas of one chunk."""

    def __init__(self, group: TileGroup, like: Tensor) -> None:
        depth, self.tiles = group.splats.shape
        step = min(depth, max(1, CHUNK_VALUES // (self.tiles * PIXELS)))
        self.bounds = [(first, min(first + step, depth)) for first in range(0, depth, step)]
        self._alpha = self.buffer(like)
        # to base 2: exp2 is twice as fast as exp, and many times as fast for small results
        self._monomials = _monomials(like) * math.log2(math.e)

    def buffer(self, like: Tensor) -> Tensor:
        """Return a buffer for a chunk [L, G, 64]."""
        first, last = self.bounds[0]
        return like.new_empty(last - first, self.tiles, PIXELS)

    def alphas(self, lists: _Lists, first: int, last: int) -> Tensor:
        """Return alpha [L, G, 64] of some layers; the next call overwrites it."""
        alpha = self._alpha[: last - first]
        flat = alpha.view(-1, PIXELS)
        torch.mm(lists.polynomial[:, first * self.tiles : last * self.tiles].T, self._monomials, out=flat)
        # clamped for rounding only: opacities are below the limit
        torch.threshold_(flat.exp2_(), ALPHA_MIN, 0.0).clamp_(max=OPACITY_MAX)
        return alpha


class _Compositing(torch.autograd.Function):
    """From the table [6 + F, N] of coefficients and features to the tiles' features and alpha [T, F + 1, 64]."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, tiling: Tiling) -> Tensor:
        # one transparent splat is appended for padding
        chosen = torch.nn.functional.pad(table.index_select(1, tiling.order), (0, 1))
        coefficients, features = chosen[:COEFFICIENTS], chosen[COEFFICIENTS:].T.contiguous()
        coefficients[5, -1] = _TRANSPARENT
        out = table.new_zeros(tiling.columns * tiling.rows, features.shape[1] + 1, PIXELS)
        ctx.tiling, ctx.lists, ctx.transmittances = tiling, [], []
        for group in tiling.groups:
            lists = _Lists.of(coefficients, features, group)
            picture, transmittances = _group_forward(lists, group)
            out[group.tiles] = picture
            if ctx.needs_input_grad[0]:
                ctx.lists.append(lists)
                ctx.transmittances.append(transmittances)
        ctx.shape = table.shape
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        tiling: Tiling = ctx.tiling
        gradient = gradients[0]
        result = gradient.new_zeros(ctx.shape)
        rows = gradient.new_zeros(sum(group.splats.numel() for group in tiling.groups), ctx.shape[0])
        offset = 0
        for group, lists, transmittances in zip(tiling.groups, ctx.lists, ctx.transmittances, strict=True):
            size = group.splats.numel()
            _group_backward(lists, group, transmittances, gradient[group.tiles], rows[offset : offset + size])
            offset += size
        if offset:
            summed = torch.nn.functional.embedding_bag(
                tiling.places, rows, tiling.starts, mode="sum", include_last_offset=True
            )
            result[:, tiling.order] = summed.T
        return result, None


def _group_forward(lists: _Lists, group: TileGroup) -> tuple[Tensor, list[Tensor]]:
    """Return features and alpha [G, F + 1, 64] of the tiles, and the transmittance before each processed chunk."""
    chunks = _Chunks(group, lists.polynomial)
    transmittance = lists.polynomial.new_ones(chunks.tiles, PIXELS)
    total = transmittance.new_zeros(chunks.tiles, lists.features.shape[2], PIXELS)
    transmittances = []
    for first, last in chunks.bounds:
        transmittances.append(transmittance.clone())
        weights = chunks.alphas(lists, first, last)
        for weight in weights.unbind():
            transmittance.sub_(weight.mul_(transmittance))
        total.baddbmm_(lists.features[first:last].permute(1, 2, 0), weights.transpose(0, 1))
        if transmittance.amax() < MIN_TRANSMITTANCE:
            break
    return torch.cat([total, 1 - transmittance[:, None]], 1), transmittances


def _group_backward(
    lists: _Lists, group: TileGroup, transmittances: list[Tensor], gradient: Tensor, rows: Tensor
) -> None:
    """Write the gradient of the table's rows [K G, 6 + F] from that of the tiles [G, F + 1, 64]."""
    chunks = _Chunks(group, rows)
    weight, gain_buffer = chunks.buffer(rows), chunks.buffer(rows).view(-1)
    weight_of = weight.unbind()
    of_polynomial = rows.new_zeros(6, len(rows))
    of_rows = rows.view(*group.splats.shape, -1)
    of_features = gradient[:, :-1].contiguous()
    monomials = _monomials(rows)
    # alpha is a feature that is 1 for every splat; its gradient is subtracted from all gains and remains only here
    behind = -gradient[:, -1]
    for (first, last), before in zip(
        reversed(chunks.bounds[: len(transmittances)]), reversed(transmittances), strict=True
    ):
        count = last - first
        alpha = chunks.alphas(lists, first, last)
        alphas, transmittance = alpha.unbind(), before.clone()
        for layer in range(count):
            transmittance.sub_(torch.mul(alphas[layer], transmittance, out=weight_of[layer]))
        gained = gain_buffer[: alpha.numel()].view(chunks.tiles, count, PIXELS)
        torch.bmm(lists.features[first:last].transpose(0, 1), of_features, out=gained)
        gains = gained.unbind(1)
        for layer in range(count - 1, -1, -1):
            behind.addcmul_(gains[layer].sub_(behind), alphas[layer])
        weights = weight[:count]
        of_rows[first:last, :, COEFFICIENTS:] = torch.bmm(
            weights.transpose(0, 1), of_features.transpose(1, 2)
        ).transpose(0, 1)
        of_log_alpha = weights.mul_(gained.transpose(0, 1)).view(-1, PIXELS)
        torch.mm(monomials, of_log_alpha.T, out=of_polynomial[:, first * chunks.tiles : last * chunks.tiles])
    lists.gradient(of_polynomial, rows)


def composite(table: Tensor, tiling: Tiling, size_px: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the weighted sum of features [H, W, F] and the accumulated alpha [H, W, 1] for ``size_px`` (W, H).

    The rows of ``table`` [6 + F, N] are those of ``ProjectedSplats.table``.
    """
    tiles: Tensor = _Compositing.apply(table, tiling)  # type: ignore[no-untyped-call]
    width, height = size_px
    picture = tiles.reshape(tiling.rows, tiling.columns, -1, TILE_PX, TILE_PX).permute(0, 3, 1, 4, 2)
    picture = picture.reshape(tiling.rows * TILE_PX, tiling.columns * TILE_PX, -1)[:height, :width]
    return picture[..., :-1], picture[..., -1:]
