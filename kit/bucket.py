"""Bucket on any S3 server: presigned URLs for clients, streamed reads and writes for services and workers.

Tested with ``rclone serve s3``, and meant for the public clouds as well.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import MIB, PART_BYTES, PRESIGNED_URL_S
from kit.s3_client import AioConfig, ClosableSession, in_parts, s3_session, storage_error
from kit.settings import S3Settings

_CHUNK_BYTES: Final = 1 * MIB
#: Size of the parts of a stream: S3 takes 10,000, so that 20 GiB are well possible.
_STREAM_PART_BYTES: Final = 8 * MIB
_MISSING: Final = frozenset({"404", "NoSuchKey", "NoSuchUpload", "NotFound"})


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

    def __init__(self, etag: str, size_bytes: int, body: Any) -> None:
        """Read from ``body``; the entity tag is without quotes."""
        self.etag = etag
        self.size_bytes = size_bytes
        self._body = body

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the rest of the object, in chunks of at most 1 MiB.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        try:
            async for chunk in self._body.iter_chunks(_CHUNK_BYTES):
                yield chunk
        except (BotoCoreError, ClientError, aiohttp.ClientError, OSError) as error:
            raise SaccadeError(
                ErrorCode.STORAGE_UNAVAILABLE, "The bucket closed the connection before the object was complete."
            ) from error


class Bucket:
    """One bucket, under one prefix. Every key as argument or result includes the prefix: ``key()`` builds it."""

    def __init__(self, client: Any, public: Any, settings: S3Settings) -> None:
        """Use two S3 clients of one server: one for requests, one that signs URLs with the public address."""
        self._client = client
        self._public = public
        self.name = settings.bucket
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
            await self.call("head_bucket")
        except ObjectMissing:
            await self.call("create_bucket")

    async def check(self) -> None:
        """Check that the bucket is available.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        await self.call("head_bucket")

    async def presign_put(
        self, key: str, content_type: str, size_bytes: int | None = None, *, inside: bool = False
    ) -> str:
        """Return a presigned PUT of this content type and, where given, size; ``inside`` is as for ``presign_get``."""
        params = {"Key": key, "ContentType": content_type} | _length(size_bytes)
        return await self._presign("put_object", params, PRESIGNED_URL_S, inside=inside)

    async def presign_get(
        self,
        key: str,
        *,
        filename: str | None = None,
        content_type: str | None = None,
        inside: bool = False,
        head: bool = False,
        expires_s: int = PRESIGNED_URL_S,
    ) -> str:
        """Return a presigned GET of one object; ``inside`` uses the services' own address of the server.

        With ``head`` it is a presigned HEAD: the signature includes the method.
        """
        if self._public_url and not inside:
            return f"{self._public_url}/{quote(key)}"
        params = {"Key": key}
        if filename:
            safe = "".join(c if (c.isascii() and c.isalnum()) or c in "._-" else "_" for c in filename)
            params["ResponseContentDisposition"] = f'inline; filename="{safe}"'
        if content_type:
            params["ResponseContentType"] = content_type
        return await self._presign("head_object" if head else "get_object", params, expires_s, inside=inside)

    async def presign_part(self, key: str, multipart_id: str, number: int, size_bytes: int | None = None) -> str:
        """Return a presigned PUT of one part, numbered from 1; the size is signed as for ``presign_put``."""
        params = {"Key": key, "UploadId": multipart_id, "PartNumber": number} | _length(size_bytes)
        return await self._presign("upload_part", params, PRESIGNED_URL_S)

    async def presign_any(
        self, operation: str, key: str, params: dict[str, Any], expires_s: int = PRESIGNED_URL_S
    ) -> str:
        """Return a presigned URL of another S3 operation on this key, by botocore's name."""
        return await self._presign(operation, {"Key": key} | params, expires_s)

    async def start_multipart(self, key: str, content_type: str) -> str:
        """Start a multipart upload and return its id."""
        answer = await self.call("create_multipart_upload", Key=key, ContentType=content_type)
        return str(answer["UploadId"])

    async def list_parts(self, key: str, multipart_id: str) -> list[dict[str, Any]]:
        """Return the uploaded parts: number, size in bytes, etag.

        Raises:
            ObjectMissing: no such multipart upload.
        """
        parts: list[dict[str, Any]] = []
        marker = 0
        while True:
            answer = await self.call("list_parts", Key=key, UploadId=multipart_id, PartNumberMarker=marker)
            parts += [
                {"part_number": part["PartNumber"], "size_bytes": part["Size"], "etag": part["ETag"]}
                for part in answer.get("Parts", [])
            ]
            if not answer.get("IsTruncated") or not answer.get("NextPartNumberMarker"):
                return parts
            marker = int(answer["NextPartNumberMarker"])

    async def finish_multipart(self, key: str, multipart_id: str, parts: list[tuple[int, str]]) -> str:
        """Complete an upload of the parts (number, etag), in order, and return the object's entity tag.

        Raises:
            ObjectMissing: no such multipart upload (perhaps completed before).
        """
        joined = {"Parts": [{"PartNumber": number, "ETag": etag} for number, etag in parts]}
        return _etag(
            await self.call("complete_multipart_upload", Key=key, UploadId=multipart_id, MultipartUpload=joined)
        )

    async def abort_multipart(self, key: str, multipart_id: str) -> None:
        """Delete the parts; do nothing if there are none."""
        with suppress(ObjectMissing):
            await self.call("abort_multipart_upload", Key=key, UploadId=multipart_id)

    async def size(self, key: str) -> int:
        """Return an object's size in bytes.

        Raises:
            ObjectMissing: there is none.
        """
        return (await self.version(key))[1]

    async def version(self, key: str) -> tuple[str, int]:
        """Return an object's entity tag, without quotes, and its size in bytes.

        Raises:
            ObjectMissing: there is none.
        """
        answer = await self.call("head_object", Key=key)
        return _etag(answer), int(answer["ContentLength"])

    @asynccontextmanager
    async def opened(self, key: str, offset: int = 0, length: int | None = None) -> AsyncIterator[OpenObject]:
        """Open an object from ``offset`` on, or ``length`` bytes of it: always one version, also when overwritten.

        Raises:
            ObjectMissing: there is none.
            SaccadeError: STORAGE_UNAVAILABLE, also while it is read.
        """
        end = "" if length is None else offset + length - 1
        part = {} if length is None and not offset else {"Range": f"bytes={offset}-{end}"}
        answer = await self.call("get_object", Key=key, **part)
        body = answer["Body"]
        async with body:
            yield OpenObject(_etag(answer), int(answer["ContentLength"]), body)

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
        answer = await self.call("put_object", Key=key, Body=body, ContentType=content_type)
        return Transfer(key, len(body), hashlib.sha256(body).hexdigest(), _etag(answer))

    async def send_file(self, path: Path, key: str, content_type: str) -> Transfer:
        """Upload a file in parts, with at most one part in memory, and return its size and SHA-256."""
        size = path.stat().st_size
        with path.open("rb") as file:
            if size <= PART_BYTES:
                return await self.put(key, file.read(), content_type)
            digest = hashlib.sha256()
            multipart_id = await self.start_multipart(key, content_type)
            async with self._aborted_on_error(key, multipart_id):
                parts: list[tuple[int, str]] = []
                while chunk := file.read(PART_BYTES):
                    digest.update(chunk)
                    parts.append(await self._send_part(key, multipart_id, len(parts) + 1, chunk))
                etag = await self.finish_multipart(key, multipart_id, parts)
        return Transfer(key, size, digest.hexdigest(), etag)

    async def send_chunks(
        self,
        chunks: AsyncIterator[bytes],
        key: str,
        content_type: str,
        on_multipart: Callable[[str], Awaitable[None]] | None = None,
    ) -> Transfer:
        """Upload a stream in parts, with one of them in memory.

        ``on_multipart`` gets the id of the multipart upload, which a process that dies leaves behind.
        """
        digest, size, parts = hashlib.sha256(), 0, in_parts(chunks, _STREAM_PART_BYTES)
        first = await anext(parts, b"")
        if len(first) < _STREAM_PART_BYTES:
            return await self.put(key, first, content_type)
        multipart_id = await self.start_multipart(key, content_type)
        async with self._aborted_on_error(key, multipart_id):
            if on_multipart:
                await on_multipart(multipart_id)
            sent: list[tuple[int, str]] = []
            while part := await anext(parts, b"") if sent else first:
                await asyncio.to_thread(digest.update, part)
                size += len(part)
                sent.append(await self._send_part(key, multipart_id, len(sent) + 1, part))
            etag = await self.finish_multipart(key, multipart_id, sent)
        return Transfer(key, size, digest.hexdigest(), etag)

    async def _send_part(self, key: str, multipart_id: str, number: int, body: bytes) -> tuple[int, str]:
        """Upload a part, numbered from 1, and return its number and entity tag."""
        answer = await self.call("upload_part", Key=key, UploadId=multipart_id, PartNumber=number, Body=body)
        return number, answer["ETag"]

    @asynccontextmanager
    async def _aborted_on_error(self, key: str, multipart_id: str) -> AsyncIterator[None]:
        """Delete the parts of a multipart upload if sending them fails."""
        try:
            yield
        except BaseException:
            # An unavailable bucket must not turn a cancellation into an error that is retried.
            with suppress(SaccadeError):
                await self.abort_multipart(key, multipart_id)
            raise

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
        return [entry["Key"] async for entry in self.list_entries(prefix)]

    async def list_entries(self, prefix: str) -> AsyncIterator[dict[str, Any]]:
        """Yield what S3 lists of each object under a prefix."""
        token: dict[str, str] | None = {}
        while token is not None:
            answer = await self.call("list_objects_v2", Prefix=prefix, **token)
            for entry in answer.get("Contents", []):
                yield entry
            token = {"ContinuationToken": answer["NextContinuationToken"]} if answer.get("IsTruncated") else None

    async def delete(self, key: str) -> None:
        """Delete an object; do nothing if there is none."""
        with suppress(ObjectMissing):
            await self.call("delete_object", Key=key)

    async def _presign(self, operation: str, params: dict[str, Any], expires_s: int, *, inside: bool = False) -> str:
        client = self._client if inside else self._public
        named = {"Bucket": self.name} | params
        return str(await client.generate_presigned_url(operation, Params=named, ExpiresIn=expires_s))

    async def call(self, operation: str, **params: Any) -> Any:
        """Call S3 and translate its errors.

        Raises:
            ObjectMissing: no such object, upload or bucket.
            StorageRefused: the bucket answers, and does not do this.
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        try:
            return await getattr(self._client, operation)(Bucket=self.name, **params)
        except ClientError as error:
            if str(error.response.get("Error", {}).get("Code")) in _MISSING | {"NoSuchBucket"}:
                raise ObjectMissing(params.get("Key", self.name)) from error
            raise storage_error(operation, error) from error
        except (BotoCoreError, aiohttp.ClientError, OSError) as error:  # aiohttp's: the body of an error is cut off
            raise storage_error(operation, error) from error


def _length(size_bytes: int | None) -> dict[str, int]:
    return {} if size_bytes is None else {"ContentLength": size_bytes}


def _etag(answer: Any) -> str:
    return str(answer.get("ETag", "")).strip('"')


@asynccontextmanager
async def open_bucket(settings: S3Settings) -> AsyncIterator[Bucket]:
    """Open the bucket's S3 clients and close them at the end."""
    session = s3_session()
    config = AioConfig(
        http_session_cls=ClosableSession,
        signature_version="s3v4",
        connect_timeout=3,
        read_timeout=60,
        retries={"mode": "standard", "max_attempts": 4},
        s3={"addressing_style": "path"},
        # Not every S3 server supports the newer default checksums of AWS.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    common = {
        "region_name": settings.region,
        "aws_access_key_id": settings.access_key_id,
        "aws_secret_access_key": settings.secret_access_key.get_secret_value(),
        "config": config,
        "verify": not settings.endpoint_url.startswith("http:"),  # without TLS, certificates are 40 ms for nothing
    }
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            session.create_client("s3", endpoint_url=settings.endpoint_url, **common)
        )
        public = client
        if settings.public_endpoint_url != settings.endpoint_url:
            public = await stack.enter_async_context(
                session.create_client("s3", endpoint_url=settings.public_endpoint_url, **common)
            )
        yield Bucket(client, public, settings)
