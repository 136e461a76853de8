"""Manifest of a job's files in the bucket: one entry per file. It is written last."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

MANIFEST_NAME: Final = "manifest.json"


class Artifact(BaseModel):
    """One file of a job under ``<prefix>/results/<job_id>/``."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][A-Za-z0-9._/-]{0,199}$")
    key: str
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    media_type: str
    title: str = ""
    #: For tables and figures: unit of each column or axis, for example ``{"delta": "s"}``.
    units: dict[str, str] = Field(default_factory=dict)


class Manifest(BaseModel):
    """Manifest of a job. Its presence means that the job has succeeded."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    tenant: str
    workload: str
    workload_version: str
    attempt: int
    run_id: str
    created_at: datetime
    duration_s: float
    device: str
    result: dict[str, Any]
    artifacts: list[Artifact]
