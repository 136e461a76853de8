"""Training: segmentation of the object, bit-exact resumption after a kill, masks, presets, errors on bad input.

The photos are of a box and a ball on a patterned table (ray_traced_capture.py); poses are the true ones, in the
coordinates of structure from motion.
"""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.gaussians.densification import splats_from_points
from modal_workers.gaussians.ply import decode_ply
from modal_workers.nerf.found_object import BackgroundFigures, FoundObject, ObjectChoice
from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.scene import TrainedScene
from modal_workers.nerf.training import job
from modal_workers.nerf.training.checkpoints import load_state, save_state
from modal_workers.nerf.training.dataset import read_dataset
from modal_workers.nerf.training.exposure import ExposureGains, exposure_varies
from modal_workers.nerf.training.history import TrainingHistory
from modal_workers.nerf.training.placement import find_placement
from modal_workers.nerf.training.presets import schedule_for
from modal_workers.nerf.training.segmentation.object_segmentation import bounds_of, segment_photo
from modal_workers.nerf.training.spec import TrainingReport
from modal_workers.nerf.training.splat_trainer import STATE, SplatTrainer
from modal_workers.runtime.jobs.failure import classify
from tests.harness.vision.ray_traced_capture import (
    CENTRE,
    DISTANCE,
    SCALE,
    SHIFT,
    TURN,
    from_sfm,
    ring,
    trace,
    write_dataset,
)
from tests.harness.vision.stage_context import CrashingContext, FolderContext, Killed

SMALL = NerfParams(preset="draft", iterations=60, max_splats=600, training_size_px=64)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a dataset without masks."""
    return write_dataset(tmp_path_factory.mktemp("plain") / "dataset.zip", ring(16, 48))


@pytest.fixture(scope="session")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the same dataset with the true masks."""
    return write_dataset(tmp_path_factory.mktemp("masked") / "dataset.zip", ring(16, 48), masks=True)


def desk_with(folder: Path, dataset: Path) -> FolderContext:
    folder.mkdir(parents=True, exist_ok=True)
    desk = FolderContext(folder)
    shutil.copyfile(dataset, desk.kept / "dataset.zip")
    return desk


def test_the_object_is_cut_out_and_shown_from_where_no_photo_was_trained_on(plain: Path, tmp_path: Path) -> None:
    desk = desk_with(tmp_path, plain)
    report = job.run(SMALL.model_copy(update={"iterations": 140}), desk)
    assert report.table_found
    assert report.masks == "found"
    assert (report.photos, report.held_out) == (14, 2)
    assert report.iterations == report.iterations_asked == 140
    assert report.splats <= 600
    assert report.psnr_db is not None
    assert report.psnr_db > 17
    assert [point.iteration for point in report.curve] == sorted({point.iteration for point in report.curve})
    assert report.curve[-1].psnr_db > report.curve[0].psnr_db + 1

    scene = TrainedScene.load(desk.kept / "scene.npz")
    middle = from_sfm(scene.sfm_from_scene)[:3, 3]
    assert np.linalg.norm(middle - CENTRE) < 0.03
    assert abs(np.cbrt(np.linalg.det(scene.sfm_from_scene[:3, :3])) / SCALE - DISTANCE) < 0.02
    # the objects have a radius of 0.165 m; cameras are 0.8 m away; a pixel is 0.01 m
    assert 0.2 < scene.radius < 0.36
    assert np.allclose(scene.captured_elevations_deg, (22, 45), atol=2.5)


def test_what_it_leaves_is_what_others_read(plain: Path, tmp_path: Path) -> None:
    desk = desk_with(tmp_path, plain)
    report = job.run(SMALL, desk)
    scene = TrainedScene.load(desk.kept / "scene.npz")
    assert scene.splats is not None
    assert len(decode_ply(desk.saved / "model/splat.ply")) == len(scene.splats) == report.splats
    config = json.loads((desk.saved / "model/config.json").read_text())
    assert config["parameters"] == SMALL.model_dump(mode="json")
    assert np.allclose(config["frame"]["poses_from_model"], scene.sfm_from_scene)
    assert TrainingReport.model_validate_json((desk.kept / "training.json").read_bytes()) == report
    assert max(fraction for fraction, _ in desk.told) == 1.0
    told = [fraction for fraction, _ in desk.told]
    assert told == sorted(told)
    # a run after the end repeats nothing
    (desk.kept / "dataset.zip").unlink()
    assert job.run(SMALL, desk) == report


