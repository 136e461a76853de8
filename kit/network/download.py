"""Download from a URL that somebody else chose: to allowed addresses only, within limits that its server cannot change.

Redirects are followed one by one, each checked like the first URL. Nothing is decompressed, no cookie or proxy is used,
and the address that was checked is the one that is connected to.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import quote

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDictProxy
from yarl import URL

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import GIB, INPUT_URL_CHARS, KIB, MIB
from kit.network.address_guard import AddressGuard, AddressRefusedError
from kit.network.guarded_session import guarded_session
from kit.network.metered_socket import ReceivedTooMuchError, allow_more
from kit.network.name_lookup import Lookup, SystemLookup
from kit.network.urls import CheckedUrl, CredentialsInUrlError, parse_url, refusal_of
from kit.network.whole_body import DownloadResponse, WholeBodyProtocol

#: Limit of what precedes a body: TLS, interim responses, the header.
_HEAD_BYTES: Final = 1 * MIB
#: Framing of a body, at most: chunks of a few bytes each need more than that, and are refused.
_FRAMING_FACTOR: Final = 2
_CHUNK_BYTES: Final = 256 * KIB
#: Time in which the rest of an answer that is longer than announced arrives.
_EXCESS_S: Final = 0.1
_MEDIA_TYPE: Final = r"[a-z0-9!#$&^_.+-]{1,100}/[a-z0-9!#$&^_.+-]{1,100}"
#: Statuses of a server that may answer later.
_TRANSIENT_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_HEADERS: Final = {
    "Accept": "video/*, image/*, application/zip, application/octet-stream;q=0.9, */*;q=0.1",
    "Accept-Encoding": "identity",  # nothing is decompressed, so there is no decompression bomb
    "User-Agent": "Saccade-Fetch/1",
}
_ASCII: Final = bytes(range(0x21, 0x7F)).decode()
_FAILURES: Final = (aiohttp.ClientError, HttpProcessingError, OSError, ValueError)


@dataclass(frozen=True)
class DownloadLimits:
    """Limits of one download; times in seconds."""

    max_bytes: int = 20 * GIB
    redirects: int = 5
    #: Resolution of the name, connection and TLS, for each request.
    connect_s: float = 10.0
    #: From the request to the end of the header.
    first_byte_s: float = 30.0
    #: Between two reads of the body.
    stall_s: float = 30.0
    #: Mean rate below which a server counts as too slow, over each period of ``stall_s`` in which it is waited for.
    min_bytes_per_s: float = 10_000.0
    total_s: float = 6 * 3600.0


@dataclass(frozen=True)
class DownloadHead:
    """Content type and size as the header of the last answer announces them."""

    #: Without parameters, in lower case; empty if the server sends none.
    content_type: str
    #: None if the server does not announce it.
    size_bytes: int | None


class Download:
    """An answer whose body is read once."""

    def __init__(self, response: DownloadResponse, limits: DownloadLimits, ends_at: float) -> None:
        """Read from ``response`` until ``ends_at``, a time of the event loop."""
        self._response, self._limits, self._ends_at = response, limits, ends_at
        self.head = DownloadHead(_media_type(response.headers), response.content_length)
        self.received_bytes = 0

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body.

        Raises:
            SaccadeError: URL_TOO_SLOW, URL_SIZE_MISMATCH, URL_ANSWER_INVALID, UPLOAD_TOO_LARGE.
        """
        loop, rate = asyncio.get_running_loop(), _Rate(self._limits)
        content = self._response.content
        while True:
            asked_at = loop.time()
            try:
                async with asyncio.timeout_at(min(asked_at + self._limits.stall_s, self._ends_at)):
                    chunk = await content.read(_CHUNK_BYTES)
            except TimeoutError:
                raise self._too_slow(loop.time()) from None
            except _FAILURES as error:
                raise self._broken() from error
            if not chunk:
                break
            self.received_bytes += len(chunk)
            if self.received_bytes > self._limits.max_bytes:
                raise too_large(self._limits.max_bytes)
            if not rate.is_sufficient(loop.time() - asked_at, len(chunk)):
                message = f"The server sends less than {self._limits.min_bytes_per_s / 1000:g} kB per second."
                raise DownloadError(ErrorCode.URL_TOO_SLOW, message)
            allow_more(self._response, _FRAMING_FACTOR * len(chunk))
            yield chunk
        await self._check_end()

    async def _check_end(self) -> None:
        """Check that nothing follows the announced end: a file that its own header cuts short is not the file.

        Raises:
            SaccadeError: URL_SIZE_MISMATCH.
        """
        if self.head.size_bytes is not None and not self._response.protocol.excess:
            await asyncio.sleep(_EXCESS_S)  # what is on its way arrives now
        if self._response.protocol.excess:
            raise self._excess()

    def _excess(self) -> SaccadeError:
        message = f"The server announced {self.head.size_bytes} bytes and sent more."
        return DownloadError(ErrorCode.URL_SIZE_MISMATCH, message)

    def _too_slow(self, now: float) -> SaccadeError:
        if now >= self._ends_at:
            message = f"The file was not complete after {self._limits.total_s:g} s."
        else:
            message = f"The server sent nothing for {self._limits.stall_s:g} s, after {self.received_bytes} bytes."
        return DownloadError(ErrorCode.URL_TOO_SLOW, message)

    def _broken(self) -> SaccadeError:
        announced = self.head.size_bytes
        if self._response.protocol.excess:
            return self._excess()
        if self._response.protocol.received_too_much:
            return DownloadError(ErrorCode.URL_ANSWER_INVALID, "The server sends far more framing than content.")
        if announced is not None:
            message = f"The server announced {announced} bytes and sent {self.received_bytes}."
        else:
            message = f"The connection ended before the file was complete, after {self.received_bytes} bytes."
        return DownloadError(ErrorCode.URL_SIZE_MISMATCH, message, transient=True)


