"""Inventory of a bucket: objects with sizes, times and hashes, and multipart uploads that were never completed."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from kit.bucket import Bucket, ObjectMissing


@dataclass(frozen=True)
class StoredObject:
    """One object; the time is the bucket's."""

    key: str
    size_bytes: int
    modified_at: datetime


@dataclass(frozen=True)
class OpenMultipart:
    """One multipart upload that is neither completed nor aborted: its parts are stored, and paid for."""

    key: str
    id: str
    started_at: datetime


async def list_objects(bucket: Bucket, prefix: str) -> AsyncIterator[StoredObject]:
    """Yield the objects under a prefix.

    Raises:
        SaccadeError: STORAGE_UNAVAILABLE.
    """
    async for entry in bucket.list_entries(prefix):
        yield StoredObject(entry["Key"], int(entry["Size"]), entry["LastModified"])


async def sha256_of(bucket: Bucket, key: str) -> str:
    """Return the SHA-256 of an object's bytes, which are read for it.

    Raises:
        ObjectMissing: there is none.
        SaccadeError: STORAGE_UNAVAILABLE.
    """
    digest = hashlib.sha256()
    async for chunk in bucket.read(key):
        await asyncio.to_thread(digest.update, chunk)
    return digest.hexdigest()


async def list_multiparts(bucket: Bucket, prefix: str) -> AsyncIterator[OpenMultipart]:
    """Yield the unfinished multipart uploads under a prefix.

    Raises:
        SaccadeError: STORAGE_UNAVAILABLE, also when the server cannot list them.
    """
    after: dict[str, str] = {}
    while True:
        try:
            answer = await bucket.call("list_multipart_uploads", Prefix=prefix, **after)
        except ObjectMissing:  # rclone's answer where there never was one
            return
        for entry in answer.get("Uploads", []):
            yield OpenMultipart(entry["Key"], entry["UploadId"], entry["Initiated"])
        if not answer.get("IsTruncated") or not answer.get("NextKeyMarker"):
            return
        after = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer.get("NextUploadIdMarker", "")}
