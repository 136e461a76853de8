"""Body of a response that is read from the bucket while it is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack


async def closing_body(body: AsyncIterator[bytes], opened: AsyncExitStack) -> AsyncIterator[bytes]:
    """Yield the chunks of a body, then close what it is read from; also when the client has gone."""
    async with opened:
        async for chunk in body:
            yield chunk
