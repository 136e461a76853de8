"""Density control: splats are added, removed and split by their statistics, which follow them."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import pytest
import torch

from modal_workers.gaussians.camera import Camera
from modal_workers.gaussians.densification import Densifier, GrowthLimits, PruningLimits, splats_from_points
from modal_workers.gaussians.rasterize import rasterize
from modal_workers.gaussians.splats import Splats
from modal_workers.gaussians.training import LearningRates, Optimiser, train_step
from tests.harness.vision.gaussian_scenes import random_splats

CAMERA = Camera(48, 36, 42.0, 42.0, 24.0, 18.0)
RATES = LearningRates(1e-3)


def watched(splats: Splats, *, rounds: int = 1, seed: int = 0) -> Densifier:
    density = Densifier(Optimiser(splats, RATES), seed=seed)
    picture = torch.full((36, 48, 3), 0.5)
    for _ in range(rounds):
        density.watch(train_step(density.optimiser, CAMERA, torch.eye(4), picture).rendered, CAMERA)
    return density


def single(count: int, seed: int, **options: float) -> Splats:
    return random_splats(count, seed, dtype=torch.float32, **options)


def test_an_initial_splat_looks_like_its_point() -> None:
    points = torch.tensor([[0.0, 0.0, 2.0], [0.5, 0.2, 2.0]])
    colours = torch.tensor([[1.0, 0.0, 0.5], [0.2, 0.4, 0.6]])
    splats = splats_from_points(points, colours, torch.tensor([0.1, 0.05]), 0.7)
    torch.testing.assert_close(splats.log_scales.exp(), torch.tensor([[0.1] * 3, [0.05] * 3]))
    torch.testing.assert_close(splats.logit_opacities.sigmoid(), torch.tensor([0.7, 0.7]))
    camera = Camera(41, 41, 60.0, 60.0, 20.5, 20.5)
    rendered = rasterize(splats, camera, torch.eye(4))
    for point, colour in zip(points, colours, strict=True):
        column, row = (int(60 * float(point[axis]) / 2 + 20.5) for axis in (0, 1))
        seen = rendered.colour[row, column] / rendered.alpha[row, column]
        torch.testing.assert_close(seen, colour, atol=1e-3, rtol=0)
    assert len(splats_from_points(torch.zeros(0, 3), torch.zeros(0, 3), 0.1, 0.5)) == 0


def test_transparent_large_unseen_and_non_finite_splats_are_removed() -> None:
    splats = single(50, 1, opacity=0.5, scale_m=0.05)
    splats = replace(
        splats, logit_opacities=splats.logit_opacities.clamp(-2, 2), log_scales=splats.log_scales.clamp(max=-2)
    )
    behind = torch.tensor([0.0, 0.0, -30.0])
    splats.means[3] += behind
    splats.log_scales[7, 1] = math.log(5.0)
    splats.logit_opacities[11] = math.log(0.001)
    splats.quaternions[13, 2] = math.nan
    pruning = PruningLimits(min_opacity=0.005, max_scale_m=1.0, min_sightings=1)
    seen = rasterize(splats, CAMERA, torch.eye(4)).radii_px > 0
    gone = {3, 7, 11, 13} | set(torch.nonzero(~seen)[:, 0].tolist())
    density = watched(splats, rounds=1)
    wanted = density.optimiser.splats.detach().select(torch.tensor([i for i in range(50) if i not in gone]))
    assert density.prune(pruning) == len(gone)
    assert torch.equal(density.optimiser.splats.means, wanted.means)
    assert density.prune(PruningLimits()) == 0, "a limit that is not set gives up nothing"
    assert density.prune(pruning) == len(wanted), "sightings count from the last pruning on"


def test_the_cap_keeps_what_is_opaque_and_large_in_the_picture() -> None:
    near = splats_from_points(torch.tensor([[0.0, 0.0, 1.0]]), torch.ones(1, 3), 0.1, 0.9)
    far = splats_from_points(torch.tensor([[0.3, 0.0, 4.0]]), torch.ones(1, 3), 0.1, 0.9)
    faint = splats_from_points(torch.tensor([[-0.3, 0.0, 1.0]]), torch.ones(1, 3), 0.1, 0.05)
    density = watched(far.concatenate(faint).concatenate(near))
    assert torch.argsort(density.importance(), descending=True)[0] == 2
    assert density.cap(3) == 0
    assert density.cap(1) == 2
    torch.testing.assert_close(density.optimiser.splats.means[0], torch.tensor([0.0, 0.0, 1.0]), atol=0.02, rtol=0)


def test_capped_splats_keep_their_order_and_new_ones_are_not_removed_first() -> None:
    density = watched(single(60, 2))
    opaque = splats_from_points(torch.tensor([[0.0, 0.0, 2.0]]), torch.ones(1, 3), 0.1, 0.9)
    density.add(opaque)
    kept = torch.argsort(density.importance(), descending=True, stable=True)[:40].sort().values
    wanted = density.optimiser.splats.detach().select(kept)
    density.cap(40)
    assert torch.equal(density.optimiser.splats.means, wanted.means)
    assert len(density.importance()) == 40


def test_splats_with_steep_gradients_are_cloned_when_small_and_split_when_large() -> None:
    splats = single(40, 3)
    density = watched(splats, rounds=3)
    before = density.optimiser.splats.detach()
    limit = float(before.log_scales.amax(1).median().exp())
    added = density.grow(GrowthLimits(min_gradient=0, split_scale_m=limit))
    pulled = 40 - int((before.means[:, 2] < 0).sum())
    after = density.optimiser.splats.detach()
    assert 0 < added <= pulled
    assert len(after) == 40 + added
    large = before.log_scales.amax(1) > math.log(limit)
    kept = {tuple(mean) for mean in after.means.tolist()}
    clones = len(after) - len(kept)
    split = added - clones
    assert clones > 0
    assert split > 0
    assert sum(tuple(mean) not in kept for mean in before.means[large].tolist()) == split, "a split one makes room"
    halves = after.select(torch.arange(len(after) - 2 * split, len(after)))
    largest = before.select(large).log_scales
    for half in halves.log_scales:
        distance = (largest - math.log(1.6) - half).abs().amax(1)
        assert float(distance.min()) < 1e-5


def test_pruning_does_not_change_the_mean_gradients() -> None:
    added = []
    for pruning in (False, True):
        density = watched(single(40, 8), rounds=4)
        limit = float((density._gradients / density._gradient_steps.clamp(min=1)).median())
        if pruning:
            density.prune(PruningLimits(min_opacity=0))
        added.append(density.grow(GrowthLimits(min_gradient=limit, split_scale_m=0.05)))
    assert added[0] == added[1]
    assert 0 < added[0] < 40


def test_splats_out_of_sight_keep_their_importance() -> None:
    density = watched(single(40, 9), rounds=3)
    before = density.importance()
    away = torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0]))  # looks the other way
    for _ in range(100):
        density.watch(rasterize(density.optimiser.splats, CAMERA, away), CAMERA)
    torch.testing.assert_close(density.importance(), before)


def test_growth_stays_below_its_limits() -> None:
    assert watched(single(40, 4)).grow(GrowthLimits(min_gradient=1e6)) == 0
    density = watched(single(40, 4), rounds=2)
    assert density.grow(GrowthLimits(min_gradient=0, max_splats=45)) == 5
    assert len(density.optimiser.splats) == 45
    assert density.grow(GrowthLimits(min_gradient=0, max_splats=45)) == 0


def test_growth_and_pruning_help_where_there_are_too_few() -> None:
    truth = single(150, 5, opacity=0.9)
    wanted = rasterize(truth, CAMERA, torch.eye(4)).colour.clamp(0, 1)
    errors = []
    for growing in (False, True):
        density = Densifier(Optimiser(single(25, 6), LearningRates(5e-3, 2e-2, 1e-2, 5e-2, 3e-2)))
        for round_ in range(60):
            seen = train_step(density.optimiser, CAMERA, torch.eye(4), wanted)
            density.watch(seen.rendered, CAMERA)
            if growing and round_ in (15, 30):
                density.grow(GrowthLimits(min_gradient=0, split_scale_m=0.05, max_splats=100))
                density.prune(PruningLimits())
        errors.append(seen.loss)
    assert errors[1] < 0.9 * errors[0]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_seed_grows_the_same_bytes(seed: int) -> None:
    def once() -> bytes:
        density = watched(single(40, 7), rounds=2, seed=seed)
        density.grow(GrowthLimits(min_gradient=0, split_scale_m=0.03))
        return density.optimiser.splats.means.detach().numpy().tobytes()

    assert once() == once()


def test_a_restored_state_gives_the_same_bytes() -> None:
    def go_on(density: Densifier) -> bytes:
        picture = torch.full((36, 48, 3), 0.2)
        for _ in range(2):
            density.watch(train_step(density.optimiser, CAMERA, torch.eye(4), picture).rendered, CAMERA)
        density.grow(GrowthLimits(min_gradient=1e-4, split_scale_m=0.05))
        density.prune(PruningLimits(min_sightings=2))
        density.cap(30)
        return b"".join(tensor.detach().numpy().tobytes() for tensor in density.optimiser.splats.tensors().values())

    first = watched(single(40, 10), rounds=3)
    file = io.BytesIO()
    torch.save(first.state(), file)
    file.seek(0)
    later = Densifier(Optimiser(Splats.empty(), RATES), seed=99)
    later.restore(torch.load(file, weights_only=True))
    assert go_on(later) == go_on(first)
