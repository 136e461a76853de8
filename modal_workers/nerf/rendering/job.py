"""The rendering stage: one shard renders, checks and saves one batch of frames."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, replace
from typing import Final

import torch

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.rendering.batch import (
    batch_description,
    check_batch,
    count_seen,
    frame_range,
    named_entries,
    spacing_error_deg,
)
from modal_workers.nerf.rendering.frames import FrameSource, SplatFrames
from modal_workers.nerf.rendering.seen_share import PhotographedViews
from modal_workers.nerf.rendering.shard import render_batch
from modal_workers.nerf.rendering.spec import RenderingReport
from modal_workers.nerf.scene import TrainedScene
from modal_workers.nerf.stored_zip import write_zip
from modal_workers.runtime.context import Context

SCENE: Final = "scene.npz"


def run(params: NerfParams, context: Context) -> RenderingReport:
    """Render the frames of this shard.

    Raises:
        SaccadeError: INPUT_UNREADABLE, a frame is empty; INTERNAL, the scene of the training stage is missing.
    """
    batch, _ = context.shard
    with context.stage("rendering"):
        report = f"rendering_{batch:03d}.json"
        if (done := context.checkpoint(report)) is not None:
            return RenderingReport.model_validate_json(done.read_bytes())
        scene = load_scene(context)
        source = SplatFrames(scene)
        return render(params, context, scene, source, source.device)


def load_scene(context: Context) -> TrainedScene:
    """Read the scene of the training stage.

    Raises:
        SaccadeError: INTERNAL, it is missing.
    """
    path = context.checkpoint(SCENE)
    if path is None:
        raise SaccadeError(ErrorCode.INTERNAL, "The scene of the training stage is missing.")
    return TrainedScene.load(path)


def render(
    params: NerfParams, context: Context, scene: TrainedScene, source: FrameSource, device: str
) -> RenderingReport:
    """Render a batch with any source, check the finished file frame by frame, save it, and report; the report last."""
    began_s = time.monotonic()
    batch, _ = context.shard
    orbit = scene.orbit(params)
    views = PhotographedViews(scene, orbit, torch.device(device if scene.splats is not None else "cpu"))
    expected = frame_range(batch, params.frames)
    rendered = render_batch(batch, expected, orbit, source, context)
    path = context.scratch / f"batch_{batch:02d}.zip"
    write_zip(path, named_entries((index, rendered.frames[index]) for index in expected))
    frames = [replace(frame, **asdict(views.view(frame.index))) for frame in check_batch(path, orbit, expected)]
    name, title = f"frames/{path.name}", f"Frames {expected.start} to {expected.stop - 1}"
    description = path.with_suffix(".json")
    description.write_text(json.dumps(batch_description(orbit, frames)), encoding="utf-8")
    context.save(path, name, "application/zip", title=title)
    context.save(description, f"frames/{description.name}", "application/json", title=f"{title}: poses and checksums")
    with path.open("rb") as file:
        zip_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    report = RenderingReport(
        batch=batch,
        artifact=name,
        first_frame=expected.start,
        frames=len(frames),
        frames_rendered=rendered.rendered,
        frames_taken_over=rendered.taken_over,
        size_px=orbit.size_px,
        azimuth_step_deg=orbit.azimuth_step_deg,
        arcs_deg=orbit.arcs,
        seen=count_seen(frames),
        elevations_deg=orbit.elevations_deg,
        spacing_error_deg=spacing_error_deg(orbit, expected),
        mean_coverage=round(sum(frame.coverage for frame in frames) / len(frames), 5),
        zip_bytes=path.stat().st_size,
        zip_sha256=zip_sha256,
        device=device,
        seconds=round(time.monotonic() - began_s, 3),
        frames_per_second=round(rendered.rendered / rendered.rendering_s, 2) if rendered.rendered else None,
    )
    report_path = context.scratch / f"rendering_{batch:03d}.json"
    report_path.write_text(report.model_dump_json(), encoding="utf-8")
    context.keep(report_path, report_path.name)
    context.progress(1.0, "checked")
    return report
