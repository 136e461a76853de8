"""Events of an upload."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

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


class UploadSource(BaseModel):
    """Origin of a file that the server fetches; the whole URL is in no event, as it may hold a secret."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    #: Scheme, host, port and path; without query.
    url: str
    #: The job that is submitted when its inputs have been fetched.
    job_id: str | None = None


class UploadCreated(EventData):
    """A client announced a file and got a URL to upload it to, or named the URL that the server fetches it from."""

    type: ClassVar[str] = "upload.created"

    key: str
    filename: str
    #: As declared; of a fetched file, a guess by its name.
    content_type: str
    #: As declared; 0 where it is not known yet: of a file that is fetched, or whose client does not say it.
    size_bytes: int
    #: What a client may send that does not say the size: it counts towards the tenant's quotas until the upload ends.
    reserved_bytes: int = 0
    sha256: str | None = None
    multipart_id: str | None = None
    source: UploadSource | None = None
    #: What the client says about the file; rules match on it.
    metadata: dict[str, str] = Field(default_factory=dict)
    #: Job whose result the file is, as the client says: no rule that had a part in this job applies to the file.
    from_job: str | None = None


class UploadCompleted(EventData):
    """The file is in the bucket, was checked, and can be used by jobs."""

    type: ClassVar[str] = "upload.completed"

    size_bytes: int
    sha256: str
    media: MediaFacts
    #: Of a fetched file, by its content; None: the declared one.
    content_type: str | None = None


class UploadFailed(EventData):
    """The upload cannot be used: rejected by a check, deleted or expired."""

    type: ClassVar[str] = "upload.failed"

    reason: Literal["refused", "deleted", "expired"]
    error: ErrorBody | None = None
