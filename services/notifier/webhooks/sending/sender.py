"""Makes one attempt to deliver: a signed POST to where its guard lets it go, within limits that a receiver cannot move.

What a receiver does wrong is an answer like any other; nothing here retries on a schedule or remembers.
"""

from __future__ import annotations

import asyncio
import codecs
import re
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import SimpleNamespace, TracebackType
from typing import Any, Final, Self

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from contracts.events.delivery import AttemptError
from contracts.limits import KIB
from services.notifier.webhooks.sending.address_guard import AddressGuard, AddressRefusedError, target_of
from services.notifier.webhooks.sending.metered_socket import (
    MeteredResponse,
    ReceivedTooMuchError,
    guarded_socket_factory,
)
from services.notifier.webhooks.sending.name_lookup import GuardedResolver, Lookup, SystemLookup

#: Of an answer no more than this is read, and no longer: its status says it all.
ANSWER_BYTES: Final = 64 * KIB
ANSWER_BODY_S: Final = 2.0
EXCERPT_BYTES: Final = 1 * KIB
#: Names are looked up again after this; until then a name stays with the addresses that were judged.
_NAMES_S: Final = 10
_IDLE_S: Final = 15.0
#: Headers that frame the request or say who we are: nobody else's value of them is sent.
_FRAMING: Final = frozenset({
    "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect", "host",
    "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "user-agent",
})  # fmt: skip
_RESERVED_PREFIXES: Final = ("webhook-", "saccade-", "proxy-")
_OURS: Final = {
    "Accept-Encoding": "identity",  # nothing is unpacked here, so nothing can be a bomb
    "Content-Type": "application/json",
    "User-Agent": "Saccade-Webhooks/1",
}
_SECONDS: Final = re.compile(r"\d{1,9}")
#: What can be raised for what a receiver does: by aiohttp, by its parser before aiohttp wraps it, by the system.
_FAILURES: Final = (aiohttp.ClientError, HttpProcessingError, OSError, ValueError)


@dataclass(frozen=True)
class Outgoing:
    """One POST: ``headers`` are the endpoint's own and the signature's; ``timeout_s`` is all the time it has."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    timeout_s: float = 15.0


@dataclass(frozen=True)
class Answer:
    """What became of an attempt: delivered if ``error`` is None, and then ``status`` is 2xx.

    "timeout" is no connection in time, "too_slow" a connection and no answer in time; "connect_failed" is no connection
    or one that broke before the answer, "protocol_error" an answer that is not HTTP, or far too much of one.
    ``latency_ms`` is the time to the answer's status, or to the failure; ``excerpt`` the first 1 kB of its body as
    text; ``retry_after_s`` what the receiver asks us to wait.
    """

    status: int | None
    error: AttemptError | None
    latency_ms: float
    excerpt: str = ""
    retry_after_s: float | None = None


@dataclass
class _Progress:
    """How far an attempt came, told by aiohttp's tracing."""

    connected: bool = False
    reused: bool = False


@dataclass(eq=False)
class _Session:
    """An aiohttp session with the guard it was made for, and how many attempts it carries."""

    guard: AddressGuard
    http: aiohttp.ClientSession
    carrying: int = 0


