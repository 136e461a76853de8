"""Trains Gaussian splats: gsplat on CUDA, our own rasteriser on a CPU, everything else the same.

Without masks there are two fits. The first is of all that the photos show; from it every photo gets a mask. The second
is of the object alone, against a background that is another colour at every step, so that its alpha is learnt too.
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
from modal_workers.nerf.training.dataset import Dataset, read_dataset
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
from modal_workers.nerf.training.segmentation.object_segmentation import ObjectBounds, object_masks
from modal_workers.nerf.training.segmentation.outline_agreement import outline_agreement
from modal_workers.nerf.training.segmentation.table_model import TableModel, build_table_model, mark_ambiguous_pixels
from modal_workers.nerf.training.spec import TrainingReport
from modal_workers.nerf.training.trainer import TrainingOutcome
from modal_workers.runtime.context import StageContext

Bytes = NDArray[np.uint8]

STATE: Final = "training_state.npz"
MASKS: Final = "training_masks.npz"
KEEP_EVERY_S: Final = 40.0
_HELD_OUT_EVERY: Final = 8
_SCORED: Final = 12
#: Photos of which fewer have a mask are taken as if none had one.
_MASKED_SHARE: Final = 0.6
#: So much farther than the object can be the table is looked at: photos from low down show it there behind its top.
_GROUND_REACH: Final = 2.0


class SplatTrainer:
    """A ``Trainer`` whose every step can be the last one of its run."""

    def __init__(self, device: torch.device | None = None, *, keep_every_s: float = KEEP_EVERY_S) -> None:
        """Train on CUDA where there is one, unless told otherwise."""
        self._keep_every_s = keep_every_s
        self._device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def train(self, dataset: Path, params: NerfParams, context: StageContext) -> TrainingOutcome:
        """Train on ``dataset.zip``, going on from what an earlier run kept.

        Raises:
            SaccadeError: INPUT_UNREADABLE, INVALID_PARAMETER: the photos, or their masks, do not do.
        """
        schedule = schedule_for(params, "gpu" if self._device.type == "cuda" else "cpu")
        photos = read_dataset(dataset, schedule.size_px)
        return _Training(photos, params, schedule, context, self._device, keep_every_s=self._keep_every_s).run()


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
        self._keep_every_s = keep_every_s
        self._params, self._schedule, self._context, self._device = params, schedule, context, device
        poses = np.stack([view.world_from_camera for view in dataset.views])
        self._placement: Placement = find_placement(poses, dataset.points, seed=params.seed)
        self._bounds = ObjectBounds(params.crop_radius, self._placement.table_z)
        self._targets = [self._target(dataset, index) for index in range(len(dataset.views))]
        self._given = self._masks_are_given()
        self._points = torch.from_numpy(self._placement.points(dataset.points)).to(device, torch.float32)
        self._colours = torch.from_numpy(dataset.colours).to(device, torch.float32) / 255
        self._began_s = time.monotonic()
        self._kept_s = self._began_s
        self._history = TrainingHistory()
        self._ground: TableModel | None = None
        bright = torch.tensor([float(target.picture.float().mean()) for target in self._targets])
        self._gains = len(self._targets) > 1 and exposure_varies(bright)

    def run(self) -> TrainingOutcome:
        """Do what is left to do."""
        state = self._resumed()
        first = self._schedule.scene_iterations(masks=self._given)
        if not self._given:
            masks = self._kept_masks()
            if masks is None:
                masks = self._found_masks(self._fit(self._scene_fit(first), state))
            self._targets = [
                replace(target, mask=torch.from_numpy(mask[..., None]).to(self._device))
                for target, mask in zip(self._targets, masks, strict=True)
            ]
            self._doubt_gaps()
        inner = state if self._history.phase == 1 else None
        self._history.enter_object(first)
        fitted = self._fit(self._object_fit(self._schedule.iterations - first), inner)
        return self._outcome(fitted)

    def _target(self, dataset: Dataset, index: int) -> TargetImage:
        view = dataset.views[index]
        pose = np.linalg.inv(self._placement.world_from_camera(view.world_from_camera))
        mask = None if view.mask is None else torch.from_numpy(view.mask[..., None]).to(self._device)
        picture = torch.from_numpy(view.picture).to(self._device)
        return TargetImage(view.camera, torch.from_numpy(pose).to(self._device, torch.float32), picture, mask, index)

    def _masks_are_given(self) -> bool:
        """Say whether masks are gone by; photos without one are then left out.

        Raises:
            SaccadeError: INVALID_PARAMETER, masks were asked for and there are too few.
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
        return len(self._targets) >= _HELD_OUT_EVERY and target.photo % _HELD_OUT_EVERY == 0

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
        windows = [cut for target in self._targets if (cut := crop_to_object(target)) is not None]
        trained = [target for target in windows if not self._held_out(target)]
        if len(trained) < 3:
            raise SaccadeError(
                ErrorCode.INPUT_UNREADABLE,
                "The object could not be told from its background.",
                hint="Send masks, or set crop_radius so that the object is inside of it.",
            )
        # begun anew: what the first fit has put along the object's outline is half background
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
        return fitting, [target for target in windows if self._held_out(target)]

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
                history.note(now, fitting.splats, found, settled=fitting.settled)
            if time.monotonic() - self._kept_s >= self._keep_every_s:
                self._keep(fitting)
            self._tell(now, len(fitting.splats))
        history.iteration = fitting.iteration
        return history.best(fitting.splats)

    def _tell(self, iteration: int, splats: int) -> None:
        history, total = self._history, self._schedule.iterations
        done = history.scene_iterations + iteration
        what = "all that the photos show" if history.phase == 0 else "the object"
        newest = history.newest
        quality = f", {newest.psnr_db:.1f} dB" if newest else ""
        self._context.progress(0.99 * done / total, f"{what}: {done} of {total}, {splats} splats{quality}")

    def _keep(self, fitting: Fitting) -> None:
        path = self._context.scratch / STATE
        seconds = time.monotonic() - self._began_s
        save_state(path, {"history": self._history.state(seconds), "fitting": fitting.state()})
        self._context.keep(path, STATE)
        self._kept_s = time.monotonic()

    def _resumed(self) -> dict[str, Any] | None:
        path = self._context.checkpoint(STATE)
        if path is None:
            return None
        state = load_state(path, self._device)
        self._history.restore(state["history"])
        return state

    def _found_masks(self, splats: Splats) -> list[Bytes]:
        self._context.progress(0.99 * self._schedule.scene_iterations(masks=False) / self._schedule.iterations, "masks")
        masks = object_masks(splats, self._bounds, self._targets, seed=self._params.seed)
        path = self._context.scratch / MASKS
        psnr = self._history.newest
        none = np.nan if psnr is None else psnr.psnr_db
        save_state(path, {"scene_psnr_db": np.float64(none)} | {str(index): mask for index, mask in enumerate(masks)})
        self._context.keep(path, MASKS)
        return masks

    def _doubt_gaps(self) -> None:
        """Say where photos show just the table: the masks take gaps and shadows for the object."""
        if self._bounds.table_z is None:
            return
        trained = [target for target in self._targets if not self._held_out(target)]
        self._ground = build_table_model(trained, _GROUND_REACH * self._bounds.radius, self._bounds.table_z)
        self._targets = [mark_ambiguous_pixels(self._ground, target) for target in self._targets]

    def _kept_masks(self) -> list[Bytes] | None:
        path = self._context.checkpoint(MASKS)
        if path is None:
            return None
        with np.load(path, allow_pickle=False) as arrays:
            psnr_db = float(arrays["scene_psnr_db"])
            masks = [arrays[str(index)] for index in range(len(self._targets))]
        if self._history.phase == 0:  # ended between the masks and the object's first checkpoint
            self._history.curve = []
            self._history.scene_psnr_db = None if np.isnan(psnr_db) else psnr_db
        return masks

    def _outcome(self, fitted: Splats) -> TrainingOutcome:
        history, schedule = self._history, self._schedule
        splats = remove_background(fitted, self._targets, self._bounds.radius)
        if len(splats) < 10:
            raise SaccadeError(
                ErrorCode.INPUT_UNREADABLE,
                "Nothing is left of the object when its background is taken away.",
                hint="Send masks, or set crop_radius so that the object is inside of it.",
            )
        unseen = [target for target in self._targets if self._held_out(target)]
        found = score_held_out(splats, [cut for one in unseen if (cut := crop_to_object(one)) is not None])
        agreement = None if self._ground is None else outline_agreement(splats, unseen, self._ground)
        poses = [np.linalg.inv(target.camera_from_world.double().cpu().numpy()) for target in self._targets]
        scene = centred_scene(splats, self._placement, poses)
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
            masks="given" if self._given else "found",
            outline_agreement=None if agreement is None else round(agreement, 4),
            table_found=self._placement.table_z is not None,
            gains=self._gains,
            object_radius=round(scene.radius, 4),
            seconds=round(history.seconds + time.monotonic() - self._began_s, 1),
            resumed=history.resumed,
            curve=tuple(history.curve),
        )
        return TrainingOutcome(scene, report)
