"""Hand-eye calibration recovers the camera's true pose, and refuses motions that do not determine it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.live_splat.calibration.hand_eye import (
    HandEye,
    calibrate_with_pictures,
    calibrate_with_poses,
    calibrate_with_target,
)
from modal_workers.live_splat.calibration.target import CharucoBoard, Chessboard, TargetView
from modal_workers.live_splat.kinematics import SO101
from modal_workers.live_splat.rigid_transform import inverse_poses, pose_from_vector, rotation_matrix, rotation_vectors
from simulators.arm.motion import ArmMotion
from simulators.arm.wrist_camera import GRIPPER_FROM_CAMERA, camera_matrix, world_from_camera

SIZE = (480, 360)
MATRIX = camera_matrix(*SIZE)
CHESSBOARD = Chessboard(7, 6, 0.018)
CHARUCO = CharucoBoard(8, 6, 0.02, 0.015)
SEED = 7
MOTION = ArmMotion(SEED)


def target_pose(width_m: float, height_m: float) -> np.ndarray:
    """Return world_from_target of a board that lies on the table: x to the robot's right, y towards the robot."""
    pose = np.eye(4)
    pose[:3, :3] = np.array([[0, -1, 0], [-1, 0, 0], [0, 0, -1]], float)
    pose[:3, 3] = (0.30 + height_m / 2, width_m / 2, 0.0)
    return pose


