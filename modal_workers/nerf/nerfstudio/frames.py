"""Frames rendered by nerfstudio: a script runs in its environment and writes one array per frame."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from modal_workers.nerf.axis_conventions import OPENGL_FROM_OPENCV
from modal_workers.nerf.nerfstudio.commands import require_nerfstudio, run_folder, run_program
from modal_workers.nerf.nerfstudio.settings import NerfstudioSettings
from modal_workers.nerf.orbit import CameraOrbit
from modal_workers.nerf.rendering.frames import Bytes
from modal_workers.nerf.scene import TrainedScene

SCRIPT: Final = Path(__file__).with_name("draw_frames.py")
#: Output of the script when a frame is written.
DRAWN: Final = "drawn "


class NerfstudioFrames:
    """A ``FrameSource``."""

    def __init__(self, scene: TrainedScene, settings: NerfstudioSettings, check: Callable[[], None]) -> None:
        """Store the settings; ``check`` raises when the job was asked to stop.

        Raises:
            SaccadeError: BACKEND_NOT_INSTALLED.
        """
        require_nerfstudio(settings.home)
        self._scene, self._settings, self._check = scene, settings, check

    def frames(self, orbit: CameraOrbit, wanted: Iterable[int]) -> Iterator[tuple[int, Bytes]]:
        """Render frames in order, RGBA with straight alpha [S, S, 4].

        Raises:
            SaccadeError: OUT_OF_MEMORY, WORKER_BROKEN.
        """
        indices = list(wanted)
        if not indices:
            return
        work = self._settings.work
        folder = work / "frames"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        request_path = work / "frames.json"
        config = run_folder(work / "runs") / "config.yml"
        request_path.write_text(
            json.dumps(render_request(self._scene, orbit, indices, config, folder)), encoding="utf-8"
        )
        command = [str(self._settings.home / "bin/python"), str(SCRIPT), str(request_path)]
        for line in run_program(command, work, self._check):
            if line.startswith(DRAWN):
                index = int(line.removeprefix(DRAWN))
                path = folder / f"{index}.npy"
                yield index, np.asarray(np.load(path, allow_pickle=False), np.uint8)
                path.unlink()


def render_request(
    scene: TrainedScene, orbit: CameraOrbit, frames: list[int], config: Path, folder: Path
) -> dict[str, Any]:
    """Return the request for the script, in the frame of the poses, which nerfstudio kept, and with OpenGL axes.

    The box encloses the sphere: everything outside of it is cut off, and so is everything below the table where one was
    found.
    """
    unit = float(np.cbrt(np.linalg.det(scene.sfm_from_scene[:3, :3])))
    poses = {}
    for frame in frames:
        pose = scene.sfm_from_scene @ orbit.world_from_camera(frame)
        pose[:3, :3] /= unit
        poses[str(frame)] = (pose @ OPENGL_FROM_OPENCV)[:3].tolist()
    low = -scene.radius if scene.floor is None else max(-scene.radius, scene.floor)
    middle = scene.sfm_from_scene @ np.array([0.0, 0.0, (low + scene.radius) / 2, 1.0])
    return {
        "config": str(config),
        "folder": str(folder),
        "size_px": orbit.size_px,
        "focal_px": orbit.focal_px,
        "world_from_camera": poses,
        "box": {
            "rotation": (scene.sfm_from_scene[:3, :3] / unit).tolist(),
            "middle": middle[:3].tolist(),
            "sides": [2 * scene.radius * unit, 2 * scene.radius * unit, (scene.radius - low) * unit],
        },
    }
