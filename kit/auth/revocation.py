"""End of what a caller has open, when its API key is removed or the session of its browser ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Any, Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from contracts.errors import ErrorCode
from kit.auth.api_keys import Authenticator, Principal
from kit.tasks import first_of

log = logging.getLogger(__name__)

#: Interval of the checks; each is one ``stat`` of the keys file.
_CHECK_S: Final = 1.0
#: RFC 6455, section 7.4.1.
_POLICY_VIOLATION: Final = 1008
#: A client that reads nothing does not take the close message either; its connection ends without one.
_CLOSE_TIMEOUT_S: Final = 5.0


async def serve_until_revoked(
    authenticator: Authenticator, principal: Principal, socket: WebSocket, serving: Coroutine[Any, Any, None]
) -> None:
    """Serve an accepted WebSocket until that ends by itself, or the key of its client is removed or permits less.

    ``serving`` closes the socket when it ends by itself; here it is closed for a key that is no longer valid.
    """
    await first_of(serving, until_revoked(authenticator, principal))
    if authenticator.is_still_valid(principal):
        return
    log.info("a WebSocket of %s was closed: its key is no longer valid", principal.tenant)
    # It is closed already, its client is gone, or reads nothing.
    with contextlib.suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
        async with asyncio.timeout(_CLOSE_TIMEOUT_S):
            await socket.close(_POLICY_VIOLATION, str(ErrorCode.UNAUTHENTICATED))


async def until_revoked(authenticator: Authenticator, principal: Principal) -> None:
    """Return when the key of a caller was removed or permits something else than when it came, or its session ended."""
    while authenticator.is_still_valid(principal):  # noqa: ASYNC110 - nobody tells when a file changes
        await asyncio.sleep(_CHECK_S)
