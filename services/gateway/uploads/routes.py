"""Routes of uploads. The bytes go directly between client and bucket, by presigned URLs."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Response

from contracts.errors import ErrorCode
from contracts.upload import Upload
from kit.auth.principal import Reader, Writer
from kit.bus.idempotency import IdempotencyHeader, key_of
from kit.http.app_state import from_app_state
from kit.http.path_ids import UploadId
from kit.http.problems import problem_responses
from modal_workers import catalog
from services.gateway.aggregates.early_reads import EarlyReads, EarlyReadsDep
from services.gateway.backends.reported_backends import ReportedBackends
from services.gateway.uploads.dependencies import UploadPresenterDep, UploadServiceDep, UrlUploadsDep
from services.gateway.uploads.schemas import (
    AnyNewUpload,
    ArrivedParts,
    Completion,
    NewUrlUpload,
    Part,
    PartNumbers,
    SignedParts,
    SignedRequest,
    SignRequest,
    UploadObject,
)
from services.gateway.uploads.service import UploadService
from services.gateway.uploads.upload_checks import existing

router = APIRouter(prefix="/v1/uploads", tags=["uploads"])

_E = ErrorCode
_REJECTIONS: Final = (
    _E.UPLOAD_EMPTY,
    _E.UPLOAD_SIZE_MISMATCH,
    _E.UPLOAD_CHECKSUM_MISMATCH,
    _E.UNSUPPORTED_MEDIA_TYPE,
    _E.MEDIA_UNDECODABLE,
    _E.MEDIA_NO_VIDEO,
    _E.MEDIA_TOO_LARGE,
)


@router.post(
    "",
    status_code=201,
    summary="Create an upload: get a presigned URL, or have a URL fetched",
    responses={
        201: {"headers": {"Location": {"schema": {"type": "string"}}}},
        **problem_responses(
            _E.UNSUPPORTED_MEDIA_TYPE,
            _E.UPLOAD_EMPTY,
            _E.UPLOAD_TOO_LARGE,
            _E.IDEMPOTENCY_KEY_INVALID,
            _E.IDEMPOTENCY_KEY_REUSED,
            _E.UNKNOWN_WORKLOAD,
            _E.JOB_NOT_FOUND,
            _E.BACKEND_NOT_INSTALLED,
            _E.STORAGE_UNAVAILABLE,
            _E.URL_INPUT_NOT_ALLOWED,
            _E.URL_INVALID,
            _E.URL_ADDRESS_REFUSED,
            _E.QUOTA_EXCEEDED,
        ),
    },
)
async def create_upload(
    response: Response,
    caller: Writer,
    body: AnyNewUpload,
    *,
    uploads: UploadServiceDep,
    url_uploads: UrlUploadsDep,
    presenter: UploadPresenterDep,
    backends: Annotated[ReportedBackends, from_app_state("backends")],
    idempotency_key: IdempotencyHeader = None,
) -> UploadObject:
    """PUT the file to `url` with exactly `headers`, then POST `…/complete`.

    With `multipart: true`, request the URLs of the parts at `…/parts` instead. With `url`, the server fetches the
    file: the upload becomes `completed` or `failed` without another request.
    """
    key = key_of(caller.tenant, "POST /v1/uploads", idempotency_key, body)
    if isinstance(body, NewUrlUpload):
        fetched = await url_uploads.create(
            caller.tenant,
            body.url,
            filename=body.filename,
            sha256=body.sha256 and body.sha256.lower(),
            metadata=body.metadata,
            from_job=body.from_job,
            key=key,
        )
        response.headers["Location"] = f"/v1/uploads/{fetched.id}"
        return await presenter.full(fetched)
    if body.workload is not None:
        (await backends.known()).check(catalog.workload(body.workload))
    upload = await uploads.create(
        caller.tenant,
        filename=body.filename,
        content_type=body.content_type,
        size_bytes=body.size_bytes,
        sha256=body.sha256.lower() if body.sha256 else None,
        multipart=body.multipart,
        metadata=body.metadata,
        from_job=body.from_job,
        key=key,
    )
    response.headers["Location"] = f"/v1/uploads/{upload.id}"
    return await presenter.full(upload)


@router.get("/{upload_id}", summary="Read an upload", responses=problem_responses(_E.UPLOAD_NOT_FOUND))
async def read_upload(
    caller: Reader, upload_id: UploadId, uploads: UploadServiceDep, presenter: UploadPresenterDep, early: EarlyReadsDep
) -> UploadObject:
    """Return the upload; while it is open, with the parts that are in the bucket, or its presigned URL.

    A key without the scope `write` gets no URL: the file is sent there.
    """
    upload = await _read(early, uploads, caller.tenant, upload_id)
    return await presenter.full(upload, await uploads.stored_parts(upload), may_send=caller.may_write)


@router.delete(
    "/{upload_id}",
    status_code=204,
    summary="Delete an upload and its bytes",
    responses=problem_responses(_E.UPLOAD_NOT_FOUND, _E.UPLOAD_IN_USE),
)
async def delete_upload(caller: Writer, upload_id: UploadId, uploads: UploadServiceDep) -> None:
    """Rejected while an unfinished job uses the upload."""
    await uploads.delete(caller.tenant, upload_id)


@router.post(
    "/{upload_id}/parts",
    summary="Sign parts of a multipart upload",
    responses=problem_responses(_E.UPLOAD_NOT_FOUND, _E.UPLOAD_ALREADY_ENDED, _E.INVALID_PARAMETER),
)
async def sign_parts(
    caller: Writer, upload_id: UploadId, body: PartNumbers, uploads: UploadServiceDep, presenter: UploadPresenterDep
) -> SignedParts:
    """Return a presigned PUT for each part: every part but the last has `part_size_bytes`.

    Their numbers are 1 to the upload's `part_count`; an upload that is not multipart has no parts.
    """
    return await presenter.signed_parts(await uploads.get_open(caller.tenant, upload_id), body.part_numbers)


@router.get(
    "/{upload_id}/parts",
    summary="List the parts that are in the bucket",
    responses=problem_responses(_E.UPLOAD_NOT_FOUND, _E.STORAGE_UNAVAILABLE),
)
async def list_parts(
    caller: Reader, upload_id: UploadId, uploads: UploadServiceDep, early: EarlyReadsDep
) -> ArrivedParts:
    """Return the parts that need not be sent again when an upload is resumed."""
    upload = await _read(early, uploads, caller.tenant, upload_id)
    return ArrivedParts(parts=[Part.model_validate(part) for part in await uploads.stored_parts(upload)])


@router.post(
    "/{upload_id}/sign",
    summary="Sign one S3 request of Uppy (signRequest of @uppy/aws-s3 6)",
    responses=problem_responses(_E.UPLOAD_NOT_FOUND, _E.UPLOAD_ALREADY_ENDED, _E.INVALID_PARAMETER),
)
async def sign_request(
    caller: Writer, upload_id: UploadId, body: SignRequest, uploads: UploadServiceDep, presenter: UploadPresenterDep
) -> SignedRequest:
    """Sign Uppy's request for this upload's key, whatever key is sent."""
    return await presenter.signed_request(await uploads.get_open(caller.tenant, upload_id), body)


@router.post(
    "/{upload_id}/complete",
    summary="Check the bytes and make the upload usable",
    responses=problem_responses(
        _E.UPLOAD_NOT_FOUND,
        _E.UPLOAD_ALREADY_ENDED,
        _E.UPLOAD_NOT_COMPLETED,
        _E.UPLOAD_BYTES_MISSING,
        _E.INVALID_PARAMETER,
        *_REJECTIONS,
        _E.STORAGE_UNAVAILABLE,
    ),
)
async def complete_upload(
    caller: Writer,
    upload_id: UploadId,
    uploads: UploadServiceDep,
    presenter: UploadPresenterDep,
    body: Completion | None = None,
) -> UploadObject:
    """Compare size and SHA-256 and open the file with a decoder. Idempotent.

    The bytes of a rejected file are deleted, and the upload has failed permanently. A list of other parts than those
    in the bucket is refused, and the upload stays open.
    """
    parts = [(part.part_number, part.etag) for part in body.parts] if body and body.parts else None
    return await presenter.full(await uploads.complete(caller.tenant, upload_id, parts))


async def _read(early: EarlyReads, uploads: UploadService, tenant: str, upload_id: str) -> Upload:
    """Return an upload; while the view catches up, from its own events.

    Raises:
        SaccadeError: UPLOAD_NOT_FOUND; STARTING, BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
    """
    if not early.needed:
        return await uploads.get(tenant, upload_id)
    async with early.of(tenant) as partial:
        await partial.add("upload", upload_id)
        return existing(partial.view.upload(upload_id))
