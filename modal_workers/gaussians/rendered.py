"""What a rasteriser gives back, whichever it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class RenderResult:
    """A picture of the splats. Colours are linear in what was put in, over the background where one was given."""

    colour: Tensor  # [H, W, 3]
    alpha: Tensor  # [H, W, 1] 0..1
    depth: Tensor  # [H, W, 1] m along the optical axis, mean by weight; 0 where nothing is
    radii_px: Tensor  # [N] half the larger side of each splat's box in the picture, 0 where it is not seen
    means2d: Tensor  # [N, 2] px
    #: Gives the gradient [N, 2] of the loss by the positions in the picture after ``backward``, or None before.
    means2d_gradient: Callable[[], Tensor | None] = field(repr=False)
