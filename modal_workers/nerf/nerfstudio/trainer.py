"""Training with nerfstudio's nerfacto, run as a program in its own environment."""

from __future__ import annotations

import json
import re
import shutil
import time
import zipfile
from pathlib import Path
from typing import Final

import numpy as np
import torch

from modal_workers.nerf.nerfstudio.commands import (
    SAVE_EVERY,
    evaluate_command,
    iterations,
    models_folder,
    require_nerfstudio,
    run_folder,
    run_program,
    train_command,
)
from modal_workers.nerf.nerfstudio.dataset_folder import write_folder
from modal_workers.nerf.nerfstudio.settings import NerfstudioSettings
from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.scene import TrainedScene
from modal_workers.nerf.stored_zip import write_zip
from modal_workers.nerf.training.dataset import HELD_OUT_EVERY, Dataset, read_dataset
from modal_workers.nerf.training.placement import Placement, find_placement
from modal_workers.nerf.training.segmentation.object_segmentation import bounds_of
from modal_workers.nerf.training.spec import TrainingReport
from modal_workers.nerf.training.trainer import TrainingOutcome
from modal_workers.runtime.context import StageContext

STATE: Final = "nerfstudio_state.zip"
MODEL: Final = "nerfstudio.zip"
#: Photos are read at this size, because only their poses are needed.
_THUMBNAIL_PX: Final = 64
_TABLE_GAP: Final = 0.015
_COMPLETE_AFTER_S: Final = 1.0
_MIN_POINTS: Final = 30
#: Progress line that nerfstudio prints every tenth step: step and percentage.
_STEP: Final = re.compile(r"^\s*(\d+) \((\d+(?:\.\d+)?)%\)")


class NerfstudioTrainer:
    """A ``Trainer``; it resumes from nerfstudio's newest checkpoint."""

    def __init__(self, settings: NerfstudioSettings | None = None) -> None:
        self._settings = settings or NerfstudioSettings()

    def train(self, dataset: Path, params: NerfParams, context: StageContext) -> TrainingOutcome:
        """Train on ``dataset.zip``.

        Raises:
            SaccadeError: BACKEND_NOT_INSTALLED, OUT_OF_MEMORY, WORKER_BROKEN; INVALID_PARAMETER, masks are missing.
        """
        home, work = self._settings.home, self._settings.work
        require_nerfstudio(home)
        began_s = time.monotonic()
        data, runs = work / "data", work / "runs"
        masked = write_folder(dataset, data, params)
        resumed = _resume(context.checkpoint(STATE), runs)
        kept = newest_step(runs)
        total = iterations(params)
        if kept < total - 1:
            saver = _CheckpointSaver(runs, context, kept)
            for line in run_program(train_command(home, data, runs, params, resume=resumed), work, saver.tick):
                if (found := _STEP.match(line)) is not None:
                    saver.step = int(found[1])
                    context.progress(min(0.97, 0.97 * saver.step / total), f"nerfacto: {saver.step} of {total}")
        psnr, ssim = _scores(home, runs, work, context)
        model = context.scratch / MODEL
        pack_run(run_folder(runs), model)
        dataset_photos = read_dataset(dataset, _THUMBNAIL_PX)
        training_photos = dataset_photos.photos
        placed = find_placement(
            np.stack([photo.world_from_camera for photo in training_photos]),
            dataset_photos.points,
            centre=None if dataset_photos.found is None else np.array(dataset_photos.found.chosen.centre),
            seed=params.seed,
        )
        scene = _scene(placed, params, dataset_photos)
        report = TrainingReport(
            backend="nerfstudio",
            device="cuda",
            preset=params.preset,
            photos=len(training_photos) - len(training_photos[::HELD_OUT_EVERY]),
            held_out=len(training_photos[::HELD_OUT_EVERY]),
            training_size_px=max(max(_size(data, name)) for name in sorted((data / "images").iterdir())[:1]),
            iterations=total,
            iterations_asked=total,
            stopped_early=False,
            splats=0,
            psnr_db=psnr if masked else None,
            ssim=ssim if masked else None,
            scene_psnr_db=None if masked else psnr,
            masks="given" if masked else "none",
            table_found=placed.table_z is not None,
            object_radius=round(scene.radius, 4),
            seconds=round(time.monotonic() - began_s, 1),
            resumed=int(resumed),
        )
        weights = models_folder(runs) / f"step-{newest_step(runs):09d}.ckpt"
        return TrainingOutcome(scene, report, model, weights)


