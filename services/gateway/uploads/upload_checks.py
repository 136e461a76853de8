"""Checks of uploads: declared size and media type before the bytes are sent, size and media after. Pure."""

from __future__ import annotations

import re
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.upload import MediaFacts
from contracts.limits import GIB, SINGLE_PUT_BYTES, UPLOAD_BYTES
from contracts.upload import Upload
from kit.http.openapi import any_case

#: Media types under which browsers and operating systems send a ZIP.
_ZIP_TYPES: Final = ("application/zip", "application/x-zip-compressed", "application/x-zip")
_MEDIA: Final = "|".join(map(any_case, ("video", "image")))
#: Accepted content types, for OpenAPI and validation.
CONTENT_TYPE_PATTERN: Final = (
    rf"^ *(({_MEDIA})/[A-Za-z0-9][A-Za-z0-9.+-]{{0,99}}|{'|'.join(map(any_case, _ZIP_TYPES))}) *(;[^\r\n]*)?$"
)
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
_KEY_CHARS: Final = 100
_SUFFIX_CHARS: Final = 16


def safe_name(filename: str) -> str:
    """Return a file name that is safe in a bucket key and an HTTP header; the extension is kept.

    The user's own name is kept in ``upload.created`` for display.
    """
    name = filename.replace("\\", "/").rpartition("/")[2]
    stem, _, suffix = name.rpartition(".") if "." in name else (name, "", "")
    stem, suffix = _ascii_only(stem), _ascii_only(suffix).lower()
    if not suffix or len(suffix) > _SUFFIX_CHARS:
        return stem[:_KEY_CHARS] or "file"
    return f"{stem[: _KEY_CHARS - len(suffix) - 1] or 'file'}.{suffix}"


def _ascii_only(text: str) -> str:
    return _UNSAFE.sub("_", text).strip("._-")


def media_type(content_type: str) -> str:
    """Return the content type without its parameters, in lower case.

    Raises:
        SaccadeError: UNSUPPORTED_MEDIA_TYPE.
    """
    if not re.fullmatch(CONTENT_TYPE_PATTERN, content_type):
        message = f"{content_type!r} is neither video/… nor image/… nor application/zip."
        accepted = ["video/*", "image/*", "application/zip"]
        raise SaccadeError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, message, accepted=accepted)
    return content_type.partition(";")[0].strip().lower()


def check_declared_size(size_bytes: int) -> None:
    """Reject a size of zero or above the limit.

    Raises:
        SaccadeError: UPLOAD_EMPTY, UPLOAD_TOO_LARGE.
    """
    if size_bytes == 0:
        raise SaccadeError(ErrorCode.UPLOAD_EMPTY)
    if size_bytes > UPLOAD_BYTES:
        message = f"The file has {size_bytes / GIB:.1f} GiB; at most {UPLOAD_BYTES / GIB:.0f} GiB are accepted."
        raise SaccadeError(ErrorCode.UPLOAD_TOO_LARGE, message, limit_bytes=UPLOAD_BYTES)


def is_multipart(size_bytes: int, *, requested: bool) -> bool:
    """Return whether an upload is sent in parts: on request, or because it is too large for one PUT."""
    return requested or size_bytes > SINGLE_PUT_BYTES


def check_stored_size(upload: Upload, size_bytes: int) -> None:
    """Compare the size of the stored bytes with the declared size, or with the limit where none was declared.

    Raises:
        SaccadeError: UPLOAD_EMPTY, UPLOAD_SIZE_MISMATCH, UPLOAD_TOO_LARGE.
    """
    check_declared_size(size_bytes)
    declared = upload.created.size_bytes
    if declared and size_bytes != declared:
        message = f"{declared} bytes were declared, {size_bytes} arrived."
        raise SaccadeError(ErrorCode.UPLOAD_SIZE_MISMATCH, message, declared_bytes=declared, arrived_bytes=size_bytes)


def check_media_type(upload: Upload, media: MediaFacts) -> None:
    """Compare the media that the decoder found with the declared content type.

    Raises:
        SaccadeError: UNSUPPORTED_MEDIA_TYPE.
    """
    declared = upload.created.content_type
    declared_media = "archive" if declared in _ZIP_TYPES else declared.partition("/")[0]
    if declared_media != media.media:
        message = f"{declared} was declared, but the file holds {_NAMES[media.media]}."
        raise SaccadeError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, message)


_NAMES: Final = {"video": "a video", "image": "a picture", "archive": "a ZIP"}


def existing(upload: Upload | None) -> Upload:
    """Return an upload that exists and was not deleted.

    Raises:
        SaccadeError: UPLOAD_NOT_FOUND.
    """
    if upload is None or upload.reason == "deleted":
        raise SaccadeError(ErrorCode.UPLOAD_NOT_FOUND)
    return upload
