"""Share of a frame's pixels that photos show, as the pipeline reports it, against ray casting of the true solids.

The splats are small balls on all surfaces of the object, seen and unseen, as training without errors would leave them;
what is visible in which photo and the share of each frame are the pipeline's own code. The truth casts a ray through
each pixel of a frame: its place on the object counts as seen where a photo from within 30° of the frame's camera has it
inside its picture, and no solid (the object itself, another one, a wall, things on the floor) is in between.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from bench.needs import needs

needs("cv2", "torch")

import numpy as np
import torch
from numpy.typing import NDArray

from modal_workers.gaussians.camera import Camera
from modal_workers.gaussians.splats import Splats
from modal_workers.nerf.orbit import CameraOrbit, focal_for
from modal_workers.nerf.photo_arcs import NEARBY_DEG, SEEN_SHARE
from modal_workers.nerf.poses.colmap.model_files import RegisteredImage
from modal_workers.nerf.rendering.seen_share import PhotographedViews
from modal_workers.nerf.scene import TrainedScene
from modal_workers.nerf.training.fitting import TargetImage
from modal_workers.nerf.training.splat_visibility import visible_in
from simulators.shapes import FARTHEST_M
from simulators.toy.sparse_captures import SceneKind, SolidScene, solid_scene

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

CASES = {
    "136°": SceneKind(136.0),
    "180°": SceneKind(180.0),
    "360°": SceneKind(360.0),
    "136°, wall close behind": SceneKind(136.0, wall=0.2),
    "180°, wall close behind": SceneKind(180.0, wall=0.2),
    "180°, another beside it": SceneKind(180.0, neighbour="beside"),
    "360°, another beside it": SceneKind(360.0, neighbour="beside"),
    "360°, another, cluttered": SceneKind(360.0, neighbour="beside", clutter=16),
}
_BALLS_PER_M2 = 9000.0
_PHOTO_PX = 128
_FRAME_PX = 48
_FREE = 0.99


@dataclass(frozen=True)
class SeenFrames:
    """Share that is reported and the true one, of each frame."""

    reported: Floats
    true: Floats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--first", type=int, default=8000)
    parser.add_argument("--scenes", type=int, default=3, help="Per case.")
    parser.add_argument("--frames", type=int, default=16, help="Per ring; there are two rings.")
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    print("| scenes | frames | correlation | mean error | p95 | worst | bias | seen: true, reported | disagree |")
    print("|---|---|---|---|---|---|---|---|---|")
    every = []
    for name in wanted.cases:
        found = [
            measure(seed, CASES[name], wanted.frames) for seed in range(wanted.first, wanted.first + wanted.scenes)
        ]
        every += found
        print(f"| {name} | {row(found)} |", flush=True)
    print(f"| all | {row(every)} |")


def row(found: list[SeenFrames]) -> str:
    """Return the figures of some scenes."""
    reported, true = (np.concatenate([getattr(each, name) for each in found]) for name in ("reported", "true"))
    error = reported - true
    seen, said = true >= SEEN_SHARE, reported >= SEEN_SHARE
    return (
        f"{len(true)} | {np.corrcoef(reported, true)[0, 1]:.3f} | {np.abs(error).mean():.3f} | "
        f"{np.percentile(np.abs(error), 95):.3f} | {np.abs(error).max():.3f} | {error.mean():+.3f} | "
        f"{seen.sum()}, {said.sum()} | {(seen != said).sum()}"
    )


def measure(seed: int, kind: SceneKind, azimuths: int) -> SeenFrames:
    """Compare all frames of one scene."""
    scene = solid_scene(seed, kind)
    own = [solid for solid, label in zip(scene.solids, scene.labels, strict=True) if label == 0]
    corners = np.concatenate([solid.corners() for solid in own])
    middle = (corners.min(0) + corners.max(0)) / 2
    eyes = np.array([image.centre for image in scene.images])
    unit = float(np.median(np.linalg.norm(eyes - middle, axis=1)))
    radius = float(np.linalg.norm(corners.max(0) - corners.min(0)) / 2) / unit
    splats = _splats(scene, np.random.default_rng(seed), middle, unit)
    targets = [_target(image, scene, middle, unit) for image in scene.images]
    trained = TrainedScene(
        radius, 1.0, (15.0, 40.0), np.eye(4), splats, None, (eyes - middle) / unit, visible_in(splats, targets, radius)
    )
    orbit = CameraOrbit((15.0, 40.0), azimuths, 1.0, focal_for(radius, 1.0), _FRAME_PX)
    views = PhotographedViews(trained, orbit, torch.device("cpu"))
    reported = [views.view(frame).seen_share or 0.0 for frame in range(len(orbit))]
    true = [_true_share(scene, orbit, frame, middle, unit) for frame in range(len(orbit))]
    return SeenFrames(np.array(reported), np.array(true))


def _splats(scene: SolidScene, random: np.random.Generator, middle: Floats, unit: float) -> Splats:
    """Return small balls on the surfaces of the object, evenly on each face."""
    points = []
    for solid, label in zip(scene.solids, scene.labels, strict=True):
        if label != 0:
            continue
        for face in range(solid.face_count):
            u, v = random.uniform(size=(2, 4096))
            places = solid.face_points(face, u, v)[0]
            nearest = np.linalg.norm(places[:256, None] - places[None], axis=2)
            nearest[nearest == 0] = np.inf
            # The area of a face from the density of random places on it.
            area_m2 = 4096 * np.pi * float(np.median(nearest.min(1))) ** 2 / np.log(2)
            points.append(places[: max(30, int(area_m2 * _BALLS_PER_M2))])
    means = torch.from_numpy((np.concatenate(points) - middle) / unit).float()
    count, size = len(means), 0.7 / _BALLS_PER_M2**0.5 / unit
    return Splats(
        means,
        torch.full((count, 3), float(np.log(size))),
        torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1),
        torch.full((count,), 3.0),
        torch.zeros(count, 3),
    )


def _pose(image: RegisteredImage, middle: Floats, unit: float) -> Floats:
    pose = image.world_from_camera.copy()
    pose[:3, 3] = (pose[:3, 3] - middle) / unit
    return pose


def _target(image: RegisteredImage, scene: SolidScene, middle: Floats, unit: float) -> TargetImage:
    """Return a photo of the training with the true mask of the object."""
    factor = _PHOTO_PX / image.camera.width_px
    width, height = _PHOTO_PX, round(image.camera.height_px * factor)
    focal = image.camera.focal_px[0] * factor
    camera = Camera(width, height, focal, focal, width / 2, height / 2)
    rays = _rays(image.world_from_camera, width, height, focal)
    mask = torch.from_numpy((_nearest(scene, image.centre, rays)[1] == 0).astype(np.uint8) * 255)
    pose = torch.from_numpy(np.linalg.inv(_pose(image, middle, unit))).float()
    return TargetImage(camera, pose, torch.zeros(height, width, 3, dtype=torch.uint8), mask[..., None])


def _rays(pose: Floats, width: int, height: int, focal: float) -> Floats:
    """Return the rays [H, W, 3] through the middles of the pixels; depth 1."""
    u, v = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
    return np.stack([u / focal, v / focal, np.ones_like(u)], -1) @ pose[:3, :3].T


def _nearest(scene: SolidScene, eye: Floats, rays: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Return how far along the rays the nearest solid is, and its label; -9 where there is none."""
    depth = np.stack([solid.depth(eye.astype(np.float32), rays.astype(np.float32)) for solid in scene.solids])
    place = depth.argmin(0)
    found = np.take_along_axis(depth, place[None], 0)[0]
    return found, np.where(found < FARTHEST_M, np.array(scene.labels)[place], -9)


