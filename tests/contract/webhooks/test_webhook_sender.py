"""Results of one attempt: valid, failing, slow, huge and malformed responses."""

from __future__ import annotations

import asyncio
import gzip
import socket
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from contracts.limits import MESSAGE_BYTES
from services.notifier.webhooks.endpoints.headers import is_reserved_header
from services.notifier.webhooks.sending import sender as sender_module
from services.notifier.webhooks.sending.sender import Sender, WebhookRequest
from tests.harness.webhooks.receivers import LOOPBACK, answering, ok, outgoing_to, receiving, request, until

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    async with Sender(LOOPBACK, https_only=False, now=lambda: NOW) as one:
        yield one


async def test_body_and_headers_arrive_unchanged(sender: Sender) -> None:
    seen = asyncio.Queue[tuple[bytes, bytes]]()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.put_nowait(await request(reader))
        writer.write(ok(b'{"thanks": true}'))

    async with receiving(talk) as receiver:
        answer = await sender.send(
            outgoing_to(
                receiver.port,
                '/Hook/%7eA?a=%2F&b=<"{}>',
                webhook_id="evt_1",
                X_Mine="yes",
                content_type="text/x",
                Host="inside",
            )
        )
    async with asyncio.timeout(10):
        head, body = await seen.get()
    lines = head.decode().split("\r\n")
    assert lines[0] == 'POST /Hook/%7eA?a=%2F&b=<"{}> HTTP/1.1'
    assert body == b'{"n": 1}'
    named = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
    assert len(named) == len([line for line in lines[1:] if line]), "no header twice"
    assert named["webhook-id"] == "evt_1"
    assert named["x-mine"] == "yes"
    assert named["content-type"] == "application/json"
    assert named["user-agent"] == "saccade-webhooks/1"
    assert named["accept-encoding"] == "identity"
    assert named["host"] == f"127.0.0.1:{receiver.port}"
    assert "cookie" not in named
    assert (answer.status, answer.error, answer.excerpt) == (200, None, '{"thanks": true}')
    assert answer.latency_ms > 0


@pytest.mark.parametrize("name", ["Webhook-Id", "host", "Content-Length", "TRANSFER-ENCODING", "Saccade-Cursor"])
def test_an_endpoint_cannot_set_reserved_headers(name: str) -> None:
    assert is_reserved_header(name)
    assert not is_reserved_header(f"X-{name}")
    assert not is_reserved_header("Authorization")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (b"200 OK", None),
        (b"204 No Content", None),
        (b"299 Fine", None),
        (b"304 Not Modified", "redirected"),
        (b"400 Bad Request", "http_status"),
        (b"410 Gone", "http_status"),
        (b"503 Busy", "http_status"),
        (b"101 Switching Protocols", "http_status"),
        (b"600 What", "http_status"),
    ],
)
async def test_the_status_decides_the_result(sender: Sender, status: bytes, error: str | None) -> None:
    async with receiving(answering(ok(b"", status))) as receiver:
        answer = await sender.send(outgoing_to(receiver.port, timeout_s=20.0))
    assert (answer.status, answer.error) == (int(status[:3]), error)


async def test_cookies_are_not_sent_back(sender: Sender) -> None:
    heads: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            heads.append((await request(reader))[0])
            writer.write(ok(b"", b"200 OK", b"Set-Cookie: a=b; Path=/"))

    async with receiving(talk) as receiver:
        for _ in range(2):
            assert (await sender.send(outgoing_to(receiver.port))).error is None
    assert len(heads) == 2
    assert [head for head in heads if b"cookie" in head.lower()] == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(sender: Sender, status: int) -> None:
    async with receiving(answering(ok())) as inside:
        location = f"Location: http://127.0.0.1:{inside.port}/metadata".encode()
        async with receiving(answering(ok(b"", f"{status} Moved".encode(), location))) as receiver:
            answer = await sender.send(outgoing_to(receiver.port))
    assert (answer.status, answer.error) == (status, "redirected")
    assert inside.connections == 0


