"""Requests of the replaced product-photo service for a training or for frames, and what of them has no effect. Pure.

A pipeline has all its parameters from its submission on, so that later requests show its stages and change nothing.
"""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from kit.http.request_body import RequestBody


class TrainingConfig(RequestBody):
    """Parameters of a training, as far as they are compared."""

    model_config = ConfigDict(extra="ignore")

    num_iterations: int | None = None


class TrainingRequest(RequestBody):
    """Request for the training of a job."""

    model_config = ConfigDict(extra="ignore")

    colmap_job_id: str = Field(min_length=1, max_length=220)
    config: TrainingConfig | None = None


class TrajectoryConfig(RequestBody):
    """Parameters of the frames, as far as they are compared."""

    model_config = ConfigDict(extra="ignore")

    num_frames: int | None = None


class RenderRequest(RequestBody):
    """Request for the frames of a job."""

    model_config = ConfigDict(extra="ignore")

    train_job_id: str = Field(min_length=1, max_length=220)
    trajectory_config: TrajectoryConfig | None = None


def ignored_training(wanted: TrainingRequest | None, params: dict[str, Any]) -> list[str]:
    """Return what of a request for a training the job does not follow."""
    asked = wanted.config.num_iterations if wanted and wanted.config else None
    if asked is None or asked == params.get("iterations"):
        return []
    used = params.get("iterations") or f"those of the preset {params.get('preset')}"
    return [f"num_iterations {asked} is not used: the job was submitted with {used}; NERF_DEFAULT_ITERATIONS sets it."]


def ignored_rendering(wanted: RenderRequest | None, params: dict[str, Any]) -> list[str]:
    """Return what of a request for frames the job does not follow."""
    asked = wanted.trajectory_config.num_frames if wanted and wanted.trajectory_config else None
    if asked is None or asked == params["frames"]:
        return []
    return [f"num_frames {asked} is not used: the job was submitted with {params['frames']} frames."]
