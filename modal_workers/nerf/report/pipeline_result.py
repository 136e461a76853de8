"""Builds the result of the pipeline from the reports of its stages. Pure."""

from __future__ import annotations

from modal_workers.nerf.report.stage_costs import totals
from modal_workers.nerf.report.stage_reports import StageReports
from modal_workers.nerf.result import FramesFigures, ModelFigures, NerfResult, PosesFigures, StageFigures


def result_of(reports: StageReports, stages: tuple[StageFigures, ...]) -> NerfResult:
    """Return the figures of ``job.succeeded``."""
    capture, summed = reports.capture, totals(stages)
    return NerfResult(
        verdict=capture.verdict.accept,
        score=capture.verdict.score,
        reasons=tuple(reason.code for reason in capture.verdict.reasons),
        photos_sent=capture.sent,
        photos_used=capture.photos,
        spared_usd=capture.spared_usd,
        poses=_poses(reports),
        model=_model(reports),
        frames=_frames(reports),
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


def _frames(reports: StageReports) -> FramesFigures | None:
    if not reports.renderings:
        return None
    return FramesFigures(
        frames=reports.params.frames,
        verified=sum(rendering.frames for rendering in reports.renderings),
        size_px=reports.params.frame_size_px,
        elevations_deg=reports.renderings[0].elevations_deg,
        azimuths=reports.params.azimuths,
        batches=len(reports.renderings),
    )
