"""Reports, cameras and measures of the earlier stages, read once."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.nerf.capture.spec import CaptureReport
from modal_workers.nerf.orbit import elevations_deg
from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.photo_arcs import FULL_CIRCLE, Arc, photographed_arcs
from modal_workers.nerf.poses.spec import PosesReport
from modal_workers.nerf.rendering.spec import RenderingReport
from modal_workers.nerf.training.spec import TrainingReport
from modal_workers.runtime.context import StageContext

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SceneDimensions:
    """Measures of the trained scene, in its own unit."""

    radius: float
    distance: float
    elevations_deg: tuple[float, ...]
    has_splats: bool
    #: Arcs of azimuth that photos show, in the frame of the scene; None in files of an earlier version.
    arcs: tuple[Arc, ...] | None = None
    #: Positions [V, 3] of the photos in the same frame; None in files of an earlier version.
    cameras: Floats | None = None


@dataclass(frozen=True)
class StageReports:
    """Reports of all stages; those that did not run are None."""

    params: NerfParams
    capture: CaptureReport
    poses: PosesReport | None = None
    training: TrainingReport | None = None
    renderings: tuple[RenderingReport, ...] = ()
    #: Positions [N, 3] of the cameras, in the frame of the poses (z up, median distance 1).
    cameras: Floats = field(default_factory=lambda: np.zeros((0, 3)))
    dimensions: SceneDimensions | None = None

    @property
    def arcs(self) -> tuple[Arc, ...] | None:
        """Arcs of azimuth that photos show; None where unknown."""
        return None if self.dimensions is None else self.dimensions.arcs

    @property
    def closed(self) -> bool:
        """Whether the rings of the frames go all the way around."""
        return all(rendering.arcs_deg == FULL_CIRCLE for rendering in self.renderings)

    @property
    def modelled(self) -> bool:
        """Whether there are frames."""
        return bool(self.renderings)


def read_stage_reports(params: NerfParams, context: StageContext) -> StageReports:
    """Read the files of the earlier stages.

    Raises:
        SaccadeError: INTERNAL, a file of a stage that ran is missing.
    """
    capture = CaptureReport.model_validate(_index(_required(context, "capture.zip"))["report"])
    if params.preflight_only:
        return StageReports(params, capture)
    poses = PosesReport.model_validate_json(_required(context, "poses.json").read_bytes())
    training = TrainingReport.model_validate_json(_required(context, "training.json").read_bytes())
    names = [f"rendering_{shard:03d}.json" for shard in range(params.batches)]
    renderings = tuple(RenderingReport.model_validate_json(_required(context, name).read_bytes()) for name in names)
    cameras = _cameras(_required(context, "dataset.zip"))
    dimensions = _dimensions(params, _required(context, "scene.npz"))
    return StageReports(params, capture, poses, training, renderings, cameras, dimensions)


def _required(context: StageContext, name: str) -> Path:
    path = context.checkpoint(name)
    if path is None:
        raise SaccadeError(ErrorCode.INTERNAL, f"The file {name} of an earlier stage is missing.")
    return path


def _index(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        found: dict[str, Any] = json.loads(archive.read("capture.json"))
        return found


def _cameras(path: Path) -> Floats:
    with zipfile.ZipFile(path) as archive:
        frames = json.loads(archive.read("transforms.json"))["frames"]
    return np.array([np.array(frame["transform_matrix"], np.float64)[:3, 3] for frame in frames]).reshape(-1, 3)


def _dimensions(params: NerfParams, path: Path) -> SceneDimensions:
    """Read only the measures, which needs no PyTorch."""
    with np.load(path, allow_pickle=False) as arrays:
        low, high = (float(angle) for angle in arrays["captured_elevations_deg"])
        rings = elevations_deg(params, (low, high))
        has_splats = any(name.startswith("splats.") for name in arrays.files)
        cameras = arrays["cameras"] if "cameras" in arrays.files else None
        arcs = None if cameras is None else photographed_arcs(cameras)
        return SceneDimensions(float(arrays["radius"]), float(arrays["distance"]), rings, has_splats, arcs, cameras)
