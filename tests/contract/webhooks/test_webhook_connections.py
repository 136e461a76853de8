"""Connections of the webhook sender: destinations, failures, reuse."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kit.network.address_guard import AddressGuard
from kit.network.metered_socket import guarded_socket_factory
from kit.network.name_lookup import SystemLookup
from services.notifier.webhooks.sending.sender import Sender, WebhookRequest
from tests.harness.webhooks.receivers import (
    LOOPBACK,
    Authority,
    answering,
    naming,
    ok,
    outgoing_to,
    receiving,
    request,
    until,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    async with Sender(LOOPBACK, https_only=False) as one:
        yield one


@pytest.mark.parametrize(
    "flood", [b"HTTP/1.1 102 Processing\r\n\r\n" * 1000, b"\r\n" * 10_000], ids=["interim answers", "line breaks"]
)
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_a_flood_before_the_response_closes_the_connection(tmp_path: Path, flood: bytes, *, tls: bool) -> None:
    taken = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        await request(reader)
        while True:
            writer.write(flood)
            await writer.drain()
            taken += len(flood)

    authority = Authority(tmp_path)
    served = authority.serving("127.0.0.1") if tls else None
    async with (
        Sender(LOOPBACK, https_only=False, tls=authority.trusting()) as sender,
        receiving(talk, tls=served) as receiver,
    ):
        url = f"http{'s' if tls else ''}://127.0.0.1:{receiver.port}/"
        answer = await sender.send(WebhookRequest(url, {}, b"{}", 30.0))
        await until(lambda: receiver.ended == 1)
    assert (answer.status, answer.error) == (None, "protocol_error")
    assert taken < 20_000_000, "what the system's buffers hold"


async def test_a_flood_on_an_idle_connection_closes_it_and_fails_no_attempt(sender: Sender) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(ok())
        await asyncio.sleep(0.05)
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with receiving(talk) as receiver:
        assert (await sender.send(outgoing_to(receiver.port))).error is None
        await until(lambda: receiver.ended == 1)
        assert (await sender.send(outgoing_to(receiver.port))).error is None


async def test_the_receive_limit_is_per_attempt_not_per_connection(sender: Sender) -> None:
    async with receiving(answering(ok(b"z" * 60_000))) as receiver:
        answers = [await sender.send(outgoing_to(receiver.port)) for _ in range(20)]
    assert [answer.error for answer in answers] == [None] * 20
    assert receiver.connections == 1


async def test_connection_refused_and_reset_are_connect_failures(sender: Sender) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.transport.abort()

    async with receiving(talk) as receiver:
        answer = await sender.send(outgoing_to(receiver.port))
        assert (answer.status, answer.error) == (None, "connect_failed")
        assert receiver.connections == 1, "what may have arrived is tried again by the schedule, not here"
    answer = await sender.send(outgoing_to(receiver.port))
    assert (answer.status, answer.error) == (None, "connect_failed")


async def test_an_unknown_host_name_is_a_connect_failure() -> None:
    async def lookup(host: str) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, host)

    async def nothing(_host: str) -> list[str]:
        return []

    for function in (lookup, nothing):
        async with Sender(LOOPBACK, https_only=False, lookup=function) as sender:
            answer = await sender.send(WebhookRequest("http://hooks.example.com/", {}, b"{}", 20.0))
        assert (answer.status, answer.error) == (None, "connect_failed")


async def test_host_names_are_resolved_by_the_system() -> None:
    lookup = SystemLookup()
    assert {"127.0.0.1", "::1"} & set(await lookup("localhost"))
    with pytest.raises(OSError):  # noqa: PT011 - what it says differs by system
        await lookup("a" * 300)  # not even looked up


async def test_connections_are_reused_and_one_closed_by_the_receiver_fails_no_attempt(
    sender: Sender,
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(3):
            await request(reader)
            writer.write(ok())
        await request(reader)  # and closes: as one that had timed out just then

    async with receiving(talk) as receiver:
        answers = [await sender.send(outgoing_to(receiver.port)) for _ in range(9)]
        assert [answer.error for answer in answers] == [None] * 9
        assert receiver.connections == 3


async def test_cancellation_closes_the_connection(sender: Sender) -> None:
    arrived = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await request(reader)
        arrived.set()
        await reader.read()

    async with receiving(talk) as receiver:
        sending = asyncio.ensure_future(sender.send(outgoing_to(receiver.port, timeout_s=60)))
        await arrived.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await until(lambda: receiver.ended == 1)


async def test_a_slow_receiver_delays_no_other(sender: Sender) -> None:
    async def hang(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async with receiving(hang) as dead, receiving(answering(ok())) as alive:
        waiting = [asyncio.ensure_future(sender.send(outgoing_to(dead.port, timeout_s=60))) for _ in range(150)]
        await until(lambda: dead.connections == 150)
        assert (await sender.send(outgoing_to(alive.port))).error is None
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)


async def test_an_unresolvable_name_delays_no_other() -> None:
    asked: list[str] = []

    async def lookup(host: str) -> list[str]:
        asked.append(host)
        if host != "alive.example.com":
            await asyncio.sleep(60)
        return ["127.0.0.1"]

    async with Sender(LOOPBACK, https_only=False, lookup=lookup) as sender, receiving(answering(ok())) as receiver:
        dead = [WebhookRequest(f"http://dead{n}.example.com/", {}, b"{}", 0.5) for n in range(50)]
        waiting = [asyncio.ensure_future(sender.send(server)) for server in dead]
        await until(lambda: len(asked) == 50)
        alive = WebhookRequest(f"http://alive.example.com:{receiver.port}/", {}, b"{}", 20.0)
        assert (await sender.send(alive)).error is None
        assert {(await task).error for task in waiting} == {"timeout"}


async def test_names_of_one_tenant_that_are_not_answered_delay_no_other_tenant() -> None:
    silent = threading.Event()
    asked: list[str] = []

    def addresses_of(host: str) -> list[str]:
        asked.append(host)
        if host != "alive.example.com":
            silent.wait(60)
        return ["127.0.0.1"]

    lookup = SystemLookup(addresses_of, threads=8)
    async with Sender(LOOPBACK, https_only=False, lookup=lookup) as sender, receiving(answering(ok())) as receiver:
        dead = [WebhookRequest(f"http://{n}.dead.example/", {}, b"{}", 5.0, tenant="mallory") for n in range(50)]
        waiting = [asyncio.ensure_future(sender.send(server)) for server in dead]
        await until(lambda: len(asked) == 4)
        alive = WebhookRequest(f"http://alive.example.com:{receiver.port}/", {}, b"{}", 3.0, tenant="acme")
        assert (await sender.send(alive)).error is None
        assert {(await task).error for task in waiting} == {"timeout"}
        silent.set()


class TestTls:
    @pytest.fixture
    def authority(self, tmp_path: Path) -> Authority:
        return Authority(tmp_path)

    async def _error(self, authority: Authority | None, served: ssl.SSLContext | None, name: str) -> str | None:
        async def lookup(_host: str) -> list[str]:
            return ["127.0.0.1"]

        async with (
            Sender(LOOPBACK, lookup=lookup, tls=authority.trusting() if authority else None) as sender,
            receiving(answering(ok()), tls=served) as receiver,
        ):
            answer = await sender.send(WebhookRequest(f"https://{name}:{receiver.port}/", {}, b"{}", 20.0))
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
        assert await self._error(None, served, "hooks.example.com") == "tls_failed", (
            "the system does not know it either"
        )

    async def test_a_server_without_tls_is_refused(self, authority: Authority) -> None:
        async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(ok())

        async with Sender(LOOPBACK, tls=authority.trusting()) as sender, receiving(talk) as receiver:
            answer = await sender.send(WebhookRequest(f"https://127.0.0.1:{receiver.port}/", {}, b"{}", 20.0))
        assert answer.error == "tls_failed"

    async def test_http_is_refused_where_https_is_required(self) -> None:
        async with Sender(LOOPBACK) as sender, receiving(answering(ok())) as receiver:
            assert (await sender.send(outgoing_to(receiver.port))).error == "address_refused"
        assert receiver.connections == 0


class TestRebinding:
    """DNS rebinding: a name changes its address between check and use; 127.0.0.2 is allowed, 127.0.0.1 is not."""

    GUARD = AddressGuard.allowing(["127.0.0.2/32"])

    async def test_the_checked_address_is_the_one_connected_to(self) -> None:
        answers = [["127.0.0.2"], ["127.0.0.1"], ["127.0.0.1"]]
        async with (
            naming(rebind=answers) as names,
            receiving(answering(ok()), host="127.0.0.2") as receiver,
            receiving(answering(ok()), host="127.0.0.1", port=receiver.port) as inside,
            Sender(self.GUARD, https_only=False, lookup=names.lookup) as sender,
        ):
            outgoing = WebhookRequest(f"http://rebind.example.com:{receiver.port}/", {}, b"{}", 20.0)
            assert (await sender.send(outgoing)).error is None
            assert names.queries == ["rebind.example.com"], "asked once: for the check and the connection"
            async with Sender(self.GUARD, https_only=False, lookup=names.lookup) as other:
                assert (await other.send(outgoing)).error == "address_refused"
            assert len(names.queries) == 2
            assert (receiver.connections, inside.connections) == (1, 0)

    async def test_a_refused_address_next_to_an_allowed_one_is_not_connected_to(self) -> None:
        mixed = [["127.0.0.1", "127.0.0.2", "127.0.0.1"]] * 3
        async with (
            naming(mixed=mixed) as names,
            receiving(answering(ok()), host="127.0.0.1") as inside,
            Sender(self.GUARD, https_only=False, lookup=names.lookup) as sender,
        ):
            outgoing = WebhookRequest(f"http://mixed.example.com:{inside.port}/", {}, b"{}", 20.0)
            assert (await sender.send(outgoing)).error == "connect_failed", "nothing listens on 127.0.0.2"
            assert inside.connections == 0

    async def test_the_socket_refuses_an_address_that_the_resolver_let_through(self) -> None:
        """The last check is of the connection's own address, without relying on the resolver's check."""
        sender = Sender(self.GUARD, https_only=False)
        async with sender, receiving(answering(ok())) as inside:
            factory = guarded_socket_factory(self.GUARD)
            with pytest.raises(OSError, match="not an address that may be connected to"):
                factory((2, 1, 6, "", ("127.0.0.1", inside.port)))
            factory((2, 1, 6, "", ("127.0.0.2", inside.port))).close()
        assert inside.connections == 0
