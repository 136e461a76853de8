"""Health report of a service: ``{"status": "ok"|"degraded", "checks": {…}}``, one check per dependency.

A degraded service still answers 200: it is alive although a dependency is unavailable, and a restart would not help.
A request needs no key, so a report is reused for a second: many requests make one check of each dependency.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Literal

from nats.aio.client import Client
from pydantic import BaseModel

from contracts.errors import ErrorCode, SaccadeError
from contracts.streams import EVENTS
from kit.bus.event_store import EventStore
from kit.bus.jetstream_api import stream_info
from kit.bus.leader_reads import has_leader, is_clustered
from kit.http.problems import send_problem
from kit.http.readiness import Readiness
from kit.source_version import source_version

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

#: Raises when the dependency is unavailable; its return value is shown as detail.
Check = Callable[[], Awaitable[str | None]]

_CHECK_S: Final = 2.0
#: How long a report is the answer to further requests, seconds.
_KEPT_S: Final = 1.0
#: Less, so that the report says what did not answer.
_LEADER_S: Final = 1.5
_ALLOWED: Final = ("GET", "HEAD")


class CheckResult(BaseModel):
    """Result of the check of one dependency."""

    status: Literal["ok", "failed"]
    detail: str | None = None
    duration_ms: float


class HealthReport(BaseModel):
    """Health of a service."""

    status: Literal["ok", "degraded"]
    service: str
    #: Digest of the sources that all services share: services of one system have the same (`saccade doctor`).
    version: str
    uptime_s: float
    checks: dict[str, CheckResult]


class Health:
    """The checks of one service."""

    def __init__(self, service: str, **checks: Check) -> None:
        """Use the service's name and its checks by name."""
        self._service = service
        self._checks = checks
        self._started = time.monotonic()
        self._newest: tuple[float, HealthReport] | None = None
        self._one_at_a_time = asyncio.Lock()

    async def report(self) -> HealthReport:
        """Return the report: of checks of a second ago at most, which requests that come together share."""
        async with self._one_at_a_time:
            if self._newest is None or time.monotonic() - self._newest[0] > _KEPT_S:
                report = await self._checked()
                self._newest = time.monotonic(), report
            return self._newest[1]

    async def _checked(self) -> HealthReport:
        """Run all checks concurrently, each for at most two seconds."""
        results = await asyncio.gather(*(_run(check) for check in self._checks.values()))
        checks = dict(zip(self._checks, results, strict=True))
        return HealthReport(
            status="ok" if all(result.status == "ok" for result in results) else "degraded",
            service=self._service,
            version=source_version(),
            uptime_s=round(time.monotonic() - self._started, 3),
            checks=checks,
        )


async def _run(check: Check) -> CheckResult:
    start = time.monotonic()
    status: Literal["ok", "failed"] = "ok"
    try:
        async with asyncio.timeout(_CHECK_S):
            detail = await check()
    except TimeoutError:
        status, detail = "failed", "no answer"
    except SaccadeError as error:
        status, detail = "failed", error.message
    except Exception as error:  # noqa: BLE001 - any error is a failed check, and its type is shown
        status, detail = "failed", type(error).__name__
    return CheckResult(status=status, detail=detail, duration_ms=round((time.monotonic() - start) * 1000, 2))


def nats_check(client: Client) -> Check:
    """Return a check of NATS by a round trip; in a cluster, also of whether a node leads the stream of events."""

    async def check() -> None:
        if not client.is_connected:
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE)
        await client.flush(timeout=1)
        if is_clustered(client):  # without a majority a node keeps its connections, and stores nothing
            info = await stream_info(client, EVENTS.name, timeout_s=_LEADER_S)
            if not has_leader(client, info):  # a node without the others may answer, too
                raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"No node leads the stream {EVENTS.name}.")

    return check


def store_check(*stores: EventStore) -> Check:
    """Return a check that NATS stored the latest event of each store."""

    async def check() -> None:
        for store in stores:
            store.check_writes()

    return check


def health_app(
    health: Health, readiness: Readiness, metrics: Callable[[], tuple[bytes, str]] | None = None
) -> ASGIApp:  # fmt: skip
    """Return an application with ``GET /health``, ``/ready`` and ``/metrics`` only, for a service without other routes.

    ``metrics`` returns the body and its content type.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        known = scope["path"] in ("/health", "/ready") or (scope["path"] == "/metrics" and metrics is not None)
        if known and scope["method"] not in _ALLOWED:
            await send_problem(scope, send, SaccadeError(ErrorCode.METHOD_NOT_ALLOWED), allow=_ALLOWED)
            return
        if scope["path"] == "/health":
            body, content_type = (await health.report()).model_dump_json().encode(), "application/json"
        elif scope["path"] == "/ready":
            try:
                body, content_type = readiness.report().model_dump_json().encode(), "application/json"
            except SaccadeError as error:
                await send_problem(scope, send, error)
                return
        elif scope["path"] == "/metrics" and metrics:
            body, content_type = metrics()
        else:
            await send_problem(scope, send, SaccadeError(ErrorCode.NOT_FOUND))
            return
        headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    return app


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
