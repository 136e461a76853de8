"""Upload of a video by one POST of its bytes, answered with its id: passed on to the bucket as they arrive."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from starlette.requests import Request

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import GIB, SINGLE_PUT_BYTES
from kit.auth.api_keys import Principal
from kit.bucket import Bucket
from kit.bus.idempotency import IdempotencyKey, idempotency_key
from kit.http.body_limit import DRAINED_BYTES, drain
from services.gateway.aggregates.upload_state import Upload, UploadState
from services.gateway.uploads.service import UploadService
from services.gateway.uploads.streamed_put import put_stream
from services.gateway.uploads.upload_checks import media_type

_ROUTE: Final = "badminton upload"
_SUFFIXES: Final = {
    "video/mp4": "mp4",
    "video/mpeg": "mpeg",
    "video/quicktime": "mov",
    "video/x-msvideo": "avi",
    "video/webm": "webm",
}
#: What browsers send for a file whose type they do not know.
_UNKNOWN_TYPES: Final = frozenset({"", "application/octet-stream"})


class UploadBodies:
    """Receives the bodies of uploads."""

    def __init__(self, uploads: UploadService, bucket: Bucket) -> None:
        """Create uploads in ``uploads`` and put their bytes into ``bucket``."""
        self._uploads, self._bucket = uploads, bucket

    async def receive(self, request: Request, caller: Principal, token: str) -> str:
        """Store and check the file in a request's body, and return its id; a repeated request stores nothing twice.

        Raises:
            SaccadeError: the file is refused, as by ``UploadService``; BODY_TOO_LARGE, MALFORMED_REQUEST.
            ClientDisconnect: the body is incomplete. The upload expires.
        """
        upload = await self._open(request, caller, token)
        if upload.state is UploadState.COMPLETED:
            async for _ in request.stream():
                continue
            return upload.id
        created = upload.created
        url = await self._bucket.presign_put(created.key, created.content_type, inside=True)
        stream = request.stream()
        try:
            await put_stream(url, stream, created.size_bytes, created.content_type)
        except SaccadeError:
            await _read_rest(stream)
            raise
        return (await self._uploads.complete(caller.tenant, upload.id)).id

    async def _open(self, request: Request, caller: Principal, token: str) -> Upload:
        """Return the upload for a request; what can be refused by its head alone is refused before the bytes are sent.

        Raises:
            SaccadeError: as ``receive``.
        """
        try:
            size_bytes = _content_length(request)
            content_type = _content_type(request)
            wanted = {"content_type": content_type, "size_bytes": size_bytes}
            key = idempotency_key(caller.tenant, _ROUTE, token, wanted) if token else None
            try:
                return await self._create(caller, content_type, size_bytes, key)
            except SaccadeError as error:
                if error.code is not ErrorCode.IDEMPOTENCY_KEY_REUSED:
                    raise
                return await self._create(caller, content_type, size_bytes, None)  # another file, to the same URL
        except SaccadeError:
            await drain(request.receive)
            raise

    async def _create(
        self, caller: Principal, content_type: str, size_bytes: int, key: IdempotencyKey | None
    ) -> Upload:
        return await self._uploads.create(
            caller.tenant,
            filename=f"video.{_SUFFIXES.get(content_type, 'mp4')}",
            content_type=content_type,
            size_bytes=size_bytes,
            sha256=None,
            multipart=False,
            key=key,
        )


async def _read_rest(stream: AsyncIterator[bytes]) -> None:
    """Read and ignore the rest of a body, up to a limit, so that the client gets the answer."""
    size_bytes = 0
    async for chunk in stream:
        size_bytes += len(chunk)
        if size_bytes > DRAINED_BYTES:
            return


def _content_length(request: Request) -> int:
    declared = request.headers.get("content-length", "")
    if not declared.isdigit():
        message = "The request does not say how long the file is."
        raise SaccadeError(ErrorCode.MALFORMED_REQUEST, message, hint="Send the file with Content-Length.")
    size_bytes = int(declared[:20])
    if size_bytes > SINGLE_PUT_BYTES:
        message = (
            f"The file has {size_bytes / GIB:.1f} GiB; at most {SINGLE_PUT_BYTES / GIB:.0f} GiB are accepted here."
        )
        raise SaccadeError(ErrorCode.UPLOAD_TOO_LARGE, message, hint="Upload it in parts, with POST /v1/uploads.")
    return size_bytes


def _content_type(request: Request) -> str:
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    found = "video/mp4" if given in _UNKNOWN_TYPES else media_type(given)
    if not found.startswith("video/"):
        raise SaccadeError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, f"{found} is no video.", accepted=["video/*"])
    return found
