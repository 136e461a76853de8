"""The splat while it grows: frames in, Gaussians where nothing explains them, steps of training, the score."""

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

#: Frames that are trained on, and features kept to match with: what bounds memory.
_KEYFRAMES: Final = 200
_VIEWS: Final = 24
#: Views before the newest that it is matched with.
_BACK: Final = (1, 2, 4, 6, 10)
_GRID_PX: Final = 3
_COVERED: Final = 0.5
_WELL_COVERED: Final = 0.7
_WRONG: Final = 0.12
#: From here on poses are corrected: before, the pictures are not explained well enough to say anything of them.
_REFINE_AFTER: Final = 8
_PRUNE_EVERY: Final = 5
_GROW_EVERY: Final = 25
_SCORED: Final = 12
_RATES: Final = LearningRates(means=1.2e-4, log_scales=1e-2, quaternions=2e-3, logit_opacities=5e-2, colours=1e-2)


@dataclass
class Keyframe:
    """A frame that is trained on, or only looked at."""

    colour: NDArray[np.uint8]
    positions: Floats
    correction: FrameCorrection
    held_out: bool

    def target(self, device: torch.device) -> Tensor:
        """Give the picture [H, W, 3] in 0..1."""
        return torch.from_numpy(self.colour).to(device).float() / 255


