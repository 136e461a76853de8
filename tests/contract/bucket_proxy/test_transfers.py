"""Transfers through the bucket proxy: bytes arrive as they were sent, and what breaks does not look complete."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import random
import socket
import time
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import aiohttp
import httpx
import pytest

from contracts.limits import MIB, UNSIZED_PUT_BYTES
from kit.bucket import Bucket, ObjectMissing, open_bucket
from kit.settings import S3Settings
from kit.tasks import end
from tests.harness.network.cutting_pipe import CuttingPipe
from tests.harness.servers.embedded import HOST, EmbeddedS3, S3Server, free_port
from tests.harness.servers.proxied_bucket import bucket_proxy

pytestmark = pytest.mark.anyio

LARGE = random.Random(5).randbytes(1 * MIB) * 20


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedS3]:
    with EmbeddedS3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
async def bucket(s3: EmbeddedS3) -> AsyncIterator[Bucket]:
    """Open the bucket behind a proxy that waits half a second for heads and for stalled clients."""
    async with (
        bucket_proxy(s3.settings.endpoint_url, head_s=0.5, stalled_s=0.5) as address,
        open_bucket(_at(s3.settings, address)) as found,
    ):
        yield found


def _at(settings: S3Settings, address: str) -> S3Settings:
    return settings.model_copy(update={"public_endpoint_url": address})


@pytest.mark.parametrize("encoding", ["", "gzip"])
async def test_20_megabytes_arrive_as_they_were_sent(any_s3_server: S3Server, encoding: str) -> None:
    """A body that says it is compressed is neither decompressed on the way up nor down."""
    body = gzip.compress(LARGE, 1) if encoding else LARGE
    digest = hashlib.sha256(body).hexdigest()
    headers = {"Content-Type": "text/plain"} | ({"Content-Encoding": encoding} if encoding else {})
    async with (
        open_bucket(any_s3_server.settings) as bucket,
        aiohttp.ClientSession(auto_decompress=False, timeout=aiohttp.ClientTimeout(total=60)) as session,
    ):
        await bucket.create()

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(body), 100_000):
                yield body[start : start + 100_000]

        url = await bucket.presign_put("uploads/large", "text/plain")
        sized = headers | {"Content-Length": str(len(body))}
        async with session.put(url, data=pieces(), headers=sized) as put:
            assert put.status == 200, await put.text()
            assert put.headers["ETag"].strip('"') == hashlib.md5(body).hexdigest()
        assert hashlib.sha256(await bucket.get("uploads/large")).hexdigest() == digest
        async with session.get(await bucket.presign_get("uploads/large")) as got:
            assert (got.status, got.content_length) == (200, len(body))
            assert got.headers.get("Content-Encoding", "") == encoding
            assert hashlib.sha256(await got.read()).hexdigest() == digest
        part = {"Range": f"bytes=1000000-{len(body) - 1}", "Accept-Encoding": "gzip"}
        async with session.get(await bucket.presign_get("uploads/large"), headers=part) as got:
            assert (got.status, await got.read()) == (206, body[1_000_000:])


async def test_transfers_at_once_do_not_mix(any_s3_server: S3Server) -> None:
    async with open_bucket(any_s3_server.settings) as bucket, httpx.AsyncClient(trust_env=False) as client:
        await bucket.create()
        bodies = {f"uploads/{number}": random.Random(number).randbytes(1 * MIB) for number in range(12)}

        async def there_and_back(key: str, body: bytes) -> bool:
            put = await client.put(await bucket.presign_put(key, "a/b"), content=body, headers={"Content-Type": "a/b"})
            first, last = len(key) * 1000, len(body) - 7
            wanted = {"Range": f"bytes={first}-{last}"}
            got = await client.get(await bucket.presign_get(key), headers=wanted)
            return put.status_code == 200 and got.status_code == 206 and got.content == body[first : last + 1]

        assert all(await asyncio.gather(*(there_and_back(*one) for one in bodies.items())))


async def _connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    found = urlsplit(url)
    assert found.port
    return await asyncio.open_connection(HOST, found.port)


def _head(method: str, url: str, **headers: str) -> bytes:
    found = urlsplit(url)
    lines = [f"{method} {found.path}?{found.query} HTTP/1.1", f"Host: {found.netloc}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def test_an_upload_that_the_bucket_refuses_is_not_sent(bucket: Bucket) -> None:
    """A client that asks first waits for the bucket's decision."""
    allowed = await bucket.presign_put("uploads/one", "a/b")
    for url, expected in ((allowed, b"HTTP/1.1 100 "), (allowed[:-1], b"HTTP/1.1 403 ")):
        reader, writer = await _connect(url)
        writer.write(_head("PUT", url, Content_Type="a/b", Content_Length="5", Expect="100-continue"))
        async with asyncio.timeout(5):
            assert (await reader.readline()).startswith(expected)
            if expected == b"HTTP/1.1 100 ":
                writer.write(b"12345")
                await reader.readline()
                assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.close()
    assert await bucket.get("uploads/one") == b"12345"


