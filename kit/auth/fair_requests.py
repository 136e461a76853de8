"""Requests of tenants that used more than their share of the event loop wait for the requests of others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import HTTPConnection

from contracts.errors import ErrorCode, SaccadeError
from kit.auth.api_keys import Principal
from kit.auth.loop_time_shares import LoopTimeShares
from kit.http.problems import send_problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

#: Requests of a tenant that wait; further ones are refused.
MAX_WAITING: Final = 200
_RETRY_AFTER_S: Final = 1.0


class FairRequests:
    """Pure ASGI middleware: measures the loop's time of each request, and delays a tenant that takes it from others.

    Only HTTP requests with a key count: without keys there is one tenant, and WebSockets have limits of their own.
    """

    def __init__(
        self,
        app: ASGIApp,
        identify: Callable[[HTTPConnection], Principal | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wrap an application; ``identify`` returns the caller of a request, None when nobody is to wait."""
        self._app, self._identify, self._clock = app, identify, clock
        self._shares = LoopTimeShares()
        self._queues: dict[str, asyncio.Lock] = {}
        self._waiting: dict[str, int] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, in its tenant's turn."""
        principal = self._identify(HTTPConnection(scope)) if scope["type"] == "http" else None
        if principal is None:
            await self._app(scope, receive, send)
            return
        tenant = principal.tenant
        self._shares.seen(tenant, self._clock())
        if tenant in self._waiting or self._shares.wait_s(tenant, self._clock()):
            if self._waiting.get(tenant, 0) >= MAX_WAITING:
                await send_problem(scope, send, _too_many())
                return
            await self._wait(tenant)
        request = _Measured(self._app(scope, receive, send), lambda spent_s: self._use(tenant, spent_s))
        await request

    def _use(self, tenant: str, spent_s: float) -> None:
        self._shares.use(tenant, spent_s, self._clock())

    async def _wait(self, tenant: str) -> None:
        """Wait behind the tenant's earlier requests, and until it has not used more than its share."""
        self._waiting[tenant] = self._waiting.get(tenant, 0) + 1
        try:
            async with self._queues.setdefault(tenant, asyncio.Lock()):
                while wait_s := self._shares.wait_s(tenant, self._clock()):  # noqa: ASYNC110 - only time ends it
                    await asyncio.sleep(wait_s)
        finally:
            self._waiting[tenant] -= 1
            if not self._waiting[tenant]:
                del self._waiting[tenant], self._queues[tenant]


def _too_many() -> SaccadeError:
    return SaccadeError(
        ErrorCode.RATE_LIMITED,
        f"{MAX_WAITING} of your requests wait: together they use more than your share of the server.",
        hint="Send fewer requests at once; follow events instead of polling.",
        retry_after_s=_RETRY_AFTER_S,
    )


class _Measured:
    """An awaitable that tells after each step of a coroutine how long the step kept the event loop."""

    def __init__(self, awaitable: Awaitable[None], on_step: Callable[[float], None]) -> None:
        self._awaitable, self._on_step = awaitable, on_step

    def __await__(self) -> Generator[Any, Any, None]:
        steps = self._awaitable.__await__()
        error: BaseException | None = None
        while True:
            begun_s = time.perf_counter()
            try:
                waited_for = steps.send(None) if error is None else steps.throw(error)
            except StopIteration:
                return
            finally:
                self._on_step(time.perf_counter() - begun_s)
            error = None
            try:
                yield waited_for
            except GeneratorExit:
                steps.close()
                raise
            except BaseException as thrown:  # noqa: BLE001 - a cancellation too belongs to the coroutine
                error = thrown
