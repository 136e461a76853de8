"""Upload of a stream of bytes to the bucket by a presigned URL, each piece as it arrives: nothing is kept in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import aiohttp
from yarl import URL

from contracts.errors import ErrorCode, SaccadeError

_CONNECT_S: Final = 3.0
#: Time without an answer, after the last byte was sent.
_ANSWER_S: Final = 60.0


async def put_stream(url: str, chunks: AsyncIterator[bytes], size_bytes: int, content_type: str) -> None:
    """Send a stream of known length to a presigned PUT; the bucket stores nothing of a stream that ends early.

    Raises:
        SaccadeError: STORAGE_UNAVAILABLE.
        Exception: what the stream raises.
    """
    failure: Exception | None = None

    async def passed_on() -> AsyncIterator[bytes]:
        nonlocal failure
        try:
            async for chunk in chunks:
                yield chunk
        except Exception as error:
            failure = error
            raise

    headers = {"Content-Type": content_type, "Content-Length": str(size_bytes)}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_ANSWER_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.put(URL(url, encoded=True), data=passed_on(), headers=headers) as answer,
        ):
            if not answer.ok:
                raise SaccadeError(ErrorCode.STORAGE_UNAVAILABLE, "The bucket refused the file.")
    except (aiohttp.ClientError, OSError) as error:
        if failure is None:
            raise SaccadeError(ErrorCode.STORAGE_UNAVAILABLE) from error
    if failure is not None:  # also where the stream raises after its last byte
        raise failure
