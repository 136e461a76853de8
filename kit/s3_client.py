"""Parts of the S3 client: descriptions of the service, and streams cut to parts of a multipart upload."""

from __future__ import annotations

import functools
import threading
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
from botocore.exceptions import ClientError
from botocore.loaders import Loader

from contracts.errors import ErrorCode, SaccadeError
from kit.counts import count
from kit.imports import hidden

with hidden("httpx"):  # only for another transport of aiobotocore; it is a seventh of the CPU time of a worker's start
    from aiobotocore.config import AioConfig
    from aiobotocore.httpsession import AIOHTTPSession
    from aiobotocore.session import AioSession, get_session

#: Connections for requests.
POOL_CONNECTIONS: Final = 50
#: Connections for bodies that are read, which stay busy for as long as a client reads.
READ_CONNECTIONS: Final = 100
#: How long an attempt of a request waits for a connection, seconds, the time to open one included.
POOL_WAIT_S: Final = 5.0

#: Statuses of refusals that say nothing of what was asked for: it was too slow, or too often.
_NOT_NOW: Final = frozenset({408, 429})

__all__ = ["AioConfig", "ClosableSession", "StorageRefused", "in_parts", "s3_session", "storage_error"]


class StorageRefused(SaccadeError):  # noqa: N818 - an answer, not a fault
    """The bucket answers and does not do this: the object is locked, or a policy forbids it. Others it may delete."""


def storage_error(operation: str, error: Exception) -> SaccadeError:
    """Return the error of a request that the bucket refused or did not answer, and count it."""
    if not isinstance(error, ClientError):
        count("saccade_bucket_errors", operation, type(error).__name__)
        return SaccadeError(ErrorCode.STORAGE_UNAVAILABLE)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    count("saccade_bucket_errors", operation, str(status))
    kind = StorageRefused if 400 <= status < 500 and status not in _NOT_NOW else SaccadeError
    return kind(ErrorCode.STORAGE_UNAVAILABLE, f"The bucket refused {operation}.")


class ClosableSession(AIOHTTPSession):  # type: ignore[misc] # aiobotocore has no types
    """HTTP session of a client that refuses requests once it is closed.

    aiobotocore's own would open a connection for such a request, or for another attempt of one, and nobody closes it.
    It would also let requests wait for ever while clients that read slowly keep all connections busy: objects are read
    by connections of their own, and none is waited for longer than ``POOL_WAIT_S``.
    """

    _ended = False

    def __init__(self, *options: Any, **named: Any) -> None:
        """Take the options of aiobotocore's session, but for the number of connections."""
        named["max_pool_connections"] = POOL_CONNECTIONS
        super().__init__(*options, **named)
        self._bodies = AIOHTTPSession(*options, **named | {"max_pool_connections": READ_CONNECTIONS})
        times: aiohttp.ClientTimeout = self._timeout  # type: ignore[has-type]
        waits = aiohttp.ClientTimeout(connect=POOL_WAIT_S, sock_connect=times.sock_connect, sock_read=times.sock_read)
        self._timeout = self._bodies._timeout = waits  # noqa: SLF001 - a session of the same class

    async def __aexit__(self, *error: object) -> None:
        """Close the connections."""
        self._ended = True
        await self._bodies.__aexit__(*error)
        await super().__aexit__(*error)

    async def send(self, request: Any) -> Any:
        """Send a request.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE, after the end.
        """
        if self._ended:
            raise SaccadeError(ErrorCode.STORAGE_UNAVAILABLE, "The connection to the bucket is closed.")
        return await (self._bodies.send(request) if request.stream_output else super().send(request))


class _S3Loader(Loader):  # type: ignore[misc] # botocore has no types
    """Reads botocore's descriptions of S3; botocore's own lists the folders of 400 services first."""

    def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002 - botocore's signature
        """Return the only service that is used."""
        return ["s3"]


@functools.cache
def _s3_loader() -> Loader:
    """Return the loader of this process: it keeps the descriptions, 1 MB of JSON, for the next client."""
    return _S3Loader()


class _SessionOfThread(threading.local):
    """Session of botocore, one of each thread: threads may not share it, while the clients of a thread do.

    A session of its own was two thirds of the CPU time of opening a client.
    """

    @functools.cached_property
    def session(self) -> AioSession:
        """Return the session, made when it is first wanted."""
        session = get_session()
        session.register_component("data_loader", _s3_loader())
        return session


_OF_THREAD: Final = _SessionOfThread()


def s3_session() -> AioSession:
    """Return the session that makes the clients of this thread; nothing of a client's settings is kept in it."""
    return _OF_THREAD.session


async def in_parts(chunks: AsyncIterator[bytes], part_bytes: int) -> AsyncIterator[bytes]:
    """Join chunks to parts of equal size; the last one has the rest."""
    part = bytearray()
    async for chunk in chunks:
        part += chunk
        while len(part) >= part_bytes:
            yield bytes(part[:part_bytes])
            del part[:part_bytes]
    if part:
        yield bytes(part)
