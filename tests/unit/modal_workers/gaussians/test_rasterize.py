"""Every rasteriser renders the same image with the same gradients as the slow reference."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import pytest
import torch

from modal_workers.gaussians import compositing, tiles
from modal_workers.gaussians.camera import Camera, se3_exp
from modal_workers.gaussians.projection import project
from modal_workers.gaussians.rasterize import Backend, RenderResult, backend_for, rasterize
from modal_workers.gaussians.spherical_harmonics import radiance
from modal_workers.gaussians.splats import SH_0, Splats
from tests.harness.vision.gaussian_scenes import Floats, random_splats, render_dense

CAMERA = Camera(29, 22, 26.0, 27.0, 14.0, 11.5)
TANGENT = torch.tensor([0.1, 0.05, 0.2, 0.1, -0.15, 0.2], dtype=torch.float64)


@dataclass(frozen=True)
class Drawn:
    """One backend, and how near to float64 it comes."""

    backend: Backend
    device: str
    dtype: torch.dtype
    picture_tolerance: float
    gradient_tolerance: float

    def __call__(self, splats: Splats, camera: Camera, pose: torch.Tensor, **options: torch.Tensor) -> RenderResult:
        moved = splats.map(lambda tensor: tensor.to(device=self.device, dtype=self.dtype))
        return rasterize(
            moved,
            camera,
            pose.to(device=self.device, dtype=self.dtype),
            backend=self.backend,
            **{name: value.to(device=self.device, dtype=self.dtype) for name, value in options.items()},
        )


OURS = Drawn("ours", "cpu", torch.float64, 1e-6, 1e-5)
OURS_SINGLE = Drawn("ours", "cpu", torch.float32, 1e-4, 2e-3)
# opacities are cut at 0.999 there and scaled by it here
GSPLAT = Drawn("gsplat", "cuda", torch.float32, 3e-3, 2e-2)
BACKENDS = {"ours": OURS, "ours in float32": OURS_SINGLE, "gsplat": GSPLAT}


@pytest.fixture(params=BACKENDS)
def drawn(request: pytest.FixtureRequest) -> Drawn:
    backend = BACKENDS[request.param]
    if backend.backend == "gsplat":
        if not torch.cuda.is_available():
            pytest.skip("gsplat draws on CUDA only")
        pytest.importorskip("gsplat")
    return backend


def layers(rendered: RenderResult) -> torch.Tensor:
    return torch.cat([rendered.colour, rendered.alpha, rendered.depth], -1)


def picture(rendered: RenderResult) -> Floats:
    return layers(rendered).detach().cpu().double().numpy()


def test_every_backend_is_tested() -> None:
    assert {backend.backend for backend in BACKENDS.values()} == set(get_args(Backend)) - {"auto"}


def test_gsplat_is_not_imported_without_cuda() -> None:
    with pytest.raises(ValueError, match="on CUDA only"):
        rasterize(random_splats(3, 0), CAMERA, torch.eye(4), backend="gsplat")
    assert backend_for(random_splats(3, 0)) == "ours"


@pytest.mark.parametrize("seed", range(3))
def test_the_image_equals_the_reference(drawn: Drawn, seed: int) -> None:
    splats = random_splats(60, seed)
    pose = se3_exp(TANGENT)
    wanted = render_dense(splats, CAMERA, pose)
    assert 0.5 < wanted[..., 3].max() < 1, "the scene is nearly empty"
    np.testing.assert_allclose(picture(drawn(splats, CAMERA, pose)), wanted, atol=drawn.picture_tolerance * 5)


def test_many_groups_and_chunks_add_up_to_the_reference(drawn: Drawn) -> None:
    camera = Camera(177, 131, 150.0, 150.0, 88.0, 66.0)
    splats = random_splats(500, 3, opacity=0.03, scale_m=0.12)
    tiling = tiles.build_tiling(project(splats, camera, torch.eye(4, dtype=torch.float64)), camera)
    assert len(tiling.groups) > 1
    assert max(len(compositing._Chunks(group, torch.zeros(0)).bounds) for group in tiling.groups) > 1
    wanted = render_dense(splats, camera, torch.eye(4))
    np.testing.assert_allclose(picture(drawn(splats, camera, torch.eye(4))), wanted, atol=drawn.picture_tolerance * 5)


def test_skipping_splats_behind_an_opaque_wall_costs_less_than_a_ten_thousandth(drawn: Drawn) -> None:
    splats = random_splats(300, 4, opacity=0.98, scale_m=0.4)
    wanted = render_dense(splats, CAMERA, torch.eye(4))
    assert wanted[..., 3].min() > 1 - 1e-6, "the wall has holes"
    found = picture(drawn(splats, CAMERA, torch.eye(4)))
    np.testing.assert_allclose(found[..., :4], wanted[..., :4], atol=3e-4 + drawn.picture_tolerance)


PARAMETERS = ("means", "log_scales", "quaternions", "logit_opacities", "colours")


@pytest.mark.parametrize("name", PARAMETERS)
def test_gradients_equal_central_differences_of_the_reference(drawn: Drawn, name: str) -> None:
    splats, pose = random_splats(40, 5), se3_exp(TANGENT)
    weights = np.random.default_rng(0).normal(size=(CAMERA.height_px, CAMERA.width_px, 5))
    leaf = splats.tensors()[name].requires_grad_()
    (layers(drawn(splats, CAMERA, pose)) * torch.from_numpy(weights).to(drawn.device, drawn.dtype)).sum().backward()
    assert leaf.grad is not None
    found = leaf.grad.cpu().reshape(-1)
    compared = np.random.default_rng(1).choice(found.numel(), 30, replace=False)
    wanted = []
    for place in compared:
        moved = torch.zeros(found.numel(), dtype=torch.float64)
        moved[place] = 1e-6
        both = [
            (
                render_dense(replace(splats, **{name: leaf.detach() + sign * moved.reshape(leaf.shape)}), CAMERA, pose)
                * weights
            )
            for sign in (1, -1)
        ]
        wanted.append((both[0] - both[1]).sum() / 2e-6)
    np.testing.assert_allclose(found[compared], wanted, atol=drawn.gradient_tolerance * np.abs(wanted).max())


def test_the_pose_gradient_equals_central_differences_of_the_reference(drawn: Drawn) -> None:
    splats = random_splats(40, 6)
    weights = np.random.default_rng(0).normal(size=(CAMERA.height_px, CAMERA.width_px, 5))
    tangent = TANGENT.clone().requires_grad_()
    rendered = drawn(splats, CAMERA, se3_exp(tangent))
    (layers(rendered) * torch.from_numpy(weights).to(drawn.device, drawn.dtype)).sum().backward()
    wanted = []
    for step in 1e-6 * torch.eye(6, dtype=torch.float64):
        both = [(render_dense(splats, CAMERA, se3_exp(TANGENT + sign * step)) * weights).sum() for sign in (1, -1)]
        wanted.append((both[0] - both[1]) / 2e-6)
    assert tangent.grad is not None
    np.testing.assert_allclose(tangent.grad, wanted, atol=drawn.gradient_tolerance * np.abs(wanted).max())


@pytest.mark.parametrize("count", [3, 8, 15])
def test_harmonics_are_orthonormal_and_differentiable(drawn: Drawn, count: int) -> None:
    generator = torch.Generator().manual_seed(7)
    places = torch.nn.functional.normalize(torch.randn(20000, 3, generator=generator, dtype=torch.float64), dim=-1)
    everywhere = random_splats(1, 0, harmonics=count).select(torch.zeros(len(places), dtype=torch.int64))
    columns = []
    for index in range(count):
        one = torch.zeros(len(places), count, 3, dtype=torch.float64)
        one[:, index] = 0.4  # small enough that no colour is cut at 0
        lit = replace(everywhere, means=places, colours=torch.full_like(places, 0.5 / SH_0), sh_rest=one)
        columns.append((radiance(lit, torch.eye(4, dtype=torch.float64))[:, 0] - 1) / 0.4)
    table = torch.stack(columns, -1)
    product = 4 * math.pi * table.T @ table / len(places)
    torch.testing.assert_close(product, torch.eye(count, dtype=torch.float64), atol=0.06, rtol=0)
    splats = random_splats(40, 8, harmonics=count)
    assert splats.sh_rest is not None
    splats.sh_rest.requires_grad_()
    drawn(splats, CAMERA, torch.eye(4)).colour.sum().backward()
    assert splats.sh_rest.grad is not None
    assert (splats.sh_rest.grad.abs().sum((0, 2)) > 0).all()


def test_the_order_of_the_splats_does_not_matter(drawn: Drawn) -> None:
    splats, pose = random_splats(80, 9), torch.eye(4)
    mixed = torch.randperm(80, generator=torch.Generator().manual_seed(1))
    one, other = drawn(splats, CAMERA, pose), drawn(splats.select(mixed), CAMERA, pose)
    np.testing.assert_allclose(picture(one), picture(other), atol=1e-5)
    assert torch.equal(one.radii_px[mixed.to(drawn.device)], other.radii_px)


def test_a_background_shows_where_the_splats_do_not_cover(drawn: Drawn) -> None:
    splats, pose = random_splats(30, 10), torch.eye(4)
    black = drawn(splats, CAMERA, pose)
    tinted = drawn(splats, CAMERA, pose, background=torch.tensor([0.2, 0.5, 0.9]))
    wanted = black.colour + (1 - black.alpha) * torch.tensor([0.2, 0.5, 0.9]).to(black.colour)
    torch.testing.assert_close(tinted.colour, wanted)
    assert torch.equal(black.alpha, tinted.alpha)


def ball(x: float, y: float, z: float, *, scale_m: float = 0.05, opacity: float = 0.5, colour: float = 0.0) -> Splats:
    logit = math.log(opacity / (1 - opacity))
    tensors = ([[x, y, z]], [[math.log(scale_m)] * 3], [[1.0, 0, 0, 0]], [logit], [[colour] * 3])
    return Splats(*(torch.tensor(values, dtype=torch.float64) for values in tensors))


def test_the_nearer_splat_hides_the_further_one_by_its_alpha(drawn: Drawn) -> None:
    camera = Camera(17, 17, 40.0, 40.0, 8.5, 8.5)
    near, far = ball(0, 0, 1, opacity=0.6, colour=1), ball(0, 0, 2, opacity=0.8, colour=-1)
    for pair in (near.concatenate(far), far.concatenate(near)):
        centre = picture(drawn(pair, camera, torch.eye(4)))[8, 8]
        weights = 0.999 * np.array([0.6, (1 - 0.999 * 0.6) * 0.8])
        bright, dark = 0.5 + SH_0, 0.5 - SH_0
        wanted = [weights @ [bright, dark]] * 3 + [weights.sum(), weights @ [1, 2] / weights.sum()]
        np.testing.assert_allclose(centre, wanted, atol=drawn.picture_tolerance * 2)


def test_a_crop_is_what_a_camera_with_a_smaller_sensor_sees(drawn: Drawn) -> None:
    # nothing lies so far out that the Jacobian is held back
    wide = Camera(64, 48, 50.0, 50.0, 32.0, 24.0)
    crop = Camera(40, 33, 50.0, 50.0, 32.0 - 13, 24.0 - 9)
    splats = random_splats(120, 11, scale_m=0.05)
    splats = splats.select((splats.means[:, :2].abs() / splats.means[:, 2:] < torch.tensor([0.4, 0.3])).all(1))
    whole, part = picture(drawn(splats, wide, torch.eye(4))), picture(drawn(splats, crop, torch.eye(4)))
    np.testing.assert_allclose(part, whole[9 : 9 + 33, 13 : 13 + 40], atol=1e-4 if drawn is not OURS else 1e-12)


def test_a_long_rotated_splat_is_projected_correctly(drawn: Drawn) -> None:
    camera = Camera(101, 101, 100.0, 100.0, 50.5, 50.5)
    angle = math.radians(30)
    logs = torch.tensor([[math.log(0.12), math.log(0.02), math.log(0.02)]], dtype=torch.float64)
    turned = torch.tensor([[math.cos(angle / 2), 0, 0, math.sin(angle / 2)]], dtype=torch.float64)
    # opacity 1 on the logit's scale is flat, a small one keeps the tails above the limit of 1 / 255
    splat = replace(ball(0.1, -0.06, 2, opacity=0.99), log_scales=logs, quaternions=turned)
    alpha = picture(drawn(splat, camera, torch.eye(4)))[..., 3]
    row, column = np.mgrid[:101, :101] + 0.5
    mass = alpha / alpha.sum()
    centre = np.array([(mass * column).sum(), (mass * row).sum()])
    np.testing.assert_allclose(centre, [50.5 + 5, 50.5 - 3], atol=0.05)
    spread = np.cov(np.stack([column.ravel(), row.ravel()]), aweights=mass.ravel(), bias=True)
    values, vectors = np.linalg.eigh(spread)
    long = vectors[:, 1] * np.sign(vectors[0, 1])
    assert math.degrees(math.atan2(long[1], long[0])) == pytest.approx(30, abs=0.5)
    # the tails below 1 / 255 are missing, so a little less than (f s / z)^2 + 0.3
    assert math.sqrt(values[1]) == pytest.approx(math.sqrt(6**2 + 0.3), rel=0.03)
    assert math.sqrt(values[0]) == pytest.approx(math.sqrt(1 + 0.3), rel=0.03)


def test_invisible_splats_change_nothing(drawn: Drawn) -> None:
    seen = random_splats(30, 12)
    hidden = [
        ball(0, 0, -1),
        ball(0, 0, 0.005),
        ball(50, 0, 1),
        ball(0, 0, 1, opacity=0.003),
        ball(math.nan, 0, 1),
        ball(0, 0, math.inf),
    ]
    alone = drawn(seen, CAMERA, torch.eye(4))
    if drawn.backend == "gsplat":
        hidden = hidden[:4]  # it does not promise anything about what is not finite
    everything = seen
    for splats in hidden:
        everything = everything.concatenate(splats)
    everything.means.requires_grad_()
    tangents = [torch.zeros(6, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    together = drawn(everything, CAMERA, se3_exp(tangents[0]))
    np.testing.assert_allclose(picture(together), picture(alone), atol=1e-6)
    assert (together.radii_px[30:] == 0).all()
    together.colour.sum().backward()
    drawn(seen, CAMERA, se3_exp(tangents[1])).colour.sum().backward()
    assert tangents[0].grad is not None
    torch.testing.assert_close(tangents[0].grad, tangents[1].grad, rtol=1e-4, atol=1e-3)
    assert everything.means.grad is not None
    assert everything.means.grad[:30].isfinite().all()
    assert everything.means.grad[:30].abs().max() > 0
    assert not everything.means.grad[30:].any()


@pytest.mark.parametrize("count", [0, 5])
def test_nothing_in_sight_gives_the_background_and_no_gradient(drawn: Drawn, count: int) -> None:
    splats = random_splats(count, 13)
    splats = replace(splats, means=splats.means - torch.tensor([0, 0, 10.0])).map(torch.Tensor.requires_grad_)
    sky = torch.tensor([0.1, 0.2, 0.3])
    rendered = drawn(splats, CAMERA, torch.eye(4), background=sky)
    assert rendered.colour.shape == (22, 29, 3)
    torch.testing.assert_close(rendered.colour.detach().cpu().float(), sky.expand(22, 29, 3))
    assert not rendered.alpha.any()
    assert not rendered.depth.any()
    if count:
        rendered.colour.sum().backward()
        assert splats.means.grad is not None
        assert not splats.means.grad.any()


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (9, 7), (3, 40)])
def test_any_image_size_is_rendered(drawn: Drawn, size: tuple[int, int]) -> None:
    camera = Camera(*size, 20.0, 20.0, size[0] / 2, size[1] / 2)
    splats = random_splats(40, 14, scale_m=0.3)
    found = picture(drawn(splats, camera, torch.eye(4)))
    np.testing.assert_allclose(found, render_dense(splats, camera, torch.eye(4)), atol=drawn.picture_tolerance * 5)


def test_image_positions_keep_their_gradient(drawn: Drawn) -> None:
    camera = Camera(17, 17, 40.0, 40.0, 8.5, 8.5)
    splat = ball(0.02, 0, 1).map(torch.Tensor.requires_grad_)
    rendered = drawn(splat, camera, torch.eye(4))
    np.testing.assert_allclose(rendered.means2d.detach().cpu(), [[9.3, 8.5]], atol=1e-5)
    assert rendered.means2d_gradient() is None
    assert float(rendered.radii_px[0]) == pytest.approx(math.sqrt(2 * math.log(0.5 * 255) * (2**2 + 0.3)), abs=1.01)
    rendered.colour[:, :8].sum().backward()
    gradient = rendered.means2d_gradient()
    assert gradient is not None
    assert gradient.shape == (1, 2)
    assert float(gradient[0, 0]) < -0.1, "moving it right takes light from the left half"
    assert abs(float(gradient[0, 1])) < 1e-4


def test_a_second_backward_gives_the_same_gradients(drawn: Drawn) -> None:
    splats = random_splats(40, 15).map(torch.Tensor.requires_grad_)
    total = drawn(splats, CAMERA, torch.eye(4)).colour.square().sum()
    first, second = (torch.autograd.grad(total, list(splats.tensors().values()), retain_graph=True) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_the_same_splats_give_the_same_bytes() -> None:
    def once() -> list[bytes]:
        splats = random_splats(400, 16, dtype=torch.float32).map(torch.Tensor.requires_grad_)
        rendered = rasterize(splats, Camera(80, 60, 70.0, 70.0, 40.0, 30.0), torch.eye(4))
        rendered.colour.square().sum().backward()
        grads = [tensor.grad for tensor in splats.tensors().values()]
        return [tensor.detach().numpy().tobytes() for tensor in (layers(rendered), *grads) if tensor is not None]

    assert once() == once()
    assert len(once()) == 6
