"""Representation of uploads in HTTP answers, with the presigned URLs of their bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import PART_BYTES, PRESIGNED_URL_S
from contracts.upload import Upload, UploadState
from kit.bucket import Bucket
from services.gateway.uploads.fetching.upload_fetcher import FetchProgress
from services.gateway.uploads.schemas import (
    Part,
    SignedPart,
    SignedParts,
    SignedRequest,
    SignRequest,
    UploadObject,
    UploadSourceObject,
)
from services.gateway.uploads.upload_checks import has_put


class UploadPresenter:
    """Builds upload objects and signs URLs."""

    def __init__(self, bucket: Bucket, progress: Callable[[str], FetchProgress | None]) -> None:
        """Sign URLs of ``bucket``; ``progress`` returns how much of a file this process has fetched."""
        self._bucket, self._progress = bucket, progress

    async def full(
        self, upload: Upload, parts: Sequence[dict[str, Any]] = (), *, may_send: bool = True
    ) -> UploadObject:
        """Return an upload object; while it is open, with a presigned URL or, in multipart mode, its stored parts.

        The URL writes to the bucket: without ``may_send`` there is none.
        """
        created = upload.created
        body = UploadObject(
            id=upload.id,
            state=upload.state,
            filename=created.filename,
            content_type=upload.content_type,
            size_bytes=upload.size_bytes,
            sha256=upload.completed.sha256 if upload.completed else created.sha256,
            created_at=upload.created_at,
            expires_at=upload.expires_at,
            completed_at=upload.completed_at,
            media=upload.media,
            reason=upload.reason,
            error=upload.error,
            metadata=created.metadata,
            from_job=created.from_job,
        )
        if created.source:
            progress = self._progress(upload.id) if upload.state is UploadState.CREATED else None
            body.source = UploadSourceObject(
                url=created.source.url,
                job_id=created.source.job_id,
                received_bytes=progress and progress.received_bytes,
                total_bytes=progress and progress.total_bytes,
            )
        if created.source or upload.state is not UploadState.CREATED:
            return body
        if created.multipart_id:
            body.multipart_id = created.multipart_id
            body.part_size_bytes, body.part_count = PART_BYTES, upload.part_count
            body.parts = [Part.model_validate(part) for part in parts]
            return body
        if not (may_send and has_put(upload)):
            return body
        body.method, body.headers = "PUT", {"Content-Type": created.content_type}
        body.url = await self._bucket.presign_put(created.key, created.content_type, created.size_bytes or None)
        body.url_expires_at = _url_expires_at()
        return body

    async def signed_parts(self, upload: Upload, part_numbers: Sequence[int]) -> SignedParts:
        """Return presigned URLs for parts of a multipart upload.

        Raises:
            SaccadeError: INVALID_PARAMETER.
        """
        multipart_id = upload.created.multipart_id
        if multipart_id is None:
            message = "The upload is sent by one PUT, not in parts."
            raise SaccadeError(ErrorCode.INVALID_PARAMETER, message, hint="Create it with multipart: true.")
        if (last := max(part_numbers)) > upload.part_count:
            message = f"The upload has {upload.part_count} parts; there is no part {last}."
            raise SaccadeError(ErrorCode.INVALID_PARAMETER, message)
        signed = [
            SignedPart(
                part_number=number,
                size_bytes=upload.part_size(number),
                url=await self._bucket.presign_part(upload.created.key, multipart_id, number, upload.part_size(number)),
            )
            for number in dict.fromkeys(part_numbers)
        ]
        return SignedParts(parts=signed, url_expires_at=_url_expires_at())

    async def signed_request(self, upload: Upload, wanted: SignRequest) -> SignedRequest:
        """Sign a request of Uppy for an upload's key.

        Raises:
            SaccadeError: INVALID_PARAMETER.
        """
        operation, params = _s3_operation(upload, wanted)
        headers: dict[str, str] = {}
        if operation == "put_object":
            params["ContentType"] = headers["Content-Type"] = upload.created.content_type
        expires_s = min(wanted.expiresIn or PRESIGNED_URL_S, PRESIGNED_URL_S)
        url = await self._bucket.presign_any(operation, upload.created.key, params, expires_s)
        return SignedRequest(url=url, key=upload.created.key, headers=headers)


def _url_expires_at() -> datetime:
    return datetime.now(UTC) + timedelta(seconds=PRESIGNED_URL_S)


def _s3_operation(upload: Upload, wanted: SignRequest) -> tuple[str, dict[str, Any]]:
    """Return the S3 operation of a request, and its parameters. Sizes are signed: no more bytes arrive than declared.

    Raises:
        SaccadeError: INVALID_PARAMETER.
    """
    if wanted.uploadId is None:
        if wanted.method == "PUT" and wanted.partNumber is None and has_put(upload):
            declared = upload.created.size_bytes
            return "put_object", {"ContentLength": declared} if declared else {}
        if wanted.method == "POST" and wanted.partNumber is None:
            # Nobody would know such a multipart upload, nor delete its parts.
            message = "The server starts multipart uploads itself, and signs none that a client starts."
            hint = "Set shouldUseMultipart: false, or create the upload with multipart: true and send its parts."
            raise SaccadeError(ErrorCode.INVALID_PARAMETER, message, hint=hint)
    elif wanted.uploadId == upload.created.multipart_id:
        same = {"UploadId": wanted.uploadId}
        match wanted.method, wanted.partNumber:
            case "PUT", int(number) if number <= upload.part_count:
                return "upload_part", {**same, "PartNumber": number, "ContentLength": upload.part_size(number)}
            case "GET", None:
                return "list_parts", same
            case "POST", None:
                return "complete_multipart_upload", same
            case "DELETE", None:
                return "abort_multipart_upload", same
    message = f"{wanted.method} with these values is not a request of this upload."
    raise SaccadeError(ErrorCode.INVALID_PARAMETER, message, hint="Send what @uppy/aws-s3 passes to signRequest.")
