"""The two ways to the network, blocking and not. All else is written once, as coroutines over either of them.

A coroutine over a ``BlockingConnection`` never suspends, so ``finish`` runs it like a function: no event loop, no
thread. Over an ``AsyncConnection`` the same coroutine is awaited.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

import httpx

from saccade.errors import ClientError

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)
#: Of a request: what is given several times is a sequence.
Query = Mapping[str, str | Sequence[str]]
_HEADERS: Final = {"User-Agent": "saccade-client/0.1"}
_CONNECT_S: Final = 10.0
#: A part of an upload is long on its way through a slow line.
_WRITE_S: Final = 300.0


class StreamedResponse(Protocol):
    """An answer whose body is read as it comes."""

    @property
    def response(self) -> httpx.Response:
        """Give its status and headers; the body only after ``read_all``."""

    async def read(self) -> bytes | None:
        """Give some bytes as soon as there are any, None at the end."""

    async def read_all(self) -> None:
        """Read the body, of a refusal for example."""

    async def close(self) -> None:
        """Let the connection go."""


class Transport(Protocol):
    """What the rest of the client needs of the network, the clock and the disk."""

    url: str

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask the API; raises ``httpx.TransportError``."""

    async def open(
        self, url: str, *, headers: Mapping[str, str], params: Query | None = None, silence_s: float
    ) -> StreamedResponse:
        """GET from the API (a path) or the bucket (a whole URL); it breaks when silent for ``silence_s``."""

    async def put(
        self,
        url: str,
        chunks: Callable[[], Iterator[bytes]],
        headers: Mapping[str, str],
        on_sent: Callable[[int], None],
    ) -> httpx.Response:
        """PUT to the bucket what ``chunks`` gives, telling how many bytes have gone."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    async def work(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Call what takes a while: hashing, reading and writing files."""

    async def close(self) -> None:
        """Close all connections."""


class ItemSource(Protocol[_T_co]):
    """Gives one thing after the other, then None."""

    async def next(self) -> _T_co | None:
        """Give the next."""

    async def close(self) -> None:
        """Let go of what it holds."""


def run_blocking(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine over a ``BlockingConnection`` to its end."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        result: _T = ended.value
        return result
    coroutine.close()
    raise RuntimeError("A blocking client was given something to await.")


def iterate(source: ItemSource[_T]) -> Generator[_T, None, None]:
    """Iterate over a source of a blocking client; leaving the loop closes it."""
    try:
        while (item := run_blocking(source.next())) is not None:
            yield item
    finally:
        run_blocking(source.close())


async def iterate_async(source: ItemSource[_T]) -> AsyncGenerator[_T, None]:
    """Iterate over a source; leaving the loop closes it."""
    try:
        while (item := await source.next()) is not None:
            yield item
    finally:
        await source.close()


def _checked(url: str) -> str:
    """Give the server's address without a slash at its end.

    Raises:
        ClientError: it is none.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        message = f"{url!r} is not the address of a server."
        raise ClientError("invalid_url", message, "Write it like https://saccade.example or http://127.0.0.1:8080.")
    return url.rstrip("/")


def _headers(api_key: str | None) -> dict[str, str]:
    if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
        raise ClientError("unauthenticated", "The API key is not printable ASCII.", "Copy it as it was shown.")
    return _HEADERS | ({"Authorization": f"Bearer {api_key}"} if api_key else {})


def _silence(silence_s: float) -> httpx.Timeout:
    return httpx.Timeout(_CONNECT_S, read=silence_s)


class BlockingTransport:
    """The network by blocking calls."""

    def __init__(self, url: str, api_key: str | None, timeout_s: float) -> None:
        """Connect to nothing yet."""
        self.url = _checked(url)
        self._http = httpx.Client(base_url=self.url, headers=_headers(api_key), timeout=timeout_s)
        # Presigned URLs carry their own authority: the key must not follow them to the bucket.
        self._bucket = httpx.Client(headers=_HEADERS, timeout=httpx.Timeout(timeout_s, write=_WRITE_S))

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask the API."""
        return self._http.request(method, path, **options)

    async def open(
        self, url: str, *, headers: Mapping[str, str], params: Query | None = None, silence_s: float
    ) -> StreamedResponse:
        """GET from the API or the bucket."""
        http = self._http if url.startswith("/") else self._bucket
        request = http.build_request("GET", url, params=params, headers=headers, timeout=_silence(silence_s))
        return _BlockingIncoming(http.send(request, stream=True))

    async def put(
        self,
        url: str,
        chunks: Callable[[], Iterator[bytes]],
        headers: Mapping[str, str],
        on_sent: Callable[[int], None],
    ) -> httpx.Response:
        """PUT to the bucket."""

        def told() -> Iterator[bytes]:
            sent = 0
            for chunk in chunks():
                yield chunk
                sent += len(chunk)
                on_sent(sent)

        return self._bucket.put(url, content=told(), headers=headers)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)  # noqa: ASYNC251 - there is no event loop here

    async def work(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Call a function here."""
        return function(*arguments)

    async def close(self) -> None:
        """Close all connections."""
        self._http.close()
        self._bucket.close()


class _BlockingIncoming:
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
    """The network in an asyncio event loop."""

    def __init__(self, url: str, api_key: str | None, timeout_s: float) -> None:
        """Connect to nothing yet."""
        self.url = _checked(url)
        #: What each request to the API carries.
        self.headers = _headers(api_key)
        self._http = httpx.AsyncClient(base_url=self.url, headers=self.headers, timeout=timeout_s)
        self._bucket = httpx.AsyncClient(headers=_HEADERS, timeout=httpx.Timeout(timeout_s, write=_WRITE_S))

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask the API."""
        return await self._http.request(method, path, **options)

    async def open(
        self, url: str, *, headers: Mapping[str, str], params: Query | None = None, silence_s: float
    ) -> StreamedResponse:
        """GET from the API or the bucket."""
        http = self._http if url.startswith("/") else self._bucket
        request = http.build_request("GET", url, params=params, headers=headers, timeout=_silence(silence_s))
        return _AsyncIncoming(await http.send(request, stream=True))

    async def put(
        self,
        url: str,
        chunks: Callable[[], Iterator[bytes]],
        headers: Mapping[str, str],
        on_sent: Callable[[int], None],
    ) -> httpx.Response:
        """PUT to the bucket; the file is read in threads, and told of in the loop."""

        async def told() -> AsyncIterator[bytes]:
            sent = 0
            reading = chunks()
            while chunk := await asyncio.to_thread(next, reading, b""):
                yield chunk
                sent += len(chunk)
                on_sent(sent)

        return await self._bucket.put(url, content=told(), headers=headers)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    async def work(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Call a function in a thread, so that the loop goes on."""
        return await asyncio.to_thread(function, *arguments)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()
        await self._bucket.aclose()


class _AsyncIncoming:
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
