"""JSON bodies of the upload routes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import ErrorBody
from contracts.events.upload import MediaFacts
from contracts.limits import PART_BYTES, PART_COUNT, UPLOAD_BYTES
from services.gateway.aggregates.upload_state import UploadState

_MAX_SIGNED_PARTS: Final = 1000


class NewUpload(BaseModel):
    """A request for an upload."""

    model_config = ConfigDict(extra="forbid")

    filename: str = Field(min_length=1, max_length=255, examples=["lap_a.mp4"])
    content_type: str = Field(
        min_length=1, max_length=200, description="`video/*`, `image/*` or `application/zip`", examples=["video/mp4"]
    )
    size_bytes: int = Field(ge=0, examples=[1_048_576])
    sha256: str | None = Field(
        default=None, pattern=r"^[0-9a-fA-F]{64}$", description="Compared with the stored bytes on completion."
    )
    workload: str | None = Field(
        default=None,
        max_length=64,
        description="The workload that the file is for: if the workers cannot run it, the upload is refused.",
    )
    multipart: bool = Field(
        default=False, description="Send the bytes in parts, resumable. Always the case above 1 GiB."
    )


class Part(BaseModel):
    """A part that is in the bucket."""

    part_number: int
    size_bytes: int
    etag: str


class SignedPart(BaseModel):
    """Presigned URL for a part; the answer to its PUT contains the ETag."""

    part_number: int
    size_bytes: int
    url: str


class SignedParts(BaseModel):
    """Presigned URLs for parts."""

    parts: list[SignedPart]
    url_expires_at: datetime


class ArrivedParts(BaseModel):
    """The parts that are in the bucket."""

    parts: list[Part]


class PartNumbers(BaseModel):
    """Numbers of the parts to sign."""

    model_config = ConfigDict(extra="forbid")

    part_numbers: list[Annotated[int, Field(ge=1, le=PART_COUNT)]] = Field(min_length=1, max_length=_MAX_SIGNED_PARTS)


class FinishedPart(BaseModel):
    """A part with the ETag that the client received."""

    model_config = ConfigDict(extra="ignore")

    part_number: int = Field(ge=1, le=PART_COUNT)
    etag: str = Field(min_length=1, max_length=200)


class Completion(BaseModel):
    """Optional list of the parts to join; by default, all parts in the bucket."""

    model_config = ConfigDict(extra="forbid")

    parts: list[FinishedPart] | None = Field(default=None, max_length=UPLOAD_BYTES // PART_BYTES)


class UploadObject(BaseModel):
    """An upload. While it is `created` it contains presigned URLs, which are new on every read."""

    id: str
    state: UploadState
    filename: str
    content_type: str
    size_bytes: int
    sha256: str | None = Field(description="Of the stored bytes; before completion, as declared.")
    created_at: datetime
    expires_at: datetime = Field(description="The upload fails at this time unless it is completed.")
    completed_at: datetime | None = None
    media: MediaFacts | None = Field(default=None, description="Media properties found by a decoder.")
    reason: Literal["refused", "deleted", "expired"] | None = Field(default=None, description="Why it failed.")
    error: ErrorBody | None = None
    method: Literal["PUT"] | None = None
    url: str | None = Field(default=None, description="Presigned; absent for a multipart upload.")
    headers: dict[str, str] | None = Field(default=None, description="To be sent unchanged with the bytes.")
    url_expires_at: datetime | None = None
    multipart_id: str | None = None
    part_size_bytes: int | None = None
    part_count: int | None = None
    parts: list[Part] | None = Field(default=None, description="Parts of a multipart upload that are in the bucket.")


class SignRequest(BaseModel):
    """Uppy 6's `signRequest`: the request that `@uppy/aws-s3` is going to send to the bucket."""

    model_config = ConfigDict(extra="ignore")

    method: Literal["GET", "PUT", "POST", "DELETE"]
    key: str | None = Field(default=None, description="Ignored: the answer contains the upload's own key.")
    uploadId: str | None = Field(default=None, min_length=1, max_length=1024)  # noqa: N815 - Uppy's name
    partNumber: int | None = Field(default=None, ge=1, le=PART_COUNT)  # noqa: N815 - Uppy's name
    contentType: str | None = Field(default=None, max_length=200)  # noqa: N815 - Uppy's name
    expiresIn: int | None = Field(default=None, ge=1)  # noqa: N815 - Uppy's name


class SignedRequest(BaseModel):
    """Presigned URL for Uppy's request."""

    url: str
    key: str
    headers: dict[str, str]