class LiveModel:
    """One session's splat. The same frames with the same numbers of steps give the same splat."""

    def __init__(self, params: LiveSplatParams, camera: Camera, training_camera: Camera, matrix: Floats) -> None:
        """Begin with nothing; ``matrix`` is of ``camera``, whose pictures are looked through for features."""
        torch.manual_seed(params.seed)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._none = Splats.empty(torch.zeros(0, device=self._device))
        self._params, self._camera = params, training_camera
        self._scale = training_camera.width_px / camera.width_px
        self._matrix = matrix
        self._random = random.Random(params.seed)  # noqa: S311 - a seeded choice, no secret
        self._triangulation = Triangulation(matrix)
        self._views: list[FeatureView] = []
        self.poses = ArmCameraPoses(params.gripper_from_camera)
        self.keyframes: list[Keyframe] = []
        self.optimiser = Optimiser(self._none, _RATES)
        self.density = Densifier(self.optimiser, seed=params.seed)
        self.frames = 0
        self.steps = 0
        self.losses: list[float] = []

    @property
    def splats(self) -> Splats:
        """The splats as they are now."""
        return self.optimiser.splats

    def add(self, picture: FrameImage, positions: Floats) -> None:
        """Take a frame in: put Gaussians where it is not explained, and train on it from now on."""
        self.frames += 1
        held_out = self.frames % self._params.held_out_every == 0
        frame = Keyframe(picture.colour, positions, FrameCorrection(self.poses, positions), held_out)
        self.keyframes.append(frame)
        self._forget()
        if held_out:
            return
        camera_from_world = frame.correction.camera_from_world().double().numpy()
        view = self._triangulation.view(picture.grey, camera_from_world)
        self._seed(frame, view)
        self._views = [*self._views[-_VIEWS + 1 :], view]
        if self.frames % _PRUNE_EVERY == 0:
            self.density.prune(PruningLimits(min_opacity=0.02, max_scale_m=0.15))
        if self.frames % _GROW_EVERY == 0:
            self.density.grow(GrowthLimits(split_scale_m=0.004, max_splats=self._params.max_splats))
        self.density.cap(self._params.max_splats)

    def train(self) -> None:
        """Do one step: every other one on the newest frame, the rest on one that was before."""
        trained = [frame for frame in self.keyframes if not frame.held_out]
        if not trained or not len(self.splats):
            return
        frame = trained[-1] if self.steps % 2 == 0 else self._random.choice(trained)
        refine = self._params.refine and len(trained) > _REFINE_AFTER
        pose = frame.correction if refine else None
        base = frame.correction.camera_from_world() if pose is None else self.poses.camera_from_world(frame.positions)
        done = train_step(self.optimiser, self._camera, base.to(self._device), frame.target(self._device), pose=pose)
        self.density.watch(done.rendered, self._camera)
        self.steps += 1
        self.losses = [*self.losses[-49:], done.loss]

    @torch.no_grad()
    def draw(self, camera_from_world: Tensor, camera: Camera | None = None) -> Tensor:
        """Draw the splats [H, W, 3] in 0..1 as a camera sees them."""
        pose = camera_from_world.to(self._device)
        return rasterize(self.splats.detach(), camera or self._camera, pose).colour.clamp(0, 1)

    def score(self) -> dict[str, float | int | None]:
        """Give PSNR on the newest held-out frames and on as many of the others, in dB; None where there are none."""
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
        each = [psnr_db(self.draw(one.correction.camera_from_world()), one.target(self._device)) for one in frames]
        return round(sum(map(float, each)) / len(each), 3)

    def _forget(self) -> None:
        """Keep a bounded number of frames, the newest and, of the older ones, any."""
        if len(self.keyframes) > _KEYFRAMES:
            del self.keyframes[self._random.randrange(_KEYFRAMES // 2)]

    def _seed(self, frame: Keyframe, view: FeatureView) -> None:
        before = [self._views[-back] for back in _BACK if back <= len(self._views)]
        points = self._triangulation.points(view, before)
        pose = torch.from_numpy(view.camera_from_world).float().to(self._device)
        drawn = None
        if len(self.splats):
            with torch.no_grad():
                drawn = rasterize(self.splats.detach(), self._camera, pose)
        target = frame.target(self._device)
        height_px, width_px = target.shape[:2]
        if drawn is None:
            alpha, wrong = np.zeros((height_px, width_px)), np.ones((height_px, width_px))
        else:
            alpha = drawn.alpha[..., 0].cpu().numpy()
            wrong = (drawn.colour - target).abs().mean(-1).cpu().numpy()
        focal_px = self._camera.fx_px
        if len(points.depths_m):
            at = np.clip((points.pixels * self._scale).astype(int), 0, [width_px - 1, height_px - 1])
            need = (alpha[at[:, 1], at[:, 0]] < _WELL_COVERED) | (wrong[at[:, 1], at[:, 0]] > _WRONG)
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
            self.density.add(splats_from_points(points, colours, sizes, opacity))

    def save(self, path: Path) -> None:
        """Write down all that a later run goes on from; it begins to look for features anew."""
        state: dict[str, Any] = {
            "density": self.density.state(),
            "poses": {
                key: torch.as_tensor(value) if isinstance(value, np.ndarray) else value
                for key, value in self.poses.state().items()
            },
            "frames": self.frames,
            "steps": self.steps,
            "random": list(self._random.getstate()[1]),
            "keyframes": [
                {
                    "colour": torch.from_numpy(one.colour),
                    "positions": torch.from_numpy(one.positions),
                    "correction": one.correction.state(),
                    "held_out": one.held_out,
                }
                for one in self.keyframes
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

    def restore(self, path: Path) -> None:
        """Go on from what an earlier run has written down."""
        state = torch.load(path, weights_only=True, map_location=self._device)
        self.optimiser = Optimiser(self._none, _RATES)
        self.density = Densifier(self.optimiser, seed=self._params.seed)
        self.density.restore(state["density"])
        self.poses.restore({k: v.cpu().numpy() if isinstance(v, Tensor) else v for k, v in state["poses"].items()})
        self.frames, self.steps = state["frames"], state["steps"]
        self._random.setstate((3, tuple(state["random"]), None))
        self.keyframes = []
        for one in state["keyframes"]:
            positions = one["positions"].cpu().numpy()
            correction = FrameCorrection(self.poses, positions)
            correction.restore(one["correction"])
            self.keyframes.append(Keyframe(one["colour"].cpu().numpy(), positions, correction, one["held_out"]))
        self._views = [
            FeatureView(
                view["pose"].cpu().numpy(),
                view["keypoints"].cpu().numpy(),
                None if view["descriptors"] is None else view["descriptors"].cpu().numpy(),
            )
            for view in state["views"]
        ]