def photographed(board: np.ndarray, px_per_m: float, camera_from_target: np.ndarray, noise: float) -> np.ndarray:
    """Photograph a flat picture whose first pixel's corner is the target's origin."""
    fine = MATRIX.copy()
    fine[:2] *= 3
    fine[:2, 2] += 1
    target_from_pixel = np.array([[1 / px_per_m, 0, 0.5 / px_per_m], [0, 1 / px_per_m, 0.5 / px_per_m], [0, 0, 1]])
    homography = fine @ camera_from_target[:3, [0, 1, 3]] @ target_from_pixel
    picture = cv2.warpPerspective(board, homography, (3 * SIZE[0], 3 * SIZE[1]), borderValue=150)
    small = cv2.resize(picture, SIZE, interpolation=cv2.INTER_AREA).astype(float)
    noisy = small + np.random.default_rng(SEED).normal(0, noise, small.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def drawn_chessboard(px_per_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Draw the board with one white square round it; the target's origin is the first inner corner."""
    square = round(CHESSBOARD.square_m * px_per_m)
    cells = np.add.outer(np.arange(CHESSBOARD.rows + 3), np.arange(CHESSBOARD.columns + 3)) % 2
    cells[[0, -1]] = 1
    cells[:, [0, -1]] = 1
    picture = np.kron(cells, np.ones((square, square))) * 255
    back = np.eye(4)
    back[:2, 3] = -2 * CHESSBOARD.square_m
    return picture.astype(np.uint8), back


def joints(count: int) -> np.ndarray:
    return MOTION.positions(np.linspace(0, 24.0, count, endpoint=False))


def off(found: HandEye, truth: np.ndarray = GRIPPER_FROM_CAMERA) -> tuple[float, float]:
    apart = inverse_poses(truth) @ found.gripper_from_camera
    return 1e3 * float(np.linalg.norm(apart[:3, 3])), float(np.rad2deg(np.linalg.norm(rotation_vectors(apart[:3, :3]))))


def views_of_points(positions: np.ndarray, noise_px: float, generator: np.random.Generator) -> list[TargetView]:
    across, down = np.meshgrid(np.arange(7), np.arange(6))
    points = np.stack([across, down, 0 * across], -1).reshape(-1, 3) * 0.018
    world_from_target = target_pose(0.126, 0.108)
    views = []
    for pose in world_from_camera(positions):
        seen = inverse_poses(pose) @ world_from_target
        pixels = (points @ seen[:3, :3].T + seen[:3, 3]) @ MATRIX.T
        pixels = pixels[:, :2] / pixels[:, 2:]
        views.append(TargetView(points, pixels + generator.normal(0, noise_px, pixels.shape)))
    return views


@pytest.mark.parametrize("kind", ["chessboard", "charuco"])
def test_images_of_a_board_determine_the_camera_pose(kind: str) -> None:
    px_per_m = 5000.0
    if kind == "chessboard":
        target, (picture, origin) = CHESSBOARD, drawn_chessboard(px_per_m)
        world_from_target = target_pose(0.126, 0.108)
    else:
        target, origin = CHARUCO, np.eye(4)
        picture = CHARUCO.board.generateImage((round(8 * 0.02 * px_per_m), round(6 * 0.02 * px_per_m)))
        world_from_target = target_pose(0.16, 0.12)
    positions = joints(14)
    pictures = []
    for pose in world_from_camera(positions):
        shot = photographed(picture, px_per_m, inverse_poses(pose) @ world_from_target @ origin, noise=2.0)
        pictures.append(np.repeat(shot[..., None], 3, axis=2))
    pictures[3] = np.full_like(pictures[3], 90)  # a hand before the lens
    found = calibrate_with_pictures(positions, pictures, target, MATRIX)
    assert 10 <= found.views <= 13, f"seed {SEED}: the target was found in {found.views} of 13 pictures"
    millimetres, degrees = off(found)
    assert (millimetres < 1.0, degrees < 0.3) == (True, True), (SEED, millimetres, degrees, found)
    assert found.residual_px is not None
    assert found.residual_px < 0.3
    assert not found.warnings
    assert np.abs(found.world_from_target - world_from_target).max() < 3e-3


def test_joint_offsets_are_estimated_with_the_camera() -> None:
    generator = np.random.default_rng(SEED)
    positions = joints(24)
    views = views_of_points(positions, 0.2, generator)
    truth = {"shoulder_lift": 0.03, "elbow_flex": -0.025, "wrist_flex": 0.02}
    said = positions.copy()
    for name, value in truth.items():
        said[:, SO101.joint_names.index(name)] -= value
    stiff = calibrate_with_target(said, views, MATRIX, refine_joints=False)
    found = calibrate_with_target(said, views, MATRIX)
    assert found.residual_px is not None
    assert stiff.residual_px is not None
    assert found.residual_px == pytest.approx(0.2 * np.sqrt(2), rel=0.1), "what is left is the noise of the corners"
    assert stiff.residual_px > 2 * found.residual_px
    millimetres, degrees = off(found)
    assert (millimetres < 1.0, degrees < 0.2) == (True, True), (SEED, millimetres, degrees)
    for name, value in truth.items():
        assert found.joint_offsets_rad[name] == pytest.approx(value, abs=0.006), (SEED, name)
    assert set(found.joint_offsets_rad) == set(truth)


def test_distortion_is_corrected() -> None:
    positions, generator = joints(12), np.random.default_rng(SEED)
    lens = np.array([-0.12, 0.03, 0.001, -0.002])
    bent = []
    for view in views_of_points(positions, 0.0, generator):
        pose = view.camera_from_target(MATRIX, np.zeros(0))
        inside = view.points_m @ pose[:3, :3].T + pose[:3, 3]
        bent.append(
            TargetView(view.points_m, cv2.projectPoints(inside, np.zeros(3), np.zeros(3), MATRIX, lens)[0][:, 0])
        )
    assert off(calibrate_with_target(positions, bent, MATRIX, lens))[0] < 0.05
    wrong = calibrate_with_target(positions, bent, MATRIX)
    assert wrong.residual_px is not None
    assert wrong.residual_px > 0.5, "without the lens the corners cannot be explained"


@pytest.mark.parametrize("scale", [0.02, 1.0, 37.0])
def test_poses_of_structure_from_motion_determine_pose_and_scale(scale: float) -> None:
    generator = np.random.default_rng(SEED)
    positions = joints(40)
    model_from_world = pose_from_vector(np.array([0.4, -2.0, 1.0, 0.7, -1.9, 0.4]))
    model_from_camera = model_from_world @ world_from_camera(positions)
    model_from_camera[:, :3, 3] += generator.normal(0, 0.001, (40, 3))
    for pose in model_from_camera:
        pose[:3, :3] = pose[:3, :3] @ rotation_matrix(generator.normal(0, np.deg2rad(0.2), 3))
    model_from_camera[:, :3, 3] /= scale
    said = positions + np.deg2rad(generator.normal(0, 0.3, positions.shape))
    found = calibrate_with_poses(said, inverse_poses(model_from_camera))
    millimetres, degrees = off(found)
    assert found.scale == pytest.approx(scale, rel=0.02), SEED
    assert (millimetres < 5.0, degrees < 1.0) == (True, True), (SEED, millimetres, degrees)
    place = found.world_from_target @ np.append(model_from_camera[3, :3, 3], 1.0)
    assert np.linalg.norm(place[:3] - world_from_camera(positions)[3, :3, 3]) < 6e-3, SEED


def test_a_wrong_view_is_named() -> None:
    positions, generator = joints(16), np.random.default_rng(SEED)
    model = inverse_poses(world_from_camera(positions))
    model[5] = pose_from_vector(generator.normal(0, 0.05, 6)) @ model[5]
    found = calibrate_with_poses(positions, model)
    assert any("View 5" in warning for warning in found.warnings), found.warnings


@pytest.mark.parametrize(
    ("moving", "says"),
    [([], "turned by only"), ([4], "one axis only"), ([1, 2, 3], "one axis only")],
)
def test_motion_about_one_axis_is_refused(moving: list[int], says: str) -> None:
    generator = np.random.default_rng(SEED)
    positions = np.repeat(joints(1), 12, axis=0)
    positions[:, moving] += generator.uniform(-0.4, 0.4, (12, len(moving)))
    for calibrate in (
        lambda: calibrate_with_poses(positions, inverse_poses(world_from_camera(positions))),
        lambda: calibrate_with_target(positions, views_of_points(positions, 0.1, generator), MATRIX),
    ):
        with pytest.raises(SaccadeError, match=says) as caught:
            calibrate()
        assert caught.value.code is ErrorCode.INVALID_PARAMETER
        assert "wrist" in caught.value.hint


def test_little_rotation_about_other_axes_is_a_warning() -> None:
    positions = np.repeat(joints(1), 20, axis=0)
    positions[:, 1] += np.linspace(-0.4, 0.4, 20)
    positions[:, 3] += 0.3 * np.cos(np.arange(20))
    positions[:, 4] += 0.08 * np.sin(np.arange(20))
    found = calibrate_with_poses(positions, inverse_poses(world_from_camera(positions)))
    assert any("mostly about one axis" in warning for warning in found.warnings)


def test_poses_without_translation_do_not_determine_the_scale() -> None:
    positions = joints(12)
    still = inverse_poses(world_from_camera(positions))
    still[:, :3, 3] = 0.0
    with pytest.raises(SaccadeError, match="scale"):
        calibrate_with_poses(positions, still)


def test_invalid_calibration_input_is_refused() -> None:
    positions = joints(12)
    poses = inverse_poses(world_from_camera(positions))
    for said, model, says in (
        (positions[:4], poses[:4], "too few"),
        (positions[:, :5], poses, "shape"),
        (positions[:11], poses, "shape"),
        (np.full_like(positions, np.nan), poses, "finite"),
        (positions, poses * 2, "rigid"),
        (positions, poses[:, :3], "rigid"),
    ):
        with pytest.raises(SaccadeError, match=says) as caught:
            calibrate_with_poses(said, model)
        assert caught.value.code is ErrorCode.INVALID_PARAMETER


def test_pictures_without_a_target_are_refused() -> None:
    empty = [np.full((*SIZE[::-1], 3), 128, np.uint8)] * 12
    with pytest.raises(SaccadeError, match="0 of 12 pictures show the target"):
        calibrate_with_pictures(joints(12), empty, CHESSBOARD, MATRIX)
    with pytest.raises(SaccadeError, match="12 pictures and 11"):
        calibrate_with_pictures(joints(11), empty, CHESSBOARD, MATRIX)


def test_boards_that_are_ambiguous_are_refused() -> None:
    for make in (
        lambda: Chessboard(8, 6, 0.02),
        lambda: Chessboard(2, 7, 0.02),
        lambda: Chessboard(7, 6, 0.0),
        lambda: CharucoBoard(7, 5, 0.02, 0.03),
        lambda: CharucoBoard(7, 5, 0.02, 0.01, "DICT_OF_DREAMS"),
    ):
        with pytest.raises(SaccadeError) as caught:
            make()
        assert caught.value.code is ErrorCode.INVALID_PARAMETER


def test_a_board_is_not_found_where_there_is_none() -> None:
    empty = np.random.default_rng(SEED).integers(0, 255, (*SIZE[::-1], 3)).astype(np.uint8)
    assert CHESSBOARD.find(empty) is None
    assert CHARUCO.find(empty) is None


@pytest.mark.parametrize("turned", range(4))
def test_a_chessboard_keeps_its_first_corner_in_a_rotated_image(turned: int) -> None:
    picture, _ = drawn_chessboard(2000.0)
    upright = CHESSBOARD.find(picture)
    view = CHESSBOARD.find(np.ascontiguousarray(np.rot90(picture, turned)))
    assert upright is not None
    assert view is not None
    height, width = picture.shape
    x, y = upright.corners_px[0]
    expected = [(x, y), (y, width - 1 - x), (width - 1 - x, height - 1 - y), (height - 1 - y, x)][turned]
    assert view.corners_px[0] == pytest.approx(expected, abs=0.5)
