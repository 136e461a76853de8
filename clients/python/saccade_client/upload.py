"""Upload of a file to the bucket through presigned URLs: one PUT, or parts that can be resumed."""

from __future__ import annotations

import hashlib
import json
import math
import mimetypes
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx

from saccade_client.api import Api, parsed
from saccade_client.errors import ClientError, TransferError
from saccade_client.request_parts import origin_fields, path_segment
from saccade_client.retries import Retries
from saccade_client.views import UploadView

#: Called with the bytes done and the bytes in total.
OnProgress = Callable[[int, int], None]

_MIB: Final = 1024 * 1024
_CHUNK_BYTES: Final = 1 * _MIB
#: Larger files are uploaded in parts, so that a broken connection costs one part, not the file.
_MULTIPART_FROM_BYTES: Final = 64 * _MIB
#: The server takes no larger single PUT.
_SINGLE_PUT_BYTES: Final = 1024 * _MIB
#: Part URLs requested at once: few, because they expire while a slow line sends the first.
_SIGNED_AT_ONCE: Final = 8
_MAX_ATTEMPTS: Final = 4
_DISK_FULL: Final = "storage_full"
#: State of an upload that waits for its bytes.
_OPEN: Final = "created"
_COMPLETED: Final = "completed"
#: Types that are missing in some systems' tables.
_MEDIA_TYPES: Final = {
    ".heic": "image/heic",
    ".heif": "image/heif",
    ".hif": "image/heif",
    ".webp": "image/webp",
    ".zip": "application/zip",
}
#: The server joins the parts and probes the video.
_COMPLETE_S: Final = 300.0


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


