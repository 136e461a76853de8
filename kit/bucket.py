"""Bucket on any S3 server: presigned URLs for clients, streamed reads and writes for services and workers.

Tested with ``rclone serve s3``, and meant for the public clouds as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

import aiohttp

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import MIB, PART_BYTES, PRESIGNED_URL_S
from kit.s3.answers import (
    InvalidAnswer,
    S3Answer,
    completed_etag,
    keys_page,
    multipart_id,
    parts_document,
    parts_page,
)
from kit.s3.client import S3Client, S3Refused, S3Request, S3Unreachable, open_s3_client
from kit.settings import S3Settings

_T = TypeVar("_T")

_CHUNK_BYTES: Final = 1 * MIB
_MISSING: Final = frozenset({"404", "NoSuchBucket", "NoSuchKey", "NoSuchUpload", "NotFound"})


class ObjectMissing(Exception):  # noqa: N818 - an expected result, not a fault
    """There is no such object or multipart upload."""


@dataclass(frozen=True)
class Transfer:
    """One version of an object that was completely uploaded or downloaded."""

    key: str
    bytes: int
    sha256: str
    #: Entity tag of these bytes, without quotes; empty if the server sends none.
    etag: str


class OpenObject:
    """One version of an object, open for reading."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        """Read from the answer to a GET; ``etag`` is without quotes."""
        self.etag = S3Answer(response.headers).etag
        self.size_bytes = int(response.headers["Content-Length"])
        self._body = response.content

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the rest of the object, in chunks of at most 1 MiB.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        try:
            while chunk := await self._body.read(_CHUNK_BYTES):
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise SaccadeError(
                ErrorCode.STORAGE_UNAVAILABLE, "The bucket closed the connection before the object was complete."
            ) from error


class Bucket:
    """One bucket, under one prefix. Every key as argument or result includes the prefix: ``key()`` builds it."""

    def __init__(self, client: S3Client, settings: S3Settings) -> None:
        """Use a client of the bucket."""
        self._client = client
        self._prefix = settings.prefix
        self._public_url = settings.public_url

    def key(self, *parts: str) -> str:
        """Join a key under the prefix: ``key("results", job_id, name)``."""
        return "/".join(part for part in (self._prefix, *parts) if part)

    async def create(self) -> None:
        """Create the bucket if it is missing.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        try:
            await self._call(S3Request("HEAD"))
        except ObjectMissing:
            await self._call(S3Request("PUT"))

    async def check(self) -> None:
        """Check that the bucket is available.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        await self._call(S3Request("HEAD"))

    async def presign_put(self, key: str, content_type: str, expires_s: int = PRESIGNED_URL_S) -> str:
        """Return a presigned PUT of one object with this content type."""
        return await self.presign("PUT", key, headers={"Content-Type": content_type}, expires_s=expires_s)

    async def presign_get(
        self,
        key: str,
        *,
        filename: str | None = None,
        content_type: str | None = None,
        inside: bool = False,
        expires_s: int = PRESIGNED_URL_S,
    ) -> str:
        """Return a presigned GET of one object; ``inside`` uses the services' own address of the server."""
        if self._public_url and not inside:
            return f"{self._public_url}/{quote(key)}"
        query: dict[str, str] = {}
        if filename:
            safe = "".join(c if (c.isascii() and c.isalnum()) or c in "._-" else "_" for c in filename)
            query["response-content-disposition"] = f'inline; filename="{safe}"'
        if content_type:
            query["response-content-type"] = content_type
        return await self.presign("GET", key, query, expires_s=expires_s, inside=inside)

    async def presign_part(self, key: str, upload_id: str, number: int, expires_s: int = PRESIGNED_URL_S) -> str:
        """Return a presigned PUT of one part, numbered from 1."""
        return await self.presign("PUT", key, _part(upload_id, number), expires_s=expires_s)

    async def presign(
        self,
        method: str,
        key: str,
        query: Mapping[str, str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        expires_s: int = PRESIGNED_URL_S,
        inside: bool = False,
    ) -> str:
        """Return a presigned URL of any request for this key; ``headers`` must be sent with it."""
        request = S3Request(method, key, query or {}, headers or {})
        return self._client.presigned_url(request, expires_s, inside=inside, at=datetime.now(UTC))

    async def start_multipart(self, key: str, content_type: str) -> str:
        """Start a multipart upload and return its id."""
        request = S3Request("POST", key, {"uploads": ""}, {"Content-Type": content_type})
        return _read(multipart_id, await self._call(request))

    async def list_parts(self, key: str, upload_id: str) -> list[dict[str, Any]]:
        """Return the uploaded parts: number, size in bytes, etag.

        Raises:
            ObjectMissing: no such multipart upload.
        """
        parts: list[dict[str, Any]] = []
        query = {"uploadId": upload_id}
        while True:
            page, marker = _read(parts_page, await self._call(S3Request("GET", key, query)))
            parts += page
            if not marker:
                return parts
            query["part-number-marker"] = marker

    async def finish_multipart(self, key: str, upload_id: str, parts: list[tuple[int, str]]) -> str:
        """Complete an upload of the parts (number, etag), in order, and return the object's entity tag.

        Raises:
            ObjectMissing: no such multipart upload (perhaps completed before).
        """
        headers = {"Content-Type": "application/xml"}
        request = S3Request("POST", key, {"uploadId": upload_id}, headers, parts_document(parts))
        return _read(completed_etag, await self._call(request))

    async def abort_multipart(self, key: str, upload_id: str) -> None:
        """Delete the parts; do nothing if there are none."""
        with suppress(ObjectMissing):
            await self._call(S3Request("DELETE", key, {"uploadId": upload_id}))

    async def size(self, key: str) -> int:
        """Return an object's size in bytes.

        Raises:
            ObjectMissing: there is none.
        """
        _, size_bytes = await self.version(key)
        return size_bytes

    async def version(self, key: str) -> tuple[str, int]:
        """Return an object's entity tag, without quotes, and its size in bytes.

        Raises:
            ObjectMissing: there is none.
        """
        answer = await self._call(S3Request("HEAD", key))
        return answer.etag, int(answer.headers["Content-Length"])

    @asynccontextmanager
    async def opened(self, key: str) -> AsyncIterator[OpenObject]:
        """Open an object for reading: always one version, also when it is overwritten meanwhile.

        Raises:
            ObjectMissing: there is none.
            SaccadeError: STORAGE_UNAVAILABLE, also while it is read.
        """
        request = S3Request("GET", key)
        async with AsyncExitStack() as stack:
            with _translated(request):
                response = await stack.enter_async_context(self._client.opened(request))
            yield OpenObject(response)

    async def read(self, key: str) -> AsyncIterator[bytes]:
        """Yield an object's bytes in chunks.

        Raises:
            ObjectMissing: there is none.
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        async with self.opened(key) as opened:
            async for chunk in opened.chunks():
                yield chunk

    async def get(self, key: str) -> bytes:
        """Return a small object's bytes.

        Raises:
            ObjectMissing: there is none.
        """
        return b"".join([chunk async for chunk in self.read(key)])

    async def put(self, key: str, body: bytes, content_type: str = "application/json") -> Transfer:
        """Upload a small object."""
        answer = await self._call(S3Request("PUT", key, headers={"Content-Type": content_type}, body=body))
        return Transfer(key, len(body), hashlib.sha256(body).hexdigest(), answer.etag)

    async def send_file(self, path: Path, key: str, content_type: str) -> Transfer:
        """Upload a file in parts, with at most one part in memory, and return its size and SHA-256."""
        size = path.stat().st_size
        with path.open("rb") as file:
            if size <= PART_BYTES:
                return await self.put(key, file.read(), content_type)
            digest = hashlib.sha256()
            upload_id = await self.start_multipart(key, content_type)
            try:
                parts: list[tuple[int, str]] = []
                while chunk := file.read(PART_BYTES):
                    digest.update(chunk)
                    number = len(parts) + 1
                    answer = await self._call(S3Request("PUT", key, _part(upload_id, number), body=chunk))
                    parts.append((number, answer.headers["ETag"]))
                etag = await self.finish_multipart(key, upload_id, parts)
            except BaseException:
                # An unavailable bucket must not turn a cancellation into an error that is retried.
                with suppress(SaccadeError):
                    await self.abort_multipart(key, upload_id)
                raise
        return Transfer(key, size, digest.hexdigest(), etag)

    async def fetch_file(
        self, key: str, path: Path, on_chunk: Callable[[int], Awaitable[None] | None] | None = None
    ) -> Transfer:
        """Download an object into a file, streamed; ``on_chunk`` gets the size of each chunk.

        Raises:
            ObjectMissing: there is none.
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        digest, size = hashlib.sha256(), 0
        with path.open("wb") as file:
            async with self.opened(key) as opened:
                async for chunk in opened.chunks():
                    file.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
                    if on_chunk and (waiting := on_chunk(len(chunk))):
                        await waiting
        return Transfer(key, size, digest.hexdigest(), opened.etag)

    async def list_keys(self, prefix: str) -> list[str]:
        """Return the keys under a prefix."""
        keys: list[str] = []
        # Escaped, because XML cannot contain every character that a key can.
        query = {"list-type": "2", "prefix": prefix, "encoding-type": "url"}
        while True:
            page, token = _read(keys_page, await self._call(S3Request("GET", query=query)))
            keys += page
            if not token:
                return keys
            query["continuation-token"] = token

    async def delete(self, key: str) -> None:
        """Delete an object; do nothing if there is none."""
        with suppress(ObjectMissing):
            await self._call(S3Request("DELETE", key))

    async def _call(self, request: S3Request) -> S3Answer:
        """Send a request and translate its errors.

        Raises:
            ObjectMissing: no such object, upload or bucket.
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        with _translated(request):
            return await self._client.send(request)


@contextmanager
def _translated(request: S3Request) -> Iterator[None]:
    """Translate the client's errors.

    Raises:
        ObjectMissing: no such object, upload or bucket.
        SaccadeError: STORAGE_UNAVAILABLE.
    """
    try:
        yield
    except S3Refused as refused:
        if refused.code in _MISSING:
            raise ObjectMissing(request.key) from refused
        message = f"The bucket refused the request {request.method}: {refused.code}."
        raise SaccadeError(ErrorCode.STORAGE_UNAVAILABLE, message) from refused
    except S3Unreachable as unreachable:
        raise SaccadeError(ErrorCode.STORAGE_UNAVAILABLE) from unreachable


def _read(reader: Callable[[bytes], _T], answer: S3Answer) -> _T:
    """Read the XML of an answer.

    Raises:
        SaccadeError: STORAGE_UNAVAILABLE, if it is none of S3's.
    """
    try:
        return reader(answer.body)
    except InvalidAnswer as error:
        message = "The bucket's answer is not one of S3: a proxy may have sent it."
        raise SaccadeError(ErrorCode.STORAGE_UNAVAILABLE, message) from error


def _part(upload_id: str, number: int) -> dict[str, str]:
    return {"uploadId": upload_id, "partNumber": str(number)}


@asynccontextmanager
async def open_bucket(settings: S3Settings) -> AsyncIterator[Bucket]:
    """Open the bucket, and close its connections at the end."""
    async with open_s3_client(settings) as client:
        yield Bucket(client, settings)