class _CheckpointSaver:
    """Saves nerfstudio's newest checkpoint for the next run, once it is complete."""

    def __init__(self, runs: Path, context: StageContext, kept: int) -> None:
        self._runs, self._context, self._kept = runs, context, kept
        self._observed: tuple[int, int] = (-1, 0)
        self._observed_s = time.monotonic()
        self.step = 0

    def tick(self) -> None:
        """Look for a newer checkpoint; one that no longer grows is complete."""
        newest = newest_step(self._runs)
        if newest <= self._kept:
            return
        observed = newest, _bytes(models_folder(self._runs) / f"step-{newest:09d}.ckpt")
        if observed != self._observed:
            self._observed, self._observed_s = observed, time.monotonic()
        elif (
            time.monotonic() - self._observed_s >= _COMPLETE_AFTER_S
            and (run_folder(self._runs) / "config.yml").exists()
        ):
            path = self._context.scratch / STATE
            pack_run(run_folder(self._runs), path)
            self._context.keep(path, STATE)
            self._kept = newest


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # replaced by a newer one
        return 0


def newest_step(runs: Path) -> int:
    """Return the step of nerfstudio's newest checkpoint; -1 where there is none."""
    steps = [int(path.stem.removeprefix("step-")) for path in models_folder(runs).glob("step-*.ckpt")]
    return max(steps, default=-1)


def pack_run(folder: Path, path: Path) -> None:
    """Write a run's configuration and newest checkpoint into one ZIP."""
    newest = max((folder / "nerfstudio_models").glob("step-*.ckpt"), default=None)
    files = (folder / "config.yml", folder / "dataparser_transforms.json", newest)
    found = [file for file in files if file is not None and file.exists()]
    write_zip(path, ((file.relative_to(folder).as_posix(), file) for file in found))


def unpack_run(path: Path, runs: Path) -> None:
    """Restore a run at the path of its configuration."""
    folder = run_folder(runs)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)  # our own file, and zipfile keeps names inside of the folder


def _resume(kept: Path | None, runs: Path) -> bool:
    shutil.rmtree(runs, ignore_errors=True)
    if kept is None:
        return False
    unpack_run(kept, runs)
    return newest_step(runs) >= SAVE_EVERY


def _scores(home: Path, runs: Path, work: Path, context: StageContext) -> tuple[float, float]:
    output = work / "scores.json"
    for _ in run_program(evaluate_command(home, runs, output), work, lambda: context.progress(0.98, "held-out photos")):
        pass
    results = json.loads(output.read_text(encoding="utf-8"))["results"]
    return round(float(results["psnr"]), 3), round(float(results["ssim"]), 4)


def _scene(placed: Placement, params: NerfParams, dataset_photos: Dataset) -> TrainedScene:
    """Return the scene by the points of the object: nerfacto has no splats. With few points, the whole sphere."""
    points = placed.points(dataset_photos.points)
    gap = -np.inf if placed.table_z is None else placed.table_z + _TABLE_GAP
    bounds = bounds_of(dataset_photos.found, params.crop_radius, placed.table_z, placed.sfm_from_scene)
    within = bounds.contains(torch.from_numpy(points)).numpy()
    points = points[within & (points[:, 2] > gap)]
    centre, radius = np.zeros(3), bounds.radius
    if len(points) >= _MIN_POINTS:
        low, high = np.percentile(points, [2, 98], axis=0)
        centre = (low + high) / 2
        radius = min(radius, 1.15 * float(np.percentile(np.linalg.norm(points - centre, axis=1), 98)))
    moved = np.eye(4)
    moved[:3, 3] = centre
    centres = [placed.world_from_camera(photo.world_from_camera)[:3, 3] - centre for photo in dataset_photos.photos]
    cameras = np.array(centres)
    distance = float(np.median(np.linalg.norm(cameras, axis=1)))
    floor = None if placed.table_z is None else placed.table_z - float(centre[2])
    return TrainedScene(radius, distance, placed.elevations_deg, placed.sfm_from_scene @ moved, None, floor, cameras)


def _size(data: Path, image: Path) -> tuple[int, int]:
    transforms = json.loads((data / "transforms.json").read_text(encoding="utf-8"))
    frame = next(entry for entry in transforms["frames"] if entry["file_path"].endswith(image.name))
    return int({**transforms, **frame}["w"]), int({**transforms, **frame}["h"])