async def test_a_receiver_without_a_response_is_too_slow(sender: Sender) -> None:
    async def talk(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async with receiving(talk) as receiver:
        answer = await sender.send(outgoing_to(receiver.port, timeout_s=0.3))
    assert (answer.status, answer.error) == (None, "too_slow")
    assert answer.latency_ms >= 290


async def test_a_slowly_sent_header_is_too_slow(sender: Sender) -> None:
    async with receiving(answering(b"HTTP/1.1 200 OK\r\nX: ", b"a", pause_s=0.02, forever=True)) as receiver:
        answer = await sender.send(outgoing_to(receiver.port, timeout_s=0.3))
    assert (answer.status, answer.error) == (None, "too_slow")


async def test_endless_interim_responses_are_too_slow(sender: Sender) -> None:
    async with receiving(answering(b"HTTP/1.1 102 Processing\r\n\r\n", pause_s=0.01, forever=True)) as receiver:
        answer = await sender.send(outgoing_to(receiver.port, timeout_s=0.3))
    assert (answer.status, answer.error) == (None, "too_slow")


async def test_a_slowly_sent_body_is_cut_and_its_status_counts(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "RESPONSE_BODY_S", 0.5)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    async with receiving(answering(head, b"x", pause_s=0.02, forever=True)) as receiver:
        started = time.perf_counter()
        answer = await sender.send(outgoing_to(receiver.port, timeout_s=30.0))
        assert time.perf_counter() - started < 10, "not until the time for the whole attempt is up"
        assert (answer.status, answer.error) == (200, None)
        assert set(answer.excerpt) == {"x"}
        assert len(answer.excerpt) < 900
        await until(lambda: receiver.ended == 1)  # its connection was not kept


async def test_a_receiver_that_reads_no_body_is_too_slow(sender: Sender) -> None:
    async def talk(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(60)

    async with receiving(talk) as receiver:
        outgoing = WebhookRequest(f"http://127.0.0.1:{receiver.port}/", {}, b"x" * MESSAGE_BYTES, 0.3)
        answer = await sender.send(outgoing)
    assert (answer.status, answer.error) == (None, "too_slow")


async def test_a_huge_response_is_read_up_to_a_limit_and_its_connection_closed(sender: Sender) -> None:
    sent = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await request(reader)
        writer.write(b"HTTP/1.1 500 No\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            writer.write(b"y" * 65536)
            await writer.drain()
            sent += 65536

    async with receiving(talk) as receiver:
        answer = await sender.send(outgoing_to(receiver.port))
        await until(lambda: receiver.ended == 1)
    assert (answer.status, answer.error) == (500, "http_status")
    assert answer.excerpt == "y" * 1024
    assert sent < 50_000_000, "what the system's buffers hold, not the whole"


async def test_a_compressed_response_is_not_decompressed(sender: Sender) -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    assert len(bomb) < sender_module.RESPONSE_BYTES
    async with receiving(answering(ok(bomb, b"200 OK", b"Content-Encoding: gzip"))) as receiver:
        answers = [await sender.send(outgoing_to(receiver.port)) for _ in range(2)]
        assert receiver.connections == 1, "what came was small enough to keep the connection"
    assert [(answer.status, answer.error, answer.excerpt) for answer in answers] == [(200, None, "")] * 2


@pytest.mark.parametrize(
    ("body", "excerpt"),
    [
        ("é".encode() * 400, "é" * 400),
        (b"a" + "é".encode() * 600, "a" + "é" * 511),
        (b"\xff\xfeab", "\ufffd\ufffdab"),
        (b"", ""),
    ],
)
async def test_the_excerpt_is_text(sender: Sender, body: bytes, excerpt: str) -> None:
    async with receiving(answering(ok(body))) as receiver:
        assert (await sender.send(outgoing_to(receiver.port))).excerpt == excerpt


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
        b"HTTP/1.1 abc Fine\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"\x00" * 500 + b"\r\n\r\n",
    ],
    ids=["ssh", "status", "negative", "lengths", "header", "zeros"],
)
async def test_a_response_that_is_not_http_is_a_protocol_error(sender: Sender, answer: bytes) -> None:
    async with receiving(answering(answer)) as receiver:
        got = await sender.send(outgoing_to(receiver.port, timeout_s=20.0))
    assert (got.status, got.error) == (None, "protocol_error")


_CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        pytest.param(b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", 204, id="204 with a body"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\nok", 204, id="204 with a body of unknown length"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n" + _CHUNKED, 204, id="204 chunked, without chunks"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n" + _CHUNKED + b"0\r\n\r\n", 204, id="204 chunked, empty"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n" + _CHUNKED + b"2\r\nok\r\n0\r\n\r\n", 204, id="204 chunked"),
        pytest.param(b"HTTP/1.1 205 Reset Content\r\nContent-Length: 2\r\n\r\nok", 205, id="205 with a body"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + _CHUNKED + b"zz\r\nok\r\n", 200, id="first chunk malformed"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + _CHUNKED + b"\r\n2\r\nok\r\n", 200, id="empty line before a chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + _CHUNKED + b"2\r\nok\r\nzz\r\n", 200, id="second chunk malformed"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + _CHUNKED + b"64\r\nok", 200, id="chunk cut off"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + _CHUNKED + b"0\r\na\x01b\r\n\r\n", 200, id="trailer malformed"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nok", 200, id="body cut off"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok, and more", 200, id="body too long"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\nok", 200, id="1.0 without a length"),
        pytest.param(b"HTTP/1.1 200 OK\n\nok", 200, id="line feeds only"),
        pytest.param(b"\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, id="empty lines in front"),
        pytest.param(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
            b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
            204,
            id="after interim responses",
        ),
        pytest.param(b"HTTP/1.1 410 Gone\r\n" + _CHUNKED + b"zz", 410, id="410 with a malformed chunk"),
        pytest.param(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nok", 304, id="304 with a body"),
    ],
)
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "byte by byte"])
async def test_the_status_counts_whatever_follows_the_header(
    sender: Sender, answer: bytes, status: int, at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "RESPONSE_BODY_S", 0.3)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in [answer] if at_once else [bytes([byte]) for byte in answer]:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)

    async with receiving(talk) as receiver:
        results = [await sender.send(outgoing_to(receiver.port, timeout_s=20.0)) for _ in range(2)]
    assert [result.status for result in results] == [status, status]
    assert {result.error for result in results} == {
        204: {None}, 205: {None}, 200: {None}, 304: {"redirected"}, 410: {"http_status"}
    }[status]  # fmt: skip
    assert {result.excerpt for result in results} <= {"", "ok"}


