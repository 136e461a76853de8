"""End of what a caller has open, when its API key is removed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from kit.auth.api_keys import Authenticator, Principal
from kit.tasks import first_of

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

#: Interval of the checks; each is one ``stat`` of the keys file.
_CHECK_S: Final = 1.0
#: RFC 6455, section 7.4.1.
_POLICY_VIOLATION: Final = 1008


async def until_revoked(authenticator: Authenticator, principal: Principal) -> None:
    """Return when the key of a caller was removed, or permits something else than when it came."""
    while authenticator.is_still_valid(principal):  # noqa: ASYNC110 - nobody tells when a file changes
        await asyncio.sleep(_CHECK_S)


async def serve_until_revoked(
    authenticator: Authenticator, principal: Principal, socket: WebSocket, serving: Coroutine[Any, Any, None]
) -> None:
    """Serve an accepted WebSocket until that ends by itself or the key of its client is removed."""
    await first_of(serving, until_revoked(authenticator, principal))
    with contextlib.suppress(RuntimeError):  # it is closed
        await socket.close(_POLICY_VIOLATION, "unauthenticated")
