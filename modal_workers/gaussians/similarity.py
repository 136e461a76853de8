"""How alike two pictures are: PSNR and SSIM, and the loss of training made of the latter."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import torch
from torch import Tensor

from modal_workers.gaussians.rendered import Rendered

#: The share of D-SSIM in the loss. Source: Kerbl et al. 2023, equation 7.
D_SSIM_SHARE: Final = 0.2
_WINDOW_PX: Final = 11
_SIGMA_PX: Final = 1.5
_C1: Final = 0.01**2
_C2: Final = 0.03**2


def loss(rendered: Rendered, picture: Tensor, mask: Tensor | None = None) -> Tensor:
    """Give 0.8 L1 + 0.2 (1 - SSIM) of the rendered colour and a picture [H, W, 3] in 0..1.

    With ``mask`` [H, W, 1] in 0..1, only pixels count where it is above 0, by its value.
    """
    colour = rendered.colour
    if mask is None:
        absolute = (colour - picture).abs().mean()
    else:
        absolute = ((colour - picture).abs() * mask).sum() / (3 * mask.sum().clamp(min=1))
        # outside of the mask both are the same, so nothing is learnt there
        colour = picture + (colour - picture) * mask
    return (1 - D_SSIM_SHARE) * absolute + D_SSIM_SHARE * (1 - ssim(colour, picture))


def psnr_db(a: Tensor, b: Tensor) -> float:
    """Give the peak signal-to-noise ratio of two pictures in 0..1, in dB; infinite where they are the same."""
    error = float((a.detach().clamp(0, 1) - b.detach().clamp(0, 1)).square().mean())
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Give the mean structural similarity [] of two pictures [H, W, C] in 0..1; differentiable by ``a`` and ``b``.

    Source: Wang et al., "Image Quality Assessment", 2004: a Gaussian window of 11 pixels, sigma 1.5. At the border
    the window is cut and its weights made to sum to 1.
    """
    height, width, channels = a.shape
    first, second = a.permute(2, 0, 1), b.permute(2, 0, 1)
    moments = torch.cat([first, second, first * first, second * second, first * second])
    # products of matrices are faster than convolutions on pictures this small
    blurred = _window(height, a.dtype, a.device) @ moments @ _window(width, a.dtype, a.device).T
    mean_a, mean_b, aa, bb, ab = torch.split(blurred, channels)
    square_a, square_b, product = mean_a * mean_a, mean_b * mean_b, mean_a * mean_b
    top = (2 * product + _C1) * (2 * (ab - product) + _C2)
    bottom = (square_a + square_b + _C1) * (aa - square_a + bb - square_b + _C2)
    return (top / bottom).mean()


@lru_cache(maxsize=16)
def _window(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Give the blur along one side as a banded matrix [size, size]."""
    at = torch.arange(size, dtype=torch.float64)
    distance = at[:, None] - at
    weights = torch.exp(-0.5 * (distance / _SIGMA_PX) ** 2) * (distance.abs() <= _WINDOW_PX // 2)
    return (weights / weights.sum(1, keepdim=True)).to(device=device, dtype=dtype)
