"""Bodies that are streamed: whatever their size little of it is in memory, and a receiver that stops is given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from contracts.limits import MIB
from services.notifier.webhooks.sending.sender import Sender, StreamedBody, WebhookRequest
from tests.harness.webhooks.receivers import LOOPBACK, ok, receiving

pytestmark = pytest.mark.anyio


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    async with Sender(LOOPBACK, https_only=False) as one:
        yield one


async def _head(reader: asyncio.StreamReader) -> dict[str, str]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    return dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)


async def test_a_large_body_is_read_as_fast_as_it_is_taken(sender: Sender) -> None:
    size, produced, taken, ahead = 24 * MIB, 0, 0, 0
    heads: list[dict[str, str]] = []

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal produced, ahead
        while produced < size:
            produced += MIB
            ahead = max(ahead, produced - taken)
            yield b"v" * MIB

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        heads.append(await _head(reader))
        while taken < size:
            taken += len(await reader.read(256 * 1024))
            await asyncio.sleep(0.002)  # slower than it is sent
        writer.write(ok(b'{"storageId": "kg1"}'))

    async with receiving(talk) as receiver:
        url = f"http://127.0.0.1:{receiver.port}/storage"
        body = StreamedBody(size, chunks)
        result = await sender.send(WebhookRequest(url, {}, body, 5.0, "video/mp4", excerpt_bytes=4096))
    assert (result.error, result.excerpt) == (None, '{"storageId": "kg1"}')
    assert (heads[0]["content-length"], heads[0]["content-type"]) == (str(size), "video/mp4")
    assert "transfer-encoding" not in heads[0]
    assert ahead < 12 * MIB, "the kernel's buffers and one chunk"


async def test_a_receiver_that_stops_taking_the_body_is_given_up_and_a_slow_one_is_not(sender: Sender) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        headers = await _head(reader)
        if headers["content-type"] == "text/stopping":
            await asyncio.sleep(60)
        left = int(headers["content-length"])
        while left:
            left -= len(await reader.read(MIB))
        writer.write(ok(b"{}"))

    async def slow_chunks() -> AsyncIterator[bytes]:
        for _ in range(6):
            await asyncio.sleep(0.2)
            yield b"v" * MIB

    async def many_chunks() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"v" * MIB

    loop = asyncio.get_running_loop()
    async with receiving(talk) as receiver:
        url, began = f"http://127.0.0.1:{receiver.port}/", loop.time()
        slow = StreamedBody(6 * MIB, slow_chunks)
        assert (await sender.send(WebhookRequest(url, {}, slow, 0.6))).error is None
        assert loop.time() - began > 1.0, "longer than the limit of one chunk"
        began = loop.time()
        stopping = StreamedBody(64 * MIB, many_chunks)
        assert (await sender.send(WebhookRequest(url, {}, stopping, 0.6, "text/stopping"))).error == "too_slow"
        assert loop.time() - began < 5


async def test_a_body_that_cannot_be_read_is_a_failure_and_the_next_request_has_its_own_connection(
    sender: Sender,
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = int((await _head(reader))["content-length"])
        while left and (read := await reader.read(MIB)):
            left -= len(read)
        writer.write(ok(b"{}"))

    async def broken() -> AsyncIterator[bytes]:
        yield b"v" * 1000
        raise OSError("the bucket is away")

    async with receiving(talk) as receiver:
        url = f"http://127.0.0.1:{receiver.port}/"
        assert (await sender.send(WebhookRequest(url, {}, StreamedBody(2000, broken), 5.0))).error == "connect_failed"
        assert (await sender.send(WebhookRequest(url, {}, b"{}"))).error is None
