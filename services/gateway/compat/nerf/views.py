"""Answers of the replaced product-photo service: its three jobs are views of one pipeline's stages. Pure."""

from __future__ import annotations

import math
from typing import Final, Literal

from pydantic import BaseModel, Field

from contracts.job import State
from modal_workers.nerf.params import BATCH_FRAMES
from services.gateway.jobs.schemas import JobObject
from services.gateway.jobs.stage_objects import StageObject

Status = Literal["processing", "complete", "failed"]
TrainingPhase = Literal["data_preparation", "training", "validation", "complete"]
DetailStatus = Literal["pending", "in_progress", "complete", "failed"]
#: Shares of the progress of the cameras' poses: reading the photos, then finding the poses.
_CAPTURE_PERCENT: Final = 20
#: Percent of the training's progress before and after its steps.
_PREPARED_PERCENT, _TRAINED_PERCENT = 5.0, 90.0
_VALIDATED_FROM: Final = 0.97


class PosesStageStatus(BaseModel):
    """State of the cameras' poses."""

    job_id: str
    status: Status
    stage: Literal["feature_extraction", "feature_matching", "sfm", "complete"]
    progress: float = Field(ge=0, le=100, description="Percent.")
    current_operation: str
    images_processed: int
    total_images: int
    estimated_time_remaining: int | None = None
    output_path: str | None = Field(description="Folder in the bucket, when it is complete.")
    error: str | None


class CallIds(BaseModel):
    """Ids of the stages' jobs; the replaced service named its calls here."""

    prepare: str | None = None
    train: str | None = None
    validation: str | None = None


class CostBreakdown(BaseModel):
    """Estimated costs by stage, USD."""

    colmap: float
    training: float
    rendering: float


class PipelineEstimate(BaseModel):
    """Estimated cost of the pipeline, USD."""

    total_usd: float
    breakdown: CostBreakdown


class StageDetail(BaseModel):
    """State of a part of the training."""

    status: DetailStatus
    duration: int | None = Field(description="Seconds.")


class StageDetails(BaseModel):
    """States of the parts of the training."""

    prepare: StageDetail
    train: StageDetail
    validation: StageDetail


class TrainingStageStatus(BaseModel):
    """State of the training."""

    job_id: str
    modal_call_ids: CallIds
    status: Status
    stage: TrainingPhase
    progress: float = Field(ge=0, le=100)
    stage_progress: float = Field(ge=0, le=100)
    current_iteration: int | None
    total_iterations: int | None
    loss: float | None = None
    psnr: float | None
    ssim: float | None
    gpu_type: str
    estimated_time_remaining: int | None = None
    elapsed_time: int
    cost_so_far: float
    estimated_cost: PipelineEstimate
    model_path: str | None = Field(description="Folder in the bucket, when it is complete.")
    checkpoint_paths: list[str] = []
    error: str | None
    stage_details: StageDetails
    warnings: list[str] = Field(default=[], description="What of the request the job does not follow.")


class RenderingStageStatus(BaseModel):
    """State of the frames."""

    job_id: str
    modal_call_id: str
    status: Status
    progress: float = Field(ge=0, le=100)
    frames_rendered: int = Field(description="Frames from the first on that can be read.")
    total_frames: int
    current_batch: int
    total_batches: int
    current_frame: int
    rendering_speed: float | None = Field(description="Frames per second.")
    gpu_type: str
    estimated_time_remaining: int | None = None
    volume_path: str | None = Field(description="Folder in the bucket.")
    local_path: str | None = Field(description="The same, when all frames are there.")
    frames_available: int
    error: str | None
    warnings: list[str] = Field(default=[], description="What of the request the job does not follow.")


def poses_status(job: JobObject, name: str, folder: str) -> PosesStageStatus:
    """Return the state of the stages ``capture`` and ``poses``; ``folder`` is the job's in the bucket."""
    capture, poses = _stage(job, "capture"), _stage(job, "poses")
    status = _status(job, poses)
    stage: Literal["feature_extraction", "feature_matching", "sfm", "complete"] = "feature_extraction"
    if status == "complete":
        stage = "complete"
    elif poses.jobs:
        stage = "sfm" if poses.fraction > 2 / 3 else "feature_matching"
    total = len(job.inputs.get("photos", ()))
    running = poses if poses.jobs else capture
    return PosesStageStatus(
        job_id=name,
        status=status,
        stage=stage,
        progress=_percent((_CAPTURE_PERCENT * capture.fraction + (100 - _CAPTURE_PERCENT) * poses.fraction) / 100),
        current_operation=running.message or running.title,
        images_processed=round(total * (poses.fraction if poses.jobs else capture.fraction)),
        total_images=total,
        output_path=f"{folder}/colmap" if status == "complete" else None,
        error=_error(job, status),
    )


