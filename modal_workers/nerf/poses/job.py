"""From the photos of a capture to where each was taken from: unpack, search, bring into a frame, hand over."""

from __future__ import annotations

import importlib.util
import json
import time
import zipfile
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.poses.dataset import transforms, write_dataset, write_masks, write_points
from modal_workers.nerf.poses.export import build_report, export_model
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
    """Find the cameras of a capture.

    Raises:
        SaccadeError: BACKEND_NOT_INSTALLED; POSES_NOT_FOUND, POSES_SPLIT, TIMED_OUT, OUT_OF_MEMORY, WORKER_BROKEN,
            see ``Search.run``.
    """
    # Looked for, never imported: see colmap/pycolmap_process.py.
    if importlib.util.find_spec("pycolmap") is None:
        raise SaccadeError(
            ErrorCode.BACKEND_NOT_INSTALLED,
            "Cameras are found with pycolmap, which is not installed.",
            hint="pip install 'saccade[nerf]'",
        )
    with context.stage("poses"):
        told = context.checkpoint(REPORT)
        if told is None:
            _find(params, context)
            told = context.checkpoint(REPORT)
            assert told is not None
        _save(context)
        return PosesReport.model_validate_json(told.read_bytes())


def _find(params: NerfParams, context: Context) -> None:
    """Do the work and keep it, the report last: where it is, everything else is too."""
    began_s = time.monotonic()
    archive = context.checkpoint("capture.zip")
    if archive is None:
        raise SaccadeError(ErrorCode.WORKER_BROKEN, "The capture stage has left no photos.")
    captured = unpack(archive, context.scratch / "capture")
    search = PoseSearch(captured, params, context)
    found = search.run()
    finishing_s = time.monotonic()
    folder = context.scratch / "finished"
    plain, undistorted = export_model(search.mapper, captured, found, folder, context.progress)
    names = {photo.file: photo.name for photo in captured.photos if photo.file in found.judged.names}
    masks = folder / "masks"
    write_masks(captured.masks, plain, undistorted, masks, context.check)
    masked = all((masks / f"{photo.name}.png").exists() for photo in undistorted.photos)
    layout = transforms(undistorted.photos, names, masked)
    (folder / "transforms.json").write_text(json.dumps(layout, indent=1) + "\n")
    write_points(undistorted, folder)
    images = folder / "undistorted" / "images"
    write_dataset(folder / DATASET, layout, names, images=images, masks=masks, points=folder, check=context.check)
    files = {name: folder / "named" / name for name in COLMAP} | {"transforms.json": folder / "transforms.json"}
    write_zip(folder / MODEL, files.items())
    now_s = time.monotonic()
    spent_s = {**found.durations_s, "finish": round(now_s - finishing_s, 3), "all": round(now_s - began_s, 3)}
    (folder / REPORT).write_text(build_report(captured, found, plain, undistorted, spent_s).model_dump_json(indent=1))
    context.progress(0.97, "handing over")
    for name in (DATASET, MODEL, REPORT):
        context.keep(folder / name, name)


def _save(context: Context) -> None:
    """Save the artifacts from what was kept: a run that goes on after a loss has to name them too."""
    path = context.checkpoint(MODEL)
    assert path is not None
    folder = context.scratch / "artifacts"
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    for name in COLMAP:
        context.save(folder / name, f"colmap/{name}", "application/octet-stream", title=f"COLMAP's {name}")
    title = "Cameras, as nerfstudio reads them"
    context.save(folder / "transforms.json", "dataset/transforms.json", "application/json", title=title)
