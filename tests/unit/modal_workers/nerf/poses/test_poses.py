"""The poses stage with pycolmap: accuracy against the ground truth, stopping, kills and unusable photos."""

from __future__ import annotations

import io
import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.nerf.axis_conventions import OPENGL_FROM_OPENCV
from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.poses import job
from modal_workers.nerf.poses.colmap.database import read_match_counts
from modal_workers.nerf.poses.colmap.model_files import SparseModel, read_model
from modal_workers.nerf.poses.spec import PosesReport
from modal_workers.runtime.context import Stopped
from simulators.toy import photos as simulated
from simulators.toy.ground_truth import fit_similarity
from tests.harness.vision.textured_boxes import (
    DISTANCE,
    PosesContext,
    Shot,
    box_textures,
    camera_pose,
    context_with,
    dataset_of,
    photograph,
    ring,
    stop,
)

PARAMS, OF_AN_ARC = NerfParams(), NerfParams(ignore_verdict=True)  # an arc is refused otherwise


@pytest.fixture(scope="module")
def shots() -> list[Shot]:
    return ring(0)


@pytest.fixture(scope="module")
def done(shots: list[Shot], tmp_path_factory: pytest.TempPathFactory) -> tuple[PosesContext, PosesReport]:
    """Run the stage once on 36 photos with masks."""
    desk = context_with(tmp_path_factory.mktemp("poses") / "desk", shots, masks=True)
    return desk, job.run(PARAMS, desk)


def colmap_of(desk: PosesContext, folder: Path) -> SparseModel:
    folder.mkdir(exist_ok=True)
    for name in job.COLMAP:
        (folder / name).write_bytes(desk.saved[f"colmap/{name}"])
    return read_model(folder)


def test_cameras_are_within_half_a_percent_of_where_they_were(
    done: tuple[PosesContext, PosesReport], shots: list[Shot]
) -> None:
    desk, report = done
    assert (report.photos_given, report.photos_registered, report.not_registered) == (36, 36, [])
    assert (report.components, report.models, report.matcher) == (1, 1, "exhaustive")
    assert report.warnings == []
    assert report.attempts[-1].problem == ""
    assert report.reprojection_error_px < 0.5
    assert report.points > 1000
    assert report.focal_px == pytest.approx(380, rel=0.02)
    told = json.loads(dataset_of(desk).read("transforms.json"))
    found = np.array([np.array(frame["transform_matrix"]) @ OPENGL_FROM_OPENCV for frame in told["frames"]])
    true = np.array([shot.world_from_camera for shot in shots])
    assert [frame["file_path"] for frame in told["frames"]] == [f"images/{shot.name}" for shot in shots]
    laid = fit_similarity(found[:, :3, 3], true[:, :3, 3])
    moved = laid.scale * found[:, :3, 3] @ laid.rotation.T + laid.shift
    error = float(np.sqrt(((moved - true[:, :3, 3]) ** 2).sum(axis=1).mean())) / DISTANCE
    assert error <= 0.005, f"{error:.4f} of the orbit's radius"
    # without alignment, the world frame is the true one up to scale: z up, box at the origin, first camera at +x
    assert np.abs(found[:, :3, 3] - true[:, :3, 3] / DISTANCE).max() < 0.03
    assert np.abs(found[:, :3, :3] - true[:, :3, :3]).max() < 0.03
    assert report.camera_distance_median == pytest.approx(1.0)
    low, high = np.degrees((0.15, 0.45))
    assert (report.elevation_min_deg, report.elevation_max_deg) == (
        pytest.approx(low, abs=1),
        pytest.approx(high, abs=1),
    )


def test_colmap_s_files_and_the_dataset_say_the_same(done: tuple[PosesContext, PosesReport], tmp_path: Path) -> None:
    desk, report = done
    model = colmap_of(desk, tmp_path / "colmap")
    told = json.loads(desk.saved["dataset/transforms.json"])
    assert told == json.loads(dataset_of(desk).read("transforms.json"))
    assert [photo.name for photo in model.images] == [Path(frame["file_path"]).name for frame in told["frames"]]
    for photo, frame in zip(model.images, told["frames"], strict=True):
        assert np.allclose(np.array(frame["transform_matrix"]) @ OPENGL_FROM_OPENCV, photo.world_from_camera, atol=1e-9)
    points = np.load(io.BytesIO(dataset_of(desk).read("points.npz")))
    assert points["xyz"].dtype == np.float32
    assert points["rgb"].dtype == np.uint8
    assert len(points["xyz"]) == report.points == len(model.xyz)
    assert np.allclose(points["xyz"], model.xyz, atol=1e-6)
    # points are on the surface of the box
    assert np.percentile(np.abs(points["xyz"]) * DISTANCE, 99, axis=0) == pytest.approx([1.0, 0.8, 0.6], abs=0.05)
    ply = dataset_of(desk).read("sparse_pc.ply")
    assert ply.startswith(b"ply\nformat binary_little_endian 1.0\nelement vertex %d\n" % report.points)
    assert len(ply.partition(b"end_header\n")[2]) == 15 * report.points
    # pycolmap can read the three files; it runs in another process
    script = "import zlib, sys, pycolmap; m = pycolmap.Reconstruction(sys.argv[1]); "
    script += "print(m.num_reg_images(), m.num_points3D())"
    read = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "colmap"],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert read.stdout.split() == ["36", str(report.points)]
    assert "pycolmap" not in sys.modules


