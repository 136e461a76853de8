"""Decisions of the poses stage without pycolmap: schedule, pairs, quality checks, world frame, exported values."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.nerf.axis_conventions import OPENGL_FROM_OPENCV
from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.poses import pair_selection as pairs
from modal_workers.nerf.poses.colmap import database as features_database
from modal_workers.nerf.poses.colmap.database import MatchCounts
from modal_workers.nerf.poses.colmap.model_files import ColmapCamera, RegisteredImage, SparseModel
from modal_workers.nerf.poses.dataset import transforms, undistort_mask
from modal_workers.nerf.poses.export import check_coverage
from modal_workers.nerf.poses.image_set import unpack
from modal_workers.nerf.poses.matching_schedule import matching_schedule
from modal_workers.nerf.poses.quality_checks import (
    SIDES_CONFUSED,
    background_is_static,
    check_matches,
    check_model,
    components,
    failure_reason,
    has_separate_models,
    list_names,
)
from modal_workers.nerf.poses.world_frame import find_world_frame
from tests.harness.vision.textured_boxes import Shot, camera_pose, write_capture

LENS = ColmapCamera("SIMPLE_RADIAL", 320, 240, (380.0, 160.0, 120.0, 0.0))


def scene(poses: list[NDArray[np.float64]], seen_by: NDArray[np.bool_]) -> SparseModel:
    """Return a sparse model from poses and the visibility of points, [photos, points]."""
    photos = tuple(RegisteredImage(place + 1, f"{place:04d}.jpg", LENS, pose) for place, pose in enumerate(poses))
    points = seen_by.shape[1]
    return SparseModel(
        photos,
        np.zeros((points, 3)),
        np.zeros((points, 3), np.uint8),
        np.full(points, 0.4),
        seen_by.sum(axis=0).astype(np.int32),
        np.array(np.nonzero(seen_by), np.int32),
    )


def matched(photos: int, **of: NDArray[np.int64]) -> MatchCounts:
    nothing = np.zeros((photos, photos), np.int64)
    whole = MatchCounts(np.full(photos, 1000), nothing, nothing, np.ones((photos, photos), np.bool_), nothing)
    return replace(whole, **of)


def walk(photos: int = 24) -> tuple[list[NDArray[np.float64]], NDArray[np.bool_]]:
    """Return the poses of a ring, and points that are each visible from three neighbours on both sides."""
    poses = [camera_pose(2 * np.pi * step / photos, 0.3) for step in range(photos)]
    apart = (np.arange(photos)[:, None] - np.arange(photos)[None]) % photos
    return poses, np.repeat(np.minimum(apart, photos - apart) <= 3, 20, axis=1)


def names(photos: int) -> list[str]:
    return [f"{place:04d}.jpg" for place in range(photos)]


# matching schedule


@pytest.mark.parametrize(
    ("photos", "ordered", "first", "then"),
    [(36, True, "exhaustive", None), (120, True, "sequential", "exhaustive"), (120, False, "vocabulary", "exhaustive")],
)
def test_the_first_try_goes_by_number_and_order(photos: int, ordered: bool, first: str, then: str | None) -> None:
    tries = matching_schedule(photos, ordered=ordered, requested="auto", masks=False)
    assert tries[0].matcher == first
    assert then is None or tries[1].matcher == then
    assert tries[-1].features > tries[0].features
    assert tries[-1].long_side_px > tries[0].long_side_px
    assert tries[-1].init_min_tri_angle_deg == 4.0
    assert len(set(tries)) == len(tries)


def test_hundreds_of_photos_are_never_matched_all_with_all() -> None:
    for ordered in (True, False):
        for rung in matching_schedule(500, ordered=ordered, requested="auto", masks=True):
            assert rung.similar > 0


def test_what_is_asked_for_comes_first_and_masks_second() -> None:
    tries = matching_schedule(30, ordered=False, requested="vocabulary", masks=True)
    assert [rung.matcher for rung in tries][:3] == ["vocabulary", "vocabulary", "exhaustive"]
    assert [rung.masked for rung in tries] == [False, True, False, False, False, True]


# pair selection


def test_photos_that_look_alike_are_found_by_their_own_descriptors() -> None:
    random = np.random.default_rng(5)
    world = random.integers(0, 120, (40 * 60, 128), dtype=np.uint8)
    # photo k sees the features of positions k to k + 4 on a ring, each with independent noise
    seen = [
        np.clip(np.roll(world, -60 * place, axis=0)[:300] + random.integers(-9, 9, (300, 128)), 0, 255).astype(np.uint8)
        for place in range(40)
    ]
    found = set(pairs.similar_pairs(seen, 6, seed=0))
    ring = {(min(a, b), max(a, b)) for a in range(40) for step in (1, 2) for b in [(a + step) % 40]}
    assert len(ring & found) >= 0.95 * len(ring)
    assert found == set(pairs.similar_pairs(seen, 6, seed=0))
    assert len(found) <= 40 * 6


def test_photos_without_features_are_paired_without_a_crash() -> None:
    nothing = [np.zeros((0, 128), np.uint8)] * 5
    assert all(one < other < 5 for one, other in pairs.similar_pairs(nothing, 3, seed=0))
    one_plain = [np.random.default_rng(place).integers(0, 99, (80, 128), dtype=np.uint8) for place in range(4)]
    assert pairs.similar_pairs([*one_plain, nothing[0]], 3, seed=0)


def test_blocks_hold_every_pair_once() -> None:
    wanted = pairs.all_pairs(41)
    blocks = pairs.blocks([*wanted, *wanted[:50]])
    assert sorted(pair for block in blocks for pair in block) == sorted(wanted)
    assert all(len({photo for pair in block for photo in pair}) <= 24 for block in blocks)
    assert pairs.following_pairs(4, 2) == [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3)]


# quality checks


def test_a_walk_around_an_object_passes() -> None:
    poses, seen = walk()
    judged = check_model(scene(poses, seen), names(24), matched(24))
    assert (judged.problem, len(judged.kept), judged.components) == ("", 24, 1)


def test_less_than_half_of_the_circle_is_refused_by_the_exact_cameras() -> None:
    def around(last_deg: int) -> SparseModel:
        angles = np.radians(np.arange(0, last_deg + 1, 10))
        poses = []
        for angle in angles:
            pose = np.eye(4)
            pose[:3, 3] = (np.cos(angle), np.sin(angle), 0.3)
            poses.append(pose)
        return scene(poses, np.ones((len(poses), 3), np.bool_))

    with pytest.raises(SaccadeError, match="220° of the circle") as caught:
        check_coverage(around(140), NerfParams())
    assert caught.value.code is ErrorCode.CAPTURE_REFUSED
    assert "ignore_verdict" in caught.value.hint
    check_coverage(around(140), NerfParams(ignore_verdict=True))
    check_coverage(around(180), NerfParams())


def test_two_rigid_pieces_are_told_apart_though_every_photo_is_placed() -> None:
    poses, seen = walk(50)
    seen[:13, 13 * 20 :] = False
    seen[13:, : 13 * 20] = False
    judged = check_model(scene(poses, seen), names(50), matched(50))
    assert judged.components == 2
    assert judged.names == names(50)[13:]
    assert judged.problem == ""
    assert check_model(scene(poses, seen), names(80), matched(80)).problem.startswith("only 37 of 80")


def test_a_camera_far_from_all_others_is_left_out() -> None:
    poses, seen = walk()
    poses[7] = poses[7].copy()
    poses[7][:3, 3] *= 200
    judged = check_model(scene(poses, seen), names(24), matched(24))
    assert "0007.jpg" not in judged.names
    assert len(judged.kept) == 23


def test_one_side_laid_over_the_other_is_seen_in_its_neighbours() -> None:
    poses, seen = walk(24)
    # the second half of the ring is placed on the first half, with a small offset
    folded = poses[:12] + [camera_pose(2 * np.pi * (step + 0.3) / 24, 0.3) for step in range(12)]
    judged = check_model(scene(folded, seen), names(24), matched(24))
    assert judged.problem == SIDES_CONFUSED
    told = failure_reason(names(24), [24], matched(24, inliers=np.full((24, 24), 50)), judged.problem)
    assert told.code is ErrorCode.POSES_NOT_FOUND
    assert "alike" in told.message


@pytest.mark.parametrize("placed", [0, 2, 5, 7])
def test_a_model_of_a_few_photos_is_no_model(placed: int) -> None:
    poses, seen = walk(24)
    judged = check_model(scene(poses[:placed], seen[:placed]), names(placed), matched(placed))
    assert judged.problem


def test_components_are_the_connected_parts() -> None:
    linked = np.zeros((5, 5), np.bool_)
    linked[0, 3] = linked[3, 0] = linked[3, 4] = linked[4, 3] = True
    assert components(linked) == [[0, 3, 4], [1], [2]]
    assert components(np.zeros((0, 0), np.bool_)) == []


def test_a_room_that_stands_still_is_seen_and_a_caption_is_not() -> None:
    all_alike = np.full((20, 20), 300)
    assert background_is_static(matched(20, candidates=all_alike, inliers=all_alike, still=np.full((20, 20), 200)))
    few = np.zeros((20, 20), np.int64)
    few[0, 1] = few[1, 0] = 300  # a duplicate photo
    assert not background_is_static(matched(20, candidates=all_alike, inliers=all_alike, still=few))
    assert check_matches(matched(20)) == "too few photos match each other"


def test_matches_stand_still_all_over_the_picture_or_not_at_all() -> None:
    random = np.random.default_rng(6)
    here = random.uniform((0, 0), (1600, 1200), (400, 2)).astype(np.float32)
    shaken = here + random.normal(0, 0.4, here.shape).astype(np.float32)
    moved = here + random.normal(0, 40, here.shape).astype(np.float32)
    assert features_database._still(here, shaken) > 380
    assert features_database._still(here, moved) == 0
    caption = random.uniform((1300, 1100), (1500, 1150), (200, 2)).astype(np.float32)
    assert features_database._still(np.concatenate([here[:100], caption]), np.concatenate([moved[:100], caption])) == 0
    # a few near the axis of rotation of a slow walk
    assert features_database._still(here, np.concatenate([shaken[:40], moved[40:]])) == 0
    assert features_database._still(here[:0], here[:0]) == 0


def refusals() -> dict[str, tuple[ErrorCode, str, str]]:
    """Return every refusal: error code, a word of its message, a word of its hint."""
    some_inliers = np.full((20, 20), 40)
    split = np.zeros((20, 20), np.int64)
    split[:11, :11] = split[11:, 11:] = 40
    cases = {
        "one": failure_reason(["a.jpg"], (), None),
        "few": failure_reason(names(5), (), None),
        "plain": failure_reason(names(20), (), matched(20, features=np.full(20, 12))),
        "same": failure_reason(names(20), (), matched(20, candidates=np.full((20, 20), 990))),
        "strangers": failure_reason(names(20), (), matched(20)),
        "split": failure_reason(names(20), (), matched(20, inliers=split)),
        "models": failure_reason(names(20), (11, 8), matched(20, inliers=some_inliers)),
        "no start": failure_reason(names(20), (), matched(20, inliers=some_inliers)),
        "few placed": failure_reason(names(20), (9,), matched(20, inliers=some_inliers)),
        "turntable": failure_reason(
            names(20),
            (),
            matched(20, candidates=np.full((20, 20), 90), inliers=some_inliers, still=np.full((20, 20), 60)),
        ),
    }
    return {name: (told.code, told.message, told.hint) for name, told in cases.items()}


@pytest.mark.parametrize(
    ("case", "code", "word", "fix"),
    [
        ("one", "poses_not_found", "One photo", "30 to 60"),
        ("few", "poses_not_found", "5 photos", "30 to 60"),
        ("plain", "poses_not_found", "blurred", "light"),
        ("same", "poses_not_found", "same picture", "Walk around"),
        ("strangers", "poses_not_found", "share nothing with any other", "10 degrees"),
        ("split", "poses_split", "11 and 9", "one object"),
        ("models", "poses_split", "11 and 8", "one object"),
        ("no start", "poses_not_found", "none could be registered", "10 degrees"),
        ("few placed", "poses_not_found", "only 9 of 20", "10 degrees"),
        ("turntable", "poses_not_found", "stands still", "masks"),
    ],
)
def test_every_refusal_names_its_reason_and_a_fix(case: str, code: str, word: str, fix: str) -> None:
    told = refusals()[case]
    assert told[0].value == code
    assert word in told[1]
    assert fix in told[2]


def test_no_try_joins_two_whole_models() -> None:
    assert has_separate_models([36, 36], 72)
    assert has_separate_models([36, 35, 0], 72)
    assert not has_separate_models([7, 7, 5, 5], 24)
    assert not has_separate_models([60], 72)
    assert list_names(["a", "b"]) == "a, b"
    assert list_names([str(number) for number in range(10)]).endswith("7 and 2 more")


# world frame


def test_a_scene_in_any_frame_comes_out_upright_and_of_size_one() -> None:
    random = np.random.default_rng(8)
    true = np.array([camera_pose(azimuth, elevation) for elevation in (0.1, 0.6) for azimuth in np.arange(0, 6, 0.4)])
    turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    moved = true.copy()
    moved[:, :3, :3] = turn @ true[:, :3, :3]
    moved[:, :3, 3] = 7.3 * true[:, :3, 3] @ turn.T + [4, -2, 9]
    frame = find_world_frame(moved)
    back = frame.moved(moved)
    assert np.allclose(back[:, :3, 3], true[:, :3, 3] / 4.2, atol=1e-6)
    assert np.allclose(back[:, :3, :3], true[:, :3, :3], atol=1e-6)
    new_from_old = frame.matrix()
    assert np.allclose(moved[:, :3, 3] @ new_from_old[:, :3].T + new_from_old[:, 3], back[:, :3, 3])


def test_up_is_the_cameras_own_where_all_look_the_same_way_and_a_stray_view_moves_nothing() -> None:
    still = np.array([camera_pose(0.01 * step, 0.0) for step in range(10)])
    assert find_world_frame(still).rotation[2] @ [0, 0, 1] > 0.999
    ring = np.array([camera_pose(azimuth, 0.4) for azimuth in np.arange(0, 6.2, 0.3)])
    ring[3, :3, :3] = ring[3, :3, :3] @ cv2.Rodrigues(np.array([0.3, 0.8, 0.9]))[0]
    frame = find_world_frame(ring)
    assert np.linalg.norm(frame.origin) < 0.05
    assert frame.rotation[2] @ [0, 0, 1] > 0.9995


# export


def test_transforms_say_what_the_model_says_in_nerfstudio_s_axes() -> None:
    poses = [camera_pose(azimuth, 0.2) for azimuth in (0.1, 1.0, 2.0)]
    lens = ColmapCamera("PINHOLE", 318, 238, (381.0, 382.0, 159.0, 119.0))
    photos = [RegisteredImage(place, f"{place:04d}.jpg", lens, pose) for place, pose in enumerate(poses)]
    known = {photo.name: f"000{place}_Ölkanne 1.jpg" for place, photo in enumerate(photos)}
    told = json.loads(json.dumps(transforms(photos, known, with_masks=True)))
    assert "applied_transform" not in told
    assert (told["fl_x"], told["fl_y"], told["cx"], told["cy"], told["w"], told["h"]) == (381, 382, 159, 119, 318, 238)
    for frame, pose in zip(told["frames"], poses, strict=True):
        matrix = np.array(frame["transform_matrix"])
        # nerfstudio has OpenGL cameras: they look along -z, y is up
        assert np.allclose(-matrix[:3, 2], pose[:3, 2])
        assert np.allclose(matrix[:3, 1], -pose[:3, 1])
        assert np.allclose(matrix @ OPENGL_FROM_OPENCV, pose)
    assert told["frames"][0]["mask_path"] == "masks/0000_Ölkanne 1.png"
    other = replace(photos[1], camera=replace(lens, params=(400.0, 400.0, 159.0, 119.0)))
    mixed = transforms([photos[0], other, photos[2]], known, with_masks=False)
    assert "fl_x" not in mixed
    assert [frame["fl_x"] for frame in mixed["frames"]] == [381, 400, 381]
    assert all("mask_path" not in frame for frame in mixed["frames"])


def test_a_mask_is_undistorted_by_the_lens_s_own_map() -> None:
    lens, pinhole = (
        ColmapCamera("SIMPLE_RADIAL", 320, 240, (380.0, 160.0, 120.0, -0.2)),
        ColmapCamera("PINHOLE", 300, 220, (370.0, 370.0, 150.0, 110.0)),
    )
    mask = np.zeros((240, 320), np.uint8)
    mask[40:200, 60:280] = 255
    plain = undistort_mask(mask, lens, pinhole)
    assert plain.shape == (220, 300)
    rows, columns = np.mgrid[0:220, 0:300]
    x, y = (columns + 0.5 - 150) / 370, (rows + 0.5 - 110) / 370
    bent = 1 - 0.2 * (x * x + y * y)
    u, v = 380 * x * bent + 160, 380 * y * bent + 120
    inside, outside = (u > 61) & (u < 279) & (v > 41) & (v < 199), (u < 59) | (u > 281) | (v < 39) | (v > 201)
    assert (plain[inside] > 250).all()
    assert (plain[outside] < 5).all()
    assert (undistort_mask(cv2.resize(mask, (160, 120)), lens, pinhole)[inside] > 100).all()


def test_photos_of_one_lens_share_its_camera(tmp_path: Path) -> None:
    def shot(number: int, width: int, height: int) -> Shot:
        picture = np.zeros((height, width, 3), np.uint8)
        return Shot(f"{number:04d}_a b.jpg", picture, picture[..., 0], np.eye(4))

    shots = [shot(0, 64, 48), shot(1, 64, 48), shot(2, 48, 64), shot(3, 64, 48)]
    captured = unpack(write_capture(tmp_path / "capture.zip", shots, masks=True, focal_px=70.0), tmp_path / "here")
    assert [camera["names"] for camera in captured.cameras()] == [["0000.jpg", "0001.jpg", "0003.jpg"], ["0002.jpg"]]
    assert captured.all_masked
    assert [photo.name for photo in captured.photos] == [shot.name for shot in shots]
    zoomed = replace(captured, photos=(*captured.photos[:3], replace(captured.photos[3], focal_px=140.0)))
    assert [camera["focal_px"] for camera in zoomed.cameras()] == [70.0, 70.0, 140.0]
