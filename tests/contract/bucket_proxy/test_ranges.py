"""Range requests, HEAD and CORS of the bucket as clients see it: a real S3 server behind the proxy."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import botocore.session
import httpx
import pytest
from botocore.config import Config

from kit.bucket import Bucket, open_bucket
from kit.settings import S3Settings
from tests.harness.servers.embedded import S3Server

pytestmark = pytest.mark.anyio

SIZE = 10_000
BODY = random.Random(3).randbytes(SIZE)


@asynccontextmanager
async def stored(server: S3Server, body: bytes = BODY) -> AsyncIterator[tuple[Bucket, str, httpx.AsyncClient]]:
    """Put an object; give the bucket, a presigned GET and a client."""
    async with open_bucket(server.settings) as bucket, httpx.AsyncClient(trust_env=False) as client:
        await bucket.create()
        await bucket.put("results/lap.mp4", body, "video/mp4")
        yield bucket, await bucket.presign_get("results/lap.mp4"), client


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [
        ("bytes=0-", 0, SIZE - 1),
        ("bytes=0-0", 0, 0),
        ("bytes=100-199", 100, 199),
        ("BYTES=100-199", 100, 199),
        ("bytes= 100-199", 100, 199),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE - 1),
        (f"bytes=9000-{SIZE * 10}", 9000, SIZE - 1),
        ("bytes=9000-99999999999999999999999999", 9000, SIZE - 1),
        ("bytes=-1", SIZE - 1, SIZE - 1),
        ("bytes=-500", SIZE - 500, SIZE - 1),
        (f"bytes=-{SIZE}", 0, SIZE - 1),
        (f"bytes=-{SIZE * 2}", 0, SIZE - 1),
    ],
)
async def test_a_range_is_answered_with_206_and_exactly_these_bytes(
    any_s3_server: S3Server, wanted: str, first: int, last: int
) -> None:
    async with stored(any_s3_server) as (_, url, client):
        got = await client.get(url, headers={"Range": wanted})
        assert (got.status_code, got.reason_phrase) == (206, "Partial Content")
        assert got.headers["content-range"] == f"bytes {first}-{last}/{SIZE}"
        assert got.headers["content-length"] == str(last - first + 1)
        assert got.content == BODY[first : last + 1]
        assert got.headers["content-type"] == "video/mp4"


@pytest.mark.parametrize(
    "ignored",
    ["bytes=5-2", "bytes=a-b", "bytes=-", "bytes=", "items=0-1", "bytes = 0-5", "bytes=0-1,5-6", "bytes=0-1,"],
)
async def test_an_invalid_range_and_several_ranges_are_answered_with_the_whole(
    any_s3_server: S3Server, ignored: str
) -> None:
    async with stored(any_s3_server) as (_, url, client):
        got = await client.get(url, headers={"Range": ignored})
        assert (got.status_code, got.content) == (200, BODY)
        assert "content-range" not in got.headers


@pytest.mark.parametrize("wanted", [f"bytes={SIZE}-", "bytes=99999999999999999999-", "bytes=-0"])
async def test_a_range_outside_of_the_object_is_answered_with_416_and_its_size(
    any_s3_server: S3Server, wanted: str
) -> None:
    async with stored(any_s3_server) as (_, url, client):
        got = await client.get(url, headers={"Range": wanted, "Origin": "https://page.example.org"})
        assert (got.status_code, got.headers["content-range"]) == (416, f"bytes */{SIZE}")
        assert "<Code>InvalidRange</Code>" in got.text
        assert got.headers["access-control-allow-origin"] == "*"
        assert BODY[:100] not in got.content


async def test_an_empty_object_has_no_range(any_s3_server: S3Server) -> None:
    async with stored(any_s3_server, b"") as (_, url, client):
        for wanted in ("bytes=0-", "bytes=-5"):
            got = await client.get(url, headers={"Range": wanted})
            assert (got.status_code, got.headers["content-range"]) == (416, "bytes */0")
        assert (await client.get(url)).content == b""


async def test_if_range_names_the_version_of_which_the_client_has_a_part(any_s3_server: S3Server) -> None:
    async with stored(any_s3_server) as (bucket, url, client):
        etag = (await client.get(url)).headers["etag"]

        async def ask(if_range: str, wanted: str = "bytes=10-19") -> httpx.Response:
            return await client.get(url, headers={"Range": wanted, "If-Range": if_range})

        same = await ask(etag)
        assert (same.status_code, same.content) == (206, BODY[10:20])
        for other in (f"W/{etag}", '"another"', "Wed, 21 Oct 2015 07:28:00 GMT", "nonsense"):
            whole = await ask(other)
            assert (whole.status_code, whole.content) == (200, BODY), other
        changed = BODY[::-1][:500]
        await bucket.put("results/lap.mp4", changed, "video/mp4")
        for wanted in ("bytes=10-19", "bytes=600-", "bytes=-600"):
            whole = await ask(etag, wanted)
            assert (whole.status_code, whole.content) == (200, changed), "never a part of another version"


async def test_other_conditions_and_errors_come_before_the_range(any_s3_server: S3Server) -> None:
    async with stored(any_s3_server) as (bucket, url, client):
        etag = (await client.get(url)).headers["etag"]
        known = await client.get(url, headers={"Range": "bytes=0-9", "If-None-Match": etag})
        assert (known.status_code, known.content) == (304, b"")
        missing = await client.get(await bucket.presign_get("results/none"), headers={"Range": "bytes=0-9"})
        assert missing.status_code == 404
        stranger = await client.get(url[:-1], headers={"Range": "bytes=0-9"})
        assert stranger.status_code == 403


async def test_head_has_no_range(any_s3_server: S3Server) -> None:
    """A range is defined for GET only (RFC 9110, section 14.2)."""
    async with stored(any_s3_server) as (bucket, _, client):
        head = await client.head(await bucket.presign_get("results/lap.mp4", head=True), headers={"Range": "bytes=0-9"})
        assert (head.status_code, head.headers["content-length"], head.content) == (200, str(SIZE), b"")
        assert head.headers["accept-ranges"] == "bytes"


async def test_a_range_that_is_part_of_the_signature_is_not_touched(any_s3_server: S3Server) -> None:
    """As SDKs send it: without it, or with another spelling, the signature would be wrong."""
    async with stored(any_s3_server):
        client = _s3_client(any_s3_server.settings)
        got = client.get_object(Bucket="saccade", Key="results/lap.mp4", Range="bytes=7-11")
        assert (got["ResponseMetadata"]["HTTPStatusCode"], got["Body"].read()) == (206, BODY[7:12])
        client.close()


def _s3_client(settings: S3Settings):
    return botocore.session.Session().create_client(
        "s3",
        endpoint_url=settings.public_endpoint_url,
        region_name=settings.region,
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=settings.secret_access_key.get_secret_value(),
        config=Config(s3={"addressing_style": "path"}),
    )


async def test_pages_of_other_origins_may_ask_for_ranges_and_read_what_came(any_s3_server: S3Server) -> None:
    async with stored(any_s3_server) as (_, url, client):
        page = {"Origin": "https://page.example.org"}
        for method, header in (("GET", "range"), ("GET", "if-range"), ("PUT", "content-type")):
            wanted = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": header}
            asked = await client.options(url, headers=page | wanted)
            assert asked.status_code == 200
            assert header in asked.headers["access-control-allow-headers"].lower().split(", ")
            assert method in asked.headers["access-control-allow-methods"].split(", ")
            assert asked.headers["access-control-allow-origin"] == "*"
        got = await client.get(url, headers=page | {"Range": "bytes=0-9"})
        exposed = got.headers["access-control-expose-headers"].lower().split(", ")
        assert {"etag", "content-range", "content-length", "accept-ranges"} <= set(exposed)
        assert len(exposed) == len(set(exposed))


@pytest.mark.parametrize("name", ["lap one.mp4", "a+b&c=d.mp4", "a%2Fb.mp4", "straße/é.mp4", "~tilde'()*!.mp4"])
async def test_the_path_arrives_as_it_was_signed(any_s3_server: S3Server, name: str) -> None:
    async with open_bucket(any_s3_server.settings) as bucket, httpx.AsyncClient(trust_env=False) as client:
        await bucket.create()
        put = await client.put(
            await bucket.presign_put(name, "video/mp4"), content=b"1", headers={"Content-Type": "video/mp4"}
        )
        direct = any_s3_server.settings.model_copy(update={"public_endpoint_url": any_s3_server.settings.endpoint_url})
        async with open_bucket(direct) as beside:
            same = await client.get(await beside.presign_get(name))
        got = await client.get(await bucket.presign_get(name))
        assert (put.status_code, same.status_code, got.status_code) == (200, 200, 200)
        assert (got.content, hashlib.sha256(got.content).digest()) == (same.content, hashlib.sha256(b"1").digest())


async def test_the_address_of_the_proxy_is_part_of_the_signature(any_s3_server: S3Server) -> None:
    async with stored(any_s3_server) as (_, url, client):
        elsewhere = await client.get(url, headers={"Host": "bucket.example.org"})
        assert elsewhere.status_code == 403
        assert urlsplit(url).port != urlsplit(any_s3_server.settings.endpoint_url).port
