"""Response whose body is read from the bucket while it is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from fastapi.responses import StreamingResponse

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


class ObjectResponse(StreamingResponse):
    """Closes what its body is read from, however it ends: also when the client has gone before the first byte."""

    def __init__(
        self,
        body: AsyncIterator[bytes],
        opened: AsyncExitStack,
        *,
        media_type: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send the chunks of ``body``, then close ``opened``."""
        super().__init__(body, headers=headers, media_type=media_type)
        self._opened = opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        async with self._opened:
            await super().__call__(scope, receive, send)
