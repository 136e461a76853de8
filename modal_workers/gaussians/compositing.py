"""The sum over splats at every pixel and its gradient, written by hand so that nothing large is kept between them.

At pixel p, log alpha_i(p) = log o_i - (p - m_i)^T Q_i (p - m_i) / 2 is a polynomial of degree 2 in p, so one product
of matrices, coefficients [pairs, 6] x monomials [6, 64], gives it for all splats at all pixels of their tiles, and
the transposed product gives the gradient of the coefficients. The rest is a recursion over depth: with the light
T_1 = 1, T_{i+1} = T_i (1 - alpha_i), the colour is sum w_i c_i with w_i = alpha_i T_i; what is seen from splat i on is
B_i = alpha_i c_i + (1 - alpha_i) B_{i+1}, and d colour / d log alpha_i = w_i (c_i - B_{i+1}).
"""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from torch import Tensor

from modal_workers.gaussians.projection import ALPHA_MIN, OPACITY_MAX
from modal_workers.gaussians.tiles import TILE_PX, Group, Tiling

PIXELS: Final = TILE_PX * TILE_PX
#: How many values [layers x tiles x pixels] are worked on at once: a few such arrays fit in the L2 cache of a core.
CHUNK_VALUES: Final = 128 * 1024
#: Where no pixel of a group gets more than this of the light behind it, the rest is not looked at.
LIGHT_MIN: Final = 1e-4


def _monomials(like: Tensor) -> Tensor:
    """Give 1, x, y, x^2, xy, y^2 [6, 64] of a tile's pixels relative to its centre."""
    side = torch.arange(TILE_PX, dtype=like.dtype, device=like.device) - (TILE_PX - 1) / 2
    y, x = (one.reshape(-1) for one in torch.meshgrid(side, side, indexing="ij"))
    return torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y])


