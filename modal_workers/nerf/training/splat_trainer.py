"""Trains Gaussian splats: gsplat on CUDA, our own rasteriser on a CPU, everything else the same.

Without masks there are two fits. The first is of the whole scene and gives every photo a mask. The second is of the
object alone, against a background of another colour at every step, so that alpha is learned too.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.gaussians.splats import Splats
from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.training.checkpoints import load_state, save_state
from modal_workers.nerf.training.dataset import HELD_OUT_EVERY, Dataset, read_dataset
from modal_workers.nerf.training.exposure import exposure_varies
from modal_workers.nerf.training.fitting import FitConfig, Fitting, TargetImage
from modal_workers.nerf.training.history import TrainingHistory
from modal_workers.nerf.training.initialization import initial_object_splats, initial_scene_splats
from modal_workers.nerf.training.placement import Placement, find_placement
from modal_workers.nerf.training.presets import TrainingSchedule, schedule_for
from modal_workers.nerf.training.quality import crop_to_object, score_held_out
from modal_workers.nerf.training.segmentation.background_removal import (
    belongs_to_object,
    centred_scene,
    remove_background,
)
from modal_workers.nerf.training.segmentation.object_segmentation import bounds_of, object_masks
from modal_workers.nerf.training.segmentation.outline_agreement import outline_agreement
from modal_workers.nerf.training.segmentation.table_model import TableModel, build_table_model, mark_ambiguous_pixels
from modal_workers.nerf.training.spec import TrainingReport
from modal_workers.nerf.training.splat_visibility import visible_in
from modal_workers.nerf.training.trainer import TrainingOutcome
from modal_workers.runtime.context import StageContext

Bytes = NDArray[np.uint8]

STATE: Final = "training_state.npz"
MASKS: Final = "training_masks.npz"
KEEP_EVERY_S: Final = 40.0
_SCORED: Final = 12
#: With fewer masks than this share of the photos, none is used.
_MASKED_SHARE: Final = 0.6
#: Radius of the table model over that of the object: low photos show the table far behind its top.
_TABLE_REACH: Final = 2.0


class SplatTrainer:
    """A ``Trainer`` that can be stopped after every step."""

    def __init__(self, device: torch.device | None = None, *, keep_every_s: float = KEEP_EVERY_S) -> None:
        """Train on CUDA where available, unless a device is given."""
        self._checkpoint_every_s = keep_every_s
        self._device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def train(self, dataset: Path, params: NerfParams, context: StageContext) -> TrainingOutcome:
        """Train on ``dataset.zip``, resuming from the checkpoint of an earlier run.

        Raises:
            SaccadeError: INPUT_UNREADABLE, INVALID_PARAMETER: the photos or their masks are not suitable.
        """
        schedule = schedule_for(params, "gpu" if self._device.type == "cuda" else "cpu")
        photos = read_dataset(dataset, schedule.size_px)
        return _Training(photos, params, schedule, context, self._device, keep_every_s=self._checkpoint_every_s).run()


class _Training:
    """One training, from the photos to the object."""

    def __init__(
        self,
        dataset: Dataset,
        params: NerfParams,
        schedule: TrainingSchedule,
        context: StageContext,
        device: torch.device,
        *,
        keep_every_s: float,
    ) -> None:
        self._checkpoint_every_s = keep_every_s
        self._params, self._schedule, self._context, self._device = params, schedule, context, device
        poses = np.stack([photo.world_from_camera for photo in dataset.photos])
        centre = None if dataset.found is None else np.array(dataset.found.chosen.centre)
        self._placement: Placement = find_placement(poses, dataset.points, centre=centre, seed=params.seed)
        self._targets = [self._target(dataset, index) for index in range(len(dataset.photos))]
        self._masks_given = self._masks_are_given()
        found = None if self._masks_given else dataset.found
        self._bounds = bounds_of(found, params.crop_radius, self._placement.table_z, self._placement.sfm_from_scene)
        self._points = torch.from_numpy(self._placement.points(dataset.points)).to(device, torch.float32)
        self._colours = torch.from_numpy(dataset.colours).to(device, torch.float32) / 255
        self._began_s = time.monotonic()
        self._checkpointed_s = self._began_s
        self._history = TrainingHistory()
        self._table: TableModel | None = None
        brightness = torch.tensor([float(target.image.float().mean()) for target in self._targets])
        self._gains = len(self._targets) > 1 and exposure_varies(brightness)

    def run(self) -> TrainingOutcome:
        """Run what an earlier run has not finished."""
        state = self._restore()
        first = self._schedule.scene_iterations(masks=self._masks_given)
        if not self._masks_given:
            masks = self._restore_masks()
            if masks is None:
                masks = self._find_masks(self._fit(self._scene_fit(first), state))
            self._targets = [
                replace(target, mask=torch.from_numpy(mask[..., None]).to(self._device))
                for target, mask in zip(self._targets, masks, strict=True)
            ]
            self._mark_ambiguous_pixels()
        object_state = state if self._history.phase == 1 else None
        self._history.enter_object(first)
        fitted = self._fit(self._object_fit(self._schedule.iterations - first), object_state)
        return self._outcome(fitted)

    def _target(self, dataset: Dataset, index: int) -> TargetImage:
        photo = dataset.photos[index]
        pose = np.linalg.inv(self._placement.world_from_camera(photo.world_from_camera))
        mask = None if photo.mask is None else torch.from_numpy(photo.mask[..., None]).to(self._device)
        image = torch.from_numpy(photo.image).to(self._device)
        return TargetImage(photo.camera, torch.from_numpy(pose).to(self._device, torch.float32), image, mask, index)

    def _masks_are_given(self) -> bool:
        """Return whether the given masks are used; photos without one are then left out.

        Raises:
            SaccadeError: INVALID_PARAMETER, masks were requested and there are too few.
        """
        masked = [target for target in self._targets if target.mask is not None]
        enough = len(masked) >= max(3, _MASKED_SHARE * len(self._targets))
        wanted = self._params.background
        if wanted == "masks" and not enough:
            raise SaccadeError(
                ErrorCode.INVALID_PARAMETER,
                f"background is masks, but only {len(masked)} of {len(self._targets)} photos have one.",
                hint="Send a mask for each photo, or leave background at auto.",
            )
        if wanted == "sphere" or not enough:
            self._targets = [replace(target, mask=None) for target in self._targets]
            return False
        self._targets = masked
        return True

    def _held_out(self, target: TargetImage) -> bool:
        return len(self._targets) >= HELD_OUT_EVERY and target.photo % HELD_OUT_EVERY == 0

    def _scene_fit(self, iterations: int) -> tuple[Fitting, list[TargetImage]]:
        small = self._schedule.scene_size_px / self._schedule.size_px
        targets = [target.scaled(small) for target in self._targets]
        trained = [target for target in targets if not self._held_out(target)]
        cap = min(self._schedule.max_splats, 200_000)
        seeds = initial_scene_splats(
            self._points, self._colours, trained, self._bounds, at_most=cap // 3, seed=self._params.seed
        )
        fit = FitConfig(iterations, cap, self._params.seed, gains=self._gains)
        return Fitting(seeds, trained, fit), [target for target in targets if self._held_out(target)]

    def _object_fit(self, iterations: int) -> tuple[Fitting, list[TargetImage]]:
        crops = [crop for target in self._targets if (crop := crop_to_object(target)) is not None]
        trained = [target for target in crops if not self._held_out(target)]
        if len(trained) < 3:
            raise SaccadeError(
                ErrorCode.INPUT_UNREADABLE,
                "The object could not be separated from its background.",
                hint="Send masks, or set crop_radius so that the object is inside the sphere.",
            )
        # A new fit: splats of the first one along the outline are half background.
        cap = self._schedule.max_splats
        whole = [target for target in self._targets if not self._held_out(target)]
        seeds = initial_object_splats(
            self._points, whole, self._bounds.radius, at_most=cap // 2, seed=self._params.seed
        )
        fit = FitConfig(
            iterations, cap, self._params.seed + 1, self._schedule.harmonics, gains=self._gains, max_scale=0.1,
            split_scale=0.006,
        )  # fmt: skip
        fitting = Fitting(seeds, trained, fit, lambda points: belongs_to_object(points, whole, self._bounds.radius))
        return fitting, [target for target in crops if self._held_out(target)]

    def _fit(self, prepared: tuple[Fitting, list[TargetImage]], state: dict[str, Any] | None) -> Splats:
        fitting, held_out = prepared
        if state is not None:
            fitting.restore(state["fitting"])
        iterations, history = fitting.fit.iterations, self._history
        every = max(25, iterations // 20)
        while fitting.iteration < iterations and not history.stopped_early:
            fitting.step()
            now = fitting.iteration
            if now % every == 0 or now == iterations:
                found = score_held_out(fitting.splats.detach(), held_out[:_SCORED])
                history.record(now, fitting.splats, found, settled=fitting.settled)
            if time.monotonic() - self._checkpointed_s >= self._checkpoint_every_s:
                self._checkpoint(fitting)
            self._report_progress(now, len(fitting.splats))
        history.iteration = fitting.iteration
        return history.best(fitting.splats)

    def _report_progress(self, iteration: int, splats: int) -> None:
        history, total = self._history, self._schedule.iterations
        done = history.scene_iterations + iteration
        what = "scene" if history.phase == 0 else "object"
        newest = history.newest
        quality = f", {newest.psnr_db:.1f} dB" if newest else ""
        self._context.progress(0.99 * done / total, f"{what}: iteration {done} of {total}, {splats} splats{quality}")

    def _checkpoint(self, fitting: Fitting) -> None:
        path = self._context.scratch / STATE
        seconds = time.monotonic() - self._began_s
        save_state(path, {"history": self._history.state(seconds), "fitting": fitting.state()})
        self._context.keep(path, STATE)
        self._checkpointed_s = time.monotonic()

    def _restore(self) -> dict[str, Any] | None:
        path = self._context.checkpoint(STATE)
        if path is None:
            return None
        state = load_state(path, self._device)
        self._history.restore(state["history"])
        return state

    def _find_masks(self, splats: Splats) -> list[Bytes]:
        self._context.progress(0.99 * self._schedule.scene_iterations(masks=False) / self._schedule.iterations, "masks")
        masks = object_masks(splats, self._bounds, self._targets, seed=self._params.seed)
        path = self._context.scratch / MASKS
        newest = self._history.newest
        psnr_db = np.nan if newest is None else newest.psnr_db
        save_state(
            path, {"scene_psnr_db": np.float64(psnr_db)} | {str(index): mask for index, mask in enumerate(masks)}
        )
        self._context.keep(path, MASKS)
        return masks

    def _mark_ambiguous_pixels(self) -> None:
        """Mark where photos show only the table: the found masks include gaps and shadows."""
        if self._bounds.table_z is None:
            return
        trained = [target for target in self._targets if not self._held_out(target)]
        self._table = build_table_model(trained, _TABLE_REACH * self._bounds.radius, self._bounds.table_z)
        self._targets = [mark_ambiguous_pixels(self._table, target) for target in self._targets]

    def _restore_masks(self) -> list[Bytes] | None:
        path = self._context.checkpoint(MASKS)
        if path is None:
            return None
        with np.load(path, allow_pickle=False) as arrays:
            psnr_db = float(arrays["scene_psnr_db"])
            masks = [arrays[str(index)] for index in range(len(self._targets))]
        if self._history.phase == 0:  # stopped between the masks and the first checkpoint of the object
            self._history.curve = []
            self._history.scene_psnr_db = None if np.isnan(psnr_db) else psnr_db
        return masks

    def _outcome(self, fitted: Splats) -> TrainingOutcome:
        history, schedule = self._history, self._schedule
        splats = remove_background(fitted, self._targets, self._bounds.radius)
        if len(splats) < 10:
            raise SaccadeError(
                ErrorCode.INPUT_UNREADABLE,
                "Nothing is left of the object after its background was removed.",
                hint="Send masks, or set crop_radius so that the object is inside the sphere.",
            )
        unseen = [target for target in self._targets if self._held_out(target)]
        found = score_held_out(splats, [crop for target in unseen if (crop := crop_to_object(target)) is not None])
        agreement = None if self._table is None else outline_agreement(splats, unseen, self._table)
        poses = [np.linalg.inv(target.camera_from_world.double().cpu().numpy()) for target in self._targets]
        seen_by = visible_in(splats, self._targets, self._bounds.radius)
        seen_by[:, [self._held_out(target) for target in self._targets]] = False
        scene = centred_scene(splats, self._placement, poses, seen_by)
        report = TrainingReport(
            backend="gsplat",
            device=self._device.type,
            preset=self._params.preset,
            photos=len(self._targets) - len(unseen),
            held_out=len(unseen),
            training_size_px=max(max(t.camera.width_px, t.camera.height_px) for t in self._targets),
            iterations=history.scene_iterations + history.iteration,
            iterations_asked=schedule.iterations,
            stopped_early=history.stopped_early,
            splats=len(splats),
            psnr_db=None if found is None else round(found[0], 3),
            ssim=None if found is None else round(found[1], 4),
            scene_psnr_db=history.scene_psnr_db,
            masks="given" if self._masks_given else "found",
            outline_agreement=None if agreement is None else round(agreement, 4),
            table_found=self._placement.table_z is not None,
            gains=self._gains,
            object_radius=round(scene.radius, 4),
            seconds=round(history.seconds + time.monotonic() - self._began_s, 1),
            resumed=history.resumed,
            curve=tuple(history.curve),
        )
        return TrainingOutcome(scene, report)
