"""The bucket: credentials, clock, a round trip of an object as services and clients make it, CORS, lifecycle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import aiohttp
from botocore.exceptions import ClientError

from cli.doctor.clock import judge_clock
from cli.doctor.report_line import ReportLine, fail, ok, warn
from cli.doctor.system import System
from cli.operators.bucket_rules import BucketFinding, check
from contracts.errors import SaccadeError
from contracts.ids import new_id
from kit.bucket import Bucket, ObjectMissing, open_bucket
from kit.settings import S3Settings

_BODY: Final = b"written by saccade doctor"
_TYPE: Final = "text/plain"
_ASK_S: Final = 6.0
_RULES_S: Final = 10.0
#: Pauses before a request that met a server error is sent again.
_PAUSES_S: Final = (0.2, 0.5)
_CREDENTIALS: Final = "S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY (or B2_KEY_ID and B2_APP_KEY)"
#: What an S3 server says of a request that it refuses, and what is to be done.
_REFUSALS: Final = {
    "InvalidAccessKeyId": f"Correct {_CREDENTIALS}: the server knows no such key.",
    "SignatureDoesNotMatch": f"Correct {_CREDENTIALS}: the secret is not that of the key.",
    "AccessDenied": "Allow this key to list, read, write and delete in the bucket, or use another key.",
    "NoSuchBucket": "Create the bucket with: saccade bucket setup.",
    "RequestTimeTooSkewed": "Set the clocks of this machine and of the server by NTP.",
    "AuthorizationHeaderMalformed": "Set S3_REGION to the bucket's region.",
    "PermanentRedirect": "Set S3_ENDPOINT_URL and S3_REGION to those of the bucket.",
}
_SILENT: Final = {
    "embedded": "Stop Saccade with Ctrl-C and start it again with: saccade up.",
    "compose": "Start it with: docker-compose up -d, or correct S3_PORT.",
    "servers": "Start the S3 server, or correct S3_ENDPOINT_URL.",
}
_SETUP: Final = "Install its rules with: saccade bucket setup"


async def check_bucket(system: System, origins: Sequence[str]) -> list[ReportLine]:
    """Look at the bucket as services do, and as clients with presigned URLs."""
    if fault := system.faults.get("bucket"):
        return [fail("bucket", fault, "Correct that variable: docs/settings.md has the list.")]
    if system.s3 is None:
        return [warn("bucket", f"nothing runs on {system.folder}", "Start it with: saccade up.")]
    settings = system.s3
    async with open_bucket(settings) as bucket:
        found = await _judge_access(bucket, system, settings)
        if any(finding.outcome == "FAIL" and finding.check != "bucket clock" for finding in found):
            return found
        key = bucket.key("checks", new_id("upl"))
        # One after the other: rclone removes a folder with its last object, and a part then written there fails.
        found += await _step("bucket round trip", lambda: _round_trip(bucket, f"{key}-object", settings))
        found += await _step("bucket multipart", lambda: _multipart(bucket, f"{key}-parts", settings))
        return [*found, *await _rules(bucket, system, settings, origins)]


async def _judge_access(bucket: Bucket, system: System, settings: S3Settings) -> list[ReportLine]:
    """Return whether the bucket can be listed, and whether its clock is ours."""
    where = f"{settings.bucket} at {settings.endpoint_url}"
    sent = datetime.now(UTC)
    try:
        async with asyncio.timeout(_ASK_S):
            answer = await bucket.call("list_objects_v2", MaxKeys=1)
        found, headers = [ok("bucket", f"{where}, these credentials are accepted")], _headers(answer)
    except ObjectMissing as error:
        fix = _REFUSALS["NoSuchBucket"]
        found, headers = [fail("bucket", f"there is no bucket {where}", fix)], _headers_of(error.__cause__)
    except TimeoutError:
        found, headers = [fail("bucket", f"no answer from {settings.endpoint_url}", _SILENT[system.kind])], {}
    except SaccadeError as error:
        cause = error.__cause__
        headers = _headers_of(cause)
        if isinstance(cause, ClientError):
            found = [_judge_refusal(settings, str(cause.response.get("Error", {}).get("Code")))]
        else:
            found = [fail("bucket", f"no answer from {settings.endpoint_url}", _SILENT[system.kind])]
    if date := headers.get("date"):
        found.append(judge_clock("bucket clock", parsedate_to_datetime(date), sent, datetime.now(UTC), 1.0))
    return found


def _judge_refusal(settings: S3Settings, code: str) -> ReportLine:
    says = f"{settings.endpoint_url} refuses {settings.access_key_id[:4]}… for the bucket {settings.bucket} ({code})"
    return fail("bucket credentials", says, _REFUSALS.get(code, f"Check {_CREDENTIALS}, and the rights of that key."))


def _headers(answer: Any) -> Mapping[str, str]:
    found = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return {str(name).lower(): str(value) for name, value in found.items()}


def _headers_of(error: BaseException | None) -> Mapping[str, str]:
    return _headers(error.response) if isinstance(error, ClientError) else {}


async def _step(name: str, act: Callable[[], Awaitable[ReportLine]]) -> list[ReportLine]:
    """Run one step; what it raises is a finding, and the other steps go on."""
    try:
        async with asyncio.timeout(_RULES_S):
            return [await act()]
    except TimeoutError:
        return [fail(name, "no answer", "Look at the S3 server's log, and at the network between it and this machine.")]
    except aiohttp.ClientError as error:
        fix = "Set S3_PUBLIC_ENDPOINT_URL to an address of the bucket that clients reach."
        return [fail(name, f"the public address cannot be reached ({type(error).__name__})", fix)]
    except SaccadeError as error:
        return [fail(name, error.message, "Allow this key to list, read, write and delete, also multipart uploads.")]
    except Exception as error:  # noqa: BLE001 - an answer that no S3 server gives; the other steps go on
        fix = "Use an S3 server that docs/bucket.md names, and no proxy that changes its answers."
        return [fail(name, f"the server's answer cannot be read ({type(error).__name__}: {error})", fix)]


async def _round_trip(bucket: Bucket, key: str, settings: S3Settings) -> ReportLine:
    """Write as a service, read as a client; delete; write as a client, read as a service."""
    check = "bucket round trip"
    try:
        async with aiohttp.ClientSession() as session:
            await bucket.put(key, _BODY, _TYPE)
            async with session.get(await bucket.presign_get(key)) as answer:
                if answer.status != 200 or await answer.read() != _BODY:
                    return _refused_url(check, "GET", settings, answer.status)
            await bucket.delete(key)
            try:
                await bucket.size(key)
            except ObjectMissing:
                pass
            else:
                fix = "Allow this key to delete, or switch the bucket's object lock off."
                return fail(check, "a deleted object is still there", fix)
            url = await bucket.presign_put(key, _TYPE, len(_BODY))
            status, _ = await _put(session, url, {"Content-Type": _TYPE})
            if status >= 300:
                return _refused_url(check, "PUT", settings, status)
        if await bucket.get(key) != _BODY:
            return fail(check, "what was written is not what is read", "Let no proxy change bodies on the way.")
    finally:
        await bucket.delete(key)
    return ok(check, f"write, read, delete; presigned GET and PUT at {settings.public_endpoint_url}")


async def _multipart(bucket: Bucket, key: str, settings: S3Settings) -> ReportLine:
    """Send a part as a client does, and complete the upload as the gateway does."""
    check = "bucket multipart"
    upload_id = await bucket.start_multipart(key, _TYPE)
    try:
        url = await bucket.presign_part(key, upload_id, 1, len(_BODY))
        async with aiohttp.ClientSession() as session:
            status, etag = await _put(session, url, {})
        if status >= 300:
            return _refused_url(check, "PUT of a part", settings, status)
        await bucket.finish_multipart(key, upload_id, [(1, etag)])
        upload_id = ""
        if await bucket.get(key) != _BODY:
            return fail(check, "the completed object has other bytes", "Use an S3 server that docs/bucket.md names.")
    finally:
        if upload_id:
            await bucket.abort_multipart(key, upload_id)
        await bucket.delete(key)
    return ok(check, "an upload in parts was completed and removed")


async def _put(session: aiohttp.ClientSession, url: str, headers: Mapping[str, str]) -> tuple[int, str]:
    """Put the test body at a presigned URL; return the status and the ETag of the answer.

    A server error is asked again, as every S3 client does: one says nothing of the configuration.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html (InternalError, SlowDown).
    """
    for pause_s in (*_PAUSES_S, 0.0):
        async with session.put(url, data=_BODY, headers=headers) as answer:
            status, etag = answer.status, answer.headers.get("ETag", "")
        if status < 500:
            break
        await asyncio.sleep(pause_s)
    return status, etag


def _refused_url(check: str, method: str, settings: S3Settings, status: int) -> ReportLine:
    fix = "Set S3_PUBLIC_ENDPOINT_URL to this server's address for clients, and let no proxy change host or path."
    return fail(check, f"a presigned {method} at {settings.public_endpoint_url} is answered with {status}", fix)


async def _rules(bucket: Bucket, system: System, settings: S3Settings, origins: Sequence[str]) -> list[ReportLine]:
    """Return what `saccade bucket check` finds."""
    try:
        async with asyncio.timeout(_RULES_S):
            found = await check(bucket, settings, list(dict.fromkeys([*system.origins, *origins])))
    except (SaccadeError, aiohttp.ClientError, TimeoutError) as error:
        says = error.message if isinstance(error, SaccadeError) else f"no answer ({type(error).__name__})"
        return [fail("bucket rules", says, "Run `saccade bucket check` to see which of its requests is refused.")]
    # rclone, which `saccade up` and compose run, knows no rules.
    sweeps_only = system.kind != "servers"
    return [_as_finding(finding, sweeps_only=sweeps_only) for finding in found if finding.name != "bucket"]


def _as_finding(finding: BucketFinding, *, sweeps_only: bool) -> ReportLine:
    name = "bucket parts" if finding.name == "multipart" else f"bucket {finding.name}"
    if finding.outcome == "ok":
        return ok(name, finding.says)
    if finding.outcome == "warning":
        if sweeps_only and finding.name == "lifecycle":
            return ok(name, "rclone takes no rules; the dispatcher sweeps")
        return warn(name, finding.says, f"{_SETUP}.")
    if finding.name == "cors":
        rules = "set SACCADE_ALLOWED_ORIGINS to that origin" if sweeps_only else "saccade bucket setup --origin ORIGIN"
        return fail(name, finding.says.partition(": ")[0], f"Allow it: {rules}.")
    return fail(name, finding.says, "Use an S3 server that docs/bucket.md names: this one does not check sizes.")
