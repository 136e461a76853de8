"""Routes of uploads. The bytes go by presigned URLs between client and bucket."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import PART_BYTES, PRESIGNED_URL_S
from kit.auth.principal import Reader, Writer
from kit.bucket import Bucket
from kit.bus.idempotency import IdempotencyHeader, key_of
from kit.http.problems import problem_responses
from services.gateway.dependencies import gateway_of
from services.gateway.uploads.schemas import (
    ArrivedParts,
    Completion,
    NewUpload,
    Part,
    PartNumbers,
    SignedPart,
    SignedParts,
    SignedRequest,
    SignRequest,
    UploadObject,
)
from services.gateway.uploads.upload_checks import Upload, UploadState

router = APIRouter(prefix="/v1/uploads", tags=["uploads"])

_E = ErrorCode
_REFUSALS: Final = (
    _E.UPLOAD_EMPTY,
    _E.UPLOAD_SIZE_MISMATCH,
    _E.UPLOAD_CHECKSUM_MISMATCH,
    _E.UNSUPPORTED_MEDIA_TYPE,
    _E.MEDIA_UNDECODABLE,
    _E.MEDIA_NO_VIDEO,
    _E.MEDIA_TOO_LARGE,
)


async def _shown(upload: Upload, bucket: Bucket, parts: list[dict[str, Any]] | None = None) -> UploadObject:
    created = upload.created
    shown = UploadObject(
        id=upload.id,
        state=upload.state,
        filename=created.filename,
        content_type=created.content_type,
        size_bytes=created.size_bytes,
        sha256=upload.completed.sha256 if upload.completed else created.sha256,
        created_at=upload.created_at,
        expires_at=upload.expires_at,
        completed_at=upload.completed_at,
        media=upload.media,
        reason=upload.reason,
        error=upload.error,
    )
    if upload.state is not UploadState.CREATED:
        return shown
    if created.multipart_id:
        shown.multipart_id = created.multipart_id
        shown.part_size_bytes, shown.part_count = PART_BYTES, upload.part_count
        shown.parts = [Part.model_validate(part) for part in parts or []]
        return shown
    shown.method, shown.headers = "PUT", {"Content-Type": created.content_type}
    shown.url = await bucket.presign_put(created.key, created.content_type)
    shown.url_expires_at = _url_expires_at()
    return shown


def _url_expires_at() -> datetime:
    return datetime.now(UTC) + timedelta(seconds=PRESIGNED_URL_S)


@router.post(
    "",
    status_code=201,
    summary="Announce a file and get a place to put it",
    responses={
        201: {"headers": {"Location": {"schema": {"type": "string"}}}},
        **problem_responses(
            _E.UNSUPPORTED_MEDIA_TYPE,
            _E.UPLOAD_EMPTY,
            _E.UPLOAD_TOO_LARGE,
            _E.IDEMPOTENCY_KEY_INVALID,
            _E.IDEMPOTENCY_KEY_REUSED,
            _E.STORAGE_UNAVAILABLE,
        ),
    },
)
async def create_upload(
    request: Request, response: Response, caller: Writer, body: NewUpload, idempotency_key: IdempotencyHeader = None
) -> UploadObject:
    """PUT the file to `url` with exactly `headers`, then POST `…/complete`.

    With `multipart: true`, ask `…/parts` for the URLs of the parts instead.
    """
    gateway = gateway_of(request)
    upload = await gateway.uploads.create(
        caller.tenant,
        filename=body.filename,
        content_type=body.content_type,
        size_bytes=body.size_bytes,
        sha256=body.sha256.lower() if body.sha256 else None,
        multipart=body.multipart,
        key=key_of(caller.tenant, "POST /v1/uploads", idempotency_key, body),
    )
    response.headers["Location"] = f"/v1/uploads/{upload.id}"
    return await _shown(upload, gateway.bucket)


@router.get("/{upload_id}", summary="Read an upload", responses=problem_responses(_E.UPLOAD_NOT_FOUND))
async def read_upload(request: Request, caller: Reader, upload_id: str) -> UploadObject:
    """Say what became of it; while it is open, where the bytes go and which parts have arrived."""
    gateway = gateway_of(request)
    upload = await gateway.uploads.get(caller.tenant, upload_id)
    return await _shown(upload, gateway.bucket, await gateway.uploads.arrived_parts(upload))


@router.delete(
    "/{upload_id}",
    status_code=204,
    summary="Delete an upload and its bytes",
    responses=problem_responses(_E.UPLOAD_NOT_FOUND, _E.UPLOAD_IN_USE),
)
async def delete_upload(request: Request, caller: Writer, upload_id: str) -> None:
    """Refused while a job that has not ended uses it."""
    await gateway_of(request).uploads.delete(caller.tenant, upload_id)


@router.post(
    "/{upload_id}/parts",
    summary="Sign for parts of a multipart upload",
    responses=problem_responses(_E.UPLOAD_NOT_FOUND, _E.UPLOAD_ALREADY_ENDED, _E.INVALID_PARAMETER),
)
async def sign_parts(request: Request, caller: Writer, upload_id: str, body: PartNumbers) -> SignedParts:
    """Give a presigned PUT for each part. Every part but the last has `part_size_bytes`."""
    gateway = gateway_of(request)
    upload = await gateway.uploads.open(caller.tenant, upload_id)
    multipart_id = upload.created.multipart_id
    if multipart_id is None:
        message = "The upload goes by one PUT, not in parts."
        raise SaccadeError(ErrorCode.INVALID_PARAMETER, message, hint="Create it with multipart: true.")
    if (last := max(body.part_numbers)) > upload.part_count:
        message = f"The upload has {upload.part_count} parts; there is no part {last}."
        raise SaccadeError(ErrorCode.INVALID_PARAMETER, message)
    signed = [
        SignedPart(
            part_number=number,
            size_bytes=upload.part_size(number),
            url=await gateway.bucket.presign_part(upload.created.key, multipart_id, number),
        )
        for number in dict.fromkeys(body.part_numbers)
    ]
    return SignedParts(parts=signed, url_expires_at=_url_expires_at())


@router.get(
    "/{upload_id}/parts",
    summary="List the parts that have arrived",
    responses=problem_responses(_E.UPLOAD_NOT_FOUND, _E.STORAGE_UNAVAILABLE),
)
async def list_parts(request: Request, caller: Reader, upload_id: str) -> ArrivedParts:
    """Say what need not be sent again when an upload is resumed."""
    gateway = gateway_of(request)
    upload = await gateway.uploads.get(caller.tenant, upload_id)
    arrived = await gateway.uploads.arrived_parts(upload)
    return ArrivedParts(parts=[Part.model_validate(part) for part in arrived])


@router.post(
    "/{upload_id}/sign",
    summary="Sign one S3 request of Uppy's (signRequest of @uppy/aws-s3 6)",
    responses=problem_responses(_E.UPLOAD_NOT_FOUND, _E.UPLOAD_ALREADY_ENDED, _E.INVALID_PARAMETER),
)
async def sign_request(request: Request, caller: Writer, upload_id: str, body: SignRequest) -> SignedRequest:
    """Sign what Uppy asks for, on this upload's key and no other, whatever key is sent."""
    gateway = gateway_of(request)
    upload = await gateway.uploads.open(caller.tenant, upload_id)
    operation, params = _s3_operation(body)
    headers: dict[str, str] = {}
    if operation in ("put_object", "create_multipart_upload"):
        params["ContentType"] = headers["Content-Type"] = upload.created.content_type
    expires_s = min(body.expiresIn or PRESIGNED_URL_S, PRESIGNED_URL_S)
    url = await gateway.bucket.presign_any(operation, upload.created.key, params, expires_s)
    return SignedRequest(url=url, key=upload.created.key, headers=headers)


