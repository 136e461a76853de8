"""View-dependent colour of splats: real spherical harmonics up to degree 3."""

from __future__ import annotations

import torch
from torch import Tensor

from modal_workers.gaussians.splats import SH_0, Splats


def radiance(splats: Splats, camera_from_world: Tensor) -> Tensor:
    """Return the colours [N, 3], at least 0, seen from the camera's centre.

    Source of the basis and its signs: Sloan, "Efficient Spherical Harmonic Evaluation", JCGT 2013, as in the files of
    3D Gaussian Splatting.
    """
    colour = 0.5 + SH_0 * splats.colours
    if splats.sh_rest is not None:
        centre = -camera_from_world[:3, :3].T @ camera_from_world[:3, 3]
        toward = torch.nn.functional.normalize(splats.means - centre, dim=-1)
        weights = _basis(toward, splats.sh_rest.shape[1])
        colour = colour + (weights[:, :, None] * splats.sh_rest).sum(1)
    return colour.clamp(min=0)


def _basis(toward: Tensor, count: int) -> Tensor:
    """Return the basis functions of degree 1 and higher [N, count] at unit vectors [N, 3]."""
    x, y, z = toward.unbind(-1)
    first = [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    if count == 3:
        return torch.stack(first, -1)
    xx, yy, zz = x * x, y * y, z * z
    second = [
        1.0925484305920792 * x * y,
        -1.0925484305920792 * y * z,
        0.31539156525252005 * (2 * zz - xx - yy),
        -1.0925484305920792 * x * z,
        0.5462742152960396 * (xx - yy),
    ]
    if count == 8:
        return torch.stack(first + second, -1)
    third = [
        -0.5900435899266435 * y * (3 * xx - yy),
        2.890611442640554 * x * y * z,
        -0.4570457994644658 * y * (4 * zz - xx - yy),
        0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy),
        -0.4570457994644658 * x * (4 * zz - xx - yy),
        1.445305721320277 * z * (xx - yy),
        -0.5900435899266435 * x * (xx - 3 * yy),
    ]
    return torch.stack(first + second + third, -1)