def training_status(job: JobObject, name: str, folder: str, warnings: list[str]) -> TrainingStageStatus:
    """Return the state of the stage that trains."""
    stage, poses = _chosen(job, "training"), _stage(job, "poses")
    status, validating = _status(job, stage), stage.fraction >= _VALIDATED_FROM
    model = (job.result or {}).get("model") or {}
    total = model.get("iterations") or job.params.get("iterations")
    progress = _PREPARED_PERCENT + (_TRAINED_PERCENT - _PREPARED_PERCENT) * stage.fraction if stage.jobs else 0.0
    done = status == "complete"
    return TrainingStageStatus(
        job_id=name,
        modal_call_ids=CallIds(
            prepare=poses.jobs[0].id if poses.jobs else None, train=stage.jobs[0].id if stage.jobs else None
        ),
        status=status,
        stage=_training_phase(stage, done=done, validating=validating),
        progress=100.0 if done else round(progress, 2),
        stage_progress=_percent(stage.fraction),
        current_iteration=round(total * stage.fraction) if total else None,
        total_iterations=total,
        psnr=model.get("psnr_db"),
        ssim=model.get("ssim"),
        gpu_type=_device(stage),
        elapsed_time=int(stage.duration_s or 0),
        cost_so_far=stage.cost_usd,
        estimated_cost=_estimated(job),
        model_path=f"{folder}/model" if done else None,
        error=_error(job, status),
        stage_details=StageDetails(
            prepare=_detail(poses, poses.fraction == 1),
            train=_detail(stage, validating or done),
            validation=StageDetail(
                status="complete" if done else "in_progress" if validating else "pending", duration=None
            ),
        ),
        warnings=warnings,
    )


def render_status(job: JobObject, name: str, folder: str, warnings: list[str]) -> RenderingStageStatus:
    """Return the state of the stage that renders."""
    stage = _chosen(job, "rendering")
    status, total = _status(job, stage), int(job.params["frames"])
    batches = math.ceil(total / BATCH_FRAMES)
    whole = next(
        (number for number, part in enumerate(stage.jobs) if part.state is not State.SUCCEEDED), len(stage.jobs)
    )
    frames = min(total, whole * BATCH_FRAMES)
    return RenderingStageStatus(
        job_id=name,
        modal_call_id=stage.jobs[0].id if stage.jobs else "",
        status=status,
        progress=_percent(stage.fraction),
        frames_rendered=frames,
        total_frames=total,
        current_batch=min(whole + 1, batches) if stage.jobs else 0,
        total_batches=batches,
        current_frame=frames,
        rendering_speed=round(total * stage.fraction / stage.duration_s, 3) if stage.duration_s else None,
        gpu_type=_device(stage),
        volume_path=f"{folder}/frames",
        local_path=f"{folder}/frames" if status == "complete" else None,
        frames_available=frames,
        error=_error(job, status),
        warnings=warnings,
    )


def _training_phase(stage: StageObject, *, done: bool, validating: bool) -> TrainingPhase:
    if done:
        return "complete"
    if not stage.jobs:
        return "data_preparation"
    return "validation" if validating else "training"


def _chosen(job: JobObject, name: str) -> StageObject:
    """Return the stage of the backend that the job uses."""
    return _stage(job, f"{name}_nerfstudio" if job.params.get("backend") == "nerfstudio" else name)


def _stage(job: JobObject, name: str) -> StageObject:
    return next(stage for stage in job.stages if stage.name == name)


def _status(job: JobObject, stage: StageObject) -> Status:
    if stage.state == "succeeded":
        return "complete"
    return "failed" if job.state.ended else "processing"


def _error(job: JobObject, status: Status) -> str | None:
    if status != "failed":
        return None
    return job.error.message if job.error else f"The job is {job.state}."


def _percent(fraction: float) -> float:
    return round(100 * fraction, 2)


def _device(stage: StageObject) -> str:
    return next((part.device for part in reversed(stage.jobs) if part.device), "")


def _detail(stage: StageObject, done: bool) -> StageDetail:
    duration = None if stage.duration_s is None else int(stage.duration_s)
    if done:
        return StageDetail(status="complete", duration=duration)
    failed = stage.state in ("failed", "cancelled")
    return StageDetail(
        status="failed" if failed else "in_progress" if stage.jobs else "pending", duration=duration if failed else None
    )


def _estimated(job: JobObject) -> PipelineEstimate:
    """Return the estimate of the job, split by the stages' shares of its progress."""
    parts = {"colmap": ("capture", "poses"), "training": ("training",), "rendering": ("rendering",)}
    shares = {part: sum(stage.share for stage in job.stages if stage.name in names) for part, names in parts.items()}
    total = job.cost.estimated_usd
    split = {part: round(total * share / sum(shares.values()), 4) for part, share in shares.items()}
    return PipelineEstimate(total_usd=total, breakdown=CostBreakdown(**split))
