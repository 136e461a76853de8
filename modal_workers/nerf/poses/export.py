"""The end of the search: the model in a frame of its own, its photos undistorted, and what is told about it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from modal_workers.nerf.poses.colmap.model_files import SparseModel, read_model
from modal_workers.nerf.poses.colmap.pycolmap_runner import PycolmapRunner
from modal_workers.nerf.poses.image_set import ImageSet, original_names
from modal_workers.nerf.poses.quality_checks import WHOLE_SHARE, list_names
from modal_workers.nerf.poses.search import SelectedModel
from modal_workers.nerf.poses.spec import PosesReport
from modal_workers.nerf.poses.world_frame import elevations_deg, find_world_frame

_JPEG_QUALITY: Final = 95
_LIMIT_S: Final = 1800.0


def export_model(
    mapper: PycolmapRunner,
    captured: ImageSet,
    found: SelectedModel,
    folder: Path,
    progress: Callable[[float, str], None],
) -> tuple[SparseModel, SparseModel]:
    """Bring the model into its frame; give it with the lenses as they are, and with the undistorted photos' ones.

    In ``folder``: ``plain`` and ``undistorted`` name photos as they lie on disk, ``named`` as results do.

    Raises:
        SaccadeError: OUT_OF_MEMORY, WORKER_BROKEN.
    """
    judged = found.judged
    kept = np.array([judged.model.photos[place].world_from_camera for place in judged.kept])
    order = {
        "model": str(found.folder),
        "images": str(captured.images),
        "names": judged.names,
        "final_names": {photo.file: photo.name for photo in captured.photos},
        "new_from_old": find_world_frame(kept).matrix().tolist(),
        "plain": str(folder / "plain"),
        "named": str(folder / "named"),
        "undistorted": str(folder / "undistorted"),
        "jpeg_quality": _JPEG_QUALITY,
    }

    def told(_step: str, done: int, total: int) -> None:
        progress(0.9 + 0.05 * done / max(1, total), f"undistorting {len(judged.kept)} photos")

    def afresh() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()

    mapper.run("finish", order, told, limit_s=_LIMIT_S, afresh=afresh)
    return read_model(folder / "plain"), read_model(folder / "undistorted" / "sparse")


def build_report(
    captured: ImageSet, found: SelectedModel, plain: SparseModel, undistorted: SparseModel, spent_s: dict[str, float]
) -> PosesReport:
    """Tell how many photos were placed, and how well."""
    kept = set(found.judged.names)
    missing = original_names(captured.photos, [photo.file for photo in captured.photos if photo.file not in kept])
    photos = len(captured.photos)
    warnings = []
    if len(kept) < WHOLE_SHARE * photos:
        warnings.append(
            f"{len(missing)} of {photos} photos could not be placed and are left out: {list_names(missing)}."
        )
    if captured.repeated:
        copies = len(captured.repeated)
        warnings.append(f"{copies} more show nothing new and were not used: {list_names(captured.repeated)}.")
    heights = elevations_deg(plain.centres)
    distances = np.linalg.norm(plain.centres, axis=1)
    return PosesReport(
        photos_given=photos + len(captured.repeated),
        photos_registered=len(kept),
        not_registered=missing,
        repeated=list(captured.repeated),
        warnings=warnings,
        reprojection_error_px=round(float(plain.error_px.mean()), 4),
        points=len(plain.xyz),
        mean_track_length=round(float(plain.track_length.mean()), 3),
        components=found.judged.components,
        models=found.models,
        matcher=found.attempts[-1].matcher,
        attempts=list(found.attempts),
        focal_px=round(float(np.median([photo.lens.focal_px[0] for photo in undistorted.photos])), 3),
        camera_distance_median=round(float(np.median(distances)), 6),
        elevation_min_deg=round(float(heights.min()), 2),
        elevation_max_deg=round(float(heights.max()), 2),
        durations_s=spent_s,
    )
