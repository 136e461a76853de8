"""Bucket on real S3 servers: presigned URLs, multipart uploads, missing objects, checksums."""

from __future__ import annotations

import asyncio
import hashlib
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest
from pydantic import SecretStr

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import MIB, PART_BYTES
from kit.bucket import Bucket, ObjectMissing, open_bucket
from kit.bus.lineage import Epoch, Lineage
from kit.history.archive_access import open_archive
from kit.s3_client import StorageRefused
from kit.settings import ArchiveSettings, S3Settings
from modal_workers.runtime.retry import while_unavailable
from tests.harness.network.file_servers import answer, file_server, sending
from tests.harness.servers.embedded import ROOT, S3Server, free_port
from tests.harness.servers.loopback_tls import NO_CERTIFICATES
from tests.harness.webhooks.receivers import Authority

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def opened(server: S3Server, **changed: str) -> AsyncIterator[Bucket]:
    settings = S3Settings(**(server.settings.model_dump() | changed))
    async with open_bucket(settings) as bucket:
        await bucket.create()
        yield bucket


def body_of(size: int, seed: int = 7) -> bytes:
    return random.Random(seed).randbytes(size)


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


async def test_presigned_put_and_get(any_s3_server: S3Server) -> None:
    async with opened(any_s3_server) as bucket, httpx.AsyncClient(verify=NO_CERTIFICATES) as client:
        key, body = bucket.key("uploads", "acme", "upl_1", "lap one.mp4"), body_of(300_000)
        put = await client.put(
            await bucket.presign_put(key, "video/mp4"), content=body, headers={"Content-Type": "video/mp4"}
        )
        assert put.status_code == 200
        assert await bucket.size(key) == len(body)
        got = await client.get(await bucket.presign_get(key, filename='la"p\n.mp4', content_type="video/mp4"))
        assert (got.status_code, sha256(got.content)) == (200, sha256(body))
        assert '"' not in got.headers.get("content-disposition", "").removeprefix('inline; filename="').rstrip('"')
        part = await client.get(await bucket.presign_get(key), headers={"Range": "bytes=1000-1999"})
        assert part.status_code == 206
        assert part.content == body[1000:2000]
        assert part.headers["content-range"] == "bytes 1000-1999/300000"


async def test_an_object_is_read_from_an_offset_on(any_s3_server: S3Server) -> None:
    """Without a length it was read from its beginning."""
    async with opened(any_s3_server) as bucket:
        key, body = bucket.key("results", "job_1", "a.bin"), body_of(3000)
        await bucket.put(key, body)
        for offset, length, expected in (
            (0, None, body),
            (1000, None, body[1000:]),
            (1000, 500, body[1000:1500]),
            (0, 1, body[:1]),
        ):
            async with bucket.opened(key, offset, length) as part:
                assert b"".join([chunk async for chunk in part.chunks()]) == expected
                assert part.size_bytes == len(expected)


async def test_a_presigned_url_is_only_valid_unchanged_for_its_key_and_method(any_s3_server: S3Server) -> None:
    async with opened(any_s3_server) as bucket, httpx.AsyncClient(verify=NO_CERTIFICATES) as client:
        mine, other = bucket.key("results", "job_1", "a.json"), bucket.key("results", "job_2", "a.json")
        await bucket.put(mine, b"{}")
        await bucket.put(other, b'{"secret": 1}')
        url = await bucket.presign_get(mine)
        assert (await client.get(url)).status_code == 200
        parts = urlsplit(url)
        elsewhere = urlunsplit(parts._replace(path=parts.path.replace("job_1", "job_2")))
        assert (await client.get(elsewhere)).status_code == 403
        assert (await client.put(url, content=b"changed")).status_code == 403
        assert (await client.head(url)).status_code == 403
        assert (await client.get(urlunsplit(parts._replace(query="")))).status_code in (400, 401, 403)
        assert await bucket.get(mine) == b"{}"


