"""Requests to one bucket of an S3 server: signed, repeated while the server is overloaded or does not answer."""

from __future__ import annotations

import asyncio
import io
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, TypeVar
from urllib.parse import urlsplit

import aiohttp
import certifi
from yarl import URL

from kit.s3.answers import S3Answer, error_in
from kit.s3.signature import SigningKey, UnsignedRequest, encoded_path, encoded_query
from kit.settings import S3Settings

_T = TypeVar("_T")

_CONNECT_TIMEOUT_S: Final = 3.0
#: Longest silence of the server within an answer.
_READ_TIMEOUT_S: Final = 60.0
_ATTEMPTS: Final = 4
_MAXIMUM_DELAY_S: Final = 20.0
_TRANSIENT_STATUS: Final = frozenset({500, 502, 503, 504})
_TRANSIENT_CODES: Final = frozenset(
    {
        "BandwidthLimitExceeded",
        "InternalError",
        "RequestLimitExceeded",
        "RequestTimeout",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class S3Refused(Exception):  # noqa: N818 - a missing object is an expected answer
    """The server answered with an error."""

    def __init__(self, code: str, status: int = 200, region: str | None = None) -> None:
        """Keep S3's code (the HTTP status if the server sent none) and the region that the answer names."""
        super().__init__(code)
        self.code = code
        self.region = region
        self.transient = status in _TRANSIENT_STATUS or code in _TRANSIENT_CODES


class S3Unreachable(Exception):  # noqa: N818 - an expected result, not a fault
    """The server did not answer, or closed the connection before its answer was complete."""


@dataclass(frozen=True)
class S3Request:
    """Request for an object; without a key, for the bucket itself."""

    method: str
    key: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class S3Client:
    """Client of one bucket."""

    def __init__(self, session: aiohttp.ClientSession, settings: S3Settings) -> None:
        """Send requests in ``session``; sign URLs for clients with the public address."""
        self._session = session
        self._bucket = settings.bucket
        self._key = SigningKey(settings.access_key_id, settings.secret_access_key.get_secret_value(), settings.region)
        self._server = settings.endpoint_url
        self._public_server = settings.public_endpoint_url

    def presigned_url(self, request: S3Request, expires_s: int, *, inside: bool = False, at: datetime) -> str:
        """Return a URL that allows this request until it expires; ``inside`` uses the services' own address."""
        origin, unsigned = self._unsigned(self._server if inside else self._public_server, request)
        return f"{origin}{unsigned.path}?{self._key.presigned_query(unsigned, expires_s, at)}"

    async def send(self, request: S3Request) -> S3Answer:
        """Send a request and return the complete answer.

        Raises:
            S3Refused: the answer is an error.
            S3Unreachable: there was none.
        """

        async def attempt() -> S3Answer:
            async with await self._respond(request) as response:
                answer = S3Answer(response.headers, await response.read())
            # A server that has begun its answer with 200, to complete an upload, can still send an error.
            if error := error_in(answer.body):
                raise S3Refused(error.code)
            return answer

        return await _repeated(attempt)

    @asynccontextmanager
    async def opened(self, request: S3Request) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and yield its answer, whose body is still to be read: an error then is aiohttp's.

        Raises:
            S3Refused: the answer is an error.
            S3Unreachable: there was none.
        """
        response = await _repeated(lambda: self._respond(request))
        async with response:
            yield response

    async def _respond(self, request: S3Request) -> aiohttp.ClientResponse:
        """Send a request once, or twice if the server names another region.

        Raises:
            S3Refused: the answer is an error.
            aiohttp.ClientError, OSError: there was none.
        """
        try:
            return await self._respond_signed(request)
        except S3Refused as refused:
            if refused.region in (None, self._key.region):
                raise
            self._key = replace(self._key, region=refused.region)
            return await self._respond_signed(request)

    async def _respond_signed(self, request: S3Request) -> aiohttp.ClientResponse:
        origin, unsigned = self._unsigned(self._server, request)
        query = f"?{encoded_query(request.query)}" if request.query else ""
        response = await self._session.request(
            request.method,
            URL(f"{origin}{unsigned.path}{query}", encoded=True),
            headers=self._key.signed_headers(unsigned, request.body, datetime.now(UTC)),
            # A file is sent in pieces; bytes would be written at once.
            data=io.BytesIO(request.body) if request.method in ("PUT", "POST") else None,
            allow_redirects=False,
        )
        if response.ok and response.status < 300:
            return response
        async with response:
            error = error_in(await response.read())
        region = response.headers.get("x-amz-bucket-region") or (error.region if error else None)
        raise S3Refused(error.code if error else str(response.status), response.status, region)

    def _unsigned(self, server: str, request: S3Request) -> tuple[str, UnsignedRequest]:
        """Return scheme and authority of a server, and the request as it is signed for it."""
        parts = urlsplit(server)
        host = parts.netloc.rpartition("@")[2]
        if parts.port == _DEFAULT_PORTS.get(parts.scheme):
            host = host.removesuffix(f":{parts.port}")
        path = f"{parts.path.rstrip('/')}/{self._bucket}" + (f"/{request.key}" if request.key else "")
        unsigned = UnsignedRequest(request.method, host, encoded_path(path), request.query, request.headers)
        return f"{parts.scheme}://{host}", unsigned


@asynccontextmanager
async def open_s3_client(settings: S3Settings) -> AsyncIterator[S3Client]:
    """Open a client, and close its connections at the end."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=_certificates() if settings.endpoint_url.startswith("https:") else True),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S, sock_read=_READ_TIMEOUT_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        # Objects are stored and read as they are.
        headers={"Accept-Encoding": "identity"},
        skip_auto_headers=("Content-Type",),
        auto_decompress=False,
        # HTTPS_PROXY and NO_PROXY.
        trust_env=True,
    ) as session:
        yield S3Client(session, settings)


def _certificates() -> ssl.SSLContext:
    """Trust the machine's certificate authorities and certifi's: some machines have none."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


async def _repeated(attempt: Callable[[], Awaitable[_T]]) -> _T:
    """Call until it succeeds, with a growing random delay between attempts.

    Raises:
        S3Refused: the server answered with an error that would stay, or with others at every attempt.
        S3Unreachable: the last attempt got no answer.
    """
    number = 0
    while True:
        number += 1
        failure: S3Refused | S3Unreachable
        try:
            return await attempt()
        except S3Refused as refused:
            if not refused.transient:
                raise
            failure = refused
        except (aiohttp.ClientError, OSError) as error:
            failure = S3Unreachable(type(error).__name__)
            failure.__cause__ = error
        if number == _ATTEMPTS:
            raise failure
        await asyncio.sleep(random.random() * min(2.0 ** (number - 1), _MAXIMUM_DELAY_S))  # noqa: S311 - no secret