@pytest.mark.parametrize(
    ("framing", "status", "code"),
    [
        ({"Content_Length": str(UNSIZED_PUT_BYTES + 1)}, 400, "EntityTooLarge"),
        ({"Transfer_Encoding": "chunked"}, 411, "MissingContentLength"),
    ],
)
async def test_a_put_that_s3_would_not_take_is_refused_before_it_is_sent(
    bucket: Bucket, framing: dict[str, str], status: int, code: str
) -> None:
    url = await bucket.presign_put("uploads/endless", "a/b")
    reader, writer = await _connect(url)
    writer.write(_head("PUT", url, Content_Type="a/b", **framing) + b"5\r\n12345\r\n")
    async with asyncio.timeout(5):
        assert (await reader.readline()).startswith(f"HTTP/1.1 {status} ".encode())
        assert code.encode() in await reader.read()
    writer.close()
    await _stays_missing(bucket, "uploads/endless")


async def test_an_upload_that_ends_early_leaves_no_object(bucket: Bucket) -> None:
    url = await bucket.presign_put("uploads/half", "a/b")
    _, writer = await _connect(url)
    writer.write(_head("PUT", url, Content_Type="a/b", Content_Length="2000000") + bytes(1_000_000))
    await writer.drain()
    await asyncio.sleep(0.1)
    writer.transport.abort()
    await _stays_missing(bucket, "uploads/half")


async def test_an_upload_that_stalls_is_ended_and_leaves_no_object(bucket: Bucket) -> None:
    url = await bucket.presign_put("uploads/stalled", "a/b")
    reader, writer = await _connect(url)
    writer.write(_head("PUT", url, Content_Type="a/b", Content_Length="2000000") + bytes(1_000_000))
    async with asyncio.timeout(5):
        told = await reader.read()
    assert told == b"" or told.startswith((b"HTTP/1.1 503 ", b"HTTP/1.1 408 ")), told[:100]
    writer.close()
    await _stays_missing(bucket, "uploads/stalled")


async def _stays_missing(bucket: Bucket, key: str) -> None:
    for _ in range(10):
        await asyncio.sleep(0.05)
        with pytest.raises(ObjectMissing):
            await bucket.size(key)


async def test_a_download_that_nobody_reads_is_ended(bucket: Bucket) -> None:
    await bucket.put("results/large", LARGE)
    url = await bucket.presign_get("results/large")
    found = urlsplit(url)
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, (HOST, int(found.port or 0)))
        await loop.sock_sendall(client, _head("GET", url))
        await asyncio.sleep(1.5)
        received = 0
        # What the kernel had taken for the client still arrives.
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                while data := await loop.sock_recv(client, 65536):
                    received += len(data)
        assert received < len(LARGE)


