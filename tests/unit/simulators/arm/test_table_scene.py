"""The simulated table top: images agree with its geometry, and the motion views it from many sides."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from modal_workers.live_splat.kinematics import SO101, SO101_JOINTS
from modal_workers.live_splat.rigid_transform import inverse_poses
from simulators.arm.ground_truth import psnr_db, sample_ground_truth
from simulators.arm.motion import ArmMotion
from simulators.arm.recording import ArmRecording, jpeg
from simulators.arm.table_scene import SCENE_CENTRE_M, TableScene
from simulators.arm.wrist_camera import GRIPPER_FROM_CAMERA, camera_matrix, look_at
from simulators.shapes import FARTHEST_M, Box, Frustum, Shape, Sheet, Sphere, rotated_about_z
from tests.harness.vision.so101_reference import joints_beyond_limits

SIZE = (160, 120)
MATRIX = camera_matrix(*SIZE)
SEED = 5


@pytest.fixture(scope="module")
def scene() -> TableScene:
    return TableScene(SEED)


@pytest.fixture(scope="module")
def other_scene() -> TableScene:
    return TableScene(SEED + 1)


@pytest.fixture(scope="module")
def motion() -> ArmMotion:
    return ArmMotion(SEED)


@pytest.mark.parametrize(
    "shape",
    [
        Sheet((-0.1, -0.2), (0.3, 0.4), 0.01),
        Box((0.1, -0.2, 0.03), (0.04, 0.07, 0.06), rotated_about_z(0.7)),
        Frustum((0.1, 0.2, 0.04), (0.03, 0.03), 0.08),
        Frustum((0.1, 0.2, 0.04), (0.02, 0.03), 0.05, rotated_about_z(0.4)),
        Sphere((0.05, -0.1, 0.04), 0.04, rotated_about_z(0.5)),
    ],
)
def test_a_ray_to_a_point_on_a_face_hits_that_point(shape: Shape) -> None:
    random = np.random.default_rng(SEED)
    for face in range(shape.face_count):
        u, v = random.uniform(0.15, 0.85, (2, 200)).astype(np.float32)
        points, normals = (values.astype(np.float32) for values in shape.face_points(face, u, v))
        aside = random.uniform(-0.05, 0.05, points.shape).astype(np.float32)
        eyes = points + 0.3 * normals + aside
        depth = shape.depth(eyes, points - eyes)
        assert np.abs(depth - 1).max() < 2e-4, (SEED, face)
        ((found, on, u_found, v_found),) = [f for f in shape.faces(points) if f[1].any()]
        assert found == face
        assert on.all()
        assert np.abs(u_found - u).max() < 1e-3
        assert np.abs(v_found - v).max() < 1e-3
        assert (shape.depth(eyes, eyes - points) == FARTHEST_M).all(), "behind the eye there is nothing"
        corners = shape.corners()
        assert (points >= corners.min(0) - 1e-5).all()
        assert (points <= corners.max(0) + 1e-5).all()


def test_a_scene_is_the_same_every_time_and_another_with_another_seed(
    scene: TableScene, other_scene: TableScene, motion: ArmMotion
) -> None:
    pose = motion.camera_from_world(1.0)
    picture = scene.render(MATRIX, pose, *SIZE)
    assert picture.shape == (120, 160, 3)
    assert picture.dtype == np.uint8
    assert np.array_equal(picture, TableScene(SEED).render(MATRIX, pose, *SIZE))
    assert psnr_db(other_scene.render(MATRIX, pose, *SIZE), picture) < 25


def test_two_views_are_consistent(scene: TableScene, motion: ArmMotion) -> None:
    """Colours of one view, reprojected by its true depth, equal those of the other: poses, depth and light agree."""
    one, other = motion.camera_from_world(2.0), motion.camera_from_world(2.6)
    depth = scene.depth(MATRIX, one, *SIZE)
    across, down = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    rays = np.stack([across, down, np.ones_like(across)], -1) @ np.linalg.inv(MATRIX).T
    carry = other @ inverse_poses(one)
    points = (rays * depth[..., None]) @ carry[:3, :3].T + carry[:3, 3]
    pixels = points @ MATRIX.T
    pixels = (pixels[..., :2] / pixels[..., 2:]).astype(np.float32)
    other_depth = cv2.remap(scene.depth(MATRIX, other, *SIZE), pixels[..., 0], pixels[..., 1], cv2.INTER_NEAREST)
    seen = np.abs(other_depth - points[..., 2]) < 0.003
    assert seen.mean() > 0.6
    there = cv2.remap(scene.render(MATRIX, other, *SIZE), pixels[..., 0], pixels[..., 1], cv2.INTER_LINEAR)
    here = scene.render(MATRIX, one, *SIZE)
    assert psnr_db(here[seen], there[seen]) > 25
    wrong = psnr_db(here[seen], scene.render(MATRIX, other, *SIZE)[seen])
    assert wrong < 20, "the views do differ"


def test_depth_is_where_the_table_is(scene: TableScene) -> None:
    eye = np.array([0.9, 0.5, 0.5])
    pose = look_at(eye, [0.9, 0.5, 0.0])
    assert scene.depth(MATRIX, pose, *SIZE) == pytest.approx(0.5, abs=1e-4)
    away = look_at(eye, [0.9, 0.5, 2.0])
    assert np.isinf(scene.depth(MATRIX, away, *SIZE)).all()


def test_a_small_image_equals_a_reduced_large_one(scene: TableScene, motion: ArmMotion) -> None:
    """Equal except for details between its samples."""
    pose = motion.camera_from_world(4.0)
    small = scene.render(MATRIX, pose, *SIZE)
    large = scene.render(camera_matrix(640, 480), pose, 640, 480)
    assert psnr_db(small, cv2.resize(large, SIZE, interpolation=cv2.INTER_AREA)) > 28


@pytest.mark.parametrize("seed", range(4))
def test_the_motion_looks_at_the_scene_from_many_sides(seed: int) -> None:
    motion = ArmMotion(seed)
    for size in (SIZE, (320, 240)):
        seen = motion.parallax(camera_matrix(*size), *size)
        assert seen.azimuth_deg > 60, seed
        assert seen.centre_in_picture >= 0.95, seed
        assert seen.elevation_deg[1] - seen.elevation_deg[0] > 10, seed
    times = np.linspace(0, 2 * motion.period_s, 2400)
    positions = motion.positions(times)
    beyond = [limit for row in positions for limit in joints_beyond_limits(SO101_JOINTS, row.tolist())]
    assert not beyond, seed
    assert SO101.tips(positions)[:, 2, 3].min() > 0.09, "the gripper stays above the things"
    speed = np.abs(np.diff(positions, axis=0)).max() / (times[1] - times[0])
    assert speed < 1.0, "a person would let an arm move so fast (rad/s)"
    assert motion.positions(motion.period_s) == pytest.approx(motion.positions(0.0)), "it repeats itself smoothly"


def test_the_camera_sits_on_the_gripper_and_looks_along_it_and_down() -> None:
    stretched = SO101.tip(dict.fromkeys(SO101_JOINTS, 0.0)) @ GRIPPER_FROM_CAMERA
    ahead, down = stretched[:3, 2], stretched[:3, 1]
    assert ahead[0] > 0.7
    assert ahead[2] < -0.5
    assert down[2] < -0.7
    assert np.linalg.det(GRIPPER_FROM_CAMERA[:3, :3]) == pytest.approx(1.0)


def test_a_recording_has_true_poses_and_reported_joints(scene: TableScene, motion: ArmMotion) -> None:
    film = ArmRecording(scene, motion, 80, 60, rate_hz=5.0, offsets_rad={"elbow_flex": 0.04}, noise_rad=0.002)
    frames = list(film.frames(3))
    assert [(frame.seq, frame.time_s) for frame in frames] == [(0, 0.0), (1, 0.2), (2, 0.4)]
    frame = frames[2]
    assert np.array_equal(frame.picture, scene.render(film.camera_matrix, frame.camera_from_world, 80, 60))
    wrong = motion.positions(0.4) - frame.positions_rad
    assert wrong[2] == pytest.approx(0.04, abs=0.012), SEED
    assert np.abs(np.delete(wrong, 2)).max() < 0.012, SEED
    assert film.reported(0.4) == frame.positions_rad, "asked again, it says the same"
    decoded = cv2.imdecode(np.frombuffer(jpeg(frame.picture, 95), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert psnr_db(np.ascontiguousarray(decoded), frame.picture) > 26, "red stays red"


def test_the_true_scene_has_the_best_score(scene: TableScene, other_scene: TableScene, motion: ArmMotion) -> None:
    truth = sample_ground_truth(scene, motion, 80, 60, count=4)
    true = [scene.render(truth.camera_matrix, pose, 80, 60) for pose in truth.camera_from_world]
    assert truth.psnr_db(true) == float("inf")
    blurred = [cv2.GaussianBlur(picture, (0, 0), 1.0) for picture in true]
    other = [other_scene.render(truth.camera_matrix, pose, 80, 60) for pose in truth.camera_from_world]
    assert truth.psnr_db(blurred) > truth.psnr_db(other) + 3
    away = inverse_poses(truth.camera_from_world)[:, :3, 3]
    path = inverse_poses(motion.camera_from_world(np.linspace(0, motion.period_s, 4800)))[:, :3, 3]
    nearest = np.linalg.norm(away[:, None] - path[None], axis=-1).min(1)
    assert (nearest > 0.001).all(), "no frame is taken from there"
    assert (np.linalg.norm(away - np.array(SCENE_CENTRE_M), axis=1) < 0.35).all()
    with pytest.raises(ValueError, match="3 pictures for 4"):
        truth.psnr_db(true[:3])
    with pytest.raises(ValueError, match="compared"):
        truth.psnr_db([picture[:-1] for picture in true])


def test_psnr_equals_its_definition() -> None:
    dark, light = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 16, np.uint8)
    assert psnr_db(dark, light) == pytest.approx(10 * np.log10(255**2 / 16**2))
    with pytest.raises(ValueError, match="float"):
        psnr_db(dark.astype(float), light)
