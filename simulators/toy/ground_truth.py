"""What was true when the photos were taken, and how far a reconstruction is from it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulators.toy.locomotive import BOUNDS_M
from simulators.toy.other_objects import TOY
from simulators.toy.ring_camera import TARGET_M, PosedCamera
from simulators.toy.room_scene import BOUNCED, RoomScene, room_scene
from simulators.toy.textures import Picture

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ToyGroundTruth:
    """The scene's seed, the cameras by the photos' file names, and how far they stood from the toy (m)."""

    seed: int
    radius_m: float
    cameras: dict[str, PosedCamera]
    textured: bool = True
    #: Photos that are of the scene of another seed.
    strangers: tuple[str, ...] = ()
    bounced: float = BOUNCED
    thing: str = TOY

    @property
    def scene(self) -> RoomScene:
        """The scene; it is painted once."""
        return room_scene(self.seed, textured=self.textured, bounced=self.bounced, thing=self.thing)

    @property
    def bounds_m(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Lowest and highest corner of the toy."""
        return BOUNDS_M if self.thing == TOY else self.scene.bounds_m

    def picture(self, camera: PosedCamera) -> Picture:
        """Give what a camera sees: RGB [H, W, 3]."""
        return self.scene.picture(camera)

    def silhouette(self, camera: PosedCamera) -> Picture:
        """Give how much of each pixel the toy covers: [H, W], 0 to 255."""
        return self.scene.silhouette(camera)

    def cutout(self, camera: PosedCamera) -> Picture:
        """Give the toy alone, straight alpha: RGBA [H, W, 4]."""
        return self.scene.cutout(camera)

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        told = {
            "seed": self.seed,
            "textured": self.textured,
            "bounced": self.bounced,
            "thing": self.thing,
            "radius_m": self.radius_m,
            "target_m": TARGET_M,
            "bounds_m": self.bounds_m,
            "axes": "world_from_camera: x right, y down, z ahead (OpenCV); world z up, metres",
            "strangers": self.strangers,
            "photos": {name: camera.written() for name, camera in self.cameras.items()},
        }
        path.write_text(json.dumps(told, indent=1))

    @classmethod
    def load(cls, path: Path) -> ToyGroundTruth:
        """Read what ``save`` wrote."""
        told = json.loads(path.read_text())
        cameras = {name: PosedCamera.read(one) for name, one in told["photos"].items()}
        strangers = tuple(told["strangers"])
        return cls(told["seed"], told["radius_m"], cameras, told["textured"], strangers, told["bounced"], told["thing"])


@dataclass(frozen=True)
class SimilarityTransform:
    """The similarity that lays the reconstruction's world over the true one: x -> scale rotation x + shift."""

    scale: float
    rotation: Floats
    shift: Floats

    def camera(self, pose: Floats, width_px: int, height_px: int, focal_px: float) -> PosedCamera:
        """Give the true world's camera of a ``world_from_camera`` [4, 4] of the reconstruction."""
        moved = np.eye(4)
        moved[:3, :3] = self.rotation @ pose[:3, :3]
        moved[:3, 3] = self.scale * self.rotation @ pose[:3, 3] + self.shift
        return PosedCamera(width_px, height_px, focal_px, moved)


def fit_similarity(found: Floats, true: Floats) -> SimilarityTransform:
    """Lay points [N, 3] over others, least squares (Umeyama, PAMI 13(4), 1991).

    Raises:
        ValueError: fewer than three points, or all in one place.
    """
    if len(found) < 3:
        raise ValueError(f"{len(found)} points cannot be laid over others")
    middle, true_middle = found.mean(0), true.mean(0)
    spread = float(((found - middle) ** 2).sum() / len(found))
    if spread == 0:
        raise ValueError("the points are all in one place")
    u, stretch, vt = np.linalg.svd((true - true_middle).T @ (found - middle) / len(found))
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u * sign @ vt
    scale = float((stretch * sign).sum() / spread)
    return SimilarityTransform(scale, rotation, true_middle - scale * rotation @ middle)


def pose_errors(poses: dict[str, Floats], truth: ToyGroundTruth) -> tuple[Floats, SimilarityTransform]:
    """Give how far each camera is from where it stood, as a share of the orbit's radius, after alignment.

    ``poses``: ``world_from_camera`` [4, 4] by photo name. Raises KeyError where a photo is none of the truth's.
    """
    found = np.array([pose[:3, 3] for pose in poses.values()])
    true = np.array([truth.cameras[name].world_from_camera[:3, 3] for name in poses])
    laid = fit_similarity(found, true)
    moved = laid.scale * found @ laid.rotation.T + laid.shift
    return np.linalg.norm(moved - true, axis=1) / truth.radius_m, laid