async def test_an_incomplete_body_keeps_the_status(sender: Sender) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(b"HTTP/1.1 202 Taken\r\nContent-Length: 100\r\n\r\nhalf")

    async with receiving(talk) as receiver:
        answer = await sender.send(outgoing_to(receiver.port))
    assert (answer.status, answer.error, answer.excerpt) == (202, None, "half")


async def test_an_invalid_chunk_keeps_the_status(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "RESPONSE_BODY_S", 0.3)
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    async with receiving(answering(raw, b"zz\r\n", pause_s=0.05)) as receiver:
        answer = await sender.send(outgoing_to(receiver.port, timeout_s=20.0))
    assert (answer.status, answer.error) == (200, None)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (b"120", 120.0),
        (b"0", 0.0),
        (b"Sat, 21 Nov 2026 12:02:00 GMT", 120.0),
        (b"Saturday, 21-Nov-26 12:02:00 GMT", 120.0),
        (b"Sat, 21 Nov 2026 11:00:00 GMT", 0.0),
        (b"Sat, 21 Nov 2026 13:00:30 +0100", 30.0),
        (b"soon", None),
        (b"-5", None),
        (b"1e9", None),
        (b"999999999999999999999", None),
        (b"Sat, 99 Nov 2026 12:02:00 GMT", None),
        (b"", None),
    ],
)
async def test_retry_after_is_parsed_in_both_forms(sender: Sender, header: bytes, seconds: float | None) -> None:
    async with receiving(answering(ok(b"", b"503 Busy", b"Retry-After: " + header))) as receiver:
        assert (await sender.send(outgoing_to(receiver.port))).retry_after_s == seconds
