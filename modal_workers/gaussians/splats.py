"""Parameters of a Gaussian scene; joining, selecting and storing splats."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

#: The constant spherical harmonic, 1 / (2 sqrt(pi)): colour = 0.5 + SH_0 * coefficient.
SH_0 = 0.28209479177387814


@dataclass(frozen=True)
class Splats:
    """N Gaussians in world coordinates, all tensors of one dtype on one device.

    ``colours`` are the coefficients of SH degree 0, 0.5 + SH_0 * colours being RGB in 0..1; ``sh_rest`` those of
    degree 1, 2 or 3 (K = 3, 8 or 15), or None. Quaternions need not be unit ones.
    """

    means: Tensor  # [N, 3] m
    log_scales: Tensor  # [N, 3] natural logarithm of the standard deviations in m
    quaternions: Tensor  # [N, 4] w, x, y, z
    logit_opacities: Tensor  # [N]
    colours: Tensor  # [N, 3]
    sh_rest: Tensor | None = None  # [N, K, 3]

    def __post_init__(self) -> None:
        count = len(self.means)
        wanted = {"means": (3,), "log_scales": (3,), "quaternions": (4,), "logit_opacities": (), "colours": (3,)}
        for name, shape in wanted.items():
            found = tuple(getattr(self, name).shape)
            if found != (count, *shape):
                raise ValueError(f"{name} must have the shape {(count, *shape)}, not {found}.")
        if self.sh_rest is not None and tuple(self.sh_rest.shape) not in {(count, k, 3) for k in (3, 8, 15)}:
            raise ValueError(f"sh_rest must be [{count}, 3 or 8 or 15, 3], not {tuple(self.sh_rest.shape)}.")

    def __len__(self) -> int:
        return len(self.means)

    @staticmethod
    def empty(like: Tensor | None = None) -> Splats:
        """Return no Gaussians: float32 on the CPU, or as ``like``."""
        none = torch.zeros(0) if like is None else torch.zeros(0, dtype=like.dtype, device=like.device)
        three = none.reshape(0, 3)
        return Splats(three, three.clone(), none.reshape(0, 4), none, three.clone())

    def tensors(self) -> dict[str, Tensor]:
        """Return the existing tensors by name."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def map(self, change: Callable[[Tensor], Tensor]) -> Splats:
        """Return splats with a function applied to every tensor."""
        return Splats(**{name: change(tensor) for name, tensor in self.tensors().items()})

    def select(self, chosen: Tensor) -> Splats:
        """Return the splats of a mask [N] or of indices [M]."""
        return self.map(lambda tensor: tensor[chosen])

    def concatenate(self, others: Splats) -> Splats:
        """Return these and then the others; missing sh_rest becomes zeros."""
        if not (len(self) and len(others)):
            return self if len(self) else others
        rest = {len(splats.sh_rest[0]) for splats in (self, others) if splats.sh_rest is not None}
        if len(rest) > 1:
            raise ValueError("Splats of different SH degrees cannot be joined.")
        both = [splats.with_harmonics(max(rest)) if rest else splats for splats in (self, others)]
        first, second = (splats.tensors() for splats in both)
        return Splats(**{name: torch.cat([first[name], second[name]]) for name in first})

    def with_harmonics(self, count: int) -> Splats:
        """Return the splats with at least ``count`` higher coefficients (3, 8, 15); new ones are zero."""
        have = 0 if self.sh_rest is None else self.sh_rest.shape[1]
        if have >= count:
            return self
        more = self.means.new_zeros(len(self), count - have, 3)
        rest = more if self.sh_rest is None else torch.cat([self.sh_rest, more], 1)
        return Splats(**{**self.tensors(), "sh_rest": rest})

    def to(self, device: torch.device | str) -> Splats:
        """Return the splats on another device."""
        return self.map(lambda tensor: tensor.to(device))

    def detach(self) -> Splats:
        """Return the splats outside any graph; the memory is shared."""
        return self.map(Tensor.detach)

    def finite(self) -> Tensor:
        """Return which splats have only finite values [N]."""
        finite = torch.ones(len(self), dtype=torch.bool, device=self.means.device)
        for tensor in self.tensors().values():
            finite &= tensor.isfinite().flatten(1).all(1) if tensor.dim() > 1 else tensor.isfinite()
        return finite

    def save(self, path: Path) -> None:
        """Write a checkpoint atomically."""
        temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
        torch.save({name: tensor.detach().cpu().clone() for name, tensor in self.tensors().items()}, temporary)
        temporary.replace(path)

    @staticmethod
    def load(path: Path) -> Splats:
        """Load a checkpoint onto the CPU; only tensors are read, never code."""
        return Splats(**torch.load(path, map_location="cpu", weights_only=True))


def rotations(quaternions: Tensor) -> Tensor:
    """Return the rotation matrices [N, 3, 3] of quaternions [N, 4] of any non-zero length, w first."""
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1).reshape(-1, 3, 3)
