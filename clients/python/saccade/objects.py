"""What the API shows, as types; fields of newer servers are kept."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Artifact(BaseModel):
    """One file that a job left behind."""

    model_config = ConfigDict(extra="allow")

    name: str
    bytes: int
    sha256: str
    media_type: str = "application/octet-stream"
    title: str = ""
    #: For tables and figures: unit of each column or axis, for example ``{"delta": "s"}``.
    units: dict[str, str] = Field(default_factory=dict)


class JobError(BaseModel):
    """Why a job failed, and what to do."""

    model_config = ConfigDict(extra="allow")

    code: str
    message: str
    hint: str = ""


class CostView(BaseModel):
    """What a job was thought to cost and what it did."""

    model_config = ConfigDict(extra="allow")

    estimated_usd: float | None = None
    actual_usd: float | None = None


class JobView(BaseModel):
    """A job as the API shows it; fields of newer servers are kept."""

    model_config = ConfigDict(extra="allow")

    id: str
    workload: str
    state: str
    stage: str | None = None
    progress: float = 0.0
    message: str | None = None
    attempt: int = 0
    created_at: str
    started_at: str | None = None
    finished_at: str | None = None
    inputs: dict[str, Any] = Field(default_factory=dict)
    params: dict[str, Any] = Field(default_factory=dict)
    result: dict[str, Any] | None = None
    error: JobError | None = None
    cost: CostView | None = None
    gpu: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    links: dict[str, str] = Field(default_factory=dict)
    cursor: str | None = None

    @property
    def ended(self) -> bool:
        """Tell whether the job's life is over."""
        return self.state in {"succeeded", "failed", "cancelled"}


class UploadView(BaseModel):
    """An upload as the API shows it; fields of newer servers are kept."""

    model_config = ConfigDict(extra="allow")

    id: str
    state: str


class ArtifactsView(BaseModel):
    """What a job left behind: its manifest when ``complete``, else the files there are so far."""

    model_config = ConfigDict(extra="allow")

    job_id: str
    complete: bool = True
    result: dict[str, Any] | None = None
    artifacts: list[Artifact]
