"""The output of a rasteriser, the same for every backend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class RenderResult:
    """An image of the splats. Colours are linear, over the background if one was given."""

    colour: Tensor  # [H, W, 3]
    alpha: Tensor  # [H, W, 1] 0..1
    depth: Tensor  # [H, W, 1] m along the optical axis, weighted mean; 0 where there is nothing
    radii_px: Tensor  # [N] half the larger side of each splat's box in the image, 0 if not seen
    means2d: Tensor  # [N, 2] px
    #: Returns the gradient [N, 2] of the loss by the image positions after ``backward``, None before.
    means2d_gradient: Callable[[], Tensor | None] = field(repr=False)
