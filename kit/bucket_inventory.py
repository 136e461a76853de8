"""Lists the objects of a bucket with sizes and times, and multipart uploads that were never completed."""

from __future__ import annotations

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
    token: dict[str, str] = {}
    while True:
        answer = await bucket.call("list_objects_v2", Prefix=prefix, **token)
        for entry in answer.get("Contents", []):
            yield StoredObject(entry["Key"], int(entry["Size"]), entry["LastModified"])
        if not answer.get("IsTruncated"):
            return
        token = {"ContinuationToken": answer["NextContinuationToken"]}


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