class Sender:
    """Sends webhooks over one pool of kept-alive connections; made and used in one event loop.

    How many attempts go at a time is decided by who calls: here no endpoint waits for another.
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
        """Send to where ``guard`` allows; names are resolved by the system and certificates checked by its list."""
        self._https_only = https_only
        self._lookup = lookup or SystemLookup()
        self._tls = tls or ssl.create_default_context()
        self._now = now
        self._session = self._open(guard)
        self._retired: set[_Session] = set()

    async def __aenter__(self) -> Self:
        """Use the sender until the block ends."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        await self.close()

    async def send(self, outgoing: Outgoing) -> Answer:
        """Make one attempt; raises for nothing that the receiver does."""
        session, progress, started = self._session, _Progress(), time.perf_counter()
        session.carrying += 1
        try:
            async with asyncio.timeout(outgoing.timeout_s) as deadline:
                response = await self._post(session, outgoing, progress)
            until = min(deadline.when() or 0.0, asyncio.get_running_loop().time() + ANSWER_BODY_S)
            return await self._answer(response, _elapsed_ms(started), until)
        except TimeoutError:  # caught before OSError, which it is too
            return Answer(None, "too_slow" if progress.connected else "timeout", _elapsed_ms(started))
        except _FAILURES as error:
            return Answer(None, _error_of(error), _elapsed_ms(started))
        finally:
            session.carrying -= 1
            await self._close_retired()

    async def use(self, guard: AddressGuard) -> None:
        """Judge every connection by another guard from now on: those kept alive under the old one are not used again.

        Attempts on their way end as they began.
        """
        self._retired.add(self._session)
        self._session = self._open(guard)
        await self._close_retired()

    async def close(self) -> None:
        """End all connections."""
        for session in (self._session, *self._retired):
            await session.http.close()

    def _open(self, guard: AddressGuard) -> _Session:
        connector = aiohttp.TCPConnector(
            resolver=GuardedResolver(self._lookup, guard),
            socket_factory=guarded_socket_factory(guard),
            ssl=self._tls,
            ttl_dns_cache=_NAMES_S,
            keepalive_timeout=_IDLE_S,
            limit=0,  # a limit for all together would let slow receivers hold up the others
        )
        tracing = aiohttp.TraceConfig()
        tracing.on_connection_create_end.append(_note_connected)
        tracing.on_connection_reuseconn.append(_note_reused)
        http = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None),
            response_class=MeteredResponse,
            auto_decompress=False,
            trust_env=False,
            trace_configs=[tracing],
        )
        return _Session(guard, http)

    async def _post(self, session: _Session, outgoing: Outgoing, progress: _Progress) -> aiohttp.ClientResponse:
        """Send the request and take the status of its answer."""
        try:
            target = target_of(outgoing.url)
        except ValueError as error:
            raise AddressRefusedError(str(error)) from None
        if self._https_only and target.scheme != "https":
            raise AddressRefusedError("http is not encrypted")
        if target.is_address:  # what is no name goes past the resolver
            session.guard.check(target.host)
        # In lower case, so that none is there twice: of two spellings the later one is the signature's.
        given = {name.lower(): value for name, value in outgoing.headers.items()}
        own = {name: value for name, value in given.items() if name not in _FRAMING}
        while True:
            try:
                return await session.http.post(
                    target.url,
                    data=outgoing.body,
                    headers={**own, **_OURS},
                    allow_redirects=False,
                    trace_request_ctx=progress,
                )
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                # A kept-alive connection may be closed by its other side in the moment in which it is used again.
                if not progress.reused:
                    raise
                progress.connected = progress.reused = False

    async def _answer(self, response: aiohttp.ClientResponse, latency_ms: float, until: float) -> Answer:
        """Judge an answer by its status, and read a little of its body, for so long."""
        status = response.status
        error: AttemptError | None = "http_status"
        if 200 <= status < 300:
            error = None
        elif 300 <= status < 400:
            error = "redirected"
        packed = response.headers.get("Content-Encoding", "identity").lower() != "identity"
        retry_after_s = _retry_after_s(response.headers.get("Retry-After", ""), self._now())
        body = await _beginning(response, until)
        return Answer(status, error, latency_ms, "" if packed else _text(body), retry_after_s)

    async def _close_retired(self) -> None:
        for session in [session for session in self._retired if not session.carrying]:
            self._retired.discard(session)
            await session.http.close()


def is_reserved_header(name: str) -> bool:
    """Tell whether an endpoint's own headers may not have one of this name."""
    return name.lower() in _FRAMING or name.lower().startswith(_RESERVED_PREFIXES)


async def _note_connected(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: Any) -> None:
    progress: _Progress = context.trace_request_ctx
    progress.connected, progress.reused = True, False


async def _note_reused(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: Any) -> None:
    progress: _Progress = context.trace_request_ctx
    progress.connected, progress.reused = True, True


async def _beginning(response: aiohttp.ClientResponse, until: float) -> bytes:
    """Read the beginning of a body; the connection is kept only if the body ended in time and within its size."""
    kept, read, ended = bytearray(), 0, False
    try:
        async with asyncio.timeout_at(until):
            async for chunk in response.content.iter_any():
                kept += chunk[: EXCERPT_BYTES - len(kept)]
                read += len(chunk)
                if read > ANSWER_BYTES:
                    break
            else:
                ended = True
    except _FAILURES:  # a body that is too slow, breaks off or is no HTTP: its status was said before
        pass
    finally:
        if not ended:
            response.close()
    return bytes(kept)


def _text(beginning: bytes) -> str:
    """Read bytes as UTF-8; a character that the cut went through is left out."""
    return codecs.getincrementaldecoder("utf-8")(errors="replace").decode(beginning)


def _retry_after_s(header: str, now: datetime) -> float | None:
    """Read Retry-After in both its forms: seconds, or a date (RFC 9110, section 10.2.3)."""
    header = header.strip()
    if _SECONDS.fullmatch(header):
        return float(header)
    try:
        at = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return None
    if at.tzinfo is None:  # "-0000": UTC, of nobody's place
        at = at.replace(tzinfo=UTC)
    return max(0.0, (at - now).total_seconds())


def _error_of(error: Exception) -> AttemptError:
    """Name what went wrong; the cause is inside what aiohttp raises."""
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
