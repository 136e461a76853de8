"""Builds the result of the pipeline from the reports of its stages. Pure."""

from __future__ import annotations

from typing import Final

from modal_workers.nerf.photo_arcs import open_deg
from modal_workers.nerf.report.stage_costs import totals
from modal_workers.nerf.report.stage_reports import StageReports
from modal_workers.nerf.result import FramesFigures, ModelFigures, NerfResult, ObjectFigures, PosesFigures, StageFigures

#: With a smaller share of seen frames the result is no longer good.
SEEN_FRAMES_SHARE: Final = 0.95


def result_of(reports: StageReports, stages: tuple[StageFigures, ...]) -> NerfResult:
    """Return the figures of ``job.succeeded``."""
    capture, summed, frames = reports.capture, totals(stages), _frames(reports)
    doubts = [*_object_doubts(reports), *_doubts(frames)]
    return NerfResult(
        verdict="usable" if doubts and capture.verdict.accept == "good" else capture.verdict.accept,
        score=capture.verdict.score,
        reasons=tuple(dict.fromkeys([*(reason.code for reason in capture.verdict.reasons), *doubts])),
        photos_sent=capture.sent,
        photos_used=capture.photos,
        spared_usd=capture.spared_usd,
        poses=_poses(reports),
        object=_object(reports),
        model=_model(reports),
        frames=frames,
        stages=stages,
        estimated_s=summed.estimated_s,
        actual_s=summed.actual_s,
        estimated_usd=summed.estimated_usd,
        actual_usd=summed.actual_usd,
        keep_hours=reports.params.keep_hours,
    )


def _poses(reports: StageReports) -> PosesFigures | None:
    poses = reports.poses
    if poses is None:
        return None
    return PosesFigures(
        photos_registered=poses.photos_registered,
        photos_given=poses.photos_given,
        reprojection_error_px=poses.reprojection_error_px,
        points=poses.points,
        elevation_min_deg=poses.elevation_min_deg,
        elevation_max_deg=poses.elevation_max_deg,
    )


def _object(reports: StageReports) -> ObjectFigures | None:
    found = None if reports.poses is None else reports.poses.object
    if found is None:
        return None
    return ObjectFigures(
        source=found.source,
        confidence=found.confidence,
        doubt=found.doubt,
        choices=tuple(choice.name for choice in found.choices),
    )


def _object_doubts(reports: StageReports) -> list[str]:
    """Return that it is not sure what the object is, which only the points show."""
    found = _object(reports)
    return ["object_doubtful"] if found is not None and found.doubt is not None else []


def _model(reports: StageReports) -> ModelFigures | None:
    training = reports.training
    if training is None:
        return None
    return ModelFigures(
        backend=training.backend,
        device=training.device,
        splats=training.splats,
        iterations=training.iterations,
        held_out=training.held_out,
        psnr_db=training.psnr_db,
        ssim=training.ssim,
        outline_agreement=training.outline_agreement,
        outline_doubtful=training.outline_doubtful,
    )


def _doubts(frames: FramesFigures | None) -> list[str]:
    """Return the findings that only the cameras and frames show: a side without photos, frames of such a side."""
    if frames is None:
        return []
    doubts = ["open_round"] if frames.open_deg else []
    if frames.seen is not None and frames.seen < SEEN_FRAMES_SHARE * frames.frames:
        doubts.append("frames_not_seen")
    return doubts


def _frames(reports: StageReports) -> FramesFigures | None:
    if not reports.renderings:
        return None
    seen = [rendering.seen for rendering in reports.renderings]
    return FramesFigures(
        frames=reports.params.frames,
        verified=sum(rendering.frames for rendering in reports.renderings),
        size_px=reports.params.frame_size_px,
        elevations_deg=reports.renderings[0].elevations_deg,
        azimuths=reports.params.azimuths,
        batches=len(reports.renderings),
        arcs_deg=reports.renderings[0].arcs_deg,
        open_deg=None if reports.arcs is None else round(open_deg(reports.arcs), 1),
        seen=sum(seen) if None not in seen else None,
    )
