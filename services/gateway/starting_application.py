"""Application of a gateway from its first moment on: it says what a start does until the gateway itself is built."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from nats.aio.client import Client
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from kit.http.health import Health, HealthReport, health_app, nats_check
from kit.http.readiness import Readiness, ReadyGate
from services.gateway.compat.splat_routes import GatewayHealth
from services.gateway.snapshots.snapshot_record import SnapshotRecord

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


class StartingApplication:
    """Answers ``/health``, ``/ready`` and ``/metrics``, and refuses all else, until another application takes over."""

    def __init__(self, client: Client, record: SnapshotRecord) -> None:
        """Answer with what ``record`` says of the start."""
        readiness = Readiness("gateway", view=record.what)
        (registry := CollectorRegistry()).register(record)

        async def view() -> str:
            return record.what()

        health = _StartingHealth("gateway", nats=nats_check(client), view=view)
        answers = health_app(health, readiness, lambda: (generate_latest(registry), CONTENT_TYPE_LATEST))
        self._app: ASGIApp = ReadyGate(answers, readiness)
        self._lifespan: ASGIApp = answers
        self._drain: Callable[[], Awaitable[None]] | None = None

    def become(self, app: ASGIApp, drain: Callable[[], Awaitable[None]]) -> None:
        """Pass all further requests to an application; ``drain`` ends its open connections."""
        self._app, self._drain = app, drain

    async def drain(self) -> None:
        """End the open connections of the application that has taken over."""
        if self._drain is not None:
            await self._drain()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        await (self._lifespan if scope["type"] == "lifespan" else self._app)(scope, receive, send)


class _StartingHealth(Health):
    """Health in the form that the gateway's own has."""

    async def report(self) -> HealthReport:
        return GatewayHealth(**dict(await super().report()), trainer_ready=False)