def test_undistorted_photos_and_masks_lie_over_each_other(done: tuple[PosesContext, PosesReport]) -> None:
    desk, _ = done
    archive = dataset_of(desk)
    told = json.loads(archive.read("transforms.json"))
    for frame in told["frames"][::9]:
        picture = cv2.imdecode(np.frombuffer(archive.read(frame["file_path"]), np.uint8), cv2.IMREAD_COLOR)
        mask = cv2.imdecode(np.frombuffer(archive.read(frame["mask_path"]), np.uint8), cv2.IMREAD_GRAYSCALE)
        assert picture.shape[:2] == mask.shape == (told["h"], told["w"])
        wall = (np.abs(picture.astype(int) - 235).max(axis=2) < 12).astype(np.uint8)
        edge = cv2.dilate((mask > 127).astype(np.uint8), np.ones((5, 5))) - cv2.erode(
            (mask > 127).astype(np.uint8), np.ones((5, 5))
        )
        wrong = (wall == (mask > 127)) & (edge == 0)
        assert wrong.mean() < 0.01


def test_progress_only_goes_forward_and_counts_photos(done: tuple[PosesContext, PosesReport]) -> None:
    fractions = [fraction for fraction, _ in done[0].told]
    assert fractions == sorted(fractions)
    assert fractions[-1] < 1
    said = [message for _, message in done[0].told]
    assert "features of 8 of 36 photos" in said
    assert [f"{count} of 36 photos registered" for count in range(2, 37)] == [
        text for text in said if "registered" in text
    ]


def test_a_lost_run_goes_on_from_its_matches_and_ends_with_the_same_bytes(
    done: tuple[PosesContext, PosesReport], tmp_path: Path
) -> None:
    first, _ = done
    desk = PosesContext(tmp_path)
    desk.kept = {name: first.kept[name] for name in ("capture.zip", "poses_search.json", "poses_features_0.db")}
    desk.begin()
    job.run(PARAMS, desk)
    assert not [message for _, message in desk.told if "features" in message or "matched" in message]
    assert desk.kept["dataset.zip"].read_bytes() == first.kept["dataset.zip"].read_bytes()
    assert desk.saved == first.saved
    # a run that was killed after its last write only returns the stored report
    desk.begin()
    desk.saved.clear()
    assert job.run(PARAMS, desk) == PosesReport.model_validate_json(desk.kept["poses.json"].read_text())
    assert desk.told == []
    assert desk.saved == first.saved


@pytest.fixture(scope="module")
def arc() -> list[Shot]:
    """Render twelve small photos from a quarter of a circle."""
    textures = box_textures(0)
    return [photograph(textures, f"{at:04d}_box.jpg", camera_pose(0.15 * at, 0.3), (240, 180)) for at in range(12)]


@pytest.fixture(scope="module")
def undisturbed(arc: list[Shot], tmp_path_factory: pytest.TempPathFactory) -> tuple[PosesContext, float]:
    """Run the whole stage on them, and return how long it took."""
    desk = context_with(tmp_path_factory.mktemp("poses") / "undisturbed", arc)
    began_s = time.monotonic()
    assert job.run(OF_AN_ARC, desk).photos_registered == 12
    return desk, time.monotonic() - began_s


@pytest.fixture(scope="module")
def with_strangers(arc: list[Shot], tmp_path_factory: pytest.TempPathFactory) -> tuple[PosesContext, PosesReport]:
    """Run the whole stage on the same twelve photos again, with four of noise behind them."""
    random = np.random.default_rng(4)
    strangers = [random.integers(0, 256, (180, 240, 3), dtype=np.uint8) for _ in range(4)]
    odd = [Shot(f"9{place:03d}_odd.jpg", picture, arc[0].mask, np.eye(4)) for place, picture in enumerate(strangers)]
    desk = context_with(tmp_path_factory.mktemp("poses") / "strangers", [*arc, *odd], ordered=False)
    return desk, job.run(OF_AN_ARC, desk)


