"""One attempt to deliver, against receivers that do all that a receiver can do wrong."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from contracts.limits import EVENT_BYTES
from services.notifier.webhooks import sender as sender_module
from services.notifier.webhooks.address_guard import AddressGuard
from services.notifier.webhooks.sender import Outgoing, Sender, is_reserved_header
from tests.webhook_receivers import Authority, answering, naming, ok, receiving, request

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
LOOPBACK = AddressGuard.allowing(["127.0.0.0/8"])


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    async with Sender(LOOPBACK, https_only=False, now=lambda: NOW) as one:
        yield one


def to(port: int, path: str = "/hook", *, timeout_s: float = 5.0, **headers: str) -> Outgoing:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Outgoing(f"http://127.0.0.1:{port}{path}", named, b'{"n": 1}', timeout_s)


async def test_the_bytes_and_headers_arrive_as_they_were_given(sender: Sender) -> None:
    seen = asyncio.Queue[tuple[bytes, bytes]]()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.put_nowait(await request(reader))
        writer.write(ok(b'{"thanks": true}'))

    async with receiving(talk) as receiver:
        answer = await sender.send(
            to(
                receiver.port,
                '/Hook/%7eA?a=%2F&b=<"{}>',
                webhook_id="evt_1",
                X_Mine="yes",
                content_type="text/x",
                Host="inside",
            )
        )
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
def test_an_endpoint_cannot_have_our_headers(name: str) -> None:
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
async def test_an_answer_is_judged_by_its_status(sender: Sender, status: bytes, error: str | None) -> None:
    async with receiving(answering(ok(b"", status))) as receiver:
        answer = await sender.send(to(receiver.port, timeout_s=1.0))
    assert (answer.status, answer.error) == (int(status[:3]), error)


async def test_cookies_are_not_sent_back(sender: Sender) -> None:
    heads: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            heads.append((await request(reader))[0])
            writer.write(ok(b"", b"200 OK", b"Set-Cookie: a=b; Path=/"))

    async with receiving(talk) as receiver:
        for _ in range(2):
            assert (await sender.send(to(receiver.port))).error is None
    assert len(heads) == 2
    assert [head for head in heads if b"cookie" in head.lower()] == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(sender: Sender, status: int) -> None:
    async with receiving(answering(ok())) as inside:
        location = f"Location: http://127.0.0.1:{inside.port}/metadata".encode()
        async with receiving(answering(ok(b"", f"{status} Moved".encode(), location))) as receiver:
            answer = await sender.send(to(receiver.port))
    assert (answer.status, answer.error) == (status, "redirected")
    assert inside.connections == 0


async def test_who_says_nothing_is_too_slow(sender: Sender) -> None:
    async def talk(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async with receiving(talk) as receiver:
        answer = await sender.send(to(receiver.port, timeout_s=0.3))
    assert (answer.status, answer.error) == (None, "too_slow")
    assert answer.latency_ms >= 290


async def test_a_header_that_drips_is_too_slow(sender: Sender) -> None:
    async with receiving(answering(b"HTTP/1.1 200 OK\r\nX: ", b"a", pause_s=0.02, forever=True)) as receiver:
        answer = await sender.send(to(receiver.port, timeout_s=0.3))
    assert (answer.status, answer.error) == (None, "too_slow")


async def test_interim_answers_without_an_end_are_too_slow(sender: Sender) -> None:
    async with receiving(answering(b"HTTP/1.1 102 Processing\r\n\r\n", pause_s=0.01, forever=True)) as receiver:
        answer = await sender.send(to(receiver.port, timeout_s=0.3))
    assert (answer.status, answer.error) == (None, "too_slow")


async def test_a_body_that_drips_holds_nothing_up_and_its_status_counts(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "ANSWER_BODY_S", 0.2)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    async with receiving(answering(head, b"x", pause_s=0.02, forever=True)) as receiver:
        started = time.perf_counter()
        answer = await sender.send(to(receiver.port, timeout_s=30.0))
        assert time.perf_counter() - started < 10, "not until the time for the whole attempt is up"
        assert (answer.status, answer.error) == (200, None)
        assert set(answer.excerpt) == {"x"}
        assert len(answer.excerpt) < 900
        await until(lambda: receiver.ended == 1)  # its connection was not kept


async def test_who_takes_no_body_is_too_slow(sender: Sender) -> None:
    async def talk(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(60)

    async with receiving(talk) as receiver:
        outgoing = Outgoing(f"http://127.0.0.1:{receiver.port}/", {}, b"x" * EVENT_BYTES, 0.3)
        answer = await sender.send(outgoing)
    assert (answer.status, answer.error) == (None, "too_slow")


async def test_a_huge_answer_is_read_to_a_bound_and_its_connection_dropped(sender: Sender) -> None:
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
        answer = await sender.send(to(receiver.port))
        await until(lambda: receiver.ended == 1)
    assert (answer.status, answer.error) == (500, "http_status")
    assert answer.excerpt == "y" * 1024
    assert sent < 50_000_000, "what the system's buffers hold, not the whole"


async def test_a_bomb_is_not_unpacked(sender: Sender) -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    async with receiving(answering(ok(bomb, b"200 OK", b"Content-Encoding: gzip"))) as receiver:
        answer = await sender.send(to(receiver.port))
    assert (answer.status, answer.error, answer.excerpt) == (200, None, "")


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
        assert (await sender.send(to(receiver.port))).excerpt == excerpt


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
async def test_what_is_not_http_is_an_error_of_protocol(sender: Sender, answer: bytes) -> None:
    async with receiving(answering(answer)) as receiver:
        got = await sender.send(to(receiver.port, timeout_s=2.0))
    assert (got.status, got.error) == (None, "protocol_error")


async def test_a_body_that_breaks_off_leaves_the_status(sender: Sender) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(b"HTTP/1.1 202 Taken\r\nContent-Length: 100\r\n\r\nhalf")

    async with receiving(talk) as receiver:
        answer = await sender.send(to(receiver.port))
    assert (answer.status, answer.error, answer.excerpt) == (202, None, "half")


async def test_a_broken_chunk_leaves_the_status(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "ANSWER_BODY_S", 0.3)
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    async with receiving(answering(raw, b"zz\r\n", pause_s=0.05)) as receiver:
        answer = await sender.send(to(receiver.port, timeout_s=2.0))
    assert (answer.status, answer.error) == (200, None)


async def test_nobody_there_and_a_reset_are_failed_connections(sender: Sender) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.transport.abort()

    async with receiving(talk) as receiver:
        answer = await sender.send(to(receiver.port))
        assert (answer.status, answer.error) == (None, "connect_failed")
        assert receiver.connections == 1, "what may have arrived is tried again by the schedule, not here"
    answer = await sender.send(to(receiver.port))
    assert (answer.status, answer.error) == (None, "connect_failed")
    answer = await sender.send(Outgoing("http://nobody.invalid/", {}, b"{}", 5.0))
    assert (answer.status, answer.error) == (None, "connect_failed")


async def test_a_kept_connection_is_used_again_and_one_that_was_closed_meanwhile_costs_no_attempt(
    sender: Sender,
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(3):
            await request(reader)
            writer.write(ok())
        await request(reader)  # and closes: as one that had timed out just then

    async with receiving(talk) as receiver:
        answers = [await sender.send(to(receiver.port)) for _ in range(9)]
        assert [answer.error for answer in answers] == [None] * 9
        assert receiver.connections == 3


async def test_a_connection_is_not_used_again_after_the_rules_change(sender: Sender) -> None:
    async with receiving(answering(ok())) as receiver:
        assert (await sender.send(to(receiver.port))).error is None
        await sender.use(AddressGuard.allowing(["127.0.0.0/8"]))
        assert (await sender.send(to(receiver.port))).error is None
        assert receiver.connections == 2
        await sender.use(AddressGuard())
        assert (await sender.send(to(receiver.port))).error == "address_refused"
        await until(lambda: receiver.ended == 2)
    assert receiver.connections == 2


async def test_an_attempt_on_its_way_ends_as_it_began_when_the_rules_change(sender: Sender) -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        arrived.set()
        await go_on.wait()
        writer.write(ok())
        await reader.read()

    async with receiving(talk) as receiver:
        sending = asyncio.ensure_future(sender.send(to(receiver.port)))
        await arrived.wait()
        await sender.use(AddressGuard())
        go_on.set()
        assert (await sending).error is None
        await until(lambda: receiver.ended == 1)


async def test_being_cancelled_ends_the_connection(sender: Sender) -> None:
    arrived = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await request(reader)
        arrived.set()
        await reader.read()

    async with receiving(talk) as receiver:
        sending = asyncio.ensure_future(sender.send(to(receiver.port, timeout_s=60)))
        await arrived.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await until(lambda: receiver.ended == 1)


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
async def test_retry_after_is_read_in_both_forms(sender: Sender, header: bytes, seconds: float | None) -> None:
    async with receiving(answering(ok(b"", b"503 Busy", b"Retry-After: " + header))) as receiver:
        assert (await sender.send(to(receiver.port))).retry_after_s == seconds


async def test_a_slow_receiver_holds_up_no_other(sender: Sender) -> None:
    async def hang(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async with receiving(hang) as dead, receiving(answering(ok())) as alive:
        waiting = [asyncio.ensure_future(sender.send(to(dead.port, timeout_s=60))) for _ in range(150)]
        await until(lambda: dead.connections == 150)
        assert (await sender.send(to(alive.port))).error is None
        for one in waiting:
            one.cancel()
        await asyncio.wait(waiting)


async def test_a_dead_name_holds_up_no_other() -> None:
    asked: list[str] = []

    async def lookup(host: str) -> list[str]:
        asked.append(host)
        if host != "alive.example.com":
            await asyncio.sleep(60)
        return ["127.0.0.1"]

    async with Sender(LOOPBACK, https_only=False, lookup=lookup) as sender, receiving(answering(ok())) as receiver:
        dead = [Outgoing(f"http://dead{n}.example.com/", {}, b"{}", 0.5) for n in range(50)]
        waiting = [asyncio.ensure_future(sender.send(one)) for one in dead]
        await until(lambda: len(asked) == 50)
        alive = Outgoing(f"http://alive.example.com:{receiver.port}/", {}, b"{}", 5.0)
        assert (await sender.send(alive)).error is None
        assert {(await one).error for one in waiting} == {"timeout"}


class TestTls:
    @pytest.fixture
    def authority(self, tmp_path: Path) -> Authority:
        return Authority(tmp_path)

    async def _error(self, authority: Authority, served: ssl.SSLContext | None, name: str) -> str | None:
        async def lookup(_host: str) -> list[str]:
            return ["127.0.0.1"]

        async with (
            Sender(LOOPBACK, lookup=lookup, tls=authority.trusting()) as sender,
            receiving(answering(ok()), tls=served) as receiver,
        ):
            answer = await sender.send(Outgoing(f"https://{name}:{receiver.port}/", {}, b"{}", 5.0))
            return answer.error

    async def test_a_good_certificate_passes(self, authority: Authority) -> None:
        assert await self._error(authority, authority.serving("hooks.example.com"), "hooks.example.com") is None
        assert await self._error(authority, authority.serving("127.0.0.1"), "127.0.0.1") is None

    async def test_a_certificate_of_another_name_is_refused(self, authority: Authority) -> None:
        assert await self._error(authority, authority.serving("other.example.com"), "hooks.example.com") == "tls_failed"

    async def test_an_expired_certificate_is_refused(self, authority: Authority) -> None:
        served = authority.serving("hooks.example.com", days=-1)
        assert await self._error(authority, served, "hooks.example.com") == "tls_failed"

    async def test_a_certificate_of_an_unknown_authority_is_refused(self, authority: Authority, tmp_path: Path) -> None:
        (tmp_path / "another").mkdir()
        served = Authority(tmp_path / "another").serving("hooks.example.com")
        assert await self._error(authority, served, "hooks.example.com") == "tls_failed"

    async def test_a_server_without_tls_is_refused(self, authority: Authority) -> None:
        async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(ok())

        async with Sender(LOOPBACK, tls=authority.trusting()) as sender, receiving(talk) as receiver:
            answer = await sender.send(Outgoing(f"https://127.0.0.1:{receiver.port}/", {}, b"{}", 5.0))
        assert answer.error == "tls_failed"

    async def test_http_is_refused_where_https_is_asked_for(self) -> None:
        async with Sender(LOOPBACK) as sender, receiving(answering(ok())) as receiver:
            assert (await sender.send(to(receiver.port))).error == "address_refused"
        assert receiver.connections == 0


class TestRebinding:
    """A name that changes its address between check and use; the rules let 127.0.0.2 pass, and 127.0.0.1 not."""

    GUARD = AddressGuard.allowing(["127.0.0.2/32"])

    async def test_what_was_judged_is_what_is_connected_to(self) -> None:
        answers = [["127.0.0.2"], ["127.0.0.1"], ["127.0.0.1"]]
        async with (
            naming(rebind=answers) as names,
            receiving(answering(ok()), host="127.0.0.2") as receiver,
            receiving(answering(ok()), host="127.0.0.1", port=receiver.port) as inside,
            Sender(self.GUARD, https_only=False, lookup=names.lookup) as sender,
        ):
            outgoing = Outgoing(f"http://rebind.example.com:{receiver.port}/", {}, b"{}", 5.0)
            assert (await sender.send(outgoing)).error is None
            assert names.queries == ["rebind.example.com"], "asked once: for the check and the connection"
            await sender.use(self.GUARD)  # neither the connection nor the name is remembered
            assert (await sender.send(outgoing)).error == "address_refused"
            assert len(names.queries) == 2
            assert (receiver.connections, inside.connections) == (1, 0)

    async def test_an_address_beside_a_good_one_is_not_connected_to(self) -> None:
        mixed = [["127.0.0.1", "127.0.0.2", "127.0.0.1"]] * 3
        async with (
            naming(mixed=mixed) as names,
            receiving(answering(ok()), host="127.0.0.1") as inside,
            Sender(self.GUARD, https_only=False, lookup=names.lookup) as sender,
        ):
            outgoing = Outgoing(f"http://mixed.example.com:{inside.port}/", {}, b"{}", 5.0)
            assert (await sender.send(outgoing)).error == "connect_failed", "nobody listens at 127.0.0.2"
            assert inside.connections == 0

    async def test_a_name_whose_lookup_lies_is_caught_at_the_socket(self) -> None:
        """As if the resolver's check were not there: the last check is of the address of the connection itself."""
        sender = Sender(self.GUARD, https_only=False)
        async with sender, receiving(answering(ok())) as inside:
            factory = sender_module.guarded_socket_factory(self.GUARD)
            with pytest.raises(OSError, match="not an address that webhooks may go to"):
                factory((2, 1, 6, "", ("127.0.0.1", inside.port)))
            factory((2, 1, 6, "", ("127.0.0.2", inside.port))).close()
        assert inside.connections == 0


async def until(holds: object) -> None:
    """Wait for something that comes about by itself."""
    async with asyncio.timeout(10):
        while not holds():  # type: ignore[operator]
            await asyncio.sleep(0.005)