def _s3_operation(body: SignRequest) -> tuple[str, dict[str, Any]]:
    """Tell which S3 operation a method with these values is."""
    match body.method, body.uploadId, body.partNumber:
        case "PUT", None, None:
            return "put_object", {}
        case "POST", None, None:
            return "create_multipart_upload", {}
        case "PUT", str(upload_id), int(number):
            return "upload_part", {"UploadId": upload_id, "PartNumber": number}
        case "GET", str(upload_id), None:
            return "list_parts", {"UploadId": upload_id}
        case "POST", str(upload_id), None:
            return "complete_multipart_upload", {"UploadId": upload_id}
        case "DELETE", str(upload_id), None:
            return "abort_multipart_upload", {"UploadId": upload_id}
    message = f"{body.method} with these values is no request that an upload makes."
    raise SaccadeError(ErrorCode.INVALID_PARAMETER, message, hint="Send what @uppy/aws-s3 gives signRequest.")


@router.post(
    "/{upload_id}/complete",
    summary="Check the bytes and make the upload usable",
    responses=problem_responses(
        _E.UPLOAD_NOT_FOUND, _E.UPLOAD_ALREADY_ENDED, _E.UPLOAD_BYTES_MISSING, *_REFUSALS, _E.STORAGE_UNAVAILABLE
    ),
)
async def complete_upload(
    request: Request, caller: Writer, upload_id: str, body: Completion | None = None
) -> UploadObject:
    """Compare size and SHA-256 and open the file with a decoder. May be repeated: the answer stays the same.

    A file that is refused is deleted, and the upload has failed for ever.
    """
    gateway = gateway_of(request)
    parts = [(part.part_number, part.etag) for part in body.parts] if body and body.parts else None
    return await _shown(await gateway.uploads.complete(caller.tenant, upload_id, parts), gateway.bucket)
