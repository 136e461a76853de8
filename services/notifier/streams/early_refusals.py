"""Streams beyond a quota are refused before their request is routed: clients ask for them again and again."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from starlette.requests import HTTPConnection

from contracts.errors import SaccadeError
from contracts.quotas import QuotaName
from kit.auth.api_keys import Principal
from kit.auth.quotas import Quotas
from services.notifier.streams.routes import RetryLaterResponse, StreamService

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

#: Streams of live events. Those of replays have a maximum of their own, and one that its reader has whole is answered
#: by 204, whatever is full: their routes refuse the others.
_LIVE: Final = re.compile(r"/v1/((jobs|sessions)/[^/]+/)?events")
_REPLAYED: Final = re.compile(r"/v1/replays/[^/]+/(events|stream)")


class EarlyRefusals:
    """Pure ASGI middleware: answers streams of tenants that have as many as they may; the routes see the others."""

    def __init__(
        self,
        app: ASGIApp,
        streams: StreamService,
        quotas: Quotas,
        identify: Callable[[HTTPConnection], Principal | None],
    ) -> None:
        """Wrap an application; ``identify`` returns the caller of a request, None when the routes are to refuse it."""
        self._app, self._streams, self._quotas, self._identify = app, streams, quotas, identify

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse its stream."""
        await (self._refusal(scope) or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        if not _asks_for(scope, _LIVE):
            return None
        caller = self._identify(HTTPConnection(scope))
        if caller is None or "read" not in caller.scopes or not self._streams.is_full(caller.tenant):
            return None
        try:
            self._quotas.take(caller.tenant, QuotaName.REQUESTS)
        except SaccadeError:
            return None  # the route refuses it by this quota
        return self._streams.refusal(caller.tenant)


def _asks_for(scope: Scope, path: re.Pattern[str]) -> bool:
    return scope["type"] == "http" and scope["method"] == "GET" and path.fullmatch(scope["path"]) is not None


def refusal_for_time(scope: Scope) -> Response | None:
    """Return the answer to a stream for which the server has no time now; None for a request for anything else."""
    return RetryLaterResponse() if _asks_for(scope, _LIVE) or _asks_for(scope, _REPLAYED) else None
