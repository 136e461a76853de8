"""Checks of uploads: declared size and media type before the bytes are sent, size and media after. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.upload import MediaFacts
from contracts.invalid_values import pointer
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


def has_put(upload: Upload) -> bool:
    """Return whether a client may send the file by one PUT: what it may send counts towards its quotas.

    A file that arrives in a form is put by the gateway, which counts its bytes.
    """
    created = upload.created
    return created.multipart_id is None and bool(created.size_bytes or created.reserved_bytes)


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


def chosen_parts(
    arrived: Sequence[Mapping[str, Any]], listed: Sequence[tuple[int, str]] | None
) -> list[tuple[int, str]]:
    """Return the parts to join, in order, with their entity tags: all that are in the bucket, as a client may list too.

    Raises:
        SaccadeError: INVALID_PARAMETER, for a list of other parts: the bucket would refuse it, or join a file that
            lacks some.
    """
    etags: dict[int, str] = {part["part_number"]: part["etag"] for part in arrived}
    given: dict[int, str] = {}
    for index, (number, etag) in enumerate(listed or ()):
        where = ("parts", index)
        if number in given:
            raise _wrong_part(f"part {number} is listed twice", *where, "part_number")
        if number not in etags:
            raise _wrong_part(f"part {number} is not in the bucket", *where, "part_number")
        if etag.strip('"') != etags[number].strip('"'):
            raise _wrong_part(f"part {number} has the ETag {etags[number]} in the bucket", *where, "etag")
        given[number] = etag
    if listed is not None and (missing := min(etags.keys() - given.keys(), default=None)):
        raise _wrong_part(f"part {missing} is in the bucket, and is not listed", "parts")
    return sorted(etags.items())


def _wrong_part(what: str, *where: str | int) -> SaccadeError:
    message = f"parts: {what}."
    hint = "Leave parts out: then all parts that are in the bucket are joined. GET …/parts lists them."
    return SaccadeError(
        ErrorCode.INVALID_PARAMETER, message, hint=hint, errors=[{"detail": message, "pointer": pointer(where)}]
    )


def check_sent(upload: Upload) -> None:
    """Reject bytes of a client for a file that the server fetches.

    Raises:
        SaccadeError: UPLOAD_NOT_COMPLETED.
    """
    if upload.created.source is not None:
        message = "The server fetches this file from its URL; no bytes are sent to it."
        hint = "Wait until it is completed or failed: GET /v1/uploads/{id} shows its progress."
        raise SaccadeError(ErrorCode.UPLOAD_NOT_COMPLETED, message, hint=hint)


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


def already_ended(upload: Upload) -> SaccadeError:
    """Return the error for completing an ended upload; a rejection is repeated with its first error."""
    if upload.error:
        return SaccadeError(upload.error.code, upload.error.message, hint=upload.error.hint)
    return SaccadeError(ErrorCode.UPLOAD_ALREADY_ENDED, f"The upload was {upload.reason or upload.state}.")
