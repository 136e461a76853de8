"""Blocking and asyncio transport. Everything else is written once, as coroutines over either of them.

A coroutine over a ``BlockingTransport`` never suspends, so ``run_blocking`` runs it like a function, without an event
loop or a thread. Over an ``AsyncTransport`` the same coroutine is awaited.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

import httpx

from saccade_client.errors import ClientError

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)
#: Query parameters; a sequence repeats the parameter.
Query = Mapping[str, str | Sequence[str]]
_HEADERS: Final = {"User-Agent": "saccade-client/0.1"}
_CONNECT_S: Final = 10.0
#: A part of an upload takes long over a slow line.
_WRITE_S: Final = 300.0


class StreamedResponse(Protocol):
    """An answer whose body is read as it arrives."""

    @property
    def response(self) -> httpx.Response:
        """The status and headers; the body only after ``read_all``."""

    async def read(self) -> bytes | None:
        """Return the next bytes as soon as some arrive, None at the end."""

    async def read_all(self) -> None:
        """Read the whole body, of an error for example."""

    async def close(self) -> None:
        """Close the response."""


class Transport(Protocol):
    """Network, clock and file access of the client."""

    url: str

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request to the API; raises ``httpx.TransportError``."""

    async def open(
        self, url: str, *, headers: Mapping[str, str], params: Query | None = None, silence_s: float
    ) -> StreamedResponse:
        """GET from the API (a path) or the bucket (a URL); reading fails after ``silence_s`` without bytes."""

    async def put(
        self,
        url: str,
        chunks: Callable[[], Iterator[bytes]],
        headers: Mapping[str, str],
        on_sent: Callable[[int], None],
    ) -> httpx.Response:
        """PUT ``chunks`` to the bucket; ``on_sent`` is called with the bytes sent so far."""

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds."""

    async def work(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Call a function that blocks: hashing, reading and writing files."""

    async def close(self) -> None:
        """Close all connections."""


class ItemSource(Protocol[_T_co]):
    """Source of items, None at the end."""

    async def next(self) -> _T_co | None:
        """Return the next item, or None at the end."""

    async def close(self) -> None:
        """Release the connection."""


