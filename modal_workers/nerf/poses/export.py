"""Export of the accepted model: world frame, undistorted photos, and the report."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.nerf.found_object import FoundObject
from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.photo_arcs import OPEN_GAP_DEG, REFUSED_GAP_DEG, widest_gap_deg
from modal_workers.nerf.poses.colmap.model_files import SparseModel, read_model
from modal_workers.nerf.poses.colmap.pycolmap_runner import PycolmapRunner
from modal_workers.nerf.poses.image_set import ImageSet, original_names
from modal_workers.nerf.poses.object_finding.finding import find_object
from modal_workers.nerf.poses.object_finding.hinted import PlacedHint, find_hinted_object
from modal_workers.nerf.poses.quality_checks import WHOLE_SHARE, list_names
from modal_workers.nerf.poses.search import SelectedModel
from modal_workers.nerf.poses.spec import PosesReport
from modal_workers.nerf.poses.world_frame import elevations_deg, find_world_frame

_JPEG_QUALITY: Final = 95
_LIMIT_S: Final = 1800.0


def export_model(
    runner: PycolmapRunner,
    images: ImageSet,
    selected: SelectedModel,
    folder: Path,
    progress: Callable[[float, str], None],
) -> tuple[SparseModel, SparseModel]:
    """Transform the model into its world frame; return it with the original cameras and undistorted.

    In ``folder``: ``plain`` and ``undistorted`` use the file names on disk, ``named`` those of the results.

    Raises:
        SaccadeError: OUT_OF_MEMORY, WORKER_BROKEN.
    """
    checked = selected.checked
    kept = np.array([checked.model.images[place].world_from_camera for place in checked.kept])
    request = {
        "model": str(selected.folder),
        "images": str(images.images),
        "names": checked.names,
        "final_names": {photo.file: photo.name for photo in images.photos},
        "new_from_old": find_world_frame(kept).matrix().tolist(),
        "plain": str(folder / "plain"),
        "named": str(folder / "named"),
        "undistorted": str(folder / "undistorted"),
        "jpeg_quality": _JPEG_QUALITY,
    }

    def on_progress(_step: str, done: int, total: int) -> None:
        progress(0.9 + 0.05 * done / max(1, total), f"undistorting {len(checked.kept)} photos")

    def clean_up() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()

    runner.run("finish", request, on_progress, limit_s=_LIMIT_S, clean_up=clean_up)
    return read_model(folder / "plain"), read_model(folder / "undistorted" / "sparse")


def check_coverage(model: SparseModel, params: NerfParams) -> None:
    """Refuse a model of less than about half of the object, which the pre-flight can only estimate.

    Raises:
        SaccadeError: CAPTURE_REFUSED, unless the verdict is ignored.
    """
    gap_deg = widest_gap_deg(model.centres)
    if gap_deg > REFUSED_GAP_DEG and not params.ignore_verdict:
        raise SaccadeError(
            ErrorCode.CAPTURE_REFUSED,
            f"{gap_deg:.0f}° of the circle around the object are in no photo (open_round).",
            hint="Take photos of the other sides too, every ten degrees. With ignore_verdict, only the photographed "
            "side is rendered.",
        )


def find_object_of(model: SparseModel, images: ImageSet, *, seed: int) -> FoundObject:
    """Return the object of the accepted model: what the hint tells, or what the cameras look at."""
    if images.hint is None:
        return find_object(model, seed=seed)
    name, values = images.hint
    # A repeated photo was left out, and has no file.
    file = next((photo.file for photo in images.photos if PurePosixPath(photo.name).stem == name), "")
    return find_hinted_object(model, PlacedHint(file, values), seed=seed)


def build_report(  # noqa: PLR0917 - one argument per step
    images: ImageSet,
    selected: SelectedModel,
    distorted: SparseModel,
    undistorted: SparseModel,
    durations_s: dict[str, float],
    found: FoundObject | None,
) -> PosesReport:
    """Return the report: registered photos, quality and the object, unless masks tell what it is."""
    kept = set(selected.checked.names)
    unregistered = original_names(images.photos, [photo.file for photo in images.photos if photo.file not in kept])
    photos = len(images.photos)
    warnings = []
    if len(kept) < WHOLE_SHARE * photos:
        warnings.append(
            f"{len(unregistered)} of {photos} photos could not be placed and are left out: {list_names(unregistered)}."
        )
    if images.repeated:
        copies = len(images.repeated)
        warnings.append(f"{copies} more photos show nothing new and were not used: {list_names(images.repeated)}.")
    gap_deg = widest_gap_deg(distorted.centres)
    if gap_deg > OPEN_GAP_DEG:
        warnings.append(f"{gap_deg:.0f}° of the circle around the object are in no photo.")
    if found is None and images.hint is not None:
        warnings.append("object_hint was not used: the masks tell what the object is.")
    heights = elevations_deg(distorted.centres)
    distances = np.linalg.norm(distorted.centres, axis=1)
    return PosesReport(
        photos_given=photos + len(images.repeated),
        photos_registered=len(kept),
        not_registered=unregistered,
        repeated=list(images.repeated),
        warnings=warnings,
        reprojection_error_px=round(float(distorted.error_px.mean()), 4),
        points=len(distorted.xyz),
        mean_track_length=round(float(distorted.track_length.mean()), 3),
        components=selected.checked.components,
        models=selected.models,
        matcher=selected.attempts[-1].matcher,
        attempts=list(selected.attempts),
        focal_px=round(float(np.median([photo.camera.focal_px[0] for photo in undistorted.images])), 3),
        camera_distance_median=round(float(np.median(distances)), 6),
        elevation_min_deg=round(float(heights.min()), 2),
        elevation_max_deg=round(float(heights.max()), 2),
        widest_gap_deg=round(gap_deg, 1),
        durations_s=durations_s,
        object=found,
    )