class _Layers:
    """The splats of a group, some layers at a time: their alphas and the light in front of each."""

    def __init__(self, table: Tensor, group: Group) -> None:
        depth, tiles = group.splats.shape
        rows = torch.nn.functional.embedding(group.splats, table)  # [K, G, 6 + F]
        self.features = rows[..., 6:]
        x, y, self.a, self.b, self.c, log_opacity = rows[..., :6].permute(2, 0, 1).contiguous().unbind()
        self.ex, self.ey = group.centres[:, 0] - x, group.centres[:, 1] - y
        self.gx, self.gy = self.a * self.ex + self.b * self.ey, self.b * self.ex + self.c * self.ey
        constant = log_opacity - 0.5 * (self.ex * self.gx + self.ey * self.gy)
        polynomial = [constant, -self.gx, -self.gy, -0.5 * self.a, -self.b, -0.5 * self.c]
        self.polynomial = torch.stack([one.reshape(-1) for one in polynomial])  # [6, K G]
        # to the base of 2, whose power is twice as fast, and where it is small many times as fast
        self.monomials = _monomials(table) * math.log2(math.e)
        step = min(depth, max(1, CHUNK_VALUES // (tiles * PIXELS)))
        self.chunks = [(first, min(first + step, depth)) for first in range(0, depth, step)]
        self._alpha, self._clear = table.new_empty(2, step, tiles, PIXELS)
        self._light = table.new_empty(step + 1, tiles, PIXELS)
        self._clears, self._lights = self._clear.unbind(), self._light.unbind()
        self._tiles = tiles

    def load(self, first: int, last: int, light: Tensor) -> tuple[Tensor, Tensor]:
        """Give alpha [L, G, 64] of some layers and the light [L + 1, G, 64] before and behind them.

        Both are overwritten by the next call.
        """
        count = last - first
        alpha = self._alpha[:count]
        flat = alpha.view(-1, PIXELS)
        torch.mm(self.polynomial[:, first * self._tiles : last * self._tiles].T, self.monomials, out=flat)
        # the bound is for rounding only: opacities are below it
        torch.threshold_(flat.exp2_(), ALPHA_MIN, 0.0).clamp_(max=OPACITY_MAX)
        torch.sub(1, alpha, out=self._clear[:count])
        self._light[0] = light
        for layer in range(count):
            torch.mul(self._lights[layer], self._clears[layer], out=self._lights[layer + 1])
        return alpha, self._light[: count + 1]

    def gradient(self, of_polynomial: Tensor, into: Tensor) -> None:
        """Write the gradient of x, y, a, b, c, log opacity [K, G, 6] from that of the polynomial [6, K G]."""
        d0, d1, d2, d3, d4, d5 = of_polynomial.reshape(6, *self.ex.shape).unbind()
        ex, ey = self.ex, self.ey
        into[..., 0] = self.gx * d0 + self.a * d1 + self.b * d2
        into[..., 1] = self.gy * d0 + self.b * d1 + self.c * d2
        into[..., 2] = -ex * (0.5 * ex * d0 + d1) - 0.5 * d3
        into[..., 3] = -ex * (ey * d0 + d2) - ey * d1 - d4
        into[..., 4] = -ey * (0.5 * ey * d0 + d2) - 0.5 * d5
        into[..., 5] = d0


class _Compositing(torch.autograd.Function):
    """Table [N, 6 + F] of x, y, a, b, c, log opacity and features, to the tiles' features and alpha [T, F + 1, 64]."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, tiling: Tiling) -> Tensor:
        count = table.shape[1] - 6
        ordered = _ordered(table, tiling)
        out = table.new_zeros(tiling.columns * tiling.rows, count + 1, PIXELS)
        lights: list[list[Tensor]] = []
        for group in tiling.groups:
            layers = _Layers(ordered, group)
            total = table.new_zeros(len(group.tiles), count, PIXELS)
            before = [table.new_ones(len(group.tiles), PIXELS)]
            for first, last in layers.chunks:
                alpha, light = layers.load(first, last, before[-1])
                weights = alpha.mul_(light[:-1])
                total.baddbmm_(layers.features[first:last].permute(1, 2, 0), weights.transpose(0, 1))
                before.append(light[-1].clone())
                if before[-1].amax() < LIGHT_MIN:
                    break
            out[group.tiles] = torch.cat([total, 1 - before.pop()[:, None]], 1)
            lights.append(before)
        ctx.save_for_backward(table)
        ctx.tiling, ctx.lights = tiling, lights
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (table,) = ctx.saved_tensors
        tiling: Tiling = ctx.tiling
        ordered = _ordered(table, tiling)
        rows = table.new_zeros(sum(group.splats.numel() for group in tiling.groups), table.shape[1])
        offset = 0
        for group, lights in zip(tiling.groups, ctx.lights, strict=True):
            size = group.splats.numel()
            _group_backward(ordered, group, lights, gradients[0][group.tiles], rows[offset : offset + size])
            offset += size
        result = torch.zeros_like(table)
        if len(tiling.places):
            result[tiling.order] = torch.nn.functional.embedding_bag(
                tiling.places, rows, tiling.starts, mode="sum", include_last_offset=True
            )
        return result, None


def _group_backward(ordered: Tensor, group: Group, lights: list[Tensor], gradient: Tensor, rows: Tensor) -> None:
    """Write the gradient of the table's rows [K G, 6 + F], from that of the tiles [G, F + 1, 64]."""
    layers = _Layers(ordered, group)
    rows = rows.view(*group.splats.shape, -1)
    of_polynomial = rows.new_zeros(6, group.splats.numel())
    monomials = _monomials(rows)
    of_features = gradient[:, :-1].contiguous()
    chunks = layers.chunks[: len(lights)]
    behind = rows.new_empty(chunks[0][1] + 1, len(group.tiles), PIXELS)
    behinds = behind.unbind()
    # alpha is a feature that is 1 for every splat; taking its gradient off all worths leaves it here alone
    last_behind = -gradient[:, -1]
    for (first, last), light in zip(reversed(chunks), reversed(lights), strict=True):
        alpha, light_at = layers.load(first, last, light)
        worth = torch.bmm(layers.features[first:last].transpose(0, 1), of_features).transpose(0, 1)
        worths, alphas = worth.unbind(), alpha.unbind()
        behinds[last - first].copy_(last_behind)
        for layer in range(last - first - 1, -1, -1):
            torch.lerp(behinds[layer + 1], worths[layer], alphas[layer], out=behinds[layer])
        last_behind = behinds[0].clone()
        weights = alpha.mul_(light_at[:-1])
        rows[first:last, :, 6:] = torch.bmm(weights.transpose(0, 1), of_features.transpose(1, 2)).transpose(0, 1)
        of_log_alpha = torch.sub(worth, behind[1 : last - first + 1], out=light_at[1:]).mul_(weights)
        size = len(group.tiles)
        torch.mm(monomials, of_log_alpha.view(-1, PIXELS).T, out=of_polynomial[:, first * size : last * size])
    layers.gradient(of_polynomial, rows)


def _ordered(table: Tensor, tiling: Tiling) -> Tensor:
    """Give the rows by depth [M + 1, 6 + F], the last one being no splat."""
    nothing = table.new_zeros(1, table.shape[1])
    nothing[0, 5] = -1e9
    return torch.cat([table[tiling.order], nothing])


def composite(projected: Tensor, tiling: Tiling, size_px: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Give the features [H, W, F] summed by weight and the accumulated alpha [H, W, 1] for ``size_px`` (W, H).

    ``projected`` [N, 6 + F] is x, y (px), a, b, c (of the inverse covariance, 1/px^2), log opacity and features.
    """
    tiles: Tensor = _Compositing.apply(projected, tiling)  # type: ignore[no-untyped-call]
    width, height = size_px
    picture = tiles.reshape(tiling.rows, tiling.columns, -1, TILE_PX, TILE_PX).permute(0, 3, 1, 4, 2)
    picture = picture.reshape(tiling.rows * TILE_PX, tiling.columns * TILE_PX, -1)[:height, :width]
    return picture[..., :-1], picture[..., -1:]