async def test_a_presigned_head_has_the_headers_of_the_get_and_is_valid_for_nothing_else(
    any_s3_server: S3Server,
) -> None:
    async with opened(any_s3_server) as bucket, httpx.AsyncClient(verify=NO_CERTIFICATES) as client:
        key, as_shown = bucket.key("results", "job_1", "lap.mp4"), {"filename": "lap.mp4", "content_type": "video/mp4"}
        await bucket.put(key, b"12345", "application/octet-stream")
        head_url = await bucket.presign_get(key, head=True, **as_shown)
        head, get = await client.head(head_url), await client.get(await bucket.presign_get(key, **as_shown))
        assert (head.status_code, head.content, get.content) == (200, b"", b"12345")
        for name in ("content-length", "content-type", "content-disposition", "etag", "accept-ranges"):
            assert head.headers[name] == get.headers[name]
        assert (await client.get(head_url)).status_code == 403
        assert (await client.head(await bucket.presign_get(key + "x", head=True))).status_code == 404


async def test_a_url_for_clients_has_the_public_address(any_s3_server: S3Server) -> None:
    public = f"http://bucket.example.org:{free_port()}"
    async with (
        opened(any_s3_server, public_endpoint_url=public) as bucket,
        httpx.AsyncClient(verify=NO_CERTIFICATES) as client,
    ):
        key = bucket.key("results", "job_1", "report.html")
        await bucket.put(key, b"<p>", "text/html")
        assert (await bucket.presign_get(key)).startswith(f"{public}/")
        inside = await bucket.presign_get(key, inside=True)
        assert (await client.get(inside)).content == b"<p>"


async def test_parts_are_uploaded_by_presigned_urls_in_any_order(any_s3_server: S3Server) -> None:
    async with opened(any_s3_server) as bucket, httpx.AsyncClient(verify=NO_CERTIFICATES) as client:
        key, body = bucket.key("uploads", "acme", "upl_2", "lap.mp4"), body_of(12 * MIB)
        multipart_id = await bucket.start_multipart(key, "video/mp4")
        pieces = [body[i : i + 5 * MIB] for i in range(0, len(body), 5 * MIB)]
        for number in (3, 1, 2):
            url = await bucket.presign_part(key, multipart_id, number)
            assert (await client.put(url, content=pieces[number - 1])).status_code == 200
        again = await client.put(await bucket.presign_part(key, multipart_id, 2), content=pieces[1])
        assert again.status_code == 200
        arrived = await bucket.list_parts(key, multipart_id)
        assert [(part["part_number"], part["size_bytes"]) for part in arrived] == [
            (number, len(piece)) for number, piece in enumerate(pieces, 1)
        ]
        await bucket.finish_multipart(key, multipart_id, [(part["part_number"], part["etag"]) for part in arrived])
        assert await bucket.size(key) == len(body)
        assert sha256(await bucket.get(key)) == sha256(body)


async def test_a_multipart_upload_that_is_aborted_leaves_nothing(any_s3_server: S3Server) -> None:
    async with opened(any_s3_server) as bucket, httpx.AsyncClient(verify=NO_CERTIFICATES) as client:
        key = bucket.key("uploads", "acme", "upl_3", "lap.mp4")
        multipart_id = await bucket.start_multipart(key, "video/mp4")
        await client.put(await bucket.presign_part(key, multipart_id, 1), content=b"x" * 100)
        await bucket.abort_multipart(key, multipart_id)
        await bucket.abort_multipart(key, multipart_id)
        with pytest.raises(ObjectMissing):
            await bucket.list_parts(key, multipart_id)
        with pytest.raises(ObjectMissing):
            await bucket.size(key)


