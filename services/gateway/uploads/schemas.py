"""What routes of uploads take and give, as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import ErrorBody
from contracts.events.upload import MediaFacts
from contracts.limits import PART_BYTES, PART_COUNT, UPLOAD_BYTES
from services.gateway.uploads.upload_checks import UploadState

_SIGNED_AT_ONCE: Final = 1000


class NewUpload(BaseModel):
    """What a client announces."""

    model_config = ConfigDict(extra="forbid")

    filename: str = Field(min_length=1, max_length=255, examples=["lap_a.mp4"])
    content_type: str = Field(
        min_length=1, max_length=200, description="`video/*`, `image/*` or `application/zip`", examples=["video/mp4"]
    )
    size_bytes: int = Field(ge=0, examples=[1_048_576])
    sha256: str | None = Field(
        default=None, pattern=r"^[0-9a-fA-F]{64}$", description="Compared with the bytes when they have arrived."
    )
    multipart: bool = Field(
        default=False, description="Send the bytes in parts, resumable. Above 1 GiB this is always so."
    )


class Part(BaseModel):
    """A part that has arrived."""

    part_number: int
    size_bytes: int
    etag: str


class SignedPart(BaseModel):
    """Where to PUT a part; its ETag comes in the answer."""

    part_number: int
    size_bytes: int
    url: str


class SignedParts(BaseModel):
    """Where to PUT parts."""

    parts: list[SignedPart]
    url_expires_at: datetime


class ArrivedParts(BaseModel):
    """Which parts are in the bucket."""

    parts: list[Part]


class PartNumbers(BaseModel):
    """Which parts to sign for."""

    model_config = ConfigDict(extra="forbid")

    part_numbers: list[Annotated[int, Field(ge=1, le=PART_COUNT)]] = Field(min_length=1, max_length=_SIGNED_AT_ONCE)


class FinishedPart(BaseModel):
    """A part as the client knows it."""

    model_config = ConfigDict(extra="ignore")

    part_number: int = Field(ge=1, le=PART_COUNT)
    etag: str = Field(min_length=1, max_length=200)


class Completion(BaseModel):
    """Optional: the parts to join. Without them all that have arrived are joined."""

    model_config = ConfigDict(extra="forbid")

    parts: list[FinishedPart] | None = Field(default=None, max_length=UPLOAD_BYTES // PART_BYTES)


class UploadObject(BaseModel):
    """An upload. While it is `created` it says where the bytes go; links are signed anew on every read."""

    id: str
    state: UploadState
    filename: str
    content_type: str
    size_bytes: int
    sha256: str | None = Field(description="As found in the bytes; before that as declared.")
    created_at: datetime
    expires_at: datetime = Field(description="When it is given up unless it was completed.")
    completed_at: datetime | None = None
    media: MediaFacts | None = Field(default=None, description="What a decoder found in it.")
    reason: Literal["refused", "deleted", "expired"] | None = Field(default=None, description="Why it failed.")
    error: ErrorBody | None = None
    method: Literal["PUT"] | None = None
    url: str | None = Field(default=None, description="Presigned; absent for a multipart upload.")
    headers: dict[str, str] | None = Field(default=None, description="To be sent with the bytes, as they are.")
    url_expires_at: datetime | None = None
    multipart_id: str | None = None
    part_size_bytes: int | None = None
    part_count: int | None = None
    parts: list[Part] | None = Field(default=None, description="Parts of a multipart upload that have arrived.")


class SignRequest(BaseModel):
    """Uppy 6's `signRequest`: what `@uppy/aws-s3` is about to ask the bucket for."""

    model_config = ConfigDict(extra="ignore")

    method: Literal["GET", "PUT", "POST", "DELETE"]
    key: str | None = Field(default=None, description="Ignored: the upload has its own key, which is answered.")
    uploadId: str | None = Field(default=None, min_length=1, max_length=1024)  # noqa: N815 - Uppy's name
    partNumber: int | None = Field(default=None, ge=1, le=PART_COUNT)  # noqa: N815 - Uppy's name
    contentType: str | None = Field(default=None, max_length=200)  # noqa: N815 - Uppy's name
    expiresIn: int | None = Field(default=None, ge=1)  # noqa: N815 - Uppy's name


class SignedRequest(BaseModel):
    """Where Uppy sends its request."""

    url: str
    key: str
    headers: dict[str, str]
