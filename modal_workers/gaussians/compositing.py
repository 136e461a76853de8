"""The sum over splats at every pixel and its gradient, written by hand so that nothing large is kept between them.

At pixel p, log alpha_i(p) = log o_i - (p - m_i)^T Q_i (p - m_i) / 2 is a polynomial of degree 2 in p, so one product
of matrices, coefficients [pairs, 6] x monomials [6, 64], gives it for all splats at all pixels of their tiles, and
the transposed product gives the gradient of the coefficients. The rest is a recursion over depth:
colour = sum w_i c_i with w_i = alpha_i T_i and T_{i+1} = T_i (1 - alpha_i); behind_i = what is seen from splat i on,
behind_i = alpha_i c_i + (1 - alpha_i) behind_{i+1}, and d colour / d alpha_i = T_i (c_i - behind_{i+1}).
"""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from torch import Tensor

from modal_workers.gaussians.projection import ALPHA_MIN
from modal_workers.gaussians.tiles import TILE_PX, Group, Tiling

#: No splat hides what is behind it altogether, so that gradients reach there. As gsplat.
ALPHA_MAX: Final = 0.999
PIXELS: Final = TILE_PX * TILE_PX
#: How many values [layers x tiles x pixels] are worked on at once: a few such arrays fit in the L2 cache of a core.
CHUNK_VALUES: Final = 64 * 1024
_LOG_MIN: Final = math.log(ALPHA_MIN)
_LOG_MAX: Final = math.log(ALPHA_MAX)


def _monomials(like: Tensor) -> Tensor:
    """Give 1, x, y, x^2, xy, y^2 [6, 64] of a tile's pixels relative to its centre."""
    side = torch.arange(TILE_PX, dtype=like.dtype, device=like.device) - (TILE_PX - 1) / 2
    y, x = (one.reshape(-1) for one in torch.meshgrid(side, side, indexing="ij"))
    return torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y])


class _Chunk:
    """Some layers of one group: their splats' alphas and what of the light is left in front of each."""

    def __init__(self, table: Tensor, group: Group, first: int, last: int, monomials: Tensor, left: Tensor) -> None:
        self.splats = group.splats[first:last]
        rows = table[self.splats]  # [L, G, 6 + F]
        self.features = rows[..., 6:]
        offset = group.centres - rows[..., 0:2]
        self.ex, self.ey = offset.unbind(-1)
        self.a, self.b, self.c = rows[..., 2], rows[..., 3], rows[..., 4]
        self.gx, self.gy = self.a * self.ex + self.b * self.ey, self.b * self.ex + self.c * self.ey
        constant = rows[..., 5] - 0.5 * (self.ex * self.gx + self.ey * self.gy)
        polynomial = torch.stack([constant, -self.gx, -self.gy, -0.5 * self.a, -self.b, -0.5 * self.c], -1)
        log_alpha = (polynomial.reshape(-1, 6) @ monomials).reshape(*self.splats.shape, PIXELS)
        self.alpha = torch.nn.functional.threshold_(log_alpha, _LOG_MIN, -torch.inf).clamp_(max=_LOG_MAX).exp_()
        self.light = torch.empty(len(self.alpha) + 1, *left.shape, dtype=left.dtype, device=left.device)
        self.light[0] = left
        clear = (1 - self.alpha).unbind()
        light = self.light.unbind()
        for layer, through in enumerate(clear):
            torch.mul(light[layer], through, out=light[layer + 1])
        self.weights = self.light[:-1] * self.alpha

    def by_tile(self, of_layers: Tensor) -> Tensor:
        """Give [L, G, X] as the matrices [G, L, X] of the tiles; nothing is copied."""
        return of_layers.transpose(0, 1)

    def backward(self, log_alpha_gradient: Tensor, monomials: Tensor, into: Tensor) -> None:
        """Write the gradient of the rows of the table, features excepted, from that of log alpha [L, G, 64]."""
        of_polynomial = log_alpha_gradient.reshape(-1, PIXELS) @ monomials.T
        d0, d1, d2, d3, d4, d5 = of_polynomial.reshape(*self.splats.shape, 6).unbind(-1)
        ex, ey = self.ex, self.ey
        into[..., 0] = self.gx * d0 + self.a * d1 + self.b * d2
        into[..., 1] = self.gy * d0 + self.b * d1 + self.c * d2
        into[..., 2] = -ex * (0.5 * ex * d0 + d1) - 0.5 * d3
        into[..., 3] = -ex * (ey * d0 + d2) - ey * d1 - d4
        into[..., 4] = -ey * (0.5 * ey * d0 + d2) - 0.5 * d5
        into[..., 5] = d0