def _true_share(scene: SolidScene, orbit: CameraOrbit, frame: int, middle: Floats, unit: float) -> float:
    pose = orbit.world_from_camera(frame)
    eye, rays = middle + unit * pose[:3, 3], _rays(pose, _FRAME_PX, _FRAME_PX, orbit.focal_px)
    solids = tuple(solid for solid, label in zip(scene.solids, scene.labels, strict=True) if label == 0)
    own = SolidScene(solids, (0,) * len(solids), scene.images)  # frames show the object alone
    depth, label = _nearest(own, eye, rays)
    points = eye + depth[label == 0][:, None] * rays[label == 0]
    if not len(points):
        return 0.0
    seen = np.zeros(len(points), bool)
    to_eye = (eye - points) / np.linalg.norm(eye - points, axis=1, keepdims=True)
    for image in scene.images:
        to_photo = image.centre - points
        near = (to_photo * to_eye).sum(1) >= np.cos(np.radians(NEARBY_DEG)) * np.linalg.norm(to_photo, axis=1)
        near &= ~seen & _inside(image, points)
        if near.any():
            seen[near] = _nearest(scene, image.centre, -to_photo[near])[0] > _FREE
    return float(seen.mean())


def _inside(image: RegisteredImage, points: Floats) -> Bools:
    local = (points - image.centre) @ image.world_from_camera[:3, :3]
    ahead = local[:, 2] > 0
    u, v = (local[:, axis] / np.where(ahead, local[:, 2], 1.0) * image.camera.focal_px[0] for axis in (0, 1))
    return np.asarray(ahead & (np.abs(u) < image.camera.width_px / 2) & (np.abs(v) < image.camera.height_px / 2))


if __name__ == "__main__":
    main()
