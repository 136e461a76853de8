"""Separation of object and table without masks: table model from all photos, gaps, and outline agreement.

The photos are of a box and a ball on a patterned table (ray_traced_capture.py), in true coordinates.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from modal_workers.gaussians.camera import Camera
from modal_workers.gaussians.densification import splats_from_points
from modal_workers.nerf.training.fitting import FitConfig, Fitting, TargetImage
from modal_workers.nerf.training.segmentation.outline_agreement import outline_agreement
from modal_workers.nerf.training.segmentation.table_model import (
    TableModel,
    build_table_model,
    compare_with_table,
    grow_known_area,
    mark_ambiguous_pixels,
)
from modal_workers.nerf.training.visibility import seen_through
from tests.harness.vision.ray_traced_capture import BOX_HALF, _pattern, ring, surface_points, trace

SIZE_PX = 96
RADIUS = 0.5


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def photos() -> list[TargetImage]:
    """Return photos with their true masks."""
    found = []
    for index, view in enumerate(ring(16, SIZE_PX)):
        picture, coverage = trace(view)
        half = SIZE_PX / 2
        found.append(
            TargetImage(
                Camera(SIZE_PX, SIZE_PX, view.focal_px, view.focal_px, half, half),
                torch.from_numpy(np.linalg.inv(view.world_from_camera)).float(),
                torch.from_numpy(picture),
                torch.from_numpy((coverage[..., None] * 255).round().astype(np.uint8)),
                index,
            )
        )
    return found


@pytest.fixture(scope="module")
def ground(photos: list[TargetImage]) -> TableModel:
    return build_table_model(photos, RADIUS, 0.0)


def mask_of(target: TargetImage) -> np.ndarray:
    assert target.mask is not None
    return target.mask[..., 0].numpy() > 127


def remasked(target: TargetImage, mask: np.ndarray) -> TargetImage:
    return replace(target, mask=torch.from_numpy(mask[..., None].astype(np.uint8) * 255))


def places(ground: TableModel) -> np.ndarray:
    side = ((np.arange(len(ground.known)) + 0.5) / len(ground.known) * 2 - 1) * ground.radius
    return np.stack([*np.meshgrid(side, side), np.zeros(ground.known.shape)], -1)


def test_the_table_has_its_colours_and_is_not_known_where_the_object_stands(ground: TableModel) -> None:
    at = places(ground)
    true = _pattern(at, 23.0, (0.55, 0.48, 0.4)) * 255
    beside = (np.abs(at[..., :2]) > BOX_HALF[:2] + 0.03).any(-1) & (np.hypot(at[..., 0], at[..., 1]) < 0.3)
    under = (np.abs(at[..., :2]) < BOX_HALF[:2] - 0.02).all(-1)
    assert ground.known[beside].mean() > 0.97
    assert ground.known[under].mean() < 0.03
    assert np.abs(ground.colours - true)[beside & ground.known].mean() < 2


def test_photos_that_were_exposed_differently_agree_on_the_table(photos: list[TargetImage], ground: TableModel) -> None:
    gains = np.random.default_rng(5).uniform(0.6, 1.2, len(photos))
    exposed = [
        replace(target, image=(target.image.float() * gain).clamp(0, 255).to(torch.uint8))
        for target, gain in zip(photos, gains, strict=True)
    ]
    found = build_table_model(exposed, RADIUS, 0.0)
    assert (found.known & ground.known).sum() > 0.97 * ground.known.sum()
    before = mark_ambiguous_pixels(
        ground, remasked(photos[3], cv2.dilate(mask_of(photos[3]).astype(np.uint8), np.ones((5, 5))) > 0)
    )
    after = mark_ambiguous_pixels(
        found, remasked(exposed[3], cv2.dilate(mask_of(photos[3]).astype(np.uint8), np.ones((5, 5))) > 0)
    )
    assert before.ambiguous is not None
    assert after.ambiguous is not None
    assert ((before.ambiguous > 127) == (after.ambiguous > 127)).float().mean() > 0.98


def test_what_is_known_grows_where_colours_go_on_and_stops_at_an_edge() -> None:
    rows, columns = np.mgrid[:40, :40].astype(np.float32)
    colours = np.repeat((200 - 3 * columns)[..., None], 3, -1)
    disc = np.hypot(rows - 20, columns - 30) < 6
    colours[disc] = (30, 60, 190)
    sure = columns < 5
    known = grow_known_area(colours, np.ones((40, 40), bool), sure)
    assert known[~cv2.dilate(disc.astype(np.uint8), np.ones((5, 5))).astype(bool)].all()
    assert known[disc].mean() < 0.1
    wall = grow_known_area(colours, columns != 10, sure)
    assert not wall[:, 14:].any(), "nor over places on which photos do not agree"


def test_a_mask_that_is_too_large_is_open_and_one_that_is_too_small_gets_its_object_back(
    photos: list[TargetImage], ground: TableModel
) -> None:
    opened_beside, opened_inside, regained = [], [], []
    for target in photos:
        true = mask_of(target)
        wide = cv2.dilate(true.astype(np.uint8), np.ones((9, 9))) > 0
        found = mark_ambiguous_pixels(ground, remasked(target, wide))
        assert found.ambiguous is not None
        opened = found.ambiguous[..., 0].numpy() > 127
        look = compare_with_table(ground, target)
        assert look is not None
        table = look.known & wide & ~cv2.dilate(true.astype(np.uint8), np.ones((3, 3))).astype(bool)
        opened_beside.append(opened[table].mean())
        opened_inside.append(opened[true].mean())
        low = true.copy()
        low[np.flatnonzero(true.any(1))[-2] :] = False  # the lowest two rows of the object are missing
        found = mark_ambiguous_pixels(ground, remasked(target, low))
        regained.append(mask_of(found)[true & ~low].mean())
    assert np.mean(opened_beside) > 0.9
    assert np.mean(opened_inside) < 0.1
    assert np.mean(regained) > 0.7


def test_a_photo_that_shows_another_table_is_left_as_it_was(photos: list[TargetImage], ground: TableModel) -> None:
    noise = torch.from_numpy(np.random.default_rng(2).integers(0, 255, (SIZE_PX, SIZE_PX, 3)).astype(np.uint8))
    strange = replace(photos[0], image=noise)
    assert mark_ambiguous_pixels(ground, strange) is strange


def test_points_in_a_gap_are_seen_through_and_those_of_the_object_are_not(
    photos: list[TargetImage], ground: TableModel
) -> None:
    wide = [
        mark_ambiguous_pixels(ground, remasked(one, cv2.dilate(mask_of(one).astype(np.uint8), np.ones((13, 13))) > 0))
        for one in photos
    ]
    points, _ = surface_points(600)
    top = torch.from_numpy(points[points[:, 2] > 0.03]).float()
    beside = torch.tensor([[0.14, 0.0, 0.03], [-0.14, 0.02, 0.05], [0.0, 0.11, 0.02], [0.05, -0.115, 0.03]])
    assert bool(seen_through(beside, wide).all())
    assert float(seen_through(top, wide).float().mean()) < 0.03
    assert not bool(seen_through(beside, photos).any()), "where nothing is open nothing is seen through"


def test_splats_go_where_the_table_alone_explains_the_photo() -> None:
    camera = Camera(32, 32, 40.0, 40.0, 16.0, 16.0)
    random = np.random.default_rng(1)
    # as dark as the splats: the image loss is the same with and without them
    picture = torch.full((32, 32, 3), 77, dtype=torch.uint8)
    full = torch.full((32, 32, 1), 255, dtype=torch.uint8)
    pose = torch.eye(4)
    pose[2, 3] = 1.0
    splats = splats_from_points(
        torch.from_numpy(random.uniform(-0.2, 0.2, (60, 3))).float(), torch.full((60, 3), 77 / 255), 0.05, 0.6
    )

    def opacity(opened: torch.Tensor | None) -> float:
        target = TargetImage(camera, pose, picture, full, 0, opened, None if opened is None else picture)
        fitting = Fitting(splats, [target], FitConfig(200, 60, 0))
        for _ in range(60):
            fitting.step()
        return float(fitting.splats.detach().logit_opacities.sigmoid().mean())

    assert opacity(full) < 0.2
    assert opacity(None) > 0.6


def test_an_outline_that_is_wrong_is_known_without_the_truth(photos: list[TargetImage], ground: TableModel) -> None:
    points, colours = surface_points(24000)
    chosen = points[:, 2] > 0.004
    at, colour = torch.from_numpy(points[chosen]).float(), torch.from_numpy(colours[chosen] / 255).float()
    right = splats_from_points(at, colour, 0.0025, 0.9)
    found = outline_agreement(right, photos, ground)
    moved = outline_agreement(replace(right, means=right.means + torch.tensor([0.05, 0.0, 0.0])), photos, ground)
    fat = outline_agreement(replace(right, means=right.means * 1.3), photos, ground)
    assert found is not None
    assert moved is not None
    assert fat is not None
    assert found > 0.75
    assert moved < 0.7
    assert fat < 0.7
    nothing = replace(ground, known=np.zeros_like(ground.known))
    assert outline_agreement(right, photos, nothing) is None
