"""The upload as an aggregate: its state is the fold of its events; what may be announced is decided here. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Literal

from contracts.errors import ErrorBody, ErrorCode, SaccadeError
from contracts.events.base import Envelope
from contracts.events.upload import MediaFacts, UploadCompleted, UploadCreated, UploadFailed
from contracts.limits import GIB, PART_BYTES, SINGLE_PUT_BYTES, UPLOAD_BYTES, UPLOAD_EXPIRES_S

_MEDIA_TYPE: Final = re.compile(r"^(video|image)/[a-z0-9][a-z0-9.+-]{0,99}$")
#: What browsers and operating systems call a ZIP.
_ZIP_TYPES: Final = frozenset({"application/zip", "application/x-zip-compressed", "application/x-zip"})
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
_KEY_CHARS: Final = 100
_SUFFIX_CHARS: Final = 16


class UploadState(StrEnum):
    """Where an upload is in its life."""

    CREATED = "created"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True)
class Upload:
    """One upload, as its events tell it."""

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
        """Tell when it is given up unless its bytes were completed."""
        return self.created_at + timedelta(seconds=UPLOAD_EXPIRES_S)

    @property
    def media(self) -> MediaFacts | None:
        """Give what the decoder found."""
        return self.completed.media if self.completed else None

    @property
    def part_count(self) -> int:
        """Count the parts of a multipart upload."""
        return max(1, -(-self.created.size_bytes // PART_BYTES))

    def part_size(self, number: int) -> int:
        """Give the size in bytes of a part, numbered from 1."""
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
    upload = replace(upload, sequence=sequence)
    if upload.state is UploadState.FAILED:
        return upload
    match data:
        case UploadCompleted():
            return replace(upload, state=UploadState.COMPLETED, completed=data, completed_at=envelope.time)
        case UploadFailed():
            return replace(upload, state=UploadState.FAILED, reason=data.reason, error=data.error)
    return upload


def safe_name(filename: str) -> str:
    """Write a file name so that it can stand in a key and a header; its extension stays.

    The user's own name is kept in ``upload.created`` for display.
    """
    name = filename.replace("\\", "/").rpartition("/")[2]
    stem, _, suffix = name.rpartition(".") if "." in name else (name, "", "")
    stem, suffix = _plain(stem), _plain(suffix).lower()
    if not suffix or len(suffix) > _SUFFIX_CHARS:
        return stem[:_KEY_CHARS] or "file"
    return f"{stem[: _KEY_CHARS - len(suffix) - 1] or 'file'}.{suffix}"


def _plain(text: str) -> str:
    return _UNSAFE.sub("_", text).strip("._-")


def media_type(content_type: str) -> str:
    """Give the content type without its parameters, in lower case.

    Raises:
        SaccadeError: UNSUPPORTED_MEDIA_TYPE.
    """
    bare = content_type.partition(";")[0].strip().lower()
    if not _MEDIA_TYPE.match(bare) and bare not in _ZIP_TYPES:
        message = f"{content_type!r} is neither video/… nor image/… nor application/zip."
        accepted = ["video/*", "image/*", "application/zip"]
        raise SaccadeError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, message, accepted=accepted)
    return bare


def check_size(size_bytes: int) -> None:
    """Refuse what is empty or too large before a byte is sent.

    Raises:
        SaccadeError: UPLOAD_EMPTY, UPLOAD_TOO_LARGE.
    """
    if size_bytes == 0:
        raise SaccadeError(ErrorCode.UPLOAD_EMPTY)
    if size_bytes > UPLOAD_BYTES:
        message = f"The file has {size_bytes / GIB:.1f} GiB; at most {UPLOAD_BYTES / GIB:.0f} GiB are taken."
        raise SaccadeError(ErrorCode.UPLOAD_TOO_LARGE, message, limit_bytes=UPLOAD_BYTES)


def in_parts(size_bytes: int, *, asked: bool) -> bool:
    """Decide whether an upload goes in parts: because the client asks, or because one PUT cannot carry it."""
    return asked or size_bytes > SINGLE_PUT_BYTES


def check_arrived(upload: Upload, size_bytes: int) -> None:
    """Compare what arrived with what was declared.

    Raises:
        SaccadeError: UPLOAD_EMPTY, UPLOAD_SIZE_MISMATCH.
    """
    if size_bytes == 0:
        raise SaccadeError(ErrorCode.UPLOAD_EMPTY)
    declared = upload.created.size_bytes
    if size_bytes != declared:
        message = f"{declared} bytes were declared, {size_bytes} arrived."
        raise SaccadeError(ErrorCode.UPLOAD_SIZE_MISMATCH, message, declared_bytes=declared, arrived_bytes=size_bytes)


def check_media(upload: Upload, media: MediaFacts) -> None:
    """Compare what the decoder found with the declared content type.

    Raises:
        SaccadeError: UNSUPPORTED_MEDIA_TYPE.
    """
    declared = upload.created.content_type
    announced = "archive" if declared in _ZIP_TYPES else declared.partition("/")[0]
    if announced != media.media:
        message = f"{declared} was declared, but the file holds {_NAMES[media.media]}."
        raise SaccadeError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, message)


_NAMES: Final = {"video": "a video", "image": "a picture", "archive": "a ZIP"}