async def test_a_head_that_does_not_end_and_an_idle_connection_are_closed(bucket: Bucket) -> None:
    await bucket.put("results/small", b"12345")
    url = await bucket.presign_get("results/small")
    for first in (b"", b"GET / HTTP/1.1\r\n", _head("GET", url)):
        reader, writer = await _connect(url)
        writer.write(first)
        begin = time.monotonic()
        async with asyncio.timeout(5):
            if first.endswith(b"\r\n\r\n"):
                await reader.readuntil(b"12345")
            while not reader.at_eof() and time.monotonic() < begin + 3:
                with_more = asyncio.create_task(reader.read(1000))
                await asyncio.wait([with_more], timeout=0.1)
                if with_more.done():
                    break
                await end(with_more)
                if first and not first.endswith(b"\r\n\r\n"):
                    writer.write(b"x")  # a byte now and then does not prolong it
        assert time.monotonic() - begin < 3
        writer.close()


async def test_a_download_that_breaks_does_not_look_complete(s3: EmbeddedS3) -> None:
    with CuttingPipe() as pipe:
        async with (
            bucket_proxy(pipe.to(s3.settings.endpoint_url)) as address,
            open_bucket(_at(s3.settings, address)) as bucket,
            httpx.AsyncClient(trust_env=False) as client,
        ):
            await bucket.put("results/large", LARGE)
            url = await bucket.presign_get("results/large")
            for headers in ({}, {"Range": "bytes=5-"}):
                pipe.cut_down.append(3 * MIB)
                with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                    await client.get(url, headers=headers)
            assert (await client.get(url)).content == LARGE


async def test_without_the_server_an_answer_tells_to_try_again(s3: EmbeddedS3) -> None:
    away = f"http://{HOST}:{free_port()}"
    async with (
        bucket_proxy(away) as address,
        open_bucket(_at(s3.settings, address)) as bucket,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        for headers in ({}, {"Range": "bytes=0-1"}):
            got = await client.get(await bucket.presign_get("results/any"), headers=headers)
            assert (got.status_code, got.headers["retry-after"]) == (503, "1")
            assert "<Code>ServiceUnavailable</Code>" in got.text


async def test_one_connection_serves_requests_one_after_the_other(bucket: Bucket) -> None:
    await bucket.put("results/small", b"0123456789")
    url = await bucket.presign_get("results/small")
    reader, writer = await _connect(url)
    async with asyncio.timeout(5):
        for wanted, expected in (
            ("bytes=0-3", b"0123"),
            ("bytes=99-", b""),
            ("bytes=-2", b"89"),
            ("bytes=x", b"0123456789"),
        ):
            writer.write(_head("GET", url, Range=wanted))
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length: ")[2].split()[0])
            body = await reader.readexactly(length)
            assert body == expected or " 416 " in head
    writer.close()


@pytest.mark.parametrize(
    ("first_line", "status"),
    [
        # To another server: as they stand, or by what would follow the address of the bucket.
        (b"GET http://{elsewhere}/ HTTP/1.1", b"400"),
        (b"GET @{elsewhere}/ HTTP/1.1", b"400"),
        (b"CONNECT {elsewhere} HTTP/1.1", b"400"),
        (b"CONNECT @{elsewhere} HTTP/1.1", b"400"),
        (b"OPTIONS * HTTP/1.1", b"400"),
        (b"no request", b"400"),
        (b"GET /saccade/a HTTP/1.1\r\nBad Name: x", b"400"),
        (b"GET //[saccade/a HTTP/1.1\r\nRange: bytes=0-1", b"400"),
    ],
)
async def test_a_malformed_request_reaches_nobody_and_no_log(
    bucket: Bucket, caplog: pytest.LogCaptureFixture, first_line: bytes, status: bytes
) -> None:
    arrived: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.append(await reader.read(1000))
        writer.close()

    async with await asyncio.start_server(note, HOST, 0) as elsewhere:
        address = "{}:{}".format(*elsewhere.sockets[0].getsockname()).encode()
        reader, writer = await _connect(await bucket.presign_get("a"))
        writer.write(first_line.replace(b"{elsewhere}", address) + b"\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(5):
            answer = await reader.readline()
        writer.close()
    assert answer.split()[1] == status, answer
    assert arrived == []
    assert caplog.records == []
