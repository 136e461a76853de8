"""Declaration of the pipeline from product photos to transparent frames: inputs, stages and their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from contracts.workload import Backend, Input, Stage, Workload
from modal_workers.nerf.found_object import find_named, unknown_photo
from modal_workers.nerf.params import NERFSTUDIO_PROGRAM, NerfParams
from modal_workers.nerf.result import NerfResult, headline


def _trains(params: Any) -> bool:
    return not params.preflight_only


def _trains_splats(params: Any) -> bool:
    return _trains(params) and params.backend == "gsplat"


def _trains_nerfstudio(params: Any) -> bool:
    return _trains(params) and params.backend == "nerfstudio"


def _shards(params: Any) -> int:
    return int(params.batches)


def _check_names(params: Any, names: Mapping[str, Sequence[str]]) -> tuple[tuple[str, ...], str] | None:
    """Return that the photo of the hint is not among those sent; the names in a ZIP or a video are not known yet."""
    photos = names.get("photos", ())
    if params.object_hint is None or not photos or find_named(params.object_hint.photo, photos) is not None:
        return None
    return ("object_hint", "photo"), unknown_photo(params.object_hint.photo, photos)


WORKLOAD = Workload(
    name="nerf",
    title="Product photos to transparent frames",
    description="Photos of an object from all sides become a model of it and an orbit of transparent pictures.",
    version="1",
    params=NerfParams,
    result=NerfResult,
    inputs=(
        Input("photos", "image", "Photos of the object, from all sides", minimum=0, maximum=500),
        Input("archive", "archive", "The photos as one ZIP, instead", minimum=0),
        Input("video", "video", "A video around the object, instead", minimum=0),
        Input(
            "masks", "image", "Masks of the photos: white is the object; named as the photos", minimum=0, maximum=500
        ),
    ),
    one_of=(("photos", "archive", "video"),),
    stages=(
        Stage("capture", "Check the photos", 0.02, work="nerf_capture", takes_inputs=True),
        Stage("poses", "Find the camera poses", 0.08, work="nerf_poses", needed=_trains),
        # One pair of training and rendering runs: nerfstudio has an image of its own.
        Stage("training", "Train the model", 0.28, work="nerf_training", needed=_trains_splats),
        Stage(
            "training_nerfstudio", "Train nerfacto", 0.28, work="nerf_training_nerfstudio", needed=_trains_nerfstudio
        ),
        Stage("rendering", "Render the frames", 0.14, work="nerf_rendering", needed=_trains_splats, shards=_shards),
        Stage(
            "rendering_nerfstudio",
            "Render the frames with nerfacto",
            0.14,
            work="nerf_rendering_nerfstudio",
            needed=_trains_nerfstudio,
            shards=_shards,
        ),
        Stage("exhibit", "Make the pages and the report", 0.06, work="nerf_exhibit"),
    ),
    kind="pipeline",
    headline=headline,
    check_names=_check_names,
    report="report.html",
    deadline_s=24 * 3600.0,
    extra="nerf",
    backends=(
        Backend(
            *("backend", "nerfstudio", NERFSTUDIO_PROGRAM),
            "Leave backend at gsplat, or run on Modal: the image of these stages has nerfstudio.",
        ),
    ),
)
