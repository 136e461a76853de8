"""Sender of webhooks: one attempt is one signed POST to an allowed address, within limits a receiver cannot change.

A receiver's error is a result like any other; retries and state are the engine's.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import re
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import SimpleNamespace, TracebackType
from typing import Any, Final, Self

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from contracts.events.delivery import AttemptError
from contracts.limits import KIB
from kit.network.address_guard import AddressGuard, AddressRefusedError
from kit.network.guarded_session import guarded_session
from kit.network.metered_socket import ReceivedTooMuchError
from kit.network.name_lookup import LOOKUPS_FOR, Lookup, SystemLookup
from kit.network.urls import parse_url
from services.notifier.webhooks.endpoints.headers import FRAMING_HEADERS

#: Maximum size and time of reading an answer's body: its status is what matters.
RESPONSE_BYTES: Final = 64 * KIB
RESPONSE_BODY_S: Final = 2.0
EXCERPT_BYTES: Final = 1 * KIB
#: Names are resolved again after this; until then a name keeps the addresses that were checked.
_DNS_CACHE_S: Final = 10
_IDLE_S: Final = 15.0
_SENDER_HEADERS: Final = {
    "Accept-Encoding": "identity",  # nothing is decompressed, so there is no decompression bomb
    "User-Agent": "Saccade-Webhooks/1",
}
#: A receiver that takes a streamed body more slowly than this is given up.
_MIN_BYTES_PER_S: Final = 32 * KIB
_SECONDS: Final = re.compile(r"\d{1,9}")
#: Errors caused by a receiver: raised by aiohttp, by its parser before aiohttp wraps them, or by the system.
_FAILURES: Final = (aiohttp.ClientError, HttpProcessingError, OSError, ValueError)


@dataclass(frozen=True)
class StreamedBody:
    """A body that is read while it is sent; ``chunks`` starts at its beginning each time it is called."""

    size_bytes: int
    chunks: Callable[[], AsyncIterator[bytes]]


@dataclass(frozen=True)
class WebhookRequest:
    """One POST: ``headers`` are the endpoint's own and the signature's.

    ``timeout_s`` is for all of it; with a streamed body, for each of its chunks and for the answer.
    """

    url: str
    headers: Mapping[str, str]
    body: bytes | StreamedBody
    timeout_s: float = 15.0
    content_type: str = "application/json"
    #: Maximum bytes of the answer that are kept as its excerpt.
    excerpt_bytes: int = EXCERPT_BYTES
    #: Whose it is: a tenant's names that are not answered delay no other tenant's.
    tenant: str = ""


@dataclass(frozen=True)
class SendResult:
    """Result of an attempt: delivered if ``error`` is None, and then ``status`` is 2xx.

    "timeout" is no connection in time, "too_slow" a connection but no answer in time; "connect_failed" is no connection
    or one that broke before the answer, "protocol_error" an answer that is not HTTP, or far too much of one.
    ``latency_ms`` is the time to the answer's status, or to the failure; ``excerpt`` the start of its body as text, by
    default 1 kB; ``retry_after_s`` the delay that the receiver requests.
    """

    status: int | None
    error: AttemptError | None
    latency_ms: float
    excerpt: str = ""
    retry_after_s: float | None = None


@dataclass
class _ConnectionTrace:
    """Connection state of an attempt, set by aiohttp's tracing."""

    connected: bool = False
    reused: bool = False


def headers_of(request: WebhookRequest) -> dict[str, str]:
    """Return the headers that a request is sent with, in order, but those that every HTTP client adds."""
    # In lower case, so that no name occurs twice; a later one, the signature's, replaces an earlier one.
    by_name = {name.lower(): value for name, value in request.headers.items()}
    own = {name: value for name, value in by_name.items() if name not in FRAMING_HEADERS}
    framing = {"Content-Type": request.content_type}
    if isinstance(request.body, StreamedBody):
        framing["Content-Length"] = str(request.body.size_bytes)
    return {**own, **_SENDER_HEADERS, **framing}