async def test_a_file_is_uploaded_in_parts_and_downloaded_with_the_same_checksum(
    any_s3_server: S3Server, tmp_path: Path
) -> None:
    async with opened(any_s3_server) as bucket:
        for size in (0, 1, PART_BYTES, PART_BYTES + 1):
            source, target = tmp_path / f"{size}.bin", tmp_path / f"{size}.back"
            source.write_bytes(body_of(size))
            key = bucket.key("results", "job_3", source.name)
            sent = await bucket.send_file(source, key, "application/octet-stream")
            assert (sent.key, sent.bytes, sent.sha256) == (key, size, sha256(source.read_bytes()))
            chunks: list[int] = []
            assert (await bucket.fetch_file(key, target, chunks.append)).sha256 == sent.sha256
            assert sum(chunks) == size
            assert max(chunks, default=0) <= MIB, "never more than a chunk in memory"
            assert target.read_bytes() == source.read_bytes()


async def test_missing_objects_raise_object_missing(any_s3_server: S3Server, tmp_path: Path) -> None:
    async with opened(any_s3_server) as bucket, httpx.AsyncClient(verify=NO_CERTIFICATES) as client:
        key = bucket.key("results", "job_4", "nothing")
        with pytest.raises(ObjectMissing):
            await bucket.size(key)
        with pytest.raises(ObjectMissing):
            await bucket.get(key)
        with pytest.raises(ObjectMissing):
            await bucket.fetch_file(key, tmp_path / "nothing")
        await bucket.delete(key)
        assert (await client.get(await bucket.presign_get(key))).status_code == 404
        await bucket.put(key, b"now")
        await bucket.delete(key)
        with pytest.raises(ObjectMissing):
            await bucket.size(key)


async def test_keys_under_a_prefix_are_listed_and_no_others(any_s3_server: S3Server) -> None:
    async with opened(any_s3_server, prefix="/teams/blue/") as bucket:
        keys = sorted(bucket.key("results", "job_5", f"{i:04}.json") for i in range(30))
        assert keys[0] == "teams/blue/results/job_5/0000.json"
        for key in keys:
            await bucket.put(key, b"{}")
        await bucket.put(bucket.key("results", "job_50", "other.json"), b"{}")
        assert sorted(await bucket.list_keys(bucket.key("results", "job_5") + "/")) == keys


async def test_a_wrong_secret_and_an_unavailable_server_are_reported(any_s3_server: S3Server) -> None:
    wrong = any_s3_server.settings.model_copy(update={"secret_access_key": SecretStr("not-the-secret")})
    away = any_s3_server.settings.model_copy(update={"endpoint_url": f"http://127.0.0.1:{free_port()}"})
    for settings in (wrong, away):
        async with open_bucket(settings) as bucket:
            with pytest.raises(SaccadeError) as raised:
                await bucket.check()
            assert raised.value.code is ErrorCode.STORAGE_UNAVAILABLE
            assert isinstance(raised.value, StorageRefused) == (settings is wrong)
            assert "not-the-secret" not in str(raised.value)


async def test_a_server_with_a_certificate_of_an_unknown_authority_gets_no_request(tmp_path: Path) -> None:
    served = Authority(tmp_path).serving("127.0.0.1")
    async with file_server(sending(answer(b"")), tls=served) as server:
        for scheme in ("https", "HTTPS"):
            url = server.url("").replace("https", scheme)
            settings = S3Settings(endpoint_url=url, access_key_id="id", secret_access_key=SecretStr("secret"))
            async with open_bucket(settings) as bucket:
                with pytest.raises(SaccadeError) as raised:
                    await bucket.check()
            assert raised.value.code is ErrorCode.STORAGE_UNAVAILABLE
    assert server.heads == []