@pytest.mark.parametrize("seed", [1])
def test_a_run_that_is_killed_again_and_again_ends_bit_by_bit_as_one_that_was_not(
    plain: Path, tmp_path: Path, seed: int
) -> None:
    params = SMALL.model_copy(update={"iterations": 50, "seed": seed})
    whole = desk_with(tmp_path / "whole", plain)
    expected = job.train(params, whole, SplatTrainer(keep_every_s=0.0))
    chance = random.Random(seed)
    folder, deaths = tmp_path / "killed", 0
    desk_with(folder, plain)
    while True:
        desk = CrashingContext(folder)
        desk.fuse = chance.randint(5, 70) if deaths < 5 else 10**9
        try:
            report = job.train(params, desk, SplatTrainer(keep_every_s=0.0))
            break
        except Killed:
            deaths += 1
    print(f"seed {seed}: {deaths} deaths, resumed {report.resumed}")
    assert deaths >= 2
    assert (folder / "kept" / "scene.npz").read_bytes() == (whole.kept / "scene.npz").read_bytes()
    assert (folder / "saved/model/splat.ply").read_bytes() == (whole.saved / "model/splat.ply").read_bytes()
    same = {"seconds", "resumed"}
    assert report.model_dump(exclude=same) == expected.model_dump(exclude=same)
    assert 1 <= report.resumed <= deaths


def test_given_masks_spare_the_first_fit_and_give_a_sharp_outline(masked: Path, tmp_path: Path) -> None:
    desk = desk_with(tmp_path, masked)
    report = job.run(SMALL.model_copy(update={"iterations": 150}), desk)
    assert report.masks == "given"
    assert report.scene_psnr_db is None
    assert not (desk.kept / "training_masks.npz").exists()
    scene = TrainedScene.load(desk.kept / "scene.npz")
    assert scene.splats is not None
    from modal_workers.gaussians.camera import Camera
    from modal_workers.gaussians.rasterize import rasterize

    unit = np.cbrt(np.linalg.det(scene.sfm_from_scene[:3, :3]))
    overlaps = []
    for view in ring(4, 48, elevations_deg=(33.0,)):
        pose = np.eye(4)
        pose[:3, :3] = TURN @ view.world_from_camera[:3, :3]
        pose[:3, 3] = SCALE * TURN @ view.world_from_camera[:3, 3] + SHIFT
        pose = np.linalg.inv(scene.sfm_from_scene) @ pose
        pose[:3, :3] *= unit
        camera = Camera(48, 48, view.focal_px, view.focal_px, 24, 24)
        drawn = rasterize(scene.splats, camera, torch.from_numpy(np.linalg.inv(pose)).float())
        alpha, truth = drawn.alpha[..., 0].numpy() > 0.5, trace(view)[1] > 0.5
        overlaps.append((alpha & truth).sum() / (alpha | truth).sum())
    # one more pixel on all sides would give 0.75
    assert min(overlaps) > 0.86


def test_colours_sharpen_an_outline_that_the_splats_show_a_little_beside() -> None:
    rows, columns = np.mgrid[:96, :96]
    truth = np.hypot(rows - 48, columns - 50) < 26
    generator = np.random.default_rng(4)
    picture = np.where(truth[..., None], (190, 60, 50), (60, 110, 130)) + generator.normal(0, 12, (96, 96, 3))
    # alpha of the splats: soft, shifted by two pixels, with floaters
    shown = 1 / (1 + np.exp(np.hypot(rows - 47, columns - 48.3) - 26))
    shown[5:8, 5:8] = 0.9
    mask = segment_photo(shown.astype(np.float32), picture.clip(0, 255).astype(np.uint8), seed=3)
    assert mask[5:8, 5:8].max() == 0
    assert mask[44:52, 44:52].min() == 255

    def overlap(found: np.ndarray) -> float:
        return float((found & truth).sum() / (found | truth).sum())

    assert overlap(mask > 127) > overlap(shown > 0.5) + 0.03
    assert overlap(mask > 127) > 0.95
    assert segment_photo(np.zeros((96, 96), np.float32), picture.astype(np.uint8)).max() == 0