class Sender:
    """Sends webhooks over one pool of kept-alive connections; created and used in one event loop.

    The caller limits the number of concurrent attempts: here no endpoint waits for another.
    """

    def __init__(
        self,
        guard: AddressGuard,
        *,
        https_only: bool = True,
        lookup: Lookup | None = None,
        tls: ssl.SSLContext | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Send to addresses that ``guard`` allows; by default names and certificates are the system's."""
        self._https_only = https_only
        self._lookup = lookup or SystemLookup()
        # By default aiohttp's own context: a further one reads all certificates again, 45 ms.
        self._tls = tls or True
        self._now = now
        self._guard = guard
        self._http = self._open(guard)

    async def __aenter__(self) -> Self:
        """Return the sender."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        await self.close()

    async def send(self, request: WebhookRequest) -> SendResult:
        """Make one attempt and return its result, also when the receiver fails."""
        trace, started = _ConnectionTrace(), time.perf_counter()
        token = LOOKUPS_FOR.set(request.tenant)
        try:
            async with asyncio.timeout(request.timeout_s) as deadline:
                response = await self._post(request, trace, deadline)
            until = min(deadline.when() or 0.0, asyncio.get_running_loop().time() + RESPONSE_BODY_S)
            return await self._result(response, _elapsed_ms(started), until, request.excerpt_bytes)
        except TimeoutError:  # caught before OSError, which it is too
            return SendResult(None, "too_slow" if trace.connected else "timeout", _elapsed_ms(started))
        except _FAILURES as error:
            return SendResult(None, _error_of(error), _elapsed_ms(started))
        finally:
            LOOKUPS_FOR.reset(token)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()

    def _open(self, guard: AddressGuard) -> aiohttp.ClientSession:
        tracing = aiohttp.TraceConfig()
        tracing.on_connection_create_end.append(_note_connected)
        tracing.on_connection_reuseconn.append(_note_reused)
        return guarded_session(
            guard,
            self._lookup,
            self._tls,
            connector={
                "ttl_dns_cache": _DNS_CACHE_S,
                "keepalive_timeout": _IDLE_S,
                "limit": 0,  # a common limit would let slow receivers delay the others
            },
            trace_configs=[tracing],
        )

    async def _post(
        self, request: WebhookRequest, trace: _ConnectionTrace, deadline: asyncio.Timeout
    ) -> aiohttp.ClientResponse:
        """Send the request and return the response with its status."""
        try:
            url = parse_url(request.url)
        except ValueError as error:
            raise AddressRefusedError(str(error)) from None
        if self._https_only and url.scheme != "https":
            raise AddressRefusedError("http is not encrypted")
        if url.is_address:  # an address does not pass the resolver
            self._guard.check(url.host)
        headers = headers_of(request)
        while True:
            try:
                return await self._http.post(
                    url.as_written,
                    data=request.body if isinstance(request.body, bytes) else _paced(request, request.body, deadline),
                    headers=headers,
                    allow_redirects=False,
                    trace_request_ctx=trace,
                )
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientResponseError):
                # The receiver may close a kept-alive connection just when it is used again, or may have sent more
                # than its last response, which is then in front of this one.
                if not trace.reused:
                    raise
                trace.connected = trace.reused = False

    async def _result(
        self, response: aiohttp.ClientResponse, latency_ms: float, until: float, excerpt_bytes: int
    ) -> SendResult:
        """Return the result of a response: by its status, with the start of its body, read until ``until``."""
        status = response.status
        error: AttemptError | None = "http_status"
        if 200 <= status < 300:
            error = None
        elif 300 <= status < 400:
            error = "redirected"
        compressed = response.headers.get("Content-Encoding", "identity").lower() != "identity"
        retry_after_s = _retry_after_s(response.headers.get("Retry-After", ""), self._now())
        body = await _read_start(response, until, excerpt_bytes)
        return SendResult(status, error, latency_ms, "" if compressed else _text(body), retry_after_s)


async def _note_connected(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: Any) -> None:
    trace: _ConnectionTrace = context.trace_request_ctx
    trace.connected, trace.reused = True, False


async def _note_reused(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: Any) -> None:
    trace: _ConnectionTrace = context.trace_request_ctx
    trace.connected, trace.reused = True, True


async def _paced(request: WebhookRequest, body: StreamedBody, deadline: asyncio.Timeout) -> AsyncIterator[bytes]:
    """Yield a body's chunks, and allow time for the next one as long as the receiver takes them fast enough."""
    loop = asyncio.get_running_loop()
    started, sent_bytes = loop.time(), 0
    async for chunk in body.chunks():
        yield chunk
        sent_bytes += len(chunk)
        latest = started + request.timeout_s + sent_bytes / _MIN_BYTES_PER_S
        with contextlib.suppress(RuntimeError):  # answered before the end of the body
            deadline.reschedule(min(loop.time() + request.timeout_s, latest))


async def _read_start(response: aiohttp.ClientResponse, until: float, excerpt_bytes: int) -> bytes:
    """Return the start of a body; the connection is kept only if the body ended in time and within its size."""
    kept, read, ended = bytearray(), 0, False
    try:
        async with asyncio.timeout_at(until):
            async for chunk in response.content.iter_any():
                kept += chunk[: excerpt_bytes - len(kept)]
                read += len(chunk)
                if read > RESPONSE_BYTES:
                    break
            else:
                ended = True
    except _FAILURES:  # the body is too slow, incomplete or not HTTP; its status is known already
        pass
    finally:
        if not ended:
            response.close()
    return bytes(kept)


def _text(start: bytes) -> str:
    """Decode UTF-8; an incomplete last character is dropped."""
    return codecs.getincrementaldecoder("utf-8")(errors="replace").decode(start)


def _retry_after_s(header: str, now: datetime) -> float | None:
    """Return Retry-After in seconds, given as seconds or as a date (RFC 9110, section 10.2.3)."""
    header = header.strip()
    if _SECONDS.fullmatch(header):
        return float(header)
    try:
        at = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return None
    if at.tzinfo is None:  # "-0000": UTC without a time zone
        at = at.replace(tzinfo=UTC)
    return max(0.0, (at - now).total_seconds())


def _error_of(error: Exception) -> AttemptError:
    """Return the kind of an error; its cause is inside the exception that aiohttp raises."""
    causes = [error, error.__cause__, getattr(error, "os_error", None)]

    def caused_by(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if caused_by(AddressRefusedError):
        return "address_refused"
    if caused_by(aiohttp.ClientSSLError, ssl.SSLError, ssl.CertificateError):
        return "tls_failed"
    if not caused_by(ReceivedTooMuchError) and caused_by(OSError, aiohttp.ClientConnectionError):
        return "connect_failed"
    return "protocol_error"


def _elapsed_ms(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 1)
