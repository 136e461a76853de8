"""What happens to an upload."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from contracts.errors import ErrorBody
from contracts.events.base import EventData


class MediaFacts(BaseModel):
    """What a decoder found in a file; of an archive: the first of its pictures."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    media: Literal["video", "image", "archive"]
    container: str
    codec: str
    width_px: int
    height_px: int
    duration_s: float | None = None
    rate_hz: float | None = None


class UploadCreated(EventData):
    """A client announced a file and got a place to put it."""

    type: ClassVar[str] = "upload.created"

    key: str
    filename: str
    content_type: str
    size_bytes: int
    sha256: str | None = None
    multipart_id: str | None = None


class UploadCompleted(EventData):
    """The bytes are in the bucket, were checked, and can be used by jobs."""

    type: ClassVar[str] = "upload.completed"

    size_bytes: int
    sha256: str
    media: MediaFacts


class UploadFailed(EventData):
    """The upload cannot be used: refused after a check, deleted or expired."""

    type: ClassVar[str] = "upload.failed"

    reason: Literal["refused", "deleted", "expired"]
    error: ErrorBody | None = None