def test_few_photos_are_all_trained_on_and_nothing_is_said_of_what_was_not_looked_at(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset.zip", ring(6, 48, elevations_deg=(30.0,)), masks=True)
    report = job.run(SMALL.model_copy(update={"iterations": 50}), desk_with(tmp_path / "desk", dataset))
    assert (report.photos, report.held_out, report.iterations) == (6, 0, 50)
    assert (report.psnr_db, report.ssim, report.curve) == (None, None, ())


def test_masks_that_were_asked_for_and_are_missing_are_told(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(SaccadeError) as caught:
        job.run(SMALL.model_copy(update={"background": "masks"}), desk_with(tmp_path, plain))
    assert caught.value.code is ErrorCode.INVALID_PARAMETER


def test_an_object_that_is_outside_of_the_sphere_is_told_and_not_invented(plain: Path, tmp_path: Path) -> None:
    params = SMALL.model_copy(update={"crop_radius": 0.002})
    with pytest.raises(SaccadeError) as caught:
        job.run(params, desk_with(tmp_path, plain))
    assert caught.value.code is ErrorCode.INPUT_UNREADABLE
    assert "crop_radius" in str(caught.value.body().hint)


def test_a_gpu_that_is_too_small_is_known_for_that(plain: Path, tmp_path: Path) -> None:
    class Small:
        def train(self, *_: object) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    with pytest.raises(torch.OutOfMemoryError) as caught:
        job.train(SMALL, desk_with(tmp_path, plain), Small())
    assert classify(caught.value)[0] == "out_of_memory"


def test_the_table_and_the_middle_are_found_whatever_the_coordinates_are(plain: Path) -> None:
    dataset = read_dataset(plain, 40)
    assert {max(view.camera.width_px, view.camera.height_px) for view in dataset.photos} == {40}
    poses = np.stack([view.world_from_camera for view in dataset.photos])
    placed = find_placement(poses, dataset.points)
    assert placed.table_z is not None
    assert abs(placed.table_z * DISTANCE + CENTRE[2]) < 0.003
    up = TURN.T @ placed.sfm_from_scene[:3, 2]
    assert np.degrees(np.arccos(up[2] / np.linalg.norm(up))) < 0.5
    first = placed.world_from_camera(poses[0])[:3, 3]
    assert first[0] > 0
    assert abs(first[1]) < 1e-9
    no_table = find_placement(
        poses, np.random.default_rng(3).normal(size=(400, 3)) * 1.5 + placed.sfm_from_scene[:3, 3]
    )
    assert no_table.table_z is None


def test_the_bounds_are_the_box_that_was_found_in_front_of_the_walls_behind_it() -> None:
    box = ObjectChoice(name="object", centre=(1.0, 0.0, 0.0), size=(0.4, 0.2, 0.2), points=50, standing=1.0, margin=1.0)
    wall = BackgroundFigures(normal=(0.0, 1.0, 0.0), height=-0.05, gap=0.01, level=False)
    floor = BackgroundFigures(normal=(0.0, 0.0, 1.0), height=-0.05, gap=0.01, level=True)
    found = FoundObject(source="cameras", confidence=0.9, choices=(box,), background=(wall, floor))
    poses_from_scene = np.diag([2.0, 2.0, 2.0, 1.0])
    poses_from_scene[:3, 3] = box.centre
    bounds = bounds_of(found, None, None, poses_from_scene)
    assert bounds.radius == pytest.approx(1.15 * box.radius / 2)
    inside = bounds.contains(
        torch.tensor([[0.0, 0, 0], [0.09, 0, 0.04], [0.2, 0, 0], [0.0, 0, -0.04], [0.0, -0.04, 0]], dtype=torch.float32)
    )
    assert inside.tolist() == [True, True, False, True, False], "the wall cuts, the floor is the table of the scene"
    # A radius that is asked for is a sphere around the object; without an object there is the sphere as before.
    assert bounds_of(found, 0.3, -0.1, poses_from_scene).box is None
    assert bounds_of(found, 0.3, -0.1, poses_from_scene).radius == 0.3
    nothing = found.model_copy(update={"choices": (box.model_copy(update={"name": "all_around"}),)})
    for unknown in (None, nothing):
        assert bounds_of(unknown, None, None, poses_from_scene).radius == 0.45


def test_cameras_that_all_look_the_same_way_are_told() -> None:
    poses = np.tile(np.eye(4), (8, 1, 1))
    poses[:, 0, 3] = np.arange(8)
    with pytest.raises(SaccadeError) as caught:
        find_placement(poses, np.zeros((50, 3)))
    assert caught.value.code is ErrorCode.INPUT_UNREADABLE


def test_a_photo_that_was_exposed_more_gets_its_gain_back() -> None:
    gains = ExposureGains(3, torch.zeros(1))
    light = torch.tensor([0.3, 0.5, 0.4])
    seen = [light, light * 1.5, light / 1.5]
    for number in range(1500):
        photo = number % 3
        (light * gains.factors(photo) - seen[photo]).abs().sum().backward()
        gains.step(photo)
    ratio = (gains.factors(1) / gains.factors(2)).detach()
    assert torch.allclose(ratio, torch.full((3,), 2.25), rtol=0.05)
    assert exposure_varies(torch.tensor([60.0, 120.0, 90.0]))
    assert not exposure_varies(torch.tensor([100.0, 101.0, 99.0]))


def test_presets_are_the_device_s_and_what_the_user_sets_goes_first() -> None:
    assert schedule_for(NerfParams(), "gpu").iterations == 15_000
    assert schedule_for(NerfParams(), "cpu").iterations < 5_000
    own = schedule_for(NerfParams(iterations=77, max_splats=600, training_size_px=96), "gpu")
    assert (own.iterations, own.max_splats, own.size_px, own.scene_size_px) == (77, 600, 96, 96)


def test_state_comes_back_bit_by_bit(tmp_path: Path) -> None:
    state = {"a": {"b": torch.randn(3, 2), "c": torch.tensor(7)}, "d": np.array([1.5, np.nan])}
    save_state(tmp_path / STATE, state)
    back = load_state(tmp_path / STATE, torch.device("cpu"))
    assert torch.equal(back["a"]["b"], state["a"]["b"])
    assert int(back["a"]["c"]) == 7
    assert np.array_equal(back["d"].numpy(), state["d"], equal_nan=True)


def test_training_stops_when_held_out_photos_are_not_shown_better_any_more_and_gives_the_best() -> None:
    history = TrainingHistory()
    history.enter_object(10)
    splats = [
        splats_from_points(torch.full((3 + number, 3), float(number)), torch.zeros(3 + number, 3), 0.1, 0.5)
        for number in range(8)
    ]
    # no decision while splats are still added
    assert not history.record(10, splats[0], (30.0, 0.9), settled=False)
    scores = [24.0, 25.0, 25.02, 24.9, 25.01]
    stops = [
        history.record(20 + number, splats[1 + number], (psnr_db, 0.9), settled=True)
        for number, psnr_db in enumerate(scores)
    ]
    assert stops == [False, False, False, False, True]
    assert history.stopped_early
    assert len(history.best(splats[7])) == len(splats[3]), "of 25.02 dB"
    back = TrainingHistory()
    back.restore(
        {name: torch.as_tensor(value) if name != "best" else value for name, value in history.state(1.0).items()}
    )
    assert len(back.best(splats[7])) == len(splats[3])
    assert back.curve == history.curve


def test_small_rises_of_the_score_add_up() -> None:
    history, splats = TrainingHistory(), splats_from_points(torch.zeros(3, 3), torch.zeros(3, 3), 0.1, 0.5)
    history.enter_object(10)
    # 0.04 dB a score are 0.08 in two: PSNR still rises. The last three scores together stay below 0.05.
    scores = [24.0, 24.04, 24.08, 24.12, 24.16, 24.17, 24.18, 24.2]
    stops = []
    for number, psnr_db in enumerate(scores):
        stops.append(history.record(20 + number, splats, (psnr_db, 0.9), settled=True))
        resumed = TrainingHistory()
        resumed.restore({name: value for name, value in history.state(1.0).items() if name != "best"})
        history = resumed
    assert stops == [*[False] * 7, True]


def test_a_history_from_before_the_score_that_has_risen_was_stored_can_be_read() -> None:
    history, splats = TrainingHistory(), splats_from_points(torch.zeros(3, 3), torch.zeros(3, 3), 0.1, 0.5)
    history.enter_object(10)
    history.record(20, splats, (24.0, 0.9), settled=True)
    state = history.state(1.0)
    back = TrainingHistory()
    back.restore({"figures": state["figures"][:7], "curve": state["curve"]})
    assert [back.record(30, splats, (24.04, 0.9), settled=True) for _ in range(3)] == [False, False, True]
