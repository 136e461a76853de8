"""Content of ``model/config.json``: everything needed to render the model and to repeat the training."""

from __future__ import annotations

from typing import Any

import torch

from modal_workers.nerf.orbit import focal_for
from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.scene import TrainedScene
from modal_workers.nerf.training.spec import TrainingReport


def config_of(params: NerfParams, scene: TrainedScene, report: TrainingReport) -> dict[str, Any]:
    """Return the description of a trained model: frame, orbit, parameters and report."""
    low, high = scene.captured_elevations_deg
    return {
        "backend": report.backend,
        "format": "3D Gaussian Splatting PLY" if scene.splats is not None else "nerfstudio",
        "versions": {"torch": torch.__version__},
        "frame": {
            "axes": "right-handed, z up, the object at the origin; 1 is about the distance of the cameras",
            "poses_from_model": scene.sfm_from_scene.tolist(),
            "object_radius": scene.radius,
        },
        "orbit": {
            "distance": scene.distance,
            "focal_of_frame_side": focal_for(scene.radius, scene.distance),
            "captured_elevations_deg": [low, high],
        },
        "parameters": params.model_dump(mode="json"),
        "trained": report.model_dump(mode="json", exclude={"curve"}),
    }
