"""Receivers of webhooks that behave badly, certificates for them, and a DNS server that lies; all real, on loopback."""

from __future__ import annotations

import asyncio
import datetime
import itertools
import secrets
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kit.network.address_guard import AddressGuard
from kit.tasks import end
from services.notifier.webhooks.sending.sender import WebhookRequest

LOOPBACK = AddressGuard.allowing(["127.0.0.0/8"])

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Receiver:
    """Counts who comes, and speaks HTTP by hand: what it sends is what stands in the test."""

    def __init__(self, talk: Talk) -> None:
        self.port = 0
        self.connections = 0
        self.ended = 0
        self._talk = talk

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            self.ended += 1
            writer.close()


@asynccontextmanager
async def receiving(
    talk: Talk, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    """Serve a way of talking on a port of its own."""
    receiver = Receiver(talk)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        try:
            await receiver.serve(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(serve, host, port, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        while tasks:  # one may have been accepted meanwhile
            await end(*tasks)


async def request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Read one request with its body: header block and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    return head, await reader.readexactly(length)


def answering(*parts: bytes, pause_s: float = 0.0, forever: bool = False) -> Talk:
    """Answer each request with these bytes, one after another, with pauses; ``forever`` repeats the last."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await request(reader)
            for part in itertools.chain(parts, itertools.repeat(parts[-1])) if forever else parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause_s)

    return talk


def ok(body: bytes = b"ok", status: bytes = b"200 OK", *headers: bytes) -> bytes:
    """Write an answer that leaves the connection open."""
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


class Authority:
    """A certificate authority of the test's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        usage = dict.fromkeys(
            ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
        )
        may_sign = x509.KeyUsage(**usage, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False)
        builder = self._builder(self._name, self._key.public_key(), days=1)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        signed = builder.add_extension(may_sign, critical=True).sign(self._key, hashes.SHA256())
        (folder / "authority.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def trusting(self) -> ssl.SSLContext:
        """Return a client's context that trusts this authority only."""
        return ssl.create_default_context(cafile=str(self._folder / "authority.pem"))

    def serving(self, name: str, *, days: int = 1) -> ssl.SSLContext:
        """Return a server's context with a certificate for a name or address; of ``days`` below 0 it has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        try:
            alternative: x509.GeneralName = x509.IPAddress(ip_address(name))
        except ValueError:
            alternative = x509.DNSName(name)
        builder = self._builder(subject, key.public_key(), days=days)
        builder = builder.add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        signed = builder.sign(self._key, hashes.SHA256())
        path = self._folder / f"{secrets.token_hex(4)}.pem"
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        path.write_bytes(
            key.private_bytes(encoding, form, serialization.NoEncryption()) + signed.public_bytes(encoding)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, days: int) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=7))
            .not_valid_after(now + datetime.timedelta(days=days))
            # Python 3.13 asks for both.
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(issuer, critical=False)
        )


class NameServer(asyncio.DatagramProtocol):
    """A DNS server (RFC 1035, A records over UDP) that answers each next query of a name by its next list."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self._answers = {name: iter(lists) for name, lists in answers.items()}
        self.queries: list[str] = []
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)  # no subclass of it in Python 3.11

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode())
            at += 1 + data[at]
        self.queries.append(".".join(labels))
        question, addresses = data[12 : at + 5], list(next(self._answers[labels[0]]))
        header = data[:2] + struct.pack(">HHHHH", 0x8180, 1, len(addresses), 0, 0)
        records = [struct.pack(">HHHIH", 0xC00C, 1, 1, 0, 4) + socket.inet_aton(address) for address in addresses]
        assert self._transport
        self._transport.sendto(header + question + b"".join(records), addr)

    async def lookup(self, host: str) -> list[str]:
        """Resolve a name at this server by a datagram."""
        assert self._transport
        port = self._transport.get_extra_info("sockname")[1]
        query = secrets.token_bytes(2) + struct.pack(">HHHHH", 0x0100, 1, 0, 0, 0)
        query += b"".join(bytes([len(label)]) + label.encode() for label in host.split(".")) + b"\0\0\1\0\1"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.setblocking(False)
            asking.connect(("127.0.0.1", port))
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(asking, query)
            answer = await loop.sock_recv(asking, 4096)
        count, records = struct.unpack(">H", answer[6:8])[0], answer[len(query) :]
        return [socket.inet_ntoa(records[16 * n + 12 : 16 * n + 16]) for n in range(count)]


@asynccontextmanager
async def naming(**answers: Sequence[Sequence[str]]) -> AsyncIterator[NameServer]:
    """Run a name server of the test's own."""
    server = NameServer(**answers)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: server, local_addr=("127.0.0.1", 0))
    try:
        yield server
    finally:
        transport.close()


def outgoing_to(port: int, path: str = "/hook", *, timeout_s: float = 20.0, **headers: str) -> WebhookRequest:
    """Write a webhook for a receiver on loopback."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return WebhookRequest(f"http://127.0.0.1:{port}{path}", named, b'{"n": 1}', timeout_s)


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that comes about by itself."""
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)
