"""State of an upload: the fold of its events. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

from contracts.copies import copied
from contracts.errors import ErrorBody
from contracts.events.base import Envelope, decode_at
from contracts.events.upload import MediaFacts, UploadCompleted, UploadCreated, UploadFailed
from contracts.limits import PART_BYTES, UPLOAD_EXPIRES_S


class UploadState(StrEnum):
    """State of an upload."""

    CREATED = "created"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True)
class Upload:
    """One upload, folded from its events."""

    id: str
    tenant: str
    created: UploadCreated
    created_at: datetime
    state: UploadState = UploadState.CREATED
    sequence: int = 0
    completed_at: datetime | None = None
    completed: UploadCompleted | None = None
    reason: Literal["refused", "deleted", "expired"] | None = None
    error: ErrorBody | None = None

    @property
    def expires_at(self) -> datetime:
        """Return when the upload expires unless it is completed before."""
        return self.created_at + timedelta(seconds=UPLOAD_EXPIRES_S)

    @property
    def media(self) -> MediaFacts | None:
        """Return what the decoder found in the file; None before completion."""
        return self.completed.media if self.completed else None

    @property
    def size_bytes(self) -> int | None:
        """Return the size of the file; None while it is not known."""
        return self.completed.size_bytes if self.completed else self.created.size_bytes or None

    @property
    def counted_bytes(self) -> int:
        """Return the bytes that the upload takes of its tenant's quotas, as far as they are known."""
        return self.size_bytes or (self.created.reserved_bytes if self.state is UploadState.CREATED else 0)

    @property
    def content_type(self) -> str:
        """Return the content type: as declared, or of a fetched file by its content."""
        return (self.completed and self.completed.content_type) or self.created.content_type

    @property
    def usable(self) -> bool:
        """Return whether a job can use the upload: it is complete, and was not deleted since."""
        return self.state is UploadState.COMPLETED

    @property
    def part_count(self) -> int:
        """Return the number of parts of a multipart upload."""
        return max(1, -(-self.created.size_bytes // PART_BYTES))

    def part_size(self, number: int) -> int:
        """Return the size in bytes of a part, numbered from 1."""
        return min(PART_BYTES, self.created.size_bytes - (number - 1) * PART_BYTES)


def fold(upload: Upload | None, envelope: Envelope, sequence: int) -> Upload | None:
    """Apply one event; an upload that has failed stays failed."""
    data = envelope.parsed() if envelope.type.startswith("upload.") else None
    if isinstance(data, UploadCreated):
        return upload or Upload(
            id=envelope.subject, tenant=envelope.tenant, created=data, created_at=envelope.time, sequence=sequence
        )
    if upload is None or sequence <= upload.sequence:
        return upload
    upload = copied(upload, sequence=sequence)
    if upload.state is UploadState.FAILED:
        return upload
    match data:
        case UploadCompleted():
            return copied(upload, state=UploadState.COMPLETED, completed=data, completed_at=envelope.time)
        case UploadFailed():
            return copied(upload, state=UploadState.FAILED, reason=data.reason, error=data.error)
    return upload


def fold_stored(upload: Upload | None, subject: str, body: bytes, sequence: int) -> Upload | None:
    """Apply one stored event, checked against the subject that it was stored on.

    Raises:
        ValueError: the bytes are not an event of this subject.
    """
    return fold(upload, decode_at(subject, body), sequence)
