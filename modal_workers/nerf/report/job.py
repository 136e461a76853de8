"""The report stage: read the earlier stages' files, make pages and pictures of the frames, report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import cv2

from contracts.ids import pipeline_id_of
from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.report.frame_archive import FrameArchive
from modal_workers.nerf.report.frame_views import UNITS, FrameRow, read_shown_frames, write_frames_csv
from modal_workers.nerf.report.held_out_comparison import HeldOutComparison, compare_held_out
from modal_workers.nerf.report.object_section import ShownChoice, show_choices
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
    """Make the pages and the report. It takes seconds, so a repeated run makes everything again.

    Raises:
        SaccadeError: INTERNAL, a file of an earlier stage is missing.
    """
    cv2.setNumThreads(1)
    began_s = time.monotonic()
    with context.stage("exhibit"):
        reports = read_stage_reports(params, context)
        images = ReportImages(pipeline_id_of(context.job_id) or context.job_id, datetime.now(UTC))
        if reports.modelled:
            images = _make_pages(reports, context, images)
        paid_usd = read_paid_costs(context.artifact("progress.json"))
        result = result_of(reports, stage_figures(reports, time.monotonic() - began_s, paid_usd))
        page = context.scratch / "report.html"
        write_report(page, reports, result, images)
        context.save(page, page.name, _HTML, title="Report")
        context.progress(1.0, "done")
    return result


def _make_pages(reports: StageReports, context: Context, images: ReportImages) -> ReportImages:
    """Make everything that shows the frames and the model."""
    folder, frames = context.scratch, FrameArchive(reports.params, context.artifact)
    shown = read_shown_frames(reports.params.batches, context.artifact)
    table = folder / "frames.csv"
    write_frames_csv(table, shown)
    context.save(table, table.name, "text/csv", title="The frames, and how well the photos show each", units=UNITS)
    sheet = folder / "contact_sheet.png"
    write_contact_sheet(sheet, frames)
    context.save(sheet, sheet.name, "image/png", title="The object from all sides")
    context.progress(0.1, "spin page")
    _spin(reports, context, frames, shown)
    video = folder / "turntable.mp4"
    write_video(video, frames, lambda share: context.progress(0.6 + 0.15 * share, "video"), closed=reports.closed)
    context.save(video, video.name, "video/mp4", title="Turntable video")
    animation = folder / "turntable.webp"
    write_animation(animation, frames, closed=reports.closed)
    context.save(animation, animation.name, "image/webp", title="Turntable animation, transparent")
    context.progress(0.85, "model page")
    _splat(reports, context)
    context.progress(0.9, "held-out photos")
    hero, comparisons = hero_frame(frames), _comparisons(reports, context)
    choices = _choices(reports, context)
    return replace(images, hero=hero, contact_sheet=sheet, comparisons=comparisons, shown_frames=shown, choices=choices)


def _spin(reports: StageReports, context: Context, frames: FrameArchive, shown: Sequence[FrameRow]) -> None:
    path = context.scratch / "spin.html"
    assert reports.dimensions is not None
    write_spin(
        path,
        frames,
        reports.dimensions.elevations_deg,
        title="The object, from all sides" if reports.closed else "The object, from the photographed sides",
        description=_description(reports),
        shown_frames=shown,
        arcs=reports.arcs,
        closed=reports.closed,
        progress=lambda share: context.progress(0.1 + 0.5 * share, "spin page"),
    )
    context.save(path, path.name, _HTML, title="Interactive view of the object")


def _splat(reports: StageReports, context: Context) -> None:
    ply = context.artifact("model/splat.ply")
    if ply is None or reports.dimensions is None:
        return
    path = context.scratch / "splat.html"
    rings = reports.dimensions.elevations_deg
    middle_deg = sum(rings) / len(rings)
    write_splat_page(
        path,
        ply,
        title="The model",
        description=_description(reports),
        radius=reports.dimensions.radius,
        elevation_deg=middle_deg,
    )
    context.save(path, path.name, _HTML, title="The model in a viewer")


def _choices(reports: StageReports, context: Context) -> list[ShownChoice]:
    dataset, found = context.checkpoint("dataset.zip"), None if reports.poses is None else reports.poses.object
    return show_choices(dataset, found) if dataset is not None and found is not None else []


def _comparisons(reports: StageReports, context: Context) -> tuple[HeldOutComparison, ...]:
    if reports.training is None or not reports.training.held_out:
        return ()
    dataset, scene = context.checkpoint("dataset.zip"), context.checkpoint("scene.npz")
    return tuple(compare_held_out(dataset, scene)) if dataset is not None and scene is not None else ()


def _description(reports: StageReports) -> str:
    """Return a line that describes the model."""
    training, poses = reports.training, reports.poses
    parts = [f"{poses.photos_registered} photos registered"] if poses is not None else []
    if training is not None:
        parts.append(f"{training.splats:,} splats" if training.splats else training.backend)
        if training.psnr_db is not None:
            parts.append(f"{training.psnr_db:.1f} dB PSNR on held-out photos")
    return ", ".join(parts)
