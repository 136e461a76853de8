"""The simulated toy: reproducible photos, correct positions, and the requested flaws."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from modal_workers.nerf.params import NerfParams
from simulators.toy.comparison import compare_with_truth
from simulators.toy.ground_truth import ToyGroundTruth, fit_similarity, pose_errors
from simulators.toy.photos import Flaws, take_photos
from simulators.toy.ring_camera import PosedCamera, focal_px, look_at
from simulators.toy.room_scene import room_scene
from tests.harness.vision.orbit_frames import write_frames, write_model

SIZE = (96, 72)


def camera(eye: tuple[float, float, float] = (0.4, 0.3, 0.2), size: tuple[int, int] = SIZE) -> PosedCamera:
    return PosedCamera(*size, focal_px(size), look_at(eye, (0.0, 0.0, 0.06)))


def read(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_COLOR_RGB).astype(int)


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        take_photos(tmp_path / name, seed=3, photos=3, size_px=SIZE, masks=True)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 7
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)
    take_photos(tmp_path / "c", seed=4, photos=1, size_px=SIZE)
    assert (tmp_path / "c/photo_0000.jpg").read_bytes() != (tmp_path / "a/photo_0000.jpg").read_bytes()


def test_the_ground_truth_describes_the_photos(tmp_path: Path) -> None:
    truth = take_photos(tmp_path, seed=3, photos=4, size_px=SIZE, masks=True)
    again = ToyGroundTruth.load(tmp_path / "truth.json")
    assert again.cameras.keys() == truth.cameras.keys()
    for name, one in again.cameras.items():
        assert np.allclose(one.world_from_camera, truth.cameras[name].world_from_camera)
        away_m = np.linalg.norm(one.world_from_camera[:3, 3] - [0, 0, 0.062])
        assert away_m == pytest.approx(truth.radius_m, rel=0.1)
        exact = again.picture(one).astype(int)
        assert np.abs(read(tmp_path / name) - exact).mean() < 6, "the photo is what the camera sees, but for grain"
        mask = cv2.imread(str(tmp_path / "masks" / f"{Path(name).stem}.png"), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(mask, again.silhouette(one))
    with Image.open(tmp_path / "photo_0000.jpg") as photo:
        lens = photo.getexif().get_ifd(0x8769)
    assert lens[0xA405] == pytest.approx(36 * truth.cameras["photo_0000.jpg"].focal_px / max(SIZE), abs=0.5)


@pytest.mark.parametrize("eye", [(0.5, 0.0, 0.1), (-0.3, 0.3, 0.35), (0.0, -0.5, 0.05), (0.01, 0.0, 0.6)])
def test_the_toy_is_rendered_where_it_stands(eye: tuple[float, float, float]) -> None:
    seen = camera(eye, (160, 120))
    covered = room_scene(3).silhouette(seen) > 127
    low, high = np.array(ToyGroundTruth(3, 0.5, {}).bounds_m)
    corners = np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
    pose = seen.world_from_camera
    places = (corners - pose[:3, 3]) @ pose[:3, :3] @ seen.matrix.T
    places = places[:, :2] / places[:, 2:]
    hull = np.zeros(covered.shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(places.round().astype(np.int32)), 1)
    assert covered.any()
    assert not (covered & (cv2.dilate(hull, np.ones((3, 3))) == 0)).any(), "nothing of it is outside of its bounds"
    assert covered.sum() > 0.3 * hull.sum()


def test_a_cutout_is_the_picture_where_the_toy_is_and_clear_elsewhere() -> None:
    seen = camera()
    cutout, picture, covered = room_scene(3).cutout(seen), room_scene(3).picture(seen), room_scene(3).silhouette(seen)
    assert np.abs(cutout[..., 3].astype(int) - covered).mean() < 2
    inside = (cutout[..., 3] == 255) & (covered == 255)
    assert np.abs(cutout[..., :3].astype(int) - picture)[inside].mean() < 1
    assert (cutout[..., 3] == 0).any()


def test_a_turntable_turns_the_toy_and_nothing_else(tmp_path: Path) -> None:
    take_photos(tmp_path, seed=3, photos=4, size_px=SIZE, elevations_deg=(20.0,), flaws=Flaws(turntable=True))
    first, third = read(tmp_path / "photo_0000.jpg"), read(tmp_path / "photo_0002.jpg")
    apart = np.abs(first - third).mean(2)
    assert apart[:8].mean() < 6, "the room stands still"
    assert apart[28:48, 34:62].mean() > 15, "the toy does not"


def test_each_flaw_is_visible(tmp_path: Path) -> None:
    def taken(name: str, **flaws: object) -> ToyGroundTruth:
        return take_photos(tmp_path / name, seed=3, photos=8, size_px=SIZE, flaws=Flaws(**flaws))  # type: ignore[arg-type]

    def sharpness(path: Path) -> float:
        return float(cv2.Laplacian(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), cv2.CV_32F).var())

    good = taken("good")
    taken("blurred", blur_px=9.0)
    assert sharpness(tmp_path / "blurred/photo_0001.jpg") < 0.3 * sharpness(tmp_path / "good/photo_0001.jpg")
    taken("plain", textureless=True)
    assert sharpness(tmp_path / "plain/photo_0001.jpg") < 0.2 * sharpness(tmp_path / "good/photo_0001.jpg")
    taken("dark", exposure_stops=-4.0)
    assert read(tmp_path / "dark/photo_0001.jpg").mean() < 20
    corrupt = taken("corrupt", corrupt=2)
    assert len(corrupt.cameras) == 6
    missing = good.cameras.keys() - corrupt.cameras.keys()
    assert all((tmp_path / "corrupt" / name).stat().st_size < 5000 for name in missing)
    doubled = taken("doubled", duplicates=3)
    first = (tmp_path / "doubled/photo_0000.jpg").read_bytes()
    assert sum((tmp_path / "doubled" / name).read_bytes() == first for name in doubled.cameras) == 4
    taken("mixed", mixed_sizes=True)
    sizes = {read(path).shape[1::-1] for path in (tmp_path / "mixed").glob("*.jpg")}
    assert {(96, 72), (72, 96), (72, 54)} <= sizes
    assert len(taken("strange", strangers=2).strangers) == 2
    assert taken("two", two_scenes=True).strangers == tuple(f"photo_{index:04d}.jpg" for index in range(4, 8))


def test_a_known_similarity_is_fitted() -> None:
    random = np.random.default_rng(5)
    points = random.normal(size=(12, 3))
    rotation = np.linalg.qr(random.normal(size=(3, 3)))[0]
    rotation *= np.sign(np.linalg.det(rotation))
    laid = fit_similarity(points, 2.5 * points @ rotation.T + [1, 2, 3])
    assert laid.scale == pytest.approx(2.5)
    assert np.allclose(laid.rotation, rotation)
    assert np.allclose(laid.shift, [1, 2, 3])
    with pytest.raises(ValueError, match="2 points"):
        fit_similarity(points[:2], points[:2])
    with pytest.raises(ValueError, match="one place"):
        fit_similarity(points[:1].repeat(4, 0), points[:4])


def test_errors_of_poses_are_shares_of_the_radius(tmp_path: Path) -> None:
    truth = take_photos(tmp_path, seed=3, photos=12, size_px=(32, 24))
    poses = {name: one.world_from_camera.copy() for name, one in truth.cameras.items()}
    errors, _ = pose_errors(poses, truth)
    assert errors.max() < 1e-9
    poses["photo_0003.jpg"][:3, 3] += [0.05, 0, 0]
    errors, _ = pose_errors(poses, truth)
    assert errors.max() == pytest.approx(0.05 / truth.radius_m, rel=0.2)


@pytest.mark.parametrize(("shift_px", "edges"), [(0, (0.999, 1.0)), (2, (0.999, 1.0)), (9, (0.0, 0.7))])
def test_artifacts_are_compared_with_the_ground_truth(
    tmp_path: Path, shift_px: int, edges: tuple[float, float]
) -> None:
    truth = take_photos(tmp_path / "photos", seed=3, photos=6, size_px=(32, 24))
    params = NerfParams(frames=4, elevations=1, frame_size_px=96)
    write_frames(tmp_path, params, (20.0,), seed=3, shift_px=shift_px)
    write_model(tmp_path, params, (20.0,), truth)
    found = compare_with_truth(tmp_path, truth)
    assert (found.photos, found.frames) == (6, 4)
    assert found.pose_error_worst < 1e-6
    assert edges[0] <= found.edges_near <= edges[1]
    assert edges[0] <= found.edges_found <= edges[1]
    assert (found.psnr_db > 35) == (shift_px == 0)


def test_a_missing_frame_is_an_error(tmp_path: Path) -> None:
    truth = take_photos(tmp_path / "photos", seed=3, photos=6, size_px=(32, 24))
    params = NerfParams(frames=4, elevations=1, frame_size_px=64)
    write_frames(tmp_path, params, (20.0,), seed=3)
    write_model(tmp_path, params, (20.0,), truth)
    batch = json.loads((tmp_path / "frames/batch_00.json").read_text())
    batch["frames"][0]["name"] = "frame_9999.png"
    (tmp_path / "frames/batch_00.json").write_text(json.dumps(batch))
    with pytest.raises(KeyError):
        compare_with_truth(tmp_path, truth)


@pytest.mark.parametrize(("thing", "azimuth_deg"), [("basket", 124), ("stool", 90), ("mug", 90)])
def test_other_objects_have_openings(tmp_path: Path, thing: str, azimuth_deg: float) -> None:
    truth = take_photos(tmp_path, seed=2, photos=1, size_px=(64, 48), thing=thing)
    loaded = ToyGroundTruth.load(tmp_path / "truth.json")
    assert (loaded.thing, loaded.seed) == (truth.thing, truth.seed) == (thing, 2)
    (x, y, low), (far_x, far_y, high) = truth.bounds_m
    assert abs(low) < 1e-3
    a, e = np.radians([azimuth_deg, 12.0])
    eye = 0.6 * np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)]) + (0, 0, 0.06)
    camera = PosedCamera(160, 120, focal_px((160, 120)), look_at(eye, (0.0, 0.0, 0.06)))
    covered = truth.silhouette(camera) > 127
    corners = np.array([(u, v, w) for u in (x, far_x) for v in (y, far_y) for w in (low, high)])
    local = (corners - eye) @ camera.world_from_camera[:3, :3]
    columns = local[:, 0] / local[:, 2] * camera.focal_px + 80
    seen = np.flatnonzero(covered.any(0))
    assert columns.min() - 2 < seen[0] < columns.min() + 20
    assert columns.max() - 20 < seen[-1] < columns.max() + 2
    # what is background and does not hang together with the picture's border; under a stool it does
    count, labels = cv2.connectedComponents((~covered).astype(np.uint8), connectivity=4)
    inner = [int((labels == number).sum()) for number in range(1, count) if number != labels[0, 0]]
    if thing == "stool":
        rows = np.flatnonzero(covered.any(1))
        foot = covered[rows[-1] - 4]
        assert np.count_nonzero(np.diff(foot.astype(int)) == 1) >= 2, "legs"
    else:
        assert max(inner) > 40, "a hole"