class FileUpload:
    """Upload of one file."""

    def __init__(
        self,
        api: Api,
        path: Path,
        on_progress: OnProgress | None,
        *,
        content_type: str | None,
        state_dir: Path | None,
        multipart: bool | None,
        metadata: Mapping[str, str] | None = None,
        from_job: str | None = None,
        key: str | None = None,
    ) -> None:
        """Prepare; nothing is sent yet.

        Raises:
            OSError: there is no such file.
        """
        self._api = api
        self._path = path
        self._size = path.stat().st_size
        self._on_progress = on_progress
        self._content_type = content_type or _media_type(path)
        self._state_file = _state_path(api.transport.url, path, state_dir) if state_dir else None
        in_parts = self._size > _MULTIPART_FROM_BYTES if multipart is None else multipart
        self._in_parts = in_parts or self._size > _SINGLE_PUT_BYTES
        self._origin = origin_fields(metadata, from_job)
        self._key = key

    async def run(self) -> UploadView:
        """Send the bytes and complete the upload.

        Raises:
            ClientError: the server refused the file or is unavailable, or the bucket refused it.
        """
        upload = await (self._resume_or_create() if self._in_parts else self._create(multipart=False))
        if upload.get("state") == _COMPLETED:  # by an earlier request, whose answer may have been lost
            self._forget()
            return parsed(UploadView, upload)
        path = f"/v1/uploads/{path_segment(upload['id'])}/complete"
        try:
            if upload.get("state") == _OPEN:  # one of an earlier request may have failed: its completion says why
                await (self._send_parts(upload) if self._in_parts else self._send_whole(upload))
        except TransferError as error:
            if error.status >= httpx.codes.INTERNAL_SERVER_ERROR:
                await self._raise_cause(path)
            raise
        done = await self._api.post(UploadView, path, timeout=_COMPLETE_S)
        self._forget()
        return done

    def _forget(self) -> None:
        """Remove the state file of an upload that is complete."""
        if self._state_file:
            self._state_file.unlink(missing_ok=True)

    async def _raise_cause(self, path: str) -> None:
        """Raise the reason why the bucket failed, which only the server knows, if it knows it.

        Raises:
            ClientError: the disk of the server is full.
        """
        try:
            await self._api.post(UploadView, path, timeout=_COMPLETE_S)
        except ClientError as error:
            if error.code == _DISK_FULL:
                raise

    async def _create(self, *, multipart: bool) -> dict[str, Any]:
        body: dict[str, Any] = {
            "filename": self._path.name,
            "content_type": self._content_type,
            "size_bytes": self._size,
            "sha256": await self._api.transport.work(sha256_of, self._path),
        } | self._origin
        if multipart:
            body["multipart"] = True
        return await self._api.call("POST", "/v1/uploads", json=body, key=self._key)

    async def _send_whole(self, upload: dict[str, Any]) -> None:
        await self._put(upload["url"], 0, self._size, dict(upload.get("headers") or {}), 0)

    async def _resume_or_create(self) -> dict[str, Any]:
        """Return the upload to send in parts; the state file names it, to resume it later."""
        upload = await self._resumable()
        if upload is None:
            upload = await self._create(multipart=True)
            if self._state_file and upload.get("state") == _OPEN:
                self._state_file.parent.mkdir(parents=True, exist_ok=True)
                kept = {"id": upload["id"], "part_size_bytes": upload["part_size_bytes"]}
                self._state_file.write_text(json.dumps(kept))
        return upload

    async def _send_parts(self, upload: dict[str, Any]) -> None:
        """Send the parts that have not arrived."""
        part_bytes = int(upload["part_size_bytes"])
        arrived = {int(part["part_number"]) for part in upload.get("parts") or []}
        count = max(1, -(-self._size // part_bytes))
        missing = [number for number in range(1, count + 1) if number not in arrived]
        done = sum(self._part_size(number, part_bytes) for number in arrived)
        self._report_progress(done)
        path = f"/v1/uploads/{path_segment(upload['id'])}/parts"
        for first in range(0, len(missing), _SIGNED_AT_ONCE):
            numbers = missing[first : first + _SIGNED_AT_ONCE]
            signed = await self._api.call("POST", path, json={"part_numbers": numbers})
            for part in signed["parts"]:
                number = int(part["part_number"])
                size = self._part_size(number, part_bytes)
                await self._put(part["url"], (number - 1) * part_bytes, size, {}, done)
                done += size

    def _part_size(self, number: int, part_bytes: int) -> int:
        return min(part_bytes, self._size - (number - 1) * part_bytes)

    async def _resumable(self) -> dict[str, Any] | None:
        """Return the earlier upload of this file and the parts that arrived, if it can be resumed or is complete."""
        if self._state_file is None or not self._state_file.exists():
            return None
        try:
            kept = json.loads(self._state_file.read_text())
            upload = await self._api.call("GET", f"/v1/uploads/{path_segment(kept['id'])}")
        except (ValueError, KeyError, TypeError):
            return None
        except ClientError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise
            return None
        return kept | upload if upload.get("state") in (_OPEN, _COMPLETED) else None

    async def _put(self, url: str, start: int, size: int, headers: dict[str, str], done: int) -> None:
        """PUT a range of the file to a presigned URL; retry when the connection breaks."""
        # The attempts are limited, not the time: over a slow line each takes longer than a server is waited for.
        retries = Retries(patience_s=math.inf)
        sent = headers | {"Content-Length": str(size)}
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            try:
                response = await self._api.transport.put(
                    url, lambda: self._read(start, size), sent, lambda count: self._report_progress(done + count)
                )
            except httpx.TransportError as error:
                pause_s = retries.pause_s()
                if attempt == _MAX_ATTEMPTS or pause_s is None:
                    message = f"The upload was interrupted: {error or type(error).__name__}."
                    raise TransferError("storage_unavailable", message, "Upload it again.", retryable=True) from error
            else:
                if response.is_success:
                    return
                pause_s = retries.pause_s()
                if response.status_code < 500 or attempt == _MAX_ATTEMPTS or pause_s is None:
                    message = f"The bucket refused the upload ({response.status_code})."
                    raise TransferError("upload_refused", message, "Upload it again.", status=response.status_code)
            await self._api.transport.sleep(pause_s)

    def _read(self, start: int, size: int) -> Iterator[bytes]:
        """Yield a range of the file in chunks."""
        left = size
        with self._path.open("rb") as file:
            file.seek(start)
            while left and (chunk := file.read(min(_CHUNK_BYTES, left))):
                left -= len(chunk)
                yield chunk

    def _report_progress(self, done: int) -> None:
        if self._on_progress:
            self._on_progress(done, self._size)


def _state_path(url: str, path: Path, state_dir: Path) -> Path:
    """Return the state file of an upload of this file, in its present version, to this server."""
    facts = path.stat()
    identity = f"{url}\n{path.resolve()}\n{facts.st_size}\n{facts.st_mtime_ns}"
    return state_dir / f"{hashlib.sha256(identity.encode(errors='surrogateescape')).hexdigest()[:32]}.json"


def _media_type(path: Path) -> str:
    known = _MEDIA_TYPES.get(path.suffix.lower()) or mimetypes.guess_type(path.name)[0]
    return known or "application/octet-stream"
