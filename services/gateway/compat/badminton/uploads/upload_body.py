"""Upload of a video by one POST of its bytes, answered with its id: passed on to the bucket as they arrive."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Final

from starlette.requests import Request

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import GIB, SINGLE_PUT_BYTES
from contracts.upload import Upload, UploadState
from kit.auth.api_keys import Principal
from kit.bucket import Bucket
from kit.bus.idempotency import IdempotencyKey, idempotency_key
from kit.http.body_limit import DRAINED_BYTES
from services.gateway.compat.badminton.uploads.form_body import FormBody
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


@dataclass(frozen=True)
class VideoFile:
    """Properties of a file that are known before its bytes."""

    filename: str
    content_type: str
    size_bytes: int


class UploadBodies:
    """Receives the bodies of uploads."""

    def __init__(self, uploads: UploadService, bucket: Bucket) -> None:
        """Create uploads in ``uploads`` and put their bytes into ``bucket``."""
        self._uploads, self._bucket = uploads, bucket

    async def receive(self, request: Request, caller: Principal, token: str) -> Upload:
        """Store and check the file that is a request's body; a repeated request stores nothing twice.

        Raises:
            SaccadeError: the file is refused, as by ``UploadService``; MALFORMED_REQUEST, UPLOAD_TOO_LARGE.
            ClientDisconnect: the body is incomplete. The upload expires.
        """
        stream = request.stream()
        try:
            size_bytes = _content_length(request)
            content_type = _video_type(request.headers.get("content-type", ""))
            filename = f"video.{_SUFFIXES.get(content_type, 'mp4')}"
            upload = await self._create(caller, VideoFile(filename, content_type, size_bytes), token)
            return await self._store(caller, upload, stream)
        except SaccadeError:
            await _read_rest(stream)
            raise

    async def receive_form(self, request: Request, caller: Principal) -> Upload:
        """Store and check the file in a form that has no other field.

        Raises:
            SaccadeError, ClientDisconnect: as ``receive``.
        """
        stream = request.stream()
        try:
            form = await FormBody.begin(request.headers.get("content-type", ""), _content_length(request), stream)
            file = VideoFile(form.filename, _video_type(form.content_type), form.size_bytes)
            return await self._store(caller, await self._create(caller, file, ""), form.file())
        except SaccadeError:
            await _read_rest(stream)
            raise

    async def _store(self, caller: Principal, upload: Upload, stream: AsyncIterator[bytes]) -> Upload:
        if upload.state is UploadState.CREATED:
            created = upload.created
            url = await self._bucket.presign_put(created.key, created.content_type, created.size_bytes, inside=True)
            await put_stream(url, stream, created.size_bytes, created.content_type)
        else:  # sent before: the first answer was lost, or refused it
            async for _ in stream:
                continue
        return await self._uploads.complete(caller.tenant, upload.id)

    async def _create(self, caller: Principal, file: VideoFile, token: str) -> Upload:
        """Create the upload of a file; with a token, one for the same file.

        Raises:
            SaccadeError: the file is refused by what is known of it.
        """

        async def create(key: IdempotencyKey | None) -> Upload:
            return await self._uploads.create(caller.tenant, **asdict(file), sha256=None, multipart=False, key=key)

        try:
            return await create(idempotency_key(caller.tenant, _ROUTE, token, asdict(file)) if token else None)
        except SaccadeError as error:
            if error.code is not ErrorCode.IDEMPOTENCY_KEY_REUSED:
                raise
            return await create(None)  # another file, to the same URL


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


def _video_type(content_type: str) -> str:
    given = content_type.partition(";")[0].strip().lower()
    found = "video/mp4" if given in _UNKNOWN_TYPES else media_type(given)
    if not found.startswith("video/"):
        raise SaccadeError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, f"{found} is no video.", accepted=["video/*"])
    return found
