"""The growing splat model: add frames, initialise Gaussians, train, score."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modal_workers.gaussians.camera import Camera
from modal_workers.gaussians.densification import Densifier, GrowthLimits, PruningLimits, splats_from_points
from modal_workers.gaussians.image_metrics import psnr_db
from modal_workers.gaussians.rasterize import rasterize
from modal_workers.gaussians.splats import Splats
from modal_workers.gaussians.training import LearningRates, Optimiser, train_step
from modal_workers.live_splat.camera_poses import ArmCameraPoses, FrameCorrection
from modal_workers.live_splat.frame_image import FrameImage
from modal_workers.live_splat.initialization import FeatureView, Triangulation, fill_depths
from modal_workers.live_splat.spec import LiveSplatParams

Floats = NDArray[np.float64]

#: Limits of training frames and of views with features: they bound the memory.
_KEYFRAMES: Final = 200
_VIEWS: Final = 24
#: Earlier views that the newest one is matched with.
_MATCHED_BACK: Final = (1, 2, 4, 6, 10)
_GRID_PX: Final = 3
_COVERED: Final = 0.5
_WELL_COVERED: Final = 0.7
_HIGH_ERROR: Final = 0.12
#: Poses are corrected from this many frames on: before, the model is too poor to correct them.
_REFINE_AFTER: Final = 8
_PRUNE_EVERY: Final = 5
_GROW_EVERY: Final = 25
_SCORED: Final = 12
_RATES: Final = LearningRates(means=1.2e-4, log_scales=1e-2, quaternions=2e-3, logit_opacities=5e-2, colours=1e-2)


@dataclass
class Keyframe:
    """A frame that is trained on, or held out for the score."""

    colour: NDArray[np.uint8]
    positions: Floats
    correction: FrameCorrection
    held_out: bool

    def target(self, device: torch.device) -> Tensor:
        """Return the image [H, W, 3] in 0..1."""
        return torch.from_numpy(self.colour).to(device).float() / 255


class LiveModel:
    """The splat of one session. The same frames with the same numbers of steps give the same splat."""

    def __init__(self, params: LiveSplatParams, camera: Camera, training_camera: Camera, matrix: Floats) -> None:
        """Start empty; ``matrix`` [3, 3] belongs to ``camera``, in whose frames features are found."""
        torch.manual_seed(params.seed)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._none = Splats.empty(torch.zeros(0, device=self._device))
        self._params, self._camera = params, training_camera
        self._picture_size = (camera.width_px, camera.height_px)
        self._scale = training_camera.width_px / camera.width_px
        self._matrix = matrix
        self._random = random.Random(params.seed)  # noqa: S311 - a seeded choice, no secret
        self._triangulation = Triangulation(matrix)
        self._views: list[FeatureView] = []
        self.poses = ArmCameraPoses(params.gripper_from_camera)
        self.keyframes: list[Keyframe] = []
        self.optimiser = Optimiser(self._none, _RATES)
        self.densifier = Densifier(self.optimiser, seed=params.seed)
        self.frames = 0
        self.steps = 0
        #: Steps after those of the newest frame, between it and the next one or the end.
        self.idle_steps = 0
        self.losses: list[float] = []

    @property
    def splats(self) -> Splats:
        """The current splats."""
        return self.optimiser.splats

    def add(self, image: FrameImage, positions: Floats) -> None:
        """Add a frame: initialise Gaussians where the model does not explain it, and train on it from now on."""
        self.frames += 1
        self.idle_steps = 0
        held_out = self.frames % self._params.held_out_every == 0
        frame = Keyframe(image.colour, positions, FrameCorrection(self.poses, positions), held_out)
        self.keyframes.append(frame)
        self._drop_old_frames()
        if held_out:
            return
        camera_from_world = frame.correction.camera_from_world().double().numpy()
        view = self._triangulation.view(image.grey, camera_from_world)
        self._initialise(frame, view)
        self._views = [*self._views[-_VIEWS + 1 :], view]
        if self.frames % _PRUNE_EVERY == 0:
            self.densifier.prune(PruningLimits(min_opacity=0.02, max_scale_m=0.15))
        if self.frames % _GROW_EVERY == 0:
            self.densifier.grow(GrowthLimits(split_scale_m=0.004, max_splats=self._params.max_splats))
        self.densifier.cap(self._params.max_splats)

    def train(self) -> None:
        """Run one training step: every other one on the newest frame, the rest on earlier ones."""
        trained = [frame for frame in self.keyframes if not frame.held_out]
        if not trained or not len(self.splats):
            return
        frame = trained[-1] if self.steps % 2 == 0 else self._random.choice(trained)
        refine = self._params.refine and len(trained) > _REFINE_AFTER
        pose = frame.correction if refine else None
        base = frame.correction.camera_from_world() if pose is None else self.poses.camera_from_world(frame.positions)
        done = train_step(self.optimiser, self._camera, base.to(self._device), frame.target(self._device), pose=pose)
        self.densifier.watch(done.rendered, self._camera)
        self.steps += 1
        self.losses = [*self.losses[-49:], done.loss]

    @torch.no_grad()
    def draw(self, camera_from_world: Tensor, camera: Camera | None = None) -> Tensor:
        """Render the splats [H, W, 3] in 0..1 from a camera."""
        pose = camera_from_world.to(self._device)
        return rasterize(self.splats.detach(), camera or self._camera, pose).colour.clamp(0, 1)

    def score(self) -> dict[str, float | int | None]:
        """Return the PSNR in dB of the newest held-out frames and of as many others; None without any."""
        held_out = [frame for frame in self.keyframes if frame.held_out][-_SCORED:]
        trained = [frame for frame in self.keyframes if not frame.held_out][-_SCORED:]
        return {
            "psnr_db": self._psnr_db(held_out),
            "train_psnr_db": self._psnr_db(trained),
            "held_out_frames": len(held_out),
        }

    def _psnr_db(self, frames: list[Keyframe]) -> float | None:
        if not frames or not len(self.splats):
            return None
        each = [
            psnr_db(self.draw(frame.correction.camera_from_world()), frame.target(self._device)) for frame in frames
        ]
        return round(sum(map(float, each)) / len(each), 3)

    def _drop_old_frames(self) -> None:
        """Keep a bounded number of frames: the newest, and random older ones."""
        if len(self.keyframes) > _KEYFRAMES:
            del self.keyframes[self._random.randrange(_KEYFRAMES // 2)]

    def _initialise(self, frame: Keyframe, view: FeatureView) -> None:
        before = [self._views[-back] for back in _MATCHED_BACK if back <= len(self._views)]
        points = self._triangulation.points(view, before)
        pose = torch.from_numpy(view.camera_from_world).float().to(self._device)
        drawn = None
        if len(self.splats):
            with torch.no_grad():
                drawn = rasterize(self.splats.detach(), self._camera, pose)
        target = frame.target(self._device)
        height_px, width_px = target.shape[:2]
        if drawn is None:
            alpha, error = np.zeros((height_px, width_px)), np.ones((height_px, width_px))
        else:
            alpha = drawn.alpha[..., 0].cpu().numpy()
            error = (drawn.colour - target).abs().mean(-1).cpu().numpy()
        focal_px = self._camera.fx_px
        if len(points.depths_m):
            at = np.clip((points.pixels * self._scale).astype(int), 0, [width_px - 1, height_px - 1])
            need = (alpha[at[:, 1], at[:, 0]] < _WELL_COVERED) | (error[at[:, 1], at[:, 0]] > _HIGH_ERROR)
            sizes_m = points.depths_m[need] * 1.4 / focal_px
            self._put(points.world_m[need], target[at[need, 1], at[need, 0]], sizes_m, 0.5)
        rows, columns = np.mgrid[1:height_px:_GRID_PX, 1:width_px:_GRID_PX]
        grid = np.stack([columns.ravel(), rows.ravel()], 1)
        grid = grid[alpha[grid[:, 1], grid[:, 0]] < _COVERED]
        if len(grid):
            pixels = (grid + 0.5) / self._scale
            depths_m = fill_depths(pixels, points, view.camera_from_world, self._matrix, self._params.ground_z_m)
            rays = np.concatenate(
                [(pixels - self._matrix[:2, 2]) / np.diag(self._matrix)[:2], np.ones((len(pixels), 1))], 1
            )
            rotation, moved = view.camera_from_world[:3, :3], view.camera_from_world[:3, 3]
            world_m = (rays * depths_m[:, None] - moved) @ rotation
            self._put(world_m, target[grid[:, 1], grid[:, 0]], depths_m * 0.6 * _GRID_PX / focal_px, 0.4)

    def _put(self, world_m: Floats, colours: Tensor, sizes_m: Floats, opacity: float) -> None:
        if len(world_m):
            points, sizes = (torch.from_numpy(each).float().to(self._device) for each in (world_m, sizes_m))
            self.densifier.add(splats_from_points(points, colours, sizes, opacity))

    def save(self, path: Path) -> None:
        """Write the state from which a later run resumes; feature matching starts from the stored views."""
        state: dict[str, Any] = {
            "density": self.densifier.state(),
            "poses": {
                key: torch.as_tensor(value) if isinstance(value, np.ndarray) else value
                for key, value in self.poses.state().items()
            },
            "picture_size": self._picture_size,
            "frames": self.frames,
            "steps": self.steps,
            "idle_steps": self.idle_steps,
            "random": list(self._random.getstate()[1]),
            "keyframes": [
                {
                    "colour": torch.from_numpy(frame.colour),
                    "positions": torch.from_numpy(frame.positions),
                    "correction": frame.correction.state(),
                    "held_out": frame.held_out,
                }
                for frame in self.keyframes
            ],
            "views": [
                {
                    "pose": torch.from_numpy(view.camera_from_world),
                    "keypoints": torch.from_numpy(view.keypoints_px),
                    "descriptors": None if view.descriptors is None else torch.from_numpy(view.descriptors),
                }
                for view in self._views
            ],
        }
        torch.save(state, path)

    @staticmethod
    def picture_size(path: Path) -> tuple[int, int] | None:
        """Return (width, height) of the frames that a saved state is of; None of one that is empty or does not say."""
        if not path.stat().st_size:
            return None
        # Workers before this field saved states without it: their sessions resume by their first frame, or end.
        size = torch.load(path, weights_only=True, map_location="cpu").get("picture_size")
        return None if size is None else (int(size[0]), int(size[1]))

    def restore(self, path: Path) -> None:
        """Restore the state that ``save`` wrote."""
        state = torch.load(path, weights_only=True, map_location=self._device)
        self.optimiser = Optimiser(self._none, _RATES)
        self.densifier = Densifier(self.optimiser, seed=self._params.seed)
        self.densifier.restore(state["density"])
        self.poses.restore({k: v.cpu().numpy() if isinstance(v, Tensor) else v for k, v in state["poses"].items()})
        self.frames, self.steps = state["frames"], state["steps"]
        self.idle_steps = state.get("idle_steps", 0)  # workers before this field saved states without it
        self._random.setstate((3, tuple(state["random"]), None))
        self.keyframes = []
        for stored in state["keyframes"]:
            positions = stored["positions"].cpu().numpy()
            correction = FrameCorrection(self.poses, positions)
            correction.restore(stored["correction"])
            self.keyframes.append(Keyframe(stored["colour"].cpu().numpy(), positions, correction, stored["held_out"]))
        self._views = [
            FeatureView(
                view["pose"].cpu().numpy(),
                view["keypoints"].cpu().numpy(),
                None if view["descriptors"] is None else view["descriptors"].cpu().numpy(),
            )
            for view in state["views"]
        ]
