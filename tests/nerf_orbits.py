"""An orbit's frames as the rendering leaves them, but true ones: cut out of the simulator's scene."""

from __future__ import annotations

import zipfile
from pathlib import Path

import cv2
import numpy as np

from modal_workers.nerf.orbit import FILLED, Orbit
from modal_workers.nerf.params import BATCH_FRAMES, NerfParams
from modal_workers.nerf.simulator.camera import TARGET_M, Camera
from modal_workers.nerf.simulator.scene import scene_of

RADIUS_M = 0.14
DISTANCE_M = 0.52


def orbit_of(params: NerfParams, elevations_deg: tuple[float, ...]) -> Orbit:
    focal = 0.5 * FILLED / np.tan(np.arcsin(RADIUS_M / DISTANCE_M))
    return Orbit(elevations_deg, params.azimuths, DISTANCE_M, float(focal), params.frame_size_px, TARGET_M)


def write_frames(folder: Path, params: NerfParams, elevations_deg: tuple[float, ...], seed: int = 0) -> None:
    """Write ``folder/frames/batch_NN.zip`` with all frames."""
    orbit = orbit_of(params, elevations_deg)
    (folder / "frames").mkdir(parents=True, exist_ok=True)
    for batch in range(params.batches):
        with zipfile.ZipFile(folder / "frames" / f"batch_{batch:02d}.zip", "w") as archive:
            for frame in range(batch * BATCH_FRAMES, min(params.frames, (batch + 1) * BATCH_FRAMES)):
                size = params.frame_size_px
                camera = Camera(size, size, orbit.focal_px, orbit.world_from_camera(frame))
                picture = cv2.cvtColor(scene_of(seed).cutout(camera), cv2.COLOR_RGBA2BGRA)
                archive.writestr(f"frame_{frame:04d}.png", cv2.imencode(".png", picture)[1].tobytes())
