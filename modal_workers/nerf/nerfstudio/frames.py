"""Frames drawn by nerfstudio: our script runs in its environment and leaves one picture after the other."""

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
#: How the script says that a frame lies there.
DRAWN: Final = "drawn "


class NerfstudioFrames:
    """A ``FrameSource``."""

    def __init__(self, scene: TrainedScene, settings: NerfstudioSettings, check: Callable[[], None]) -> None:
        """Refuse where nerfstudio is missing; ``check`` raises where the job was asked to stop.

        Raises:
            SaccadeError: BACKEND_NOT_INSTALLED.
        """
        require_nerfstudio(settings.home)
        self._scene, self._settings, self._check = scene, settings, check

    def frames(self, orbit: CameraOrbit, wanted: Iterable[int]) -> Iterator[tuple[int, Bytes]]:
        """Draw some frames in order, RGBA with straight alpha [S, S, 4].

        Raises:
            SaccadeError: OUT_OF_MEMORY, WORKER_BROKEN.
        """
        order = list(wanted)
        if not order:
            return
        work = self._settings.work
        folder = work / "frames"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        told = work / "frames.json"
        config = run_folder(work / "runs") / "config.yml"
        told.write_text(json.dumps(render_request(self._scene, orbit, order, config, folder)), encoding="utf-8")
        command = [str(self._settings.home / "bin/python"), str(SCRIPT), str(told)]
        for line in run_program(command, work, self._check):
            if line.startswith(DRAWN):
                index = int(line.removeprefix(DRAWN))
                path = folder / f"{index}.npy"
                yield index, np.asarray(np.load(path, allow_pickle=False), np.uint8)
                path.unlink()


def render_request(
    scene: TrainedScene, orbit: CameraOrbit, frames: list[int], config: Path, folder: Path
) -> dict[str, Any]:
    """Say what the script is to draw, in the poses' coordinates, which nerfstudio kept; its axes are OpenGL's.

    The box is the sphere's: what is outside of it is left out, and so is what is under the table where one was found.
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
