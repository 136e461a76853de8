"""Rules that the bucket itself has to have, and checks of what its server does with requests of clients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import aiohttp

from contracts.errors import SaccadeError
from contracts.ids import new_id
from kit.bucket import Bucket, ObjectMissing
from kit.bucket_inventory import list_multiparts
from kit.settings import S3Settings

Outcome = Literal["ok", "warning", "failed"]

#: Parts that nobody completed are aborted by the dispatcher after 7 days; the bucket's rule is for when none runs.
_PARTS_DAYS: Final = 8
_PARTS, _VERSIONS, _CORS = "saccade-parts", "saccade-old-versions", "saccade"
_EXPOSED: Final = ("ETag", "Content-Range", "Content-Length", "Accept-Ranges", "Last-Modified")
_HEADERS: Final = ("content-type", "range", "if-range", "if-none-match")
_METHODS: Final = ("GET", "HEAD", "PUT", "POST", "DELETE")


@dataclass(frozen=True)
class _RuleKind:
    """Names by which botocore knows one kind of a bucket's rules."""

    operation: str
    document: str
    rules: str


_LIFECYCLE: Final = _RuleKind("bucket_lifecycle_configuration", "LifecycleConfiguration", "Rules")
_CORS_RULES: Final = _RuleKind("bucket_cors", "CORSConfiguration", "CORSRules")


@dataclass(frozen=True)
class BucketFinding:
    """One thing that was set up or checked."""

    name: str
    outcome: Outcome
    says: str


async def set_up(bucket: Bucket, settings: S3Settings, origins: Sequence[str]) -> list[BucketFinding]:
    """Create the bucket and install its rules; rules of others stay.

    Raises:
        SaccadeError: STORAGE_UNAVAILABLE, the bucket cannot be created.
    """
    await bucket.create()
    found = [BucketFinding("bucket", "ok", f"{settings.bucket} exists")]
    prefix = {"Filter": {"Prefix": f"{settings.prefix}/" if settings.prefix else ""}, "Status": "Enabled"}
    parts = {"ID": _PARTS, **prefix, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": _PARTS_DAYS}}
    versions = {"ID": _VERSIONS, **prefix, "NoncurrentVersionExpiration": {"NoncurrentDays": 1}}
    # Servers without versions refuse the second rule.
    for rules in ([parts, versions], [parts]):
        if await _install(bucket, _LIFECYCLE, rules):
            found.append(BucketFinding("lifecycle", "ok", f"{len(rules)} rules installed"))
            break
    else:
        found.append(BucketFinding("lifecycle", "warning", "the server takes no such rules: see docs/bucket.md"))
    if origins:
        found.append(await _install_cors(bucket, origins))
    return found


async def check(bucket: Bucket, settings: S3Settings, origins: Sequence[str]) -> list[BucketFinding]:
    """Check what Saccade needs of the bucket, with an object and a multipart upload of its own.

    Raises:
        SaccadeError: STORAGE_UNAVAILABLE, also when there is no bucket.
    """
    try:
        await bucket.check()
    except ObjectMissing:
        return [BucketFinding("bucket", "failed", f"there is no bucket {settings.bucket}: saccade bucket setup")]
    found = [BucketFinding("bucket", "ok", f"{settings.bucket} at {settings.endpoint_url}")]
    key = bucket.key("checks", new_id("upl"))
    try:
        found.append(await _check_size(bucket, key))
        found.append(await _check_multiparts(bucket, key))
        found += [await _check_origin(bucket, key, origin) for origin in origins]
    finally:
        await bucket.delete(key)
    if any("AbortIncompleteMultipartUpload" in rule for rule in await _rules(bucket, _LIFECYCLE)):
        found.append(BucketFinding("lifecycle", "ok", "unfinished multipart uploads are removed by the bucket"))
    else:
        says = "unfinished multipart uploads are removed only while a dispatcher runs"
        found.append(BucketFinding("lifecycle", "warning", says))
    return found


async def _install_cors(bucket: Bucket, origins: Sequence[str]) -> BucketFinding:
    rule = {
        "ID": _CORS, "AllowedOrigins": list(origins), "AllowedMethods": list(_METHODS),
        "AllowedHeaders": list(_HEADERS), "ExposeHeaders": list(_EXPOSED), "MaxAgeSeconds": 3600,
    }  # fmt: skip
    if await _install(bucket, _CORS_RULES, [rule]):
        return BucketFinding("cors", "ok", f"pages of {', '.join(origins)} may send and read files")
    return BucketFinding("cors", "warning", "the server takes no such rules: see docs/bucket.md")


async def _install(bucket: Bucket, kind: _RuleKind, rules: list[dict[str, Any]]) -> bool:
    """Put rules beside those that others have made, and return whether the server has them afterwards."""
    kept = [rule for rule in await _rules(bucket, kind) if rule.get("ID") not in (_PARTS, _VERSIONS, _CORS)]
    try:
        await bucket.call(f"put_{kind.operation}", **{kind.document: {kind.rules: [*kept, *rules]}})
    except (SaccadeError, ObjectMissing):
        return False
    return {rule["ID"] for rule in rules} <= {rule.get("ID") for rule in await _rules(bucket, kind)}


async def _rules(bucket: Bucket, kind: _RuleKind) -> list[dict[str, Any]]:
    """Return the bucket's rules: none, too, where the server knows none."""
    try:
        answer = await bucket.call(f"get_{kind.operation}")
    except (SaccadeError, ObjectMissing):
        return []
    return list(answer.get(kind.rules, []))


async def _check_size(bucket: Bucket, key: str) -> BucketFinding:
    """Send one byte more than was signed: it must not arrive."""
    headers = {"Content-Type": "video/mp4"}
    async with aiohttp.ClientSession() as session:
        statuses = []
        for body in (bytes(11), bytes(10)):
            url = await bucket.presign_put(key, "video/mp4", 10, inside=True)
            async with session.put(url, data=body, headers=headers) as answer:
                statuses.append(answer.status)
    if statuses[0] >= 400 and statuses[1] < 300:
        return BucketFinding("signed size", "ok", "no more bytes arrive than were declared")
    if statuses[1] >= 300:
        return BucketFinding("signed size", "failed", f"a presigned PUT is answered with {statuses[1]}")
    return BucketFinding("signed size", "failed", "the server takes more bytes than were signed")


async def _check_multiparts(bucket: Bucket, key: str) -> BucketFinding:
    upload_id = await bucket.start_multipart(key, "video/mp4")
    try:
        listed = [multipart.id async for multipart in list_multiparts(bucket, key)]
    except SaccadeError:
        listed = []
    finally:
        await bucket.abort_multipart(key, upload_id)
    if upload_id in listed:
        return BucketFinding("multipart", "ok", "unfinished multipart uploads are listed")
    return BucketFinding("multipart", "warning", "unfinished multipart uploads are not listed: the rule is needed")


async def _check_origin(bucket: Bucket, key: str, origin: str) -> BucketFinding:
    """Send what a browser sends before a PUT."""
    headers = {
        "Origin": origin, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "content-type",
    }  # fmt: skip
    url = await bucket.presign_put(key, "video/mp4", 10)
    async with aiohttp.ClientSession() as session, session.options(url, headers=headers) as answer:
        allowed = answer.headers.get("Access-Control-Allow-Origin", "")
    if answer.status < 300 and allowed in ("*", origin):
        return BucketFinding("cors", "ok", f"pages of {origin} may send files")
    return BucketFinding("cors", "failed", f"pages of {origin} may not send files: see saccade bucket setup")
