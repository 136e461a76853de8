"""``saccade doctor`` and the bucket: a healthy one, and servers that are really set up wrongly."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr

from cli.doctor.bucket import check_bucket
from cli.doctor.report_line import ReportLine
from cli.doctor.system import System
from kit.bucket import open_bucket
from kit.settings import S3Settings
from tests.harness.servers.embedded import HOST, S3Server, free_port

pytestmark = pytest.mark.anyio
ORIGIN = "https://app.example.org"
WRONG = "a-secret-that-is-wrong"


@dataclass
class Passing:
    """Passes requests on to an S3 server: its clock may be off, it may allow no origin, delete nothing, or fail."""

    upstream: str
    ahead: timedelta = timedelta()
    allows_origins: bool = True
    deletes: bool = True
    #: How often each presigned PUT of the round trip and of the part gets a server error before one is passed on.
    server_errors: int = 0
    put: Counter[str] = field(default_factory=Counter)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.method == "OPTIONS" and not self.allows_origins:
            return web.Response(status=403)
        if request.method == "DELETE" and not self.deletes:
            return web.Response(status=204)
        if (
            request.method == "PUT"
            and "X-Amz-Signature" in request.query
            and request.path.endswith(("-object", "-parts"))
        ):
            self.put[request.path] += 1
            if self.put[request.path] <= self.server_errors:
                return web.Response(status=500)
        headers = {name: value for name, value in request.headers.items() if name != "Transfer-Encoding"}
        url, body = f"{self.upstream}{request.raw_path}", await request.read()
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(request.method, url, data=body, headers=headers, allow_redirects=False) as passed,
        ):
            kept = {
                name: value
                for name, value in passed.headers.items()
                if name.lower() not in ("content-length", "transfer-encoding", "date", "connection")
            }
            kept["Date"] = format_datetime(datetime.now(UTC) + self.ahead, usegmt=True)
            if request.method == "HEAD":
                kept["Content-Length"] = passed.headers.get("Content-Length", "0")
            return web.Response(status=passed.status, body=await passed.read(), headers=kept)


@asynccontextmanager
async def passing(settings: S3Settings) -> AsyncIterator[tuple[Passing, S3Settings]]:
    proxy = Passing(settings.endpoint_url)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", proxy.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    host, port = runner.addresses[0][:2]
    url = f"http://{host}:{port}"
    try:
        yield proxy, settings.model_copy(update={"endpoint_url": url, "public_endpoint_url": url})
    finally:
        await runner.cleanup()


async def look(settings: S3Settings, *origins: str) -> list[ReportLine]:
    system = System("servers", "http://127.0.0.1:1", False, {}, Path(), running=True, s3=settings)
    found = await check_bucket(system, origins)
    assert all(finding.fix for finding in found if finding.outcome != "ok"), found
    return found


def failures(found: Sequence[ReportLine]) -> list[str]:
    return [finding.check for finding in found if finding.outcome == "FAIL"]


async def test_a_healthy_bucket_is_well_and_nothing_stays_in_it(s3_server: S3Server) -> None:
    found = await look(s3_server.settings, ORIGIN)
    # rclone knows no lifecycle rules; with `saccade up` and compose the dispatcher's sweep is enough.
    assert [finding.check for finding in found if finding.outcome != "ok"] == ["bucket lifecycle"], found
    assert {finding.check for finding in found} == {
        "bucket", "bucket clock", "bucket round trip", "bucket multipart", "bucket signed size", "bucket parts",
        "bucket cors", "bucket lifecycle",
    }  # fmt: skip
    async with open_bucket(s3_server.settings) as bucket:
        assert await bucket.list_keys("") == []


async def test_a_wrong_secret_is_told_without_being_shown(s3_server: S3Server) -> None:
    found = await look(s3_server.settings.model_copy(update={"secret_access_key": SecretStr(WRONG)}))
    assert failures(found) == ["bucket credentials"]
    assert "SignatureDoesNotMatch" in found[0].says
    assert WRONG not in found[0].line
    found = await look(s3_server.settings.model_copy(update={"access_key_id": "nobodys-key"}))
    assert failures(found) == ["bucket credentials"]


async def test_a_bucket_that_is_not_there_and_a_server_that_is_not_there_differ(s3_server: S3Server) -> None:
    found = await look(s3_server.settings.model_copy(update={"bucket": "of-nobody"}))
    assert failures(found) == ["bucket"]
    assert found[0].fix == "Create the bucket with: saccade bucket setup."
    dead = f"http://{HOST}:{free_port()}"
    found = await look(s3_server.settings.model_copy(update={"endpoint_url": dead, "public_endpoint_url": dead}))
    assert failures(found) == ["bucket"]
    assert found[0].says == f"no answer from {dead}"


async def test_a_clock_that_is_ten_minutes_off_is_found_and_everything_else_is_looked_at(s3_server: S3Server) -> None:
    async with passing(s3_server.settings) as (proxy, settings):
        for ahead, says in ((timedelta(minutes=10), "10 min ahead of"), (timedelta(minutes=-10), "10 min behind")):
            proxy.ahead = ahead
            found = await look(settings, ORIGIN)
            assert failures(found) == ["bucket clock"]
            clock = next(finding for finding in found if finding.check == "bucket clock")
            assert says in clock.says
            assert "NTP" in clock.fix


async def test_a_bucket_without_cors_is_found(s3_server: S3Server) -> None:
    async with passing(s3_server.settings) as (proxy, settings):
        proxy.allows_origins = False
        found = await look(settings, ORIGIN)
    assert failures(found) == ["bucket cors"]
    assert ORIGIN in next(finding.says for finding in found if finding.check == "bucket cors")


async def test_a_server_that_keeps_what_is_deleted_is_found(s3_server: S3Server) -> None:
    async with passing(s3_server.settings) as (proxy, settings):
        proxy.deletes = False
        found = await look(settings)
    assert "a deleted object is still there" in next(one.says for one in found if one.check == "bucket round trip")


async def test_a_server_error_is_asked_again_and_one_that_stays_is_found(s3_server: S3Server) -> None:
    async with passing(s3_server.settings) as (proxy, settings):
        proxy.server_errors = 2
        found = await look(settings)
        assert failures(found) == []
        assert sorted(proxy.put.values()) == [3, 3], "the object and the part, each at the third attempt"
        proxy.server_errors = 100
        found = await look(settings)
    assert failures(found) == ["bucket round trip", "bucket multipart"]
    assert all("500" in finding.says for finding in found if finding.outcome == "FAIL")


async def test_a_public_address_that_clients_cannot_reach_is_found(s3_server: S3Server) -> None:
    elsewhere = f"http://{HOST}:{free_port()}"
    found = await look(s3_server.settings.model_copy(update={"public_endpoint_url": elsewhere}))
    assert failures(found) == ["bucket round trip", "bucket multipart"]
    assert all("S3_PUBLIC_ENDPOINT_URL" in finding.fix for finding in found if finding.outcome == "FAIL")
