"""Training steps: the gradient of the loss moves the splats and, optionally, the pose of the camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from modal_workers.gaussians.camera import Camera, se3_exp
from modal_workers.gaussians.image_metrics import loss, psnr_db, ssim
from modal_workers.gaussians.rasterize import Backend, RenderResult, rasterize
from modal_workers.gaussians.splats import Splats

__all__ = ["LearningRates", "Optimiser", "PoseCorrection", "TrainingStep", "loss", "psnr_db", "ssim", "train_step"]

_BETA_1: Final = 0.9
_BETA_2: Final = 0.999
_EPSILON: Final = 1e-15


@dataclass(frozen=True)
class LearningRates:
    """Adam's step size for each kind of parameter; that of the means is in metres, so it scales with the scene."""

    means: float
    log_scales: float = 5e-3
    quaternions: float = 1e-3
    logit_opacities: float = 5e-2
    colours: float = 2.5e-3
    sh_rest: float = 2.5e-3 / 20


class Optimiser:
    """Adam over a changing number of splats: the moments follow the splats, and each splat counts its own steps.

    The moments of a splat added later are corrected for its own age, so its first steps are as long as those of the
    first splats were. Source: Kingma and Ba, "Adam", 2015.
    """

    def __init__(self, splats: Splats, rates: LearningRates) -> None:
        self.rates = rates
        self._splats = _leaves(splats)
        self._first = self._splats.map(torch.zeros_like)
        self._second = self._splats.map(torch.zeros_like)
        self._ages = torch.zeros(len(splats), dtype=torch.int64, device=splats.means.device)

    @property
    def splats(self) -> Splats:
        """The current splats: leaves that require a gradient."""
        return self._splats

    @torch.no_grad()
    def step(self) -> None:
        """Move the splats by their gradients and clear them; splats without gradients stay unchanged."""
        self._ages += 1
        ages = self._ages.to(self._splats.means.dtype)
        correct_1, correct_2 = 1 - _BETA_1**ages, (1 - _BETA_2**ages).sqrt()
        first, second = self._first.tensors(), self._second.tensors()
        for name, tensor in self._splats.tensors().items():
            if tensor.grad is None:
                continue
            by_splat = (-1,) + (1,) * (tensor.dim() - 1)
            first[name].lerp_(tensor.grad, 1 - _BETA_1)
            second[name].mul_(_BETA_2).addcmul_(tensor.grad, tensor.grad, value=1 - _BETA_2)
            scale = second[name].sqrt().div_(correct_2.reshape(by_splat)).add_(_EPSILON)
            scale.mul_(correct_1.reshape(by_splat))
            tensor.addcdiv_(first[name], scale, value=-getattr(self.rates, name))
            tensor.grad = None

    def add(self, splats: Splats) -> None:
        """Append splats with zero moments."""
        if not len(splats):
            return
        new = splats.detach()
        if len(self._splats) and self._splats.sh_rest is not None:
            new = new.with_harmonics(self._splats.sh_rest.shape[1])
        self._splats = _leaves(self._splats.detach().concatenate(new))
        # two separate tensors of zeros: concatenated with nothing they become the moments themselves
        self._first = self._first.concatenate(new.map(torch.zeros_like))
        self._second = self._second.concatenate(new.map(torch.zeros_like))
        self._ages = torch.cat([self._ages, self._ages.new_zeros(len(new))])

    def select(self, chosen: Tensor) -> None:
        """Keep the splats of a mask [N] or of indices [M], in that order, with their moments."""
        self._splats = _leaves(self._splats.detach().select(chosen))
        self._first, self._second = self._first.select(chosen), self._second.select(chosen)
        self._ages = self._ages[chosen]

    def learn_harmonics(self, count: int) -> None:
        """Train ``count`` coefficients above degree 0 (3, 8 or 15) from now on; new ones start at zero."""
        self._splats = _leaves(self._splats.detach().with_harmonics(count))
        self._first, self._second = self._first.with_harmonics(count), self._second.with_harmonics(count)

    def state(self) -> dict[str, Any]:
        """Return the state from which a later run resumes, as tensors by name."""
        parts = {"splats": self._splats.detach(), "first": self._first, "second": self._second}
        return {"ages": self._ages} | {name: part.tensors() for name, part in parts.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore what ``state`` returned."""
        self._splats = _leaves(Splats(**state["splats"]))
        self._first, self._second = Splats(**state["first"]), Splats(**state["second"])
        self._ages = state["ages"]


class PoseCorrection:
    """Pose error of one frame: a tangent [6] (see camera.se3_exp) with its own Adam.

    The corrected pose is ``se3_exp(tangent) @ camera_from_world``.
    """

    def __init__(self, *, metres: float, radians: float, like: Tensor | None = None) -> None:
        """Set the learning rates of both parts."""
        self.tangent = torch.zeros(6) if like is None else like.new_zeros(6)
        self._first, self._second = torch.zeros_like(self.tangent), torch.zeros_like(self.tangent)
        self._rates = self.tangent.new_tensor([metres] * 3 + [radians] * 3)
        self._age = 0

    def corrected(self, camera_from_world: Tensor) -> Tensor:
        """Return the corrected pose [4, 4]."""
        return se3_exp(self.tangent).to(camera_from_world) @ camera_from_world

    def state(self) -> dict[str, Any]:
        """Return the state from which a later run resumes."""
        return {"tangent": self.tangent, "first": self._first, "second": self._second, "age": self._age}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore what ``state`` returned."""
        self.tangent, self._first, self._second = state["tangent"], state["first"], state["second"]
        self._age = int(state["age"])

    @torch.no_grad()
    def step(self, gradient: Tensor) -> None:
        """Move the tangent against its gradient [6]."""
        self._age += 1
        self._first.lerp_(gradient, 1 - _BETA_1)
        self._second.lerp_(gradient.square(), 1 - _BETA_2)
        scale = (self._second / (1 - _BETA_2**self._age)).sqrt() + _EPSILON
        self.tangent = self.tangent - self._rates * self._first / (1 - _BETA_1**self._age) / scale


@dataclass(frozen=True)
class TrainingStep:
    """Result of one step."""

    loss: float
    rendered: RenderResult  # after backward: means2d_gradient() is available


def train_step(
    optimiser: Optimiser,
    camera: Camera,
    camera_from_world: Tensor,
    picture: Tensor,
    *,
    mask: Tensor | None = None,
    background: Tensor | None = None,
    pose: PoseCorrection | None = None,
    backend: Backend = "auto",
) -> TrainingStep:
    """Render, compare with ``picture`` [H, W, 3] in 0..1, and move the splats and, if given, the pose."""
    tangent = None
    if pose is not None:
        tangent = pose.tangent.clone().requires_grad_()
        camera_from_world = se3_exp(tangent).to(camera_from_world) @ camera_from_world
    rendered = rasterize(optimiser.splats, camera, camera_from_world, background=background, backend=backend)
    value = loss(rendered, picture, mask)
    if value.requires_grad:
        torch.autograd.backward(value)
    optimiser.step()
    if pose is not None and tangent is not None and tangent.grad is not None:
        pose.step(tangent.grad)
    return TrainingStep(float(value.detach()), rendered)


def _leaves(splats: Splats) -> Splats:
    return splats.map(lambda tensor: tensor.detach().clone().requires_grad_())
