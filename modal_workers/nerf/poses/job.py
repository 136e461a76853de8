"""The poses stage: unpack the photos, search the poses, export the model, hand over."""

from __future__ import annotations

import importlib.util
import json
import time
import zipfile
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.poses.dataset import transforms, write_dataset, write_masks, write_points
from modal_workers.nerf.poses.export import build_report, check_coverage, export_model, find_object_of
from modal_workers.nerf.poses.image_set import unpack
from modal_workers.nerf.poses.search import PoseSearch
from modal_workers.nerf.poses.spec import PosesReport
from modal_workers.nerf.stored_zip import write_zip
from modal_workers.runtime.context import Context

COLMAP: Final = ("cameras.bin", "images.bin", "points3D.bin")
DATASET: Final = "dataset.zip"
MODEL: Final = "poses_model.zip"
REPORT: Final = "poses.json"


def run(params: NerfParams, context: Context) -> PosesReport:
    """Find the camera poses of a capture.

    Raises:
        SaccadeError: BACKEND_NOT_INSTALLED; CAPTURE_REFUSED, see ``check_coverage``; POSES_NOT_FOUND, POSES_SPLIT,
            TIMED_OUT, OUT_OF_MEMORY, WORKER_BROKEN, see ``PoseSearch.run``.
    """
    # Found, but never imported here: see colmap/pycolmap_process.py.
    if importlib.util.find_spec("pycolmap") is None:
        raise SaccadeError(
            ErrorCode.BACKEND_NOT_INSTALLED,
            "The camera poses are computed with pycolmap, which is not installed.",
            hint="In a clone of the repository: make up-all",
        )
    with context.stage("poses"):
        report_path = context.checkpoint(REPORT)
        if report_path is None:
            _find(params, context)
            report_path = context.checkpoint(REPORT)
            assert report_path is not None
        _save(context)
        return PosesReport.model_validate_json(report_path.read_bytes())


def _find(params: NerfParams, context: Context) -> None:
    """Run the stage and keep its files, the report last: where it exists, all files do."""
    began_s = time.monotonic()
    archive = context.checkpoint("capture.zip")
    if archive is None:
        raise SaccadeError(ErrorCode.WORKER_BROKEN, "The archive of the capture stage is missing.")
    images = unpack(archive, context.scratch / "capture")
    search = PoseSearch(images, params, context)
    selected = search.run()
    finishing_s = time.monotonic()
    folder = context.scratch / "finished"
    distorted, undistorted = export_model(search.runner, images, selected, folder, context.progress)
    names = {photo.file: photo.name for photo in images.photos if photo.file in selected.checked.names}
    masks = folder / "masks"
    write_masks(images.masks, distorted, undistorted, masks, context.check)
    masked = all((masks / f"{photo.name}.png").exists() for photo in undistorted.images)
    layout = transforms(undistorted.images, names, masked)
    check_coverage(distorted, params)
    found = None if masked and params.background != "sphere" else find_object_of(distorted, images, seed=params.seed)
    (folder / "transforms.json").write_text(json.dumps(layout, indent=1) + "\n")
    write_points(undistorted, folder)
    undistorted_images = folder / "undistorted" / "images"
    write_dataset(
        folder / DATASET, layout, names, images=undistorted_images, masks=masks, points=folder, found=found,
        check=context.check,
    )  # fmt: skip
    files = {name: folder / "named" / name for name in COLMAP} | {"transforms.json": folder / "transforms.json"}
    write_zip(folder / MODEL, files.items())
    now_s = time.monotonic()
    durations_s = {**selected.durations_s, "finish": round(now_s - finishing_s, 3), "all": round(now_s - began_s, 3)}
    (folder / REPORT).write_text(
        build_report(images, selected, distorted, undistorted, durations_s, found).model_dump_json(indent=1)
    )
    context.progress(0.97, "saving the dataset")
    for name in (DATASET, MODEL, REPORT):
        context.keep(folder / name, name)


def _save(context: Context) -> None:
    """Save the artifacts from the kept files: a resumed run has to publish them too."""
    path = context.checkpoint(MODEL)
    assert path is not None
    folder = context.scratch / "artifacts"
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    for name in COLMAP:
        context.save(folder / name, f"colmap/{name}", "application/octet-stream", title=f"COLMAP's {name}")
    title = "Cameras for nerfstudio"
    context.save(folder / "transforms.json", "dataset/transforms.json", "application/json", title=title)