_OPEN_TWICE = """
import asyncio, sys
from kit.bucket import open_bucket
from kit.bus.lineage import Epoch, Lineage
from kit.history.archive_access import open_archive
from kit.settings import ArchiveSettings, S3Settings

looked_at = []
watched = ("os.listdir", "open")
sys.addaudithook(lambda event, args: looked_at.append(str(args[0])) if event in watched else None)

async def open_once():
    settings = S3Settings(endpoint_url="http://127.0.0.1:1", access_key_id="id", secret_access_key="secret")
    async with open_bucket(settings):
        pass

for _ in range(2):
    asyncio.run(open_once())
    print(len([one for one in looked_at if "botocore/data/" in one]))
"""


def test_only_the_description_of_s3_is_read_and_only_once() -> None:
    """Botocore looks through the folders of 400 services, again for each client: half of its start."""
    command = [sys.executable, "-c", _OPEN_TWICE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    first, second = (int(count) for count in done.stdout.split())
    assert 0 < first < 15
    assert second == first


async def test_a_cancelled_upload_ends_although_the_bucket_is_unavailable(tmp_path: Path) -> None:
    """Otherwise a worker that is stopped would keep retrying."""
    path = tmp_path / "big"
    path.write_bytes(bytes(2 * PART_BYTES))
    arrived = asyncio.Event()

    class SilentBucket(Bucket):
        """A client whose server becomes unavailable during an upload."""

        async def call(self, operation: str, **_: Any) -> Any:
            if operation == "create_multipart_upload":
                return {"UploadId": "one"}
            if operation == "upload_part":
                arrived.set()
                await asyncio.Event().wait()
            raise SaccadeError(ErrorCode.STORAGE_UNAVAILABLE)

    settings = S3Settings(endpoint_url="http://127.0.0.1:1", access_key_id="id", secret_access_key=SecretStr("secret"))
    bucket = SilentBucket(None, None, settings)
    sending = asyncio.create_task(while_unavailable(lambda: bucket.send_file(path, "key", "video/mp4"), "a file"))
    await arrived.wait()
    sending.cancel()
    await asyncio.wait([sending], timeout=5)
    assert sending.cancelled()


async def test_a_request_after_the_end_is_refused_and_opens_no_connection(any_s3_server: S3Server) -> None:
    """A connection that is opened then is closed by nobody: it is a ResourceWarning in whatever runs next."""
    async with opened(any_s3_server) as bucket:
        await bucket.check()
    with pytest.raises(SaccadeError) as refused:
        await bucket.check()
    assert refused.value.code is ErrorCode.STORAGE_UNAVAILABLE
    assert "closed" in refused.value.message


async def test_clients_that_read_slowly_keep_no_request_waiting(
    any_s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten of them held all connections: every other request waited, without an end, until one had read its file."""
    monkeypatch.setattr("kit.s3_client.READ_CONNECTIONS", 10)
    monkeypatch.setattr("kit.s3_client.POOL_WAIT_S", 0.5)
    async with opened(any_s3_server) as bucket, AsyncExitStack() as slow:
        key = bucket.key("uploads", "large")
        await bucket.put(key, bytes(16 * MIB))
        for _ in range(10):  # each object is larger than what the sockets take
            await slow.enter_async_context(bucket.opened(key))
        async with asyncio.timeout(60):
            assert await bucket.size(key) == 16 * MIB
            await bucket.put(bucket.key("uploads", "small"), b"x")
            with pytest.raises(SaccadeError) as refused:  # one reader more is refused, and does not wait for ever
                await bucket.get(key)
            assert refused.value.code is ErrorCode.STORAGE_UNAVAILABLE
        await slow.aclose()
        assert len(await bucket.get(key)) == 16 * MIB


async def test_an_archive_that_is_closed_opens_no_bucket_for_a_late_reader(any_s3_server: S3Server) -> None:
    async with open_archive(any_s3_server.settings, ArchiveSettings()) as archive:
        assert archive is not None
    with pytest.raises(SaccadeError) as refused:
        await archive.first(Lineage((Epoch("one"),)))
    assert (refused.value.code, refused.value.message) == (ErrorCode.STORAGE_UNAVAILABLE, "The archive is closed.")