def run_blocking(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine over a ``BlockingTransport`` to its end and return its result."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        result: _T = ended.value
        return result
    coroutine.close()
    raise RuntimeError("A coroutine of a blocking client suspended.")


def iterate(source: ItemSource[_T]) -> Generator[_T, None, None]:
    """Iterate over a source of a blocking client, and close it at the end or when the loop is left."""
    try:
        while (item := run_blocking(source.next())) is not None:
            yield item
    finally:
        run_blocking(source.close())


async def iterate_async(source: ItemSource[_T]) -> AsyncGenerator[_T, None]:
    """Iterate over a source, and close it at the end or when the loop is left."""
    try:
        while (item := await source.next()) is not None:
            yield item
    finally:
        await source.close()


def _checked_url(url: str) -> str:
    """Return the server's address without a trailing slash.

    Raises:
        ClientError: ``invalid_url``.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        message = f"{url!r} is not the address of a server."
        raise ClientError("invalid_url", message, "Write it like https://saccade.example or http://127.0.0.1:8080.")
    return url.rstrip("/")


def _auth_headers(api_key: str | None) -> dict[str, str]:
    if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
        raise ClientError(
            "unauthenticated", "The API key is not printable ASCII.", "Copy it as `saccade key` printed it."
        )
    return _HEADERS | ({"Authorization": f"Bearer {api_key}"} if api_key else {})


@functools.cache
def _tls() -> ssl.SSLContext:
    """Return the TLS settings of all clients: reading the certificates takes 20 ms of CPU time."""
    return httpx.create_ssl_context()


def _silence_timeout(silence_s: float) -> httpx.Timeout:
    return httpx.Timeout(_CONNECT_S, read=silence_s)


class BlockingTransport:
    """Transport that blocks the calling thread."""

    def __init__(self, url: str, api_key: str | None, timeout_s: float) -> None:
        """Prepare; nothing is connected yet."""
        self.url = _checked_url(url)
        self._http = httpx.Client(base_url=self.url, headers=_auth_headers(api_key), timeout=timeout_s, verify=_tls())
        # Presigned URLs carry their own authorization: the API key must not go to the bucket.
        self._bucket = httpx.Client(headers=_HEADERS, timeout=httpx.Timeout(timeout_s, write=_WRITE_S), verify=_tls())

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request to the API."""
        return self._http.request(method, path, **options)

    async def open(
        self, url: str, *, headers: Mapping[str, str], params: Query | None = None, silence_s: float
    ) -> StreamedResponse:
        """GET from the API or the bucket."""
        http = self._http if url.startswith("/") else self._bucket
        request = http.build_request("GET", url, params=params, headers=headers, timeout=_silence_timeout(silence_s))
        return _BlockingStreamedResponse(http.send(request, stream=True))

    async def put(
        self,
        url: str,
        chunks: Callable[[], Iterator[bytes]],
        headers: Mapping[str, str],
        on_sent: Callable[[int], None],
    ) -> httpx.Response:
        """PUT to the bucket."""

        def with_progress() -> Iterator[bytes]:
            sent = 0
            for chunk in chunks():
                yield chunk
                sent += len(chunk)
                on_sent(sent)

        return self._bucket.put(url, content=with_progress(), headers=headers)

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds."""
        time.sleep(seconds)  # noqa: ASYNC251 - there is no event loop here

    async def work(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Call a function in this thread."""
        return function(*arguments)

    async def close(self) -> None:
        """Close all connections."""
        self._http.close()
        self._bucket.close()


class _BlockingStreamedResponse:
    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._chunks = response.iter_raw()

    async def read(self) -> bytes | None:
        return next(self._chunks, None)

    async def read_all(self) -> None:
        self.response.read()

    async def close(self) -> None:
        self.response.close()


class AsyncTransport:
    """Transport of an asyncio event loop."""

    def __init__(self, url: str, api_key: str | None, timeout_s: float) -> None:
        """Prepare; nothing is connected yet."""
        self.url = _checked_url(url)
        #: Headers of each request to the API.
        self.headers = _auth_headers(api_key)
        self._http = httpx.AsyncClient(base_url=self.url, headers=self.headers, timeout=timeout_s, verify=_tls())
        self._bucket = httpx.AsyncClient(
            headers=_HEADERS, timeout=httpx.Timeout(timeout_s, write=_WRITE_S), verify=_tls()
        )

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request to the API."""
        return await self._http.request(method, path, **options)

    async def open(
        self, url: str, *, headers: Mapping[str, str], params: Query | None = None, silence_s: float
    ) -> StreamedResponse:
        """GET from the API or the bucket."""
        http = self._http if url.startswith("/") else self._bucket
        request = http.build_request("GET", url, params=params, headers=headers, timeout=_silence_timeout(silence_s))
        return _AsyncStreamedResponse(await http.send(request, stream=True))

    async def put(
        self,
        url: str,
        chunks: Callable[[], Iterator[bytes]],
        headers: Mapping[str, str],
        on_sent: Callable[[int], None],
    ) -> httpx.Response:
        """PUT to the bucket; the file is read in threads, ``on_sent`` is called in the event loop."""

        async def with_progress() -> AsyncIterator[bytes]:
            sent = 0
            iterator = chunks()
            while chunk := await asyncio.to_thread(next, iterator, b""):
                yield chunk
                sent += len(chunk)
                on_sent(sent)

        return await self._bucket.put(url, content=with_progress(), headers=headers)

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds."""
        await asyncio.sleep(seconds)

    async def work(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Call a function in another thread."""
        return await asyncio.to_thread(function, *arguments)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()
        await self._bucket.aclose()


class _AsyncStreamedResponse:
    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._chunks = response.aiter_raw()

    async def read(self) -> bytes | None:
        async for chunk in self._chunks:
            return chunk
        return None

    async def read_all(self) -> None:
        await self.response.aread()

    async def close(self) -> None:
        await self.response.aclose()
