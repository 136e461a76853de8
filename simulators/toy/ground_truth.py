"""Ground truth of the toy photos, and errors of reconstructed camera poses."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulators.toy.locomotive import BOUNDS_M
from simulators.toy.other_objects import TOY
from simulators.toy.ring_camera import TARGET_M, PosedCamera
from simulators.toy.room_scene import BOUNCED, Material, RoomScene, room_scene
from simulators.toy.textures import Picture

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ToyGroundTruth:
    """The scene's seed, the cameras by photo name, and their distance from the toy (m)."""

    seed: int
    radius_m: float
    cameras: dict[str, PosedCamera]
    textured: bool = True
    #: Photos of the scene of another seed.
    strangers: tuple[str, ...] = ()
    bounced: float = BOUNCED
    thing: str = TOY
    material: Material = "painted"

    @property
    def scene(self) -> RoomScene:
        """The scene; it is painted once."""
        return room_scene(
            self.seed, textured=self.textured, bounced=self.bounced, thing=self.thing, material=self.material
        )

    @property
    def bounds_m(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Lowest and highest corner of the toy."""
        return BOUNDS_M if self.thing == TOY else self.scene.bounds_m

    def picture(self, camera: PosedCamera) -> Picture:
        """Return the image of a camera: RGB [H, W, 3]."""
        return self.scene.picture(camera)

    def silhouette(self, camera: PosedCamera) -> Picture:
        """Return the coverage of each pixel by the toy: [H, W], 0 to 255."""
        return self.scene.silhouette(camera)

    def cutout(self, camera: PosedCamera) -> Picture:
        """Return the toy alone, straight alpha: RGBA [H, W, 4]."""
        return self.scene.cutout(camera)

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        stored = {
            "seed": self.seed,
            "textured": self.textured,
            "bounced": self.bounced,
            "thing": self.thing,
            "material": self.material,
            "radius_m": self.radius_m,
            "target_m": TARGET_M,
            "bounds_m": self.bounds_m,
            "axes": "world_from_camera: x right, y down, z ahead (OpenCV); world z up, metres",
            "strangers": self.strangers,
            "photos": {name: camera.to_json() for name, camera in self.cameras.items()},
        }
        path.write_text(json.dumps(stored, indent=1))

    @classmethod
    def load(cls, path: Path) -> ToyGroundTruth:
        """Load what ``save`` wrote."""
        stored = json.loads(path.read_text())
        return cls(
            stored["seed"],
            stored["radius_m"],
            {name: PosedCamera.from_json(camera) for name, camera in stored["photos"].items()},
            stored["textured"],
            tuple(stored["strangers"]),
            stored["bounced"],
            stored["thing"],
            stored.get("material", "painted"),
        )


@dataclass(frozen=True)
class SimilarityTransform:
    """The similarity from the reconstruction to the true world: x -> scale rotation x + shift."""

    scale: float
    rotation: Floats
    shift: Floats

    def camera(self, pose: Floats, width_px: int, height_px: int, focal_px: float) -> PosedCamera:
        """Return the camera in the true world of a ``world_from_camera`` [4, 4] of the reconstruction."""
        moved = np.eye(4)
        moved[:3, :3] = self.rotation @ pose[:3, :3]
        moved[:3, 3] = self.scale * self.rotation @ pose[:3, 3] + self.shift
        return PosedCamera(width_px, height_px, focal_px, moved)


def fit_similarity(found: Floats, true: Floats) -> SimilarityTransform:
    """Fit a similarity from points [N, 3] to others, least squares (Umeyama, PAMI 13(4), 1991).

    Raises:
        ValueError: fewer than three points, or all in one place.
    """
    if len(found) < 3:
        raise ValueError(f"{len(found)} points are too few to fit a similarity")
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
    """Return the distance of each camera from its true position after alignment, as a share of the orbit's radius.

    ``poses``: ``world_from_camera`` [4, 4] by photo name. Raises KeyError for a photo that is not in the ground truth.
    """
    found = np.array([pose[:3, 3] for pose in poses.values()])
    true = np.array([truth.cameras[name].world_from_camera[:3, 3] for name in poses])
    similarity = fit_similarity(found, true)
    moved = similarity.scale * found @ similarity.rotation.T + similarity.shift
    return np.linalg.norm(moved - true, axis=1) / truth.radius_m, similarity
