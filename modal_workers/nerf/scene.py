"""The trained scene that rendering receives: the splats of the object, and its measures for the orbit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from modal_workers.gaussians.splats import Splats
from modal_workers.nerf.orbit import CameraOrbit, elevations_deg, focal_for
from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.photo_arcs import FULL_CIRCLE, Arc, photographed_arcs

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_SPLATS = "splats."


@dataclass(frozen=True)
class TrainedScene:
    """The object in a frame of its own: its centre is the origin, z is up, the cameras are about 1 away."""

    radius: float  # of the sphere around the object
    distance: float  # of the orbit: the photos' median
    captured_elevations_deg: tuple[float, float]  # lowest and highest of the photos
    sfm_from_scene: Floats  # [4, 4] a similarity to the frame of the poses
    splats: Splats | None = None  # nerfstudio's models have none
    floor: float | None = None  # height of the table, below the centre; None without a table
    cameras: Floats | None = None  # [V, 3] positions of all registered photos
    seen_by: Bools | None = None  # [N, V] which splat is visible in which photo of the training

    def orbit(self, params: NerfParams) -> CameraOrbit:
        """Return the orbit around the object for the parameters."""
        return CameraOrbit(
            elevations_deg(params, self.captured_elevations_deg),
            params.azimuths,
            self.distance,
            focal_for(self.radius, self.distance),
            params.frame_size_px,
            arcs=rendered_arcs(params, self.cameras),
        )

    def save(self, path: Path) -> None:
        """Write everything into one npz."""
        arrays: dict[str, Any] = {
            "radius": self.radius,
            "distance": self.distance,
            "captured_elevations_deg": np.array(self.captured_elevations_deg),
            "sfm_from_scene": self.sfm_from_scene,
        }
        if self.floor is not None:
            arrays["floor"] = self.floor
        if self.cameras is not None:
            arrays["cameras"] = self.cameras
        if self.seen_by is not None:
            arrays["seen_by"] = np.packbits(self.seen_by, axis=1)
        if self.splats is not None:
            tensors = self.splats.detach().to("cpu").tensors()
            arrays |= {f"{_SPLATS}{name}": tensor.numpy() for name, tensor in tensors.items()}
        with path.open("wb") as file:
            np.savez(file, **arrays)

    @staticmethod
    def load(path: Path) -> TrainedScene:
        """Read what ``save`` wrote; only numbers are read, never code."""
        with np.load(path, allow_pickle=False) as arrays:
            names = [name for name in arrays.files if name.startswith(_SPLATS)]
            tensors = {name.removeprefix(_SPLATS): torch.from_numpy(arrays[name]) for name in names}
            low, high = (float(angle) for angle in arrays["captured_elevations_deg"])
            cameras = read_cameras(arrays)
            return TrainedScene(
                float(arrays["radius"]),
                float(arrays["distance"]),
                (low, high),
                arrays["sfm_from_scene"],
                Splats(**tensors) if tensors else None,
                float(arrays["floor"]) if "floor" in arrays.files else None,
                cameras,
                None if cameras is None or "seen_by" not in arrays.files else _unpacked(arrays["seen_by"], cameras),
            )


def rendered_arcs(params: NerfParams, cameras: Floats | None) -> tuple[Arc, ...]:
    """Return the arcs of the orbit: those that were photographed, unless the whole circle is asked for."""
    return FULL_CIRCLE if cameras is None or params.orbit == "full" else photographed_arcs(cameras)


def read_cameras(arrays: Any) -> Floats | None:
    """Return the camera positions [V, 3] of a scene's file; None in a file of an earlier version."""
    return np.asarray(arrays["cameras"], np.float64) if "cameras" in arrays.files else None


def _unpacked(packed: NDArray[np.uint8], cameras: Floats) -> Bools:
    return np.unpackbits(packed, axis=1, count=len(cameras)).astype(bool)
