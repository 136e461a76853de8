"""The stage of the exhibit in order: read what there is, make pages and pictures of the frames, report."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import cv2

from contracts.ids import pipeline_id_of
from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.report.frame_archive import FrameArchive
from modal_workers.nerf.report.held_out_comparison import HeldOutComparison, compare_held_out
from modal_workers.nerf.report.pipeline_result import result_of
from modal_workers.nerf.report.report_page import ReportImages, write_report
from modal_workers.nerf.report.spin_page import write_spin
from modal_workers.nerf.report.splat_page import write_splat_page
from modal_workers.nerf.report.stage_costs import read_paid_costs, stage_figures
from modal_workers.nerf.report.stage_reports import StageReports, read_stage_reports
from modal_workers.nerf.report.turntable import hero_frame, write_animation, write_contact_sheet, write_video
from modal_workers.nerf.result import NerfResult
from modal_workers.runtime.context import Context

_HTML: Final = "text/html"


def run(params: NerfParams, context: Context) -> NerfResult:
    """Make the exhibit. It takes seconds, so a run that is begun anew makes everything again.

    Raises:
        SaccadeError: INTERNAL, a stage before this one has left nothing.
    """
    cv2.setNumThreads(1)
    began_s = time.monotonic()
    with context.stage("exhibit"):
        story = read_stage_reports(params, context)
        pictures = ReportImages(pipeline_id_of(context.job_id) or context.job_id, datetime.now(UTC))
        if story.modelled:
            pictures = _show(story, context, pictures)
        ledger = read_paid_costs(context.artifact("progress.json"))
        result = result_of(story, stage_figures(story, time.monotonic() - began_s, ledger))
        report = context.scratch / "report.html"
        write_report(report, story, result, pictures)
        context.save(report, report.name, _HTML, title="Report")
        context.progress(1.0, "done")
    return result


def _show(story: StageReports, context: Context, pictures: ReportImages) -> ReportImages:
    """Make everything that shows the frames and the model."""
    folder, frames = context.scratch, FrameArchive(story.params, context.artifact)
    sheet = folder / "contact_sheet.png"
    write_contact_sheet(sheet, frames)
    context.save(sheet, sheet.name, "image/png", title="The object from all sides")
    context.progress(0.1, "the spin page")
    _spin(story, context, frames)
    video = folder / "turntable.mp4"
    write_video(video, frames, lambda share: context.progress(0.6 + 0.15 * share, "the video"))
    context.save(video, video.name, "video/mp4", title="One turn")
    animation = folder / "turntable.webp"
    write_animation(animation, frames)
    context.save(animation, animation.name, "image/webp", title="One turn, transparent")
    context.progress(0.85, "the model's page")
    _splat(story, context)
    context.progress(0.9, "unseen photos")
    return replace(pictures, hero=hero_frame(frames), contact_sheet=sheet, comparisons=_pairs(context))


def _spin(story: StageReports, context: Context, frames: FrameArchive) -> None:
    path = context.scratch / "spin.html"
    assert story.shape is not None
    write_spin(
        path,
        frames,
        story.shape.elevations_deg,
        title="The object, from all sides",
        told=_told(story),
        progress=lambda share: context.progress(0.1 + 0.5 * share, "the spin page"),
    )
    context.save(path, path.name, _HTML, title="Turn the object by hand")


def _splat(story: StageReports, context: Context) -> None:
    ply = context.artifact("model/splat.ply")
    if ply is None or story.shape is None:
        return
    path = context.scratch / "splat.html"
    rings = story.shape.elevations_deg
    middle_deg = sum(rings) / len(rings)
    write_splat_page(
        path, ply, title="The model", told=_told(story), radius=story.shape.radius, elevation_deg=middle_deg
    )
    context.save(path, path.name, _HTML, title="The model in a viewer")


def _pairs(context: Context) -> tuple[HeldOutComparison, ...]:
    dataset, scene = context.checkpoint("dataset.zip"), context.checkpoint("scene.npz")
    return tuple(compare_held_out(dataset, scene)) if dataset is not None and scene is not None else ()


def _told(story: StageReports) -> str:
    """Say in a line what it was made of."""
    training, poses = story.training, story.poses
    words = [f"{poses.photos_registered} photos placed"] if poses is not None else []
    if training is not None:
        words.append(f"{training.splats:,} splats" if training.splats else training.backend)
        if training.psnr_db is not None:
            words.append(f"{training.psnr_db:.1f} dB on photos it never saw")
    return ", ".join(words)
