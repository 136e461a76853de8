"""Random HTTP requests on raw connections: valid, pipelined, packed, slow, cut and malformed."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

_PATHS = (
    *("/", "/v1/jobs", "/v1/webhooks", "/v1/tickets", "/v1/uploads", "/health", "/metrics", "/%0a", "/%ff%00", "//"),
    "*",
)
_METHODS = ("GET", "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "get", "BREW", "")
_HEADERS = (
    *("Accept: */*", "X-Empty:", "Cookie: a=b; c", "Last-Event-ID: " + "9" * 9000, "Expect: 100-continue"),
    *("Connection: Host, Content-Length", "Connection: keep-alive", "TE: trailers", "Origin: null"),
    *("Accept-Encoding: gzip", "Host: twice", "Bad Header: 1", "No-Colon", " folded", "Content-Length: 4"),
    *("Content-Length: -1", "Content-Length: 9e9", "Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked"),
    *("Upgrade: h2c", "Range: bytes=0-", "X: \x00", "X: \u00e9"),
)


@dataclass(frozen=True)
class Exchange:
    """What is sent on one connection."""

    kind: str
    pieces: list[bytes]
    #: SHA-256 of the bodies that come back, in their order; None where it is not known what comes back.
    bodies: list[bytes] | None
    pause_s: float = 0.0


@dataclass
class FuzzResult:
    """What came back."""

    statuses: dict[int, int] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def exchange(rng: random.Random, echo_paths: Sequence[str] = ()) -> Exchange:
    """Return a random exchange; ``echo_paths``, of several services, answer with the body of a request, unchanged."""
    kinds = ["valid", "malformed", "mutated", "cut", "slow", "garbage"] + (
        ["packed", "pipelined"] if echo_paths else []
    )
    kind = rng.choice(kinds)
    if kind in ("packed", "pipelined"):
        return _echoed(rng, kind, echo_paths)
    request = _request(rng, valid=kind == "valid")
    if kind == "mutated":
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(request))
            request = request[:at] + rng.randbytes(rng.randint(0, 3)) + request[at + rng.randint(0, 3) :]
            request = request or b"\n"
    if kind == "garbage":
        request = rng.randbytes(rng.choice((1, 10, 1000, 20_000, 100_000)))
    if kind == "cut":
        request = request[: rng.randrange(1, len(request))]
    pieces = _cut(rng, request, rng.randint(2, 5)) if kind == "slow" else [request]
    return Exchange(kind, pieces, None, rng.uniform(0, 0.01) if kind == "slow" else 0.0)


def _request(rng: random.Random, *, valid: bool) -> bytes:
    path = rng.choice(_PATHS[:-1] if valid else _PATHS)
    if rng.random() < 0.1:
        path = rng.choice(("http://127.0.0.1", "HTTPS://x:1", "http://")) + path
    if rng.random() < 0.2:
        path += "?" + "q" * rng.choice((0, 1, 100, 5000, 30_000))
    method = rng.choice(_METHODS[:8] if valid else _METHODS)
    version = "HTTP/1.1" if valid else rng.choice(("HTTP/1.1", "HTTP/1.0", "HTTP/3.7", "HTTP", ""))
    headers = ["Host: 127.0.0.1", *rng.sample(_HEADERS[:5] if valid else _HEADERS, rng.randint(0, 4))]
    if not valid and rng.random() < 0.05:
        headers += ["X: 1"] * 20_000
    if not valid:
        rng.shuffle(headers)
    body = b""
    if valid and method in ("POST", "PUT", "PATCH"):
        body = rng.randbytes(rng.choice((0, 1, 5000)))
        headers += [f"Content-Length: {len(body)}"]
    end = "\r\n" if valid else rng.choice(("\r\n", "\r\n", "\n", "\r"))
    return end.join([f"{method} {path} {version}", *headers, "", ""]).encode() + body


def _echoed(rng: random.Random, kind: str, paths: Sequence[str]) -> Exchange:
    requests, bodies = b"", []
    count = rng.randint(2, 6) if kind == "pipelined" else 1
    for number in range(count):
        plain = rng.randbytes(rng.choice((0, 1, 100, 70_000, 300_000)))
        encoding = rng.choice(("identity", "gzip", "deflate"))
        body = {"identity": bytes, "gzip": gzip.compress, "deflate": zlib.compress}[encoding](plain)
        last = "close" if number == count - 1 else "keep-alive"
        head = [
            f"POST {rng.choice(paths)} HTTP/1.1",
            "Host: 127.0.0.1",
            f"Content-Encoding: {encoding}",
            f"Connection: {last}",
        ]
        if rng.random() < 0.3:
            chunks = [piece for piece in _cut(rng, body, rng.randint(1, 5)) if piece]
            sent = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in chunks) + b"0\r\n\r\n"
            head += ["Transfer-Encoding: chunked", f"X-Length: {len(body)}"]
        else:
            sent = body
            head += [f"Content-Length: {len(body)}"]
        requests += "\r\n".join([*head, "", ""]).encode() + sent
        bodies.append(hashlib.sha256(body).digest())
    pieces = _cut(rng, requests, rng.randint(1, 8))
    return Exchange(kind, pieces, bodies, rng.choice((0.0, 0.002)))


def _cut(rng: random.Random, data: bytes, count: int) -> list[bytes]:
    places = sorted(rng.randrange(len(data) + 1) for _ in range(count - 1))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


async def run_exchange(chosen: Exchange, host: str, port: int, result: FuzzResult, limit_s: float) -> None:
    """Send an exchange and check what comes back until the server ends it, within ``limit_s`` after the last byte."""
    result.kinds[chosen.kind] = result.kinds.get(chosen.kind, 0) + 1
    reader, writer = await asyncio.open_connection(host, port)
    receiving = asyncio.create_task(_receive(reader))
    try:
        with contextlib.suppress(ConnectionError):
            for piece in chosen.pieces:
                writer.write(piece)
                await writer.drain()
                if chosen.pause_s:
                    await asyncio.sleep(chosen.pause_s)
        try:
            received = await asyncio.wait_for(asyncio.shield(receiving), limit_s)
        except TimeoutError:
            result.faults.append(f"{chosen.kind}: open after {limit_s} s: {chosen.pieces[0][:200]!r}")
            return
        _check(chosen, received, result)
    finally:
        receiving.cancel()
        writer.close()


async def _receive(reader: asyncio.StreamReader) -> bytes:
    received = bytearray()
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            received += data
    return bytes(received)


def _check(chosen: Exchange, received: bytes, result: FuzzResult) -> None:
    found = _responses(received, has_bodies=chosen.bodies is not None)
    if chosen.kind == "valid" and not found:
        result.faults.append(f"no answer to {chosen.pieces[0][:200]!r}")
    for status, _ in found:
        result.statuses[status] = result.statuses.get(status, 0) + 1
        if status >= 500:
            result.faults.append(f"{chosen.kind}: {status} for {chosen.pieces[0][:200]!r}: {received[:300]!r}")
    if chosen.bodies is not None:
        hashes = [hashlib.sha256(body).digest() for _, body in found]
        if hashes != chosen.bodies:
            result.faults.append(f"{chosen.kind}: {len(hashes)} of {len(chosen.bodies)} bodies, or others")


def _responses(received: bytes, *, has_bodies: bool) -> list[tuple[int, bytes]]:
    """Return statuses and bodies; without bodies the first status only, as a HEAD's answer cannot be told apart."""
    found = []
    while received.startswith(b"HTTP/1."):
        head, _, rest = received.partition(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
        }
        if not has_bodies:
            return [(status, b"")]
        if b"content-length" in headers:
            length = int(headers[b"content-length"])
            body, received = rest[:length], rest[length:]
        else:
            body, received = _unchunk(rest)
        found.append((status, body))
    return found


def _unchunk(data: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        length = int(size or b"0", 16)
        if not length:
            return body, data.removeprefix(b"\r\n")
        body, data = body + data[:length], data[length + 2 :]
