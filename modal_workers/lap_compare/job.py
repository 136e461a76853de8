"""The lap comparison job, from two clips to the report: the stages in order."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import cv2

from modal_workers.lap_compare.advice import advise
from modal_workers.lap_compare.alignment.matching import AlignedClips, align_clips
from modal_workers.lap_compare.checkpoints import load_alignment, load_features, save_alignment, save_features
from modal_workers.lap_compare.clips.feature_extraction import ClipFeatures, extract_pair
from modal_workers.lap_compare.clips.lap_sources import lap_sources
from modal_workers.lap_compare.clips.optical_flow import make_flow_estimator
from modal_workers.lap_compare.clips.traffic import detect_traffic
from modal_workers.lap_compare.clips.vehicle_detection import VehicleDetector
from modal_workers.lap_compare.comparison import Comparison
from modal_workers.lap_compare.lap_delta import compare
from modal_workers.lap_compare.rendering.overlay import render_overlay
from modal_workers.lap_compare.report.replaced_files import save_replaced_files
from modal_workers.lap_compare.report.report import OVERLAY_LIMIT_BYTES, write_report
from modal_workers.lap_compare.report.tables import delta_units, write_delta, write_metrics
from modal_workers.lap_compare.result import build_result
from modal_workers.lap_compare.spec import LapCompareParams, LapCompareResult
from modal_workers.lap_compare.wording import opportunity_sentence
from modal_workers.runtime.context import Context

#: A smaller copy of the overlay for the report, made when the overlay itself is too large.
SMALLER_OVERLAY: Final = "overlay-smaller.mp4"

Pair = tuple[ClipFeatures, ClipFeatures]


def run(params: LapCompareParams, context: Context) -> LapCompareResult:
    """Compare two laps.

    Raises:
        SaccadeError: the clips cannot be read or compared, or a backend is missing; see each stage.
    """
    cv2.setNumThreads(1)  # two clips are processed in parallel; more threads would only compete
    pair, warnings = _read(params, context)
    aligned = _align(params, context, pair)
    comparison = _compare(params, context, pair, aligned, warnings)
    overlay, clips = _render(params, context, pair, comparison)
    return _report(context, comparison, overlay, clips)


def _read(params: LapCompareParams, context: Context) -> tuple[Pair, tuple[str, ...]]:
    paths, names = lap_sources(params, context)
    with context.stage("read"):
        flow_estimators = (make_flow_estimator(params.flow), make_flow_estimator(params.flow))
        detector = VehicleDetector() if params.detect == "yolo" else None
        kept = context.checkpoint("described.npz")
        if kept is not None:
            return load_features(kept, paths)
        pair, warnings = extract_pair(
            paths,
            names,
            flow_estimators,
            progress=lambda share: context.progress(share, "reading"),
            scratch=context.scratch,
        )
        if detector is not None:
            warnings += detect_traffic(pair, detector, check=context.check)
        save_features(context.scratch / "described.npz", pair, warnings)
        context.keep(context.scratch / "described.npz", "described.npz")
        return pair, warnings


def _align(params: LapCompareParams, context: Context, pair: Pair) -> AlignedClips:
    with context.stage("align"):
        kept = context.checkpoint("matched.npz")
        if kept is not None:
            return load_alignment(kept)
        correct_mount = params.mount_correction == "auto"
        aligned = align_clips(
            *pair, correct_mount=correct_mount, progress=lambda share: context.progress(share, "aligning by place")
        )
        save_alignment(context.scratch / "matched.npz", aligned)
        context.keep(context.scratch / "matched.npz", "matched.npz")
        return aligned


def _compare(
    params: LapCompareParams, context: Context, pair: Pair, aligned: AlignedClips, warnings: tuple[str, ...]
) -> Comparison:
    (a, b), alignment = pair, aligned.alignment
    with context.stage("compare"):
        return compare(
            (a.clip, b.clip),
            alignment,
            aligned.relative_speed,
            sectors=params.sectors,
            opportunities=params.opportunities,
            warnings=warnings,
            advice=advise(pair, alignment, context.check),
            flow=(a.descriptors.flow_at(alignment.time_a_s), b.descriptors.flow_at(alignment.time_b_s)),
        )


def _render(
    params: LapCompareParams, context: Context, pair: Pair, comparison: Comparison
) -> tuple[Path, dict[int, Path]]:
    overlay = context.scratch / "overlay.mp4"
    clips = {o.rank: context.scratch / f"opportunity_{o.rank}.mp4" for o in comparison.opportunities}
    with context.stage("render"):
        paths, height_px = (pair[0].path, pair[1].path), params.overlay_height_px
        render_overlay(
            *paths,
            comparison,
            overlay,
            height_px=height_px,
            progress=context.progress,
            clips=clips,
            smaller=(context.scratch / SMALLER_OVERLAY, OVERLAY_LIMIT_BYTES),
        )
        context.save(overlay, overlay.name, "video/mp4", title="Both laps side by side, synchronised by place")
        for opportunity in comparison.opportunities:
            clip, title = clips[opportunity.rank], opportunity_sentence(comparison, opportunity)
            context.save(clip, clip.name, "video/mp4", title=title)
    return overlay, clips


def _report(context: Context, comparison: Comparison, overlay: Path, clips: dict[int, Path]) -> LapCompareResult:
    # matplotlib takes 0.3 s to import: clips that are refused need none of it.
    from modal_workers.lap_compare.report.figure import draw_delta_figure  # noqa: PLC0415

    folder, result, units = context.scratch, build_result(comparison), delta_units(comparison)
    with context.stage("report"):
        write_metrics(comparison, folder / "metrics.json")
        context.save(folder / "metrics.json", "metrics.json", "application/json", title="All figures")
        write_delta(comparison, folder / "delta.csv")
        context.save(folder / "delta.csv", "delta.csv", "text/csv", title="The delta along the lap", units=units)
        draw_delta_figure(comparison, folder / "delta.png")
        context.save(folder / "delta.png", "delta.png", "image/png", title="The delta along the lap")
        save_replaced_files(context, comparison, result)
        report, figure = folder / "report.html", folder / "delta.png"
        write_report(
            comparison,
            report,
            overlay=overlay,
            clips=clips,
            scratch=folder,
            smaller=folder / SMALLER_OVERLAY,
            figure=figure,
            check=context.check,
        )
        context.save(report, report.name, "text/html", title="Report")
    return result
