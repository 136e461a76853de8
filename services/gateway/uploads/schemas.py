"""JSON bodies of the upload routes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from contracts.errors import ErrorBody
from contracts.events.upload import MediaFacts
from contracts.ids import JOB_ID_PATTERN
from contracts.limits import INPUT_URL_CHARS, METADATA_BYTES, PART_BYTES, PART_COUNT, UPLOAD_BYTES
from contracts.upload import UploadState
from kit.http.request_body import RequestBody
from services.gateway.uploads.upload_checks import CONTENT_TYPE_PATTERN

_MAX_SIGNED_PARTS: Final = 1000


class UploadOrigin(RequestBody):
    """Statements of the client about a file."""

    metadata: dict[str, str] = Field(
        default_factory=dict,
        description=f"Returned with the upload, and matched by rules; at most {METADATA_BYTES} bytes as JSON.",
        examples=[{"lap": "7", "driver": "anna"}],
    )
    from_job: str | None = Field(
        default=None,
        pattern=JOB_ID_PATTERN,
        description="Your job whose result the file is: no rule that had a part in this job applies to it.",
    )


class NewUpload(UploadOrigin):
    """A request for an upload."""

    filename: str = Field(min_length=1, max_length=255, examples=["lap_a.mp4"])
    content_type: str = Field(
        max_length=200,
        description="`video/*`, `image/*` or `application/zip`.",
        examples=["video/mp4"],
        json_schema_extra={"pattern": CONTENT_TYPE_PATTERN},
    )
    # An empty or too large file has an error of its own.
    size_bytes: int = Field(
        ge=0,
        lt=1 << 63,
        examples=[1_048_576],
        json_schema_extra={"minimum": 1, "maximum": UPLOAD_BYTES, "exclusiveMaximum": UPLOAD_BYTES + 1},
    )
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


class NewUrlUpload(UploadOrigin):
    """A request to fetch a file from another server, if the operator of this one allows it."""

    url: str = Field(
        min_length=1,
        max_length=INPUT_URL_CHARS,
        description="Answers a plain GET with the file: http or https, on a public address, without user name and "
        "password. Its query is in no event and no answer.",
        examples=["https://example.com/lap_a.mp4"],
    )
    filename: str | None = Field(default=None, min_length=1, max_length=255, description="By default, of the URL.")
    sha256: str | None = Field(
        default=None, pattern=r"^[0-9a-fA-F]{64}$", description="Compared with the fetched bytes."
    )


def _variant(body: Any) -> str:
    return "url" if "url" in (body if isinstance(body, dict) else getattr(body, "model_fields_set", ())) else "bytes"


#: A request with ``url`` is one to fetch it.
AnyNewUpload = Annotated[
    Annotated[NewUpload, Tag("bytes")] | Annotated[NewUrlUpload, Tag("url")], Discriminator(_variant)
]


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


class PartNumbers(RequestBody):
    """Numbers of the parts to sign."""

    part_numbers: list[Annotated[int, Field(ge=1, le=PART_COUNT)]] = Field(min_length=1, max_length=_MAX_SIGNED_PARTS)


class FinishedPart(RequestBody):
    """A part with the ETag that the client received."""

    model_config = ConfigDict(extra="ignore")

    part_number: int = Field(ge=1, le=PART_COUNT)
    etag: str = Field(min_length=1, max_length=200)


class Completion(RequestBody):
    """Optional list of the parts to join, which are all parts in the bucket: with it, another one is noticed."""

    parts: list[FinishedPart] | None = Field(default=None, max_length=UPLOAD_BYTES // PART_BYTES)


class UploadSourceObject(BaseModel):
    """Origin of a file that the server fetches, and its progress."""

    url: str = Field(description="Without its query.")
    job_id: str | None = Field(description="The job that is submitted when its inputs have been fetched.")
    received_bytes: int | None = Field(default=None, description="Absent before the first byte.")
    total_bytes: int | None = Field(default=None, description="As the server of the URL announced it.")


class UploadObject(BaseModel):
    """An upload. While it is `created` it contains a presigned URL, which is new on every read.

    With `source`, the server fetches the file, and there is nothing to send.
    """

    id: str
    state: UploadState
    filename: str
    content_type: str
    size_bytes: int | None = Field(description="Null while it is not known, as while the server fetches the file.")
    sha256: str | None = Field(description="Of the stored bytes; before completion, as declared.")
    created_at: datetime
    expires_at: datetime = Field(description="The upload fails at this time unless it is completed.")
    completed_at: datetime | None = None
    media: MediaFacts | None = Field(default=None, description="Media properties found by a decoder.")
    reason: Literal["refused", "deleted", "expired"] | None = Field(default=None, description="Why it failed.")
    error: ErrorBody | None = None
    method: Literal["PUT"] | None = None
    url: str | None = Field(
        default=None, description="Presigned, for keys with the scope `write`; null for a multipart upload."
    )
    headers: dict[str, str] | None = Field(default=None, description="To be sent unchanged with the bytes.")
    url_expires_at: datetime | None = None
    multipart_id: str | None = None
    part_size_bytes: int | None = None
    part_count: int | None = None
    parts: list[Part] | None = Field(default=None, description="Parts of a multipart upload that are in the bucket.")
    source: UploadSourceObject | None = None
    metadata: dict[str, str]
    from_job: str | None = Field(description="The job whose result the file is.")


class SignRequest(RequestBody):
    """Uppy 6's `signRequest`: the request that `@uppy/aws-s3` is going to send to the bucket.

    `uploadId` is the upload's own `multipart_id`; without one the upload is a single PUT.
    """

    # As _s3_operation of the presenter reads it.
    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "anyOf": [
                {
                    "properties": {
                        "method": {"const": "PUT"},
                        "uploadId": {"type": "null"},
                        "partNumber": {"type": "null"},
                    }
                },
                {
                    "properties": {
                        "method": {"const": "PUT"},
                        "uploadId": {"type": "string"},
                        "partNumber": {"type": "integer"},
                    },
                    "required": ["uploadId", "partNumber"],
                },
                {
                    "properties": {
                        "method": {"enum": ["GET", "POST", "DELETE"]},
                        "uploadId": {"type": "string"},
                        "partNumber": {"type": "null"},
                    },
                    "required": ["uploadId"],
                },
            ]
        },
    )

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
