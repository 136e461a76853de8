"""S3 client on a server that is overloaded, silent, in another region, or fails in the middle of its answer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from pydantic import SecretStr

from contracts.errors import ErrorCode, SaccadeError
from kit.bucket import Bucket, ObjectMissing, open_bucket
from kit.s3 import client as s3_client
from kit.settings import S3Settings

pytestmark = pytest.mark.anyio

OVERLOADED = (503, "<Error><Code>SlowDown</Code></Error>")
LATE_ERROR = (200, '<?xml version="1.0"?>\n\n<Error><Code>InternalError</Code></Error>')
COMPLETED = (200, "<Done><ETag>&quot;abc-1&quot;</ETag></Done>")
CUT_OFF = (0, "")


@dataclass
class Server:
    """S3 server that gives these answers, the last one again and again; it keeps the requests."""

    answers: list[tuple[int, str]]
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def regions(self) -> list[str]:
        """Regions that the requests were signed for."""
        signed = [one.headers["Authorization"] for one in self.requests]
        return [re.findall(r"Credential=id/\d{8}/([^/]+)/s3/", one)[0] for one in signed]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.read())
        status, text = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if status:
            return web.Response(status=status, text=text, headers=self.headers)
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"<Done>")
        assert request.transport
        request.transport.close()
        return response


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a hundredth of a second at most between attempts."""
    monkeypatch.setattr(s3_client, "_MAXIMUM_DELAY_S", 0.01)


@asynccontextmanager
async def running(server: Server) -> AsyncIterator[Bucket]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    settings = S3Settings(
        endpoint_url=site.name, access_key_id="id", secret_access_key=SecretStr("secret"), bucket="bucket"
    )
    try:
        async with open_bucket(settings) as bucket, asyncio.timeout(20):
            yield bucket
    finally:
        await runner.cleanup()


async def test_an_overloaded_server_is_asked_again_with_the_same_body() -> None:
    server = Server([OVERLOADED, (500, ""), (200, "")])
    async with running(server) as bucket:
        await bucket.put("key", b"the body")
    assert server.bodies == [b"the body"] * 3


async def test_a_server_that_stays_overloaded_is_asked_four_times() -> None:
    server = Server([OVERLOADED])
    async with running(server) as bucket:
        with pytest.raises(SaccadeError) as raised:
            await bucket.put("key", b"")
    assert raised.value.code is ErrorCode.STORAGE_UNAVAILABLE
    assert "SlowDown" in raised.value.message
    assert len(server.requests) == 4


@pytest.mark.parametrize("refusal", [(403, "<Error><Code>AccessDenied</Code></Error>"), (400, "no XML"), (301, "")])
async def test_a_refusal_is_not_repeated(refusal: tuple[int, str]) -> None:
    server = Server([refusal])
    async with running(server) as bucket:
        with pytest.raises(SaccadeError) as raised:
            await bucket.get("key")
    assert raised.value.code is ErrorCode.STORAGE_UNAVAILABLE
    assert len(server.requests) == 1


async def test_an_upload_whose_completion_fails_after_its_status_is_completed_again() -> None:
    """The server sends 200 before it has joined the parts."""
    server = Server([LATE_ERROR, COMPLETED])
    async with running(server) as bucket:
        assert await bucket.finish_multipart("key", "id", [(1, '"a"')]) == "abc-1"
    assert len(server.requests) == 2


async def test_an_answer_that_breaks_off_is_requested_again() -> None:
    server = Server([CUT_OFF, CUT_OFF, COMPLETED])
    async with running(server) as bucket:
        assert await bucket.finish_multipart("key", "id", [(1, '"a"')]) == "abc-1"
    assert len(server.requests) == 3


async def test_requests_are_signed_for_the_region_that_an_error_names() -> None:
    malformed = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>"
    server = Server([(400, malformed), (200, "")])
    async with running(server) as bucket:
        await bucket.put("key", b"1")
        await bucket.put("key", b"2")
        assert "%2Feu-west-1%2Fs3%2F" in await bucket.presign_get("key")
    assert server.regions == ["us-east-1", "eu-west-1", "eu-west-1"]
    assert server.bodies == [b"1", b"1", b"2"]


async def test_requests_are_signed_for_the_region_in_the_headers_of_an_error() -> None:
    """The answer to a HEAD has no body."""
    server = Server([(400, ""), (200, "")], {"x-amz-bucket-region": "eu-west-1"})
    async with running(server) as bucket:
        await bucket.check()
    assert server.regions == ["us-east-1", "eu-west-1"]


async def test_a_page_that_is_not_of_s3_is_reported() -> None:
    async with running(Server([(200, "<html>Please log in<br></html>")])) as bucket:
        with pytest.raises(SaccadeError) as raised:
            await bucket.list_keys("results/")
    assert raised.value.code is ErrorCode.STORAGE_UNAVAILABLE


async def test_every_page_of_a_list_is_read() -> None:
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>t/1=</NextContinuationToken>"
    first, last = "<Contents><Key>a</Key></Contents>", "<Contents><Key>b</Key></Contents>"
    server = Server([(200, f"<Any>{first}{more}</Any>"), (200, f"<Any>{last}</Any>")])
    async with running(server) as bucket:
        assert await bucket.list_keys("results/a b") == ["a", "b"]
    assert [one.query.get("continuation-token") for one in server.requests] == [None, "t/1="]
    assert {one.query["prefix"] for one in server.requests} == {"results/a b"}


async def test_every_page_of_parts_is_read() -> None:
    def page(number: int, truncated: str) -> str:
        part = f"<Part><PartNumber>{number}</PartNumber><Size>1</Size><ETag>e</ETag></Part>"
        return f"<Any>{part}<IsTruncated>{truncated}</IsTruncated><NextPartNumberMarker>1</NextPartNumberMarker></Any>"

    server = Server([(200, page(1, "true")), (200, page(2, "false"))])
    async with running(server) as bucket:
        assert [part["part_number"] for part in await bucket.list_parts("key", "id")] == [1, 2]
    assert [one.query.get("part-number-marker") for one in server.requests] == [None, "1"]


async def test_a_bucket_that_is_missing_is_created() -> None:
    server = Server([(404, ""), (200, "")])
    async with running(server) as bucket:
        await bucket.create()
    assert [(one.method, one.path) for one in server.requests] == [("HEAD", "/bucket"), ("PUT", "/bucket")]


async def test_a_missing_object_is_missing_at_the_first_answer() -> None:
    server = Server([(404, "<Error><Code>NoSuchKey</Code></Error>")])
    async with running(server) as bucket:
        with pytest.raises(ObjectMissing):
            await bucket.get("key")
    assert len(server.requests) == 1