class _Rate:
    """Checks the mean rate of each period in which the server was waited for."""

    def __init__(self, limits: DownloadLimits) -> None:
        self._period_s, self._min_bytes_per_s = limits.stall_s, limits.min_bytes_per_s
        self._waited_s, self._received_bytes = 0.0, 0

    def is_sufficient(self, waited_s: float, received_bytes: int) -> bool:
        """Add a read; return False at the end of a period that was too slow."""
        self._waited_s += waited_s
        self._received_bytes += received_bytes
        if self._waited_s < self._period_s:
            return True
        sufficient = self._received_bytes >= self._min_bytes_per_s * self._waited_s
        self._waited_s, self._received_bytes = 0.0, 0
        return sufficient


class Downloader:
    """Opens URLs. Every download has connections of its own: none is kept, so none outlives a check of its address."""

    def __init__(
        self,
        guard: AddressGuard,
        limits: DownloadLimits | None = None,
        *,
        lookup: Lookup | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Connect to addresses that ``guard`` allows; by default names and certificates are the system's."""
        self._guard = guard
        self._limits = limits or DownloadLimits()
        self._lookup = lookup or SystemLookup()
        # By default aiohttp's own context: a further one reads all certificates again, 45 ms.
        self._tls = tls or True

    @asynccontextmanager
    async def opened(self, url: str) -> AsyncIterator[Download]:
        """Request a URL, follow its redirects, and return the answer with the file.

        Raises:
            SaccadeError: URL_INVALID, URL_ADDRESS_REFUSED, URL_UNREACHABLE, URL_TOO_SLOW, URL_STATUS_ERROR,
                URL_TOO_MANY_REDIRECTS, URL_ANSWER_INVALID, UPLOAD_TOO_LARGE. Without the URL, which may hold a secret.
        """
        ends_at = asyncio.get_running_loop().time() + self._limits.total_s
        async with self._session() as session:
            target, redirects = check_url(url, self._guard), 0
            while True:
                response = await self._get(session, target)
                if response.status not in _REDIRECTS or "Location" not in response.headers:
                    break
                response.close()
                redirects += 1
                if redirects > self._limits.redirects:
                    message = f"The URL is redirected more than {self._limits.redirects} times."
                    raise DownloadError(ErrorCode.URL_TOO_MANY_REDIRECTS, message)
                target = self._redirected(target, response.headers["Location"])
            try:
                self._check_head(response)
                yield Download(response, self._limits, ends_at)
            finally:
                response.close()

    def _session(self) -> aiohttp.ClientSession:
        tracing = aiohttp.TraceConfig()
        tracing.on_connection_create_end.append(self._on_connected)
        return guarded_session(
            self._guard,
            self._lookup,
            self._tls,
            connector={"use_dns_cache": False},
            protocol=WholeBodyProtocol,
            response=DownloadResponse,
            received_bytes=_HEAD_BYTES,
            read_bytes=_CHUNK_BYTES,
            timeout=aiohttp.ClientTimeout(total=None, connect=self._limits.connect_s),
            read_bufsize=_CHUNK_BYTES,
            trace_configs=[tracing],
        )

    async def _get(self, session: aiohttp.ClientSession, target: CheckedUrl) -> DownloadResponse:
        """Send a request and return the answer with its header.

        Raises:
            SaccadeError: as ``opened``.
        """
        limits = self._limits
        try:
            async with asyncio.timeout(None) as deadline:
                response = await session.get(
                    target.as_written, headers=_HEADERS, allow_redirects=False, trace_request_ctx=deadline
                )
        except aiohttp.ConnectionTimeoutError:
            message = f"There was no connection to {target.host} after {limits.connect_s:g} s."
            raise DownloadError(ErrorCode.URL_TOO_SLOW, message, transient=True) from None
        except TimeoutError:
            message = f"{target.host} did not answer within {limits.first_byte_s:g} s."
            raise DownloadError(ErrorCode.URL_TOO_SLOW, message) from None
        except _FAILURES as error:
            raise _unanswered(error, target.host) from error
        assert isinstance(response, DownloadResponse)
        return response

    async def _on_connected(self, _session: aiohttp.ClientSession, context: SimpleNamespace, _params: Any) -> None:
        """Start the time that the server has to answer."""
        deadline: asyncio.Timeout = context.trace_request_ctx
        deadline.reschedule(asyncio.get_running_loop().time() + self._limits.first_byte_s)

    def _redirected(self, target: CheckedUrl, location: str) -> CheckedUrl:
        """Return the checked destination of a redirect.

        Raises:
            SaccadeError: URL_INVALID, URL_ADDRESS_REFUSED.
        """
        try:
            # As it is written: a signature may cover "%2F", which would otherwise become "/".
            written = quote(location, _ASCII, errors="surrogateescape").partition("#")[0]
            joined = target.as_written.join(URL(written, encoded=True))
        except ValueError:
            raise DownloadError(
                ErrorCode.URL_INVALID, f"{target.host} redirects to something that is no URL."
            ) from None
        return check_url(str(joined), self._guard, redirected_by=target.host)

    def _check_head(self, response: DownloadResponse) -> None:
        """Check that an answer is a plain file of an accepted size.

        Raises:
            SaccadeError: URL_STATUS_ERROR, URL_ANSWER_INVALID, UPLOAD_TOO_LARGE.
        """
        status = response.status
        if status != 200:
            message = f"{response.url.host} answered with the status {status}."
            transient = status in _TRANSIENT_STATUSES
            raise DownloadError(ErrorCode.URL_STATUS_ERROR, message, transient=transient)
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            message = f"{response.url.host} sent the file compressed ({encoding[:20]}), although that was declined."
            raise DownloadError(ErrorCode.URL_ANSWER_INVALID, message)
        if (response.content_length or 0) > self._limits.max_bytes:
            raise too_large(self._limits.max_bytes, response.content_length)


class DownloadError(SaccadeError):
    """A download that failed because of the URL or its server; ``transient``: another attempt may succeed."""

    def __init__(self, code: ErrorCode, message: str, *, hint: str = "", transient: bool = False) -> None:
        """Set code, message and hint as in the base class."""
        super().__init__(code, message, hint=hint)
        self.transient = transient


def check_url(url: str, guard: AddressGuard, *, redirected_by: str = "") -> CheckedUrl:
    """Check a URL without resolving its name; the error says what to change.

    Raises:
        SaccadeError: URL_INVALID, URL_ADDRESS_REFUSED.
    """
    prefix = f"{redirected_by} redirects to another URL. " if redirected_by else ""
    try:
        parsed = parse_url(url, INPUT_URL_CHARS)
    except CredentialsInUrlError as error:
        hint = "Send a URL that works without them: a presigned one, for example."
        raise DownloadError(ErrorCode.URL_INVALID, f"{prefix}{error}", hint=hint) from None
    except ValueError as error:
        raise DownloadError(ErrorCode.URL_INVALID, f"{prefix}{error}") from None
    if why := refusal_of(parsed, guard):
        raise _refused(parsed.host, why)
    return parsed


def too_large(max_bytes: int, size_bytes: int | None = None) -> SaccadeError:
    """Return the error for a file above the limit."""
    has = f"The file has {size_bytes / GIB:.1f} GiB" if size_bytes else "The file is larger than the limit"
    message = f"{has}; at most {max_bytes / GIB:.3g} GiB are accepted."
    return SaccadeError(ErrorCode.UPLOAD_TOO_LARGE, message, limit_bytes=max_bytes)


def _refused(host: str, why: str) -> SaccadeError:
    return DownloadError(ErrorCode.URL_ADDRESS_REFUSED, f"{host} is not an address that may be connected to ({why}).")


def _unanswered(error: Exception, host: str) -> SaccadeError:
    """Return the error of a request without an answer; its cause is inside the exception that aiohttp raises."""
    if _caused_by(error, AddressRefusedError):
        # Which address it is, of an internal name, is nobody's business.
        return _refused(host, "it does not resolve to a public one")
    if _caused_by(error, aiohttp.ClientSSLError, ssl.SSLError, ssl.CertificateError):
        return DownloadError(ErrorCode.URL_UNREACHABLE, f"{host} has no valid certificate, or does not speak TLS.")
    if _caused_by(error, ReceivedTooMuchError):
        return DownloadError(ErrorCode.URL_ANSWER_INVALID, f"{host} sends bytes without end before its answer.")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return DownloadError(ErrorCode.URL_UNREACHABLE, f"The name {host} cannot be resolved.", transient=True)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        message = f"{host} closed the connection without an answer."
        return DownloadError(ErrorCode.URL_UNREACHABLE, message, transient=True)
    if isinstance(error, OSError):
        return DownloadError(ErrorCode.URL_UNREACHABLE, f"{host} cannot be connected to.", transient=True)
    return DownloadError(ErrorCode.URL_ANSWER_INVALID, f"{host} sent an answer that is not valid HTTP.")


def _caused_by(error: Exception, *kinds: type[BaseException]) -> bool:
    causes = [error, error.__cause__, getattr(error, "os_error", None), getattr(error.__cause__, "__cause__", None)]
    return any(isinstance(cause, kinds) for cause in causes)


def _media_type(headers: CIMultiDictProxy[str]) -> str:
    found = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return found if re.fullmatch(_MEDIA_TYPE, found) else ""
