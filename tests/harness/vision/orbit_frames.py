"""Frames of an orbit in the format of the rendering stage, rendered from the simulator's scene (ground truth)."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import cv2
import numpy as np

from modal_workers.nerf.orbit import FILLED, CameraOrbit
from modal_workers.nerf.params import BATCH_FRAMES, NerfParams
from simulators.toy.ground_truth import ToyGroundTruth
from simulators.toy.ring_camera import TARGET_M, PosedCamera
from simulators.toy.room_scene import room_scene

RADIUS_M = 0.14
DISTANCE_M = 0.52


def orbit_of(params: NerfParams, elevations_deg: tuple[float, ...]) -> CameraOrbit:
    focal = 0.5 * FILLED / np.tan(np.arcsin(RADIUS_M / DISTANCE_M))
    return CameraOrbit(elevations_deg, params.azimuths, DISTANCE_M, float(focal), params.frame_size_px, TARGET_M)


def write_frames(
    folder: Path, params: NerfParams, elevations_deg: tuple[float, ...], seed: int = 0, shift_px: int = 0
) -> None:
    """Write all frames as ``folder/frames/batch_NN.zip`` with their JSON; ``shift_px`` makes them wrong."""
    orbit, size = orbit_of(params, elevations_deg), params.frame_size_px
    (folder / "frames").mkdir(parents=True, exist_ok=True)
    for batch in range(params.batches):
        path = folder / "frames" / f"batch_{batch:02d}.zip"
        listed = []
        with zipfile.ZipFile(path, "w") as archive:
            for frame in range(batch * BATCH_FRAMES, min(params.frames, (batch + 1) * BATCH_FRAMES)):
                pose = orbit.world_from_camera(frame)
                cutout = room_scene(seed).cutout(PosedCamera(size, size, orbit.focal_px, pose))
                picture = cv2.cvtColor(np.roll(cutout, shift_px, 1), cv2.COLOR_RGBA2BGRA)
                archive.writestr(f"frame_{frame:04d}.png", cv2.imencode(".png", picture)[1].tobytes())
                azimuth_deg, elevation_deg = orbit.angles_deg(frame)
                angles = {"azimuth_deg": azimuth_deg, "elevation_deg": elevation_deg}
                name = {"index": frame, "name": f"frame_{frame:04d}.png"}
                listed.append(name | angles | {"world_from_camera": pose.tolist()})
        lens = {"w": size, "h": size, "fl_x": orbit.focal_px}
        path.with_suffix(".json").write_text(json.dumps({"camera": lens, "frames": listed}))


def write_model(folder: Path, params: NerfParams, elevations_deg: tuple[float, ...], truth: ToyGroundTruth) -> None:
    """Write the poses and the model's coordinate frame (rotated, shifted, scaled), for a comparison with the truth."""
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    found_from_true = np.eye(4)
    found_from_true[:3, :3], found_from_true[:3, 3] = 3 * turn, (1, 2, 3)
    frames = []
    for name, camera in truth.cameras.items():
        pose = found_from_true @ camera.world_from_camera
        pose[:3, :3] /= 3
        opengl = pose @ np.diag([1.0, -1.0, -1.0, 1.0])
        frames.append({"file_path": f"images/{len(frames):04d}_{name}", "transform_matrix": opengl.tolist()})
    for part in ("dataset", "model"):
        (folder / part).mkdir(exist_ok=True)
    (folder / "dataset" / "transforms.json").write_text(json.dumps({"frames": frames}))
    config = {"frame": {"poses_from_model": found_from_true.tolist()}}
    (folder / "model" / "config.json").write_text(json.dumps(config))
