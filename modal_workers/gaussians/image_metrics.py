"""Image similarity: PSNR, SSIM, and the training loss."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Final

import torch
from torch import Tensor

from modal_workers.gaussians.render_result import RenderResult

#: The share of D-SSIM in the loss. Source: Kerbl et al. 2023, equation 7.
D_SSIM_SHARE: Final = 0.2
_PAD: Final = 5
_BLOCK: Final = 32
_SIGMA_PX: Final = 1.5
_C1: Final = 0.01**2
_C2: Final = 0.03**2


def loss(rendered: RenderResult, picture: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return 0.8 L1 + 0.2 (1 - SSIM) of the rendered colour and an image [H, W, 3] in 0..1.

    ``mask`` [H, W, 1] in 0..1 weights the pixels; those with 0 have no influence.
    """
    colour = rendered.colour
    if mask is None:
        absolute = (colour - picture).abs().mean()
    else:
        absolute = ((colour - picture).abs() * mask).sum() / (3 * mask.sum().clamp(min=1))
        # outside the mask both are equal, so the gradient there is zero
        colour = picture + (colour - picture) * mask
    return (1 - D_SSIM_SHARE) * absolute + D_SSIM_SHARE * (1 - ssim(colour, picture))


def psnr_db(a: Tensor, b: Tensor) -> float:
    """Return the peak signal-to-noise ratio in dB of two images in 0..1; infinite if they are equal."""
    error = float((a.detach().clamp(0, 1) - b.detach().clamp(0, 1)).square().mean())
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean structural similarity [] of two images [H, W, C] in 0..1, differentiable by ``a`` only.

    Source: Wang et al., "Image Quality Assessment", 2004: a Gaussian window of 11 pixels, sigma 1.5; beyond the border
    both images are black, as in 3D Gaussian Splatting.
    """
    found: Tensor = _Ssim.apply(a, b.detach())  # type: ignore[no-untyped-call]
    return found


class _Ssim(torch.autograd.Function):
    """SSIM = A1 A2 / (B1 B2) of blurred a, b, a^2, b^2, ab; three more blurs in the forward give the gradient."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        first, second = a.permute(2, 0, 1), b.permute(2, 0, 1)
        found = _blur(torch.cat([first, second, first * first, second * second, first * second]))
        mean_a, mean_b, aa, bb, ab = torch.split(found, len(first))
        square_a, square_b, product = mean_a * mean_a, mean_b * mean_b, mean_a * mean_b
        a1, a2 = (2 * product).add_(_C1), torch.sub(ab, product).mul_(2).add_(_C2)
        b1, b2 = square_a.add(square_b).add_(_C1), (aa + bb).sub_(square_a).sub_(square_b).add_(_C2)
        scale = (b1 * b2).reciprocal_()
        similarity = (a1 * a2).mul_(scale)
        if ctx.needs_input_grad[0]:
            by_ab = (2 * a1).mul_(scale)
            by_aa = (similarity / b2).neg_()
            by_mean = (
                (a2 - a1).mul_(scale).mul_(mean_b).addcmul_(b2.reciprocal_() - b1.reciprocal_(), similarity * mean_a)
            )
            # the window is even, so its transpose is itself
            by_mean, by_aa, by_ab = torch.split(_blur(torch.cat([by_mean.mul_(2), by_aa, by_ab])), len(first))
            by_a = by_mean.addcmul_(first, by_aa, value=2).addcmul_(second, by_ab)
            ctx.save_for_backward((by_a / similarity.numel()).permute(1, 2, 0))
        return similarity.mean()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (by_a,) = ctx.saved_tensors
        return by_a * gradients[0], None


def _blur(stack: Tensor) -> Tensor:
    """Blur images [C, H, W] along both sides.

    A block of outputs is the product of a small banded matrix with the inputs under its window. Blocks overlap in
    memory and are not copied; on small images this is several times as fast as a convolution.
    """
    count, height, width = stack.shape
    band = _band(stack.dtype, stack.device)  # [BLOCK + 2 PAD, BLOCK]
    across = -(-width // _BLOCK)
    stride = across * _BLOCK + 2 * _PAD
    padded = torch.nn.functional.pad(stack, (_PAD, stride - _PAD - width)).reshape(-1, stride)
    blocks = padded.as_strided((across, len(padded), len(band)), (_BLOCK, stride, 1))
    once = torch.bmm(blocks, band.expand(across, -1, -1))  # [across, C H, BLOCK]
    # the images are stacked vertically with enough black between them
    rows = -(-(height + 2 * _PAD) // _BLOCK) * _BLOCK
    tall = stack.new_zeros(count * rows + 2 * _PAD, across * _BLOCK)
    inside = tall[: count * rows].view(count, rows, across, _BLOCK)[:, _PAD : _PAD + height]
    inside.copy_(once.view(across, count, height, _BLOCK).permute(1, 2, 0, 3))
    down = count * rows // _BLOCK
    blocks = tall.as_strided((down, len(band), tall.shape[1]), (_BLOCK * tall.shape[1], tall.shape[1], 1))
    twice = torch.bmm(band.T.expand(down, -1, -1), blocks)
    return twice.view(count, rows, -1)[:, :height, :width]


@lru_cache(maxsize=8)
def _band(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the window [BLOCK + 2 PAD, BLOCK] of each output of a block over the inputs."""
    inputs, outputs = torch.arange(_BLOCK + 2 * _PAD), torch.arange(_BLOCK)
    distance = (inputs[:, None] - _PAD - outputs).to(torch.float64)
    weights = torch.exp(-0.5 * (distance / _SIGMA_PX) ** 2) * (distance.abs() <= _PAD)
    return (weights / weights.sum(0)).to(device=device, dtype=dtype)
