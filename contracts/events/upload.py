"""Events of an upload."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from contracts.errors import ErrorBody
from contracts.events.base import EventData


class MediaFacts(BaseModel):
    """Properties of a file found by a decoder; for an archive, those of its first picture."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    media: Literal["video", "image", "archive"]
    container: str
    codec: str
    width_px: int
    height_px: int
    duration_s: float | None = None
    rate_hz: float | None = None


class UploadCreated(EventData):
    """A client announced a file and got a URL to upload it to."""

    type: ClassVar[str] = "upload.created"

    key: str
    filename: str
    content_type: str
    size_bytes: int
    sha256: str | None = None
    multipart_id: str | None = None


class UploadCompleted(EventData):
    """The file is in the bucket, was checked, and can be used by jobs."""

    type: ClassVar[str] = "upload.completed"

    size_bytes: int
    sha256: str
    media: MediaFacts


class UploadFailed(EventData):
    """The upload cannot be used: rejected by a check, deleted or expired."""

    type: ClassVar[str] = "upload.failed"

    reason: Literal["refused", "deleted", "expired"]
    error: ErrorBody | None = None
