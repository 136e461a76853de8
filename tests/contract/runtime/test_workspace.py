"""Download of inputs: complete or an error, also from a bucket that closes the connection."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.job import JobInput
from kit.bucket import open_bucket
from kit.settings import S3Settings
from modal_workers.runtime.files.workspace import Workspace

pytestmark = pytest.mark.anyio

BODY = bytes(range(256)) * 400


@asynccontextmanager
async def bucket_that_breaks_off(times: int) -> AsyncIterator[tuple[S3Settings, list[int]]]:
    """Serve one object; the first responses end after a few bytes, as when a server is killed."""
    served: list[int] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        sent = BODY[:1000] if len(served) < times else BODY
        served.append(len(sent))
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + sent)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield (
            S3Settings(endpoint_url=f"http://127.0.0.1:{port}", access_key_id="a", secret_access_key=SecretStr("b")),
            served,
        )


def wanted(sha256: str) -> dict[str, list[JobInput]]:
    given = JobInput(
        upload_id="upl_1", key="k", filename="../Lap.MP4", content_type="video/mp4", size_bytes=len(BODY), sha256=sha256
    )
    return {"clip": [given]}


async def test_a_download_that_breaks_off_is_done_again(tmp_path: Path) -> None:
    async with bucket_that_breaks_off(2) as (settings, served), open_bucket(settings) as bucket:
        workspace = Workspace(tmp_path, wanted(hashlib.sha256(BODY).hexdigest()))
        told: list[float] = []
        await workspace.fetch(bucket, told.append)
        given, path = workspace.input("clip")
        assert path.read_bytes() == BODY
        assert path.parent == tmp_path / "inputs"
        assert path.name == "clip-0"
        assert given.filename == "../Lap.MP4"
        assert served == [1000, 1000, len(BODY)]
        assert told
        assert max(told) <= 1
        workspace.clear()
        assert not list(tmp_path.iterdir())


async def test_bytes_that_have_changed_are_refused(tmp_path: Path) -> None:
    async with bucket_that_breaks_off(0) as (settings, _), open_bucket(settings) as bucket:
        with pytest.raises(SaccadeError) as caught:
            await Workspace(tmp_path, wanted("0" * 64)).fetch(bucket, lambda _: None)
    assert caught.value.code is ErrorCode.UPLOAD_CHECKSUM_MISMATCH


async def test_more_than_the_disk_holds_is_refused_before_a_byte_is_fetched(tmp_path: Path) -> None:
    inputs = wanted("0" * 64)
    inputs = {"clip": [inputs["clip"][0].model_copy(update={"size_bytes": 1 << 60})]}
    async with bucket_that_breaks_off(0) as (settings, served), open_bucket(settings) as bucket:
        with pytest.raises(SaccadeError) as caught:
            await Workspace(tmp_path, inputs).fetch(bucket, lambda _: None)
    assert caught.value.code is ErrorCode.STORAGE_FULL
    assert not served


async def test_an_input_that_the_job_does_not_have_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no input 'clip' number 1"):
        Workspace(tmp_path, wanted("0" * 64)).input("clip", 1)


@pytest.mark.parametrize("filename", ["a", "a.m3u8", "a.m/p4", "a.%03d.jpg"])
async def test_the_local_name_has_nothing_of_the_users(tmp_path: Path, filename: str) -> None:
    """Libraries choose a format by an extension: FFmpeg a playlist, which names other files."""
    given = wanted("0" * 64)["clip"][0].model_copy(update={"filename": filename})
    assert Workspace(tmp_path, {"clip": [given]}).input("clip")[1].name == "clip-0"
