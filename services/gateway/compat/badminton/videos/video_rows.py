"""Rows of videos as the page reads them, from uploads and jobs. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError

from contracts.job import Job, State
from contracts.upload import Upload
from modal_workers.badminton.spec import BadmintonResult
from services.gateway.compat.badminton.videos.video_records import SavedKeypoints, VideoRecord

_MAX_CHARS: Final = 500
STATUS_OF_ENDED: Final = {State.SUCCEEDED: "completed", State.FAILED: "failed", State.CANCELLED: "failed"}


@dataclass(frozen=True)
class Progress:
    """Progress of a video's job: share from 0 to 1, and frames if it counts them."""

    fraction: float = 0.0
    frame: int | None = None
    frame_count: int | None = None


@dataclass(frozen=True)
class Video:
    """One video: its upload, what the page said of it, and its job if there is one."""

    upload: Upload
    record: VideoRecord
    keypoints: SavedKeypoints | None
    job: Job | None
    progress: Progress = Progress()
    #: Why the last attempt to submit its job failed.
    refusal: str | None = None

    @property
    def status(self) -> str:
        """Return the status in the page's words."""
        if self.job is None:
            return "failed" if self.refusal else "uploaded"
        return STATUS_OF_ENDED.get(self.job.state, "processing")


def row(video: Video) -> dict[str, Any]:
    """Return a video's row, without URLs; fields that have no value are left out."""
    job, upload, created_ms = video.job, video.upload, milliseconds(video.record.created_at)
    fields: dict[str, Any] = {
        "_id": upload.id,
        "_creationTime": created_ms,
        "storageId": upload.id,
        "filename": video.record.filename,
        "size": video.record.size,
        "analysisMode": video.record.analysis_mode,
        "status": video.status,
        "createdAt": created_ms,
        "manualCourtKeypoints": video.keypoints.keypoints if video.keypoints else None,
        "error": _error(video),
    }
    if job is not None:
        succeeded = job.state is State.SUCCEEDED
        fields |= {
            "progress": 100 if succeeded else min(99, int(100 * video.progress.fraction)),
            "currentFrame": video.progress.frame,
            "totalFrames": video.progress.frame_count,
            "processingStartedAt": milliseconds(job.created_at),
            "completedAt": milliseconds(job.finished_at) if succeeded and job.finished_at else None,
            "resultsMeta": _results_meta(job) if succeeded else None,
        }
    return {name: value for name, value in fields.items() if value is not None}


def _error(video: Video) -> str | None:
    job = video.job
    if job is None:
        return video.refusal
    if job.state is State.CANCELLED:
        return "The analysis was cancelled."
    return job.error.message[:_MAX_CHARS] if job.state is State.FAILED and job.error else None


def _results_meta(job: Job) -> dict[str, Any] | None:
    """Return the facts of a result; None for one of another version of the workload."""
    try:
        result = BadmintonResult.model_validate(job.result)
    except ValidationError:
        return None
    meta: dict[str, Any] = {
        "duration": result.video.duration_s,
        "fps": result.video.mean_rate_hz,
        "total_frames": result.video.frame_count,
        "processed_frames": result.video.analysed_frame_count,
        "player_count": len(result.players),
        "has_court_detection": result.court is not None,
        "has_shuttle_analytics": False,  # the results file has none in the replaced system's form
        "has_rally_detection": bool(result.rally_count),
        "rally_count": result.rally_count,
        "tracknet_used": "onnx" in result.shuttle_backend,
    }
    return {name: value for name, value in meta.items() if value is not None}


def milliseconds(at: datetime) -> int:
    """Return a time as the page has it: milliseconds since 1970."""
    return int(at.timestamp() * 1000)