@pytest.mark.soak
def test_two_whole_runs_find_the_same_features_and_matches_byte_by_byte(
    undisturbed: tuple[PosesContext, float], with_strangers: tuple[PosesContext, PosesReport]
) -> None:
    """Mapping and export of the same database give the same bytes: the test of a lost run compares them."""
    first, again = (stored_rows(desk.kept["poses_features_0.db"], 12) for desk, _ in (undisturbed, with_strangers))
    assert [len(rows) for rows in first.values()] == [12, 12, 66, 66]
    assert first == again


def stored_rows(database: Path, photos: int) -> dict[str, list[tuple[object, ...]]]:
    """Return what is stored of the first photos and of their pairs."""
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        rows = {
            table: connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()
            for table in ("keypoints", "descriptors", "matches", "two_view_geometries")
        }
    # A pair's id is the first photo's times 2**31 - 1 and the second's; ids count from 1.
    return {
        table: [row for row in found if row[0] % 2147483647 <= photos and row[0] // 2147483647 <= photos]
        for table, found in rows.items()
    }


@pytest.mark.share(every=2)
@pytest.mark.parametrize("step", ["features", "matched", "registered", "undistorting"])
def test_a_stop_ends_every_step_at_once(
    step: str, done: tuple[PosesContext, PosesReport], shots: list[Shot], tmp_path: Path
) -> None:
    first, _ = done
    desk = context_with(tmp_path, shots[:12] if step == "matched" else shots)
    if step in ("registered", "undistorting"):
        desk.kept |= {name: first.kept[name] for name in ("poses_search.json", "poses_features_0.db")}
    asked_s: list[float] = []

    def at_check() -> None:
        if desk.told and step in desk.told[-1][1]:
            asked_s.append(time.monotonic())
            stop()

    desk.at_check = at_check
    before = set(children())
    with pytest.raises(Stopped):
        job.run(PARAMS, desk)
    assert time.monotonic() - asked_s[0] < 2.0
    assert set(children()) <= before
    assert not {"dataset.zip", "poses.json"} & set(desk.kept)
    assert desk.saved == {}


def children() -> Iterator[int]:
    """Return our child processes."""
    for path in Path("/proc/self/task").glob("*/children"):
        yield from (int(number) for number in path.read_text().split())


# unusable photos


def alike(pictures: list[np.ndarray]) -> list[Shot]:
    """Return shots of images without a true pose."""
    return [
        Shot(f"{number:04d}_x.jpg", picture, np.full(picture.shape[:2], 255, np.uint8), np.eye(4))
        for number, picture in enumerate(pictures)
    ]


def rubbish(case: str, shots: list[Shot]) -> list[Shot]:
    random = np.random.default_rng(3)
    small = [cv2.resize(shot.picture, (160, 120), interpolation=cv2.INTER_AREA) for shot in shots]
    match case:
        case "one":
            return shots[:1]
        case "five blurred":
            return alike([cv2.GaussianBlur(picture, (0, 0), 9) for picture in small[:5]])
        case "nine blurred":
            return alike([cv2.GaussianBlur(picture, (0, 0), 9) for picture in small[:9]])
        case "six identical":
            return alike(small[:1] * 6)
        case "nine identical":
            return alike(small[:1] * 9)
        case "noise":
            return alike([random.integers(0, 256, (180, 240, 3), dtype=np.uint8) for _ in range(9)])
        case _:
            raise ValueError(case)


@pytest.mark.share(every=2)
@pytest.mark.parametrize(
    ("case", "word"),
    [
        ("one", "One photo"),
        ("five blurred", "5 photos"),
        ("nine blurred", "blurred"),
        ("six identical", "6 photos"),
        ("nine identical", "same picture"),
        ("noise", "share nothing"),
    ],
)
def test_rubbish_is_refused_with_a_reason(case: str, word: str, shots: list[Shot], tmp_path: Path) -> None:
    desk = context_with(tmp_path, rubbish(case, shots))
    with pytest.raises(SaccadeError) as told:
        job.run(PARAMS, desk)
    assert told.value.code is ErrorCode.POSES_NOT_FOUND
    assert word in told.value.message
    assert told.value.hint
    assert desk.saved == {}
    # a retry raises the same error and repeats no step
    desk.begin()
    with pytest.raises(SaccadeError) as again:
        job.run(PARAMS, desk)
    assert again.value.body() == told.value.body()
    assert desk.told == []


def test_two_things_are_no_scene(tmp_path: Path) -> None:
    both = [
        photograph(box_textures(seed), f"{seed}{step:03d}.jpg", camera_pose(0.5 + 0.1 * step, 0.3), (240, 180))
        for seed in (3, 4)
        for step in range(9)
    ]
    with pytest.raises(SaccadeError) as told:
        job.run(PARAMS, context_with(tmp_path, both))
    assert told.value.code is ErrorCode.POSES_SPLIT
    assert "9 and 9" in told.value.message


@pytest.mark.soak
def test_a_ring_of_too_wide_steps_climbs_the_ladder_and_is_refused(tmp_path: Path) -> None:
    desk = context_with(tmp_path, ring(0, 18, rings=(0.45,), size=(240, 180))[:12])
    with pytest.raises(SaccadeError) as told:
        job.run(PARAMS, desk)
    assert told.value.code in (ErrorCode.POSES_SPLIT, ErrorCode.POSES_NOT_FOUND)
    attempts = json.loads(desk.kept["poses_search.json"].read_text())["attempts"]
    assert len(attempts) == 3
    assert all(attempt["problem"] for attempt in attempts)


@pytest.mark.soak
def test_strangers_among_the_photos_are_named_and_left_out(with_strangers: tuple[PosesContext, PosesReport]) -> None:
    _, report = with_strangers
    assert report.not_registered == ["IMG_12.jpg", "IMG_13.jpg", "IMG_14.jpg", "IMG_15.jpg"]
    assert report.photos_registered == 12
    assert "IMG_12.jpg" in report.warnings[0]


@pytest.mark.soak
def test_a_turntable_before_a_room_is_refused_and_not_believed(tmp_path: Path) -> None:
    simulated.take_photos(tmp_path / "photos", photos=12, flaws=simulated.Flaws(turntable=True))
    pictures = [cv2.imread(str(path)) for path in sorted((tmp_path / "photos").glob("*.jpg"))]
    with pytest.raises(SaccadeError) as told:
        job.run(PARAMS, context_with(tmp_path / "desk", alike(pictures)))
    assert told.value.code is ErrorCode.POSES_NOT_FOUND
    assert "stands still" in told.value.message


@pytest.fixture(scope="module")
def close_shots() -> list[Shot]:
    """Render photos at steps of 12 degrees, small ones."""
    return ring(0, 60, size=(160, 120))


@pytest.mark.share(every=2)
@pytest.mark.parametrize("asked", ["sequential", "vocabulary"])
def test_fewer_pairs_find_the_same_cameras(asked: str, close_shots: list[Shot], tmp_path: Path) -> None:
    desk = context_with(tmp_path, close_shots)
    report = job.run(NerfParams(matcher=asked), desk)  # type: ignore[arg-type]
    assert report.photos_registered == 60
    assert [attempt.matcher for attempt in report.attempts] == [asked]
    assert report.attempts[0].pairs < 60 * 59 / 2 / 2
    # All pairs that were matched, those without a match too.
    files = [f"{number:04d}.jpg" for number in range(60)]
    tried = read_match_counts(desk.kept["poses_features_0.db"].absolute(), files).tried
    assert tried.sum() / 2 < 60 * 59 / 2 / 2


@pytest.mark.soak
def test_a_stop_at_any_moment_leaves_nothing_behind(
    arc: list[Shot], undisturbed: tuple[PosesContext, float], soak_runs: int, seed: int, tmp_path: Path
) -> None:
    """Stop a job three times, then let it end: as one that nobody stopped."""
    expected, whole_s = undisturbed
    random, before = np.random.default_rng(seed), set(children())
    for round_ in range(max(1, soak_runs // 6)):
        desk = context_with(tmp_path / str(round_), arc)
        for _ in range(3):
            asked = threading.Event()
            timer = threading.Timer(float(random.uniform(0.0, whole_s)), asked.set)
            desk.at_check = lambda asked=asked: stop() if asked.is_set() else None
            timer.start()
            try:
                job.run(OF_AN_ARC, desk)
            except Stopped:
                assert "poses.json" not in desk.kept, f"seed {seed}, round {round_}"
            timer.cancel()
            assert set(children()) <= before, f"seed {seed}, round {round_}"
            desk.begin()
        desk.at_check = lambda: None
        assert job.run(OF_AN_ARC, desk).photos_registered == 12, f"seed {seed}, round {round_}"
        assert desk.saved == expected.saved, f"seed {seed}, round {round_}"
        assert desk.kept["dataset.zip"].read_bytes() == expected.kept["dataset.zip"].read_bytes()