def _chunks(group: Group) -> list[tuple[int, int]]:
    depth, tiles = group.splats.shape
    step = max(1, CHUNK_VALUES // (tiles * PIXELS))
    return [(first, min(first + step, depth)) for first in range(0, depth, step)]


class _Compositing(torch.autograd.Function):
    """Table [N + 1, 6 + F] (x, y, a, b, c, log opacity, features; row N is no splat) to tiles [T, F + 1, 64]."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, tiling: Tiling) -> Tensor:
        monomials = _monomials(table)
        features = table.shape[1] - 6
        out = table.new_zeros(tiling.columns * tiling.rows, features + 1, PIXELS)
        kept: list[list[Tensor]] = []
        for group in tiling.groups:
            count = len(group.tiles)
            left = table.new_ones(count, PIXELS)
            total = table.new_zeros(count, features, PIXELS)
            before = []
            for first, last in _chunks(group):
                before.append(left)
                chunk = _Chunk(table, group, first, last, monomials, left)
                total.baddbmm_(chunk.by_tile(chunk.features).transpose(1, 2), chunk.by_tile(chunk.weights))
                left = chunk.light[-1].clone()
            out[group.tiles] = torch.cat([total, 1 - left[:, None]], 1)
            kept.append(before)
        ctx.save_for_backward(table)
        ctx.tiling, ctx.kept = tiling, kept
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (table,) = ctx.saved_tensors
        monomials = _monomials(table)
        result = torch.zeros_like(table)
        for group, before in zip(ctx.tiling.groups, ctx.kept, strict=True):
            gradient = gradients[0][group.tiles]
            of_features, of_alpha = gradient[:, :-1], gradient[:, -1]
            # alpha is the feature that is 1 for every splat
            behind = torch.zeros_like(of_alpha)
            for (first, last), left in zip(reversed(_chunks(group)), reversed(before), strict=True):
                chunk = _Chunk(table, group, first, last, monomials, left)
                rows = torch.empty(*chunk.splats.shape, table.shape[1], dtype=table.dtype, device=table.device)
                worth = torch.empty_like(chunk.alpha)
                worth.copy_(of_alpha)
                chunk.by_tile(worth).baddbmm_(chunk.by_tile(chunk.features), of_features)
                rows[..., 6:] = (chunk.by_tile(chunk.weights) @ of_features.transpose(1, 2)).transpose(0, 1)
                seen = torch.empty_like(chunk.light)
                seen[-1] = behind
                views, worths, alphas = seen.unbind(), worth.unbind(), chunk.alpha.unbind()
                for layer in range(len(alphas) - 1, -1, -1):
                    torch.lerp(views[layer + 1], worths[layer], alphas[layer], out=views[layer])
                behind = seen[0].clone()
                of_log_alpha = worth.sub_(seen[1:]).mul_(chunk.weights)
                of_log_alpha.masked_fill_(chunk.alpha >= ALPHA_MAX, 0)
                chunk.backward(of_log_alpha, monomials, rows)
                result.index_add_(0, chunk.splats.reshape(-1), rows.reshape(-1, table.shape[1]))
        return result, None


def composite(
    means2d: Tensor, conics: Tensor, log_opacities: Tensor, features: Tensor, tiling: Tiling, size_px: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Give the features [H, W, F] summed by weight and the accumulated alpha [H, W, 1] for ``size_px`` (W, H)."""
    table = torch.cat([means2d, conics, log_opacities[:, None], features], 1)
    nothing = table.new_zeros(1, table.shape[1])
    nothing[0, 5] = -1e9
    tiles = _Compositing.apply(torch.cat([table, nothing]), tiling)
    width, height = size_px
    picture = tiles.reshape(tiling.rows, tiling.columns, -1, TILE_PX, TILE_PX).permute(0, 3, 1, 4, 2)
    picture = picture.reshape(tiling.rows * TILE_PX, tiling.columns * TILE_PX, -1)[:height, :width]
    return picture[..., :-1], picture[..., -1:]
