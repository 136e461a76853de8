"""Requests of tenants that used more than their share of the event loop wait for the requests of others."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import HTTPConnection

from contracts.errors import ErrorCode, SaccadeError
from contracts.quotas import QuotaName
from kit.auth.api_keys import Principal
from kit.auth.loop_time_shares import LoopTimeShares
from kit.auth.quotas import Quotas
from kit.http.problems import send_problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

#: Requests of a tenant that wait; further ones are refused.
MAX_WAITING: Final = 200
_RETRY_AFTER_S: Final = 1.0
#: How often a request that waits for those of others looks whether they have ended.
_FOR_OTHERS_S: Final = 0.005
#: Longest that a request waits only because others run: what its tenant uses otherwise may keep its share used up.
_MOST_FOR_OTHERS_S: Final = 1.0


class FairRequests:
    """Pure ASGI middleware: measures the loop's time of each request, and delays a tenant that takes it from others.

    Only HTTP requests with a key count: without keys there is one tenant, and WebSockets have limits of their own.
    """

    def __init__(
        self,
        app: ASGIApp,
        identify: Callable[[HTTPConnection], Principal | None],
        clock: Callable[[], float] = time.monotonic,
        *,
        shares: LoopTimeShares | None = None,
        refusal: Callable[[Scope], ASGIApp | None] = lambda _: None,
        quotas: Callable[[HTTPConnection], Quotas] | None = None,
    ) -> None:
        """Wrap an application; ``identify`` returns the caller of a request, None when nobody is to wait.

        ``shares`` are given where tenants use the loop otherwise too. ``refusal`` returns the answer to a request that
        may not even wait, where it is to be another one than a problem. ``quotas`` limit how many requests a tenant has
        open, each with its connection, where nothing else limits those that are answered late.
        """
        self._app, self._identify, self._clock, self._quotas = app, identify, clock, quotas
        self._shares, self._refusal = shares or LoopTimeShares(), refusal
        self._queues: dict[str, asyncio.Lock] = {}
        self._waiting: dict[str, int] = {}
        #: Tenants of which a request has begun in this iteration of the loop.
        self._begun: set[str] = set()
        #: Requests that have begun and not ended.
        self._running = Counter[str]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, in its tenant's turn."""
        connection = HTTPConnection(scope) if scope["type"] == "http" else None
        principal = self._identify(connection) if connection else None
        if connection is None or principal is None:
            await self._app(scope, receive, send)
            return
        tenant = principal.tenant
        try:
            self._require_place(connection, tenant)
        except SaccadeError as error:
            await send_problem(scope, send, error)
            return
        self._shares.seen(tenant, self._clock())
        if tenant in self._waiting or self._has_turn_to_wait_for(tenant):
            if self._waiting.get(tenant, 0) >= MAX_WAITING:
                if answer := self._refusal(scope):
                    await answer(scope, receive, send)
                else:
                    await send_problem(scope, send, _too_many())
                return
            await self._wait(tenant)
        self._begin(tenant)
        self._running[tenant] += 1
        try:
            await _Measured(self._app(scope, receive, send), lambda spent_s: self._use(tenant, spent_s))
        finally:
            self._running[tenant] -= 1
            if not self._running[tenant]:
                del self._running[tenant]

    def _require_place(self, connection: HTTPConnection, tenant: str) -> None:
        """Check that a tenant may have one request more open.

        Raises:
            SaccadeError: RATE_LIMITED.
        """
        if self._quotas:
            opened = self._running[tenant] + self._waiting.get(tenant, 0)
            self._quotas(connection).require(tenant, QuotaName.OPEN_REQUESTS, opened)

    def _has_turn_to_wait_for(self, tenant: str) -> bool:
        """Return whether a request is not to begin at once: others are there, and its tenant's requests take turns."""
        now_s = self._clock()
        return (tenant in self._begun and self._shares.has_others(tenant, now_s)) or self._shares.is_busy(tenant, now_s)

    def _begin(self, tenant: str) -> None:
        if not self._begun:
            asyncio.get_running_loop().call_soon(self._begun.clear)
        self._begun.add(tenant)

    def _use(self, tenant: str, spent_s: float) -> None:
        self._shares.use(tenant, spent_s, self._clock())

    def _wait_s(self, tenant: str, until_s: float) -> float:
        """Return how long a request waits at least: for its tenant's share, or, until then, for what others do."""
        now_s = self._clock()
        if wait_s := self._shares.wait_s(tenant, now_s):
            return wait_s
        others_run = len(self._running) > (tenant in self._running)
        return _FOR_OTHERS_S if now_s < until_s and others_run and self._shares.is_busy(tenant, now_s) else 0.0

    async def _wait(self, tenant: str) -> None:
        """Wait behind the tenant's earlier requests, and until it has not used more than its share.

        Without waiting for its share, requests that have arrived together begin one in each iteration of the loop.
        """
        self._waiting[tenant] = self._waiting.get(tenant, 0) + 1
        try:
            async with self._queues.setdefault(tenant, asyncio.Lock()):
                await asyncio.sleep(0)  # the requests that have arrived together find the lock taken
                until_s = self._clock() + _MOST_FOR_OTHERS_S
                while wait_s := self._wait_s(tenant, until_s):  # noqa: ASYNC110 - time ends it
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
