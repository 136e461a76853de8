"""Composition root of the notifier: bus, hub, webhooks, callbacks and routes, started and stopped together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from fastapi import FastAPI, Response
from nats.aio.client import Client
from starlette.types import ASGIApp

from contracts.errors import SaccadeError
from contracts.http_routes import is_path_of
from contracts.streams import IDEMPOTENCY, WEBHOOKS
from kit.auth.api_keys import Authenticator, AuthSettings
from kit.auth.host_guard import HostGuard
from kit.auth.tickets import Tickets
from kit.bus.connection import connect, declare, epoch_of
from kit.bus.event_store import EventStore
from kit.bus.idempotency import Idempotency
from kit.bus.tail import EpochChanged, EventTail
from kit.http.body_limit import BodyLimit
from kit.http.head_requests import HeadRequests
from kit.http.health import Health, HealthReport, nats_check
from kit.http.openapi import openapi_of
from kit.http.passed_connections import PassedConnections
from kit.http.problems import install_problems
from kit.http.server import EXIT_RESTART, serve
from kit.network.address_guard import AddressGuard
from kit.settings import NatsSettings, OriginSettings
from kit.tasks import end
from services.notifier.callbacks.artifacts import Artifacts
from services.notifier.callbacks.engine import CallbackEngine
from services.notifier.metrics import NotifierMetrics
from services.notifier.on_event import follow_events, follow_progress
from services.notifier.settings import SEND_BUFFER_BYTES, NotifierSettings, WebhookSettings, bucket_settings
from services.notifier.streams import routes as event_routes
from services.notifier.streams import ticket_routes
from services.notifier.streams.hub import Hub
from services.notifier.streams.replay import Replay
from services.notifier.streams.routes import StreamService
from services.notifier.streams.sse_connection import SseHttpProtocol
from services.notifier.streams.subscriber import StreamLimits
from services.notifier.webhooks.deliveries import routes as delivery_routes
from services.notifier.webhooks.deliveries.delivery_file import DeliveryFile
from services.notifier.webhooks.deliveries.delivery_service import DeliveryService
from services.notifier.webhooks.endpoints import routes as endpoint_routes
from services.notifier.webhooks.endpoints.endpoint_service import EndpointService
from services.notifier.webhooks.endpoints.endpoint_store import EndpointStore
from services.notifier.webhooks.endpoints.secret_encryption import SecretEncryption
from services.notifier.webhooks.sending import routes as example_routes
from services.notifier.webhooks.sending.example_sender import ExampleSender
from services.notifier.webhooks.sending.sender import Sender
from services.notifier.webhooks.signing import Signer
from services.notifier.webhooks.webhook_delivery import WebhookDelivery

T = TypeVar("T")

_TAGS: Final = [
    {"name": "events", "description": "Server-Sent Events of jobs, sessions and the whole tenant"},
    {"name": "webhooks", "description": "Events sent to your server, signed and retried"},
]

log = logging.getLogger(__name__)


def make_app(streams: StreamService, health: Health, auth: AuthSettings, tickets: Tickets) -> FastAPI:
    """Return the HTTP application; until ``add_webhooks`` its routes of webhooks answer WEBHOOKS_NOT_CONFIGURED."""
    app = FastAPI(title="Saccade events", version="1", docs_url=None, redoc_url=None, openapi_tags=_TAGS)
    app.add_middleware(HeadRequests)
    install_problems(app)
    app.state.streams, app.state.tickets = streams, tickets
    app.state.authenticator = Authenticator(auth)
    app.include_router(event_routes.router)
    app.include_router(ticket_routes.router)
    app.state.endpoint_service = app.state.delivery_service = app.state.example_sender = None

    # The one origin routes this path to the notifier; its /openapi.json is the gateway's.
    @app.get("/v1/webhooks/openapi.json", include_in_schema=False)
    async def get_openapi() -> dict[str, Any]:
        return app.openapi()

    app.include_router(endpoint_routes.router)
    app.include_router(example_routes.router)
    app.include_router(delivery_routes.router)

    @app.get("/health", tags=["service"])
    async def get_health() -> HealthReport:
        """Return the health report."""
        return await health.report()

    text: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}

    @app.get("/metrics", tags=["service"], response_class=Response, responses=text)
    async def get_metrics() -> Response:
        """Return the metrics for Prometheus."""
        body, content_type = streams.metrics.expose()
        return Response(body, media_type=content_type)

    app.openapi = partial(openapi_of, app, authenticated=auth.authenticated)  # type: ignore[method-assign]
    return app


async def run(
    settings: NotifierSettings,
    webhook_settings: WebhookSettings,
    nats: NatsSettings,
    auth: AuthSettings,
    stop: asyncio.Event,
) -> int:
    """Run the notifier until ``stop`` is set and return its exit code.

    Raises:
        CannotServeError: the address is in use or not safe.
    """
    async with contextlib.AsyncExitStack() as stack:
        client = await _unless_stopped(stop, stack.enter_async_context(_connection(nats)))
        if client is None or (position := await _unless_stopped(stop, _declare_streams(client, nats.replicas))) is None:
            return 0
        epoch, head = position
        metrics = NotifierMetrics()
        hub = Hub(
            metrics,
            ring_events=settings.ring_events,
            ring_bytes=settings.ring_bytes,
            heartbeat_s=settings.heartbeat_s,
        )
        hub.begin(epoch, head)
        store = EventStore(client)
        webhooks = await stack.enter_async_context(_webhooks(webhook_settings, auth, store, (epoch, head), metrics))
        callbacks = await stack.enter_async_context(_callbacks(webhook_settings, auth, store, metrics))
        recent = [webhooks.delivery.recent_events.on_event] if webhooks else []
        tail = follow_events(store, *recent, callbacks.on_event, hub.on_event)
        replay = Replay(tail, EventStore(client, "PROGRESS"), hub, metrics)
        limits = StreamLimits(
            max_streams=settings.max_streams,
            backlog_events=settings.backlog_events,
            backlog_bytes=settings.backlog_bytes,
            blocked_s=settings.blocked_s,
            rotate_s=settings.rotate_s,
        )
        key = settings.ticket_key.get_secret_value() if settings.ticket_key else None
        if key is None and auth.authenticated:
            log.warning("NOTIFIER_TICKET_KEY is not set: tickets are only valid until this process ends")
        health = Health("notifier", nats=nats_check(client))
        app = make_app(StreamService(hub, replay, metrics, limits), health, auth, Tickets(key))
        if webhooks:
            webhooks.add_services(app, replay, Idempotency(EventStore(client, IDEMPOTENCY.name)))
        relayed = [webhooks.delivery.on_progress] if webhooks else []
        await follow_progress(client, *relayed, hub.on_progress, callbacks.on_progress)
        passed = PassedConnections.inherited(OriginSettings().connections_fd, is_path_of("notifier"))
        server = NotifierServer(settings.host, settings.port, auth.authenticated, settings.drain_s, passed)
        return await server.run(
            HostGuard(BodyLimit(app), auth), hub, tail, webhooks=webhooks, callbacks=callbacks, stop=stop
        )


@dataclass(frozen=True)
class WebhookParts:
    """Objects that send webhooks and those that their HTTP services need."""

    delivery: WebhookDelivery
    endpoints: EndpointStore
    sender: Sender
    signer: Signer
    guard: AddressGuard
    https_only: bool

    def add_services(self, app: FastAPI, replay: Replay, idempotency: Idempotency) -> None:
        """Set the services of the webhook routes in the application's state."""
        app.state.endpoint_service = EndpointService(
            self.endpoints,
            signer=self.signer,
            guard=self.guard,
            https_only=self.https_only,
            idempotency=idempotency,
        )
        app.state.delivery_service = DeliveryService(self.delivery.projector, self.endpoints, replay)
        app.state.example_sender = ExampleSender(self.endpoints, self.delivery.receivers, self.sender)


@contextlib.asynccontextmanager
async def _webhooks(
    settings: WebhookSettings,
    auth: AuthSettings,
    store: EventStore,
    position: tuple[str, int],
    metrics: NotifierMetrics,
) -> AsyncIterator[WebhookParts | None]:
    """Open the webhooks of events after ``position``, its epoch and sequence, and close them at the end.

    None without the secret key for encryption and signatures.
    """
    epoch, head = position
    if settings.secret_key is None:
        log.warning("NOTIFIER_SECRET_KEY is not set: no webhooks are sent")
        yield None
        return
    secret_key = settings.secret_key.get_secret_value()
    guard = AddressGuard.allowing(settings.allowed_networks(auth))
    https_only = settings.https_only(auth)
    signer = Signer.from_secret_key(secret_key)
    endpoints = EndpointStore(EventStore(store.client, WEBHOOKS.name), SecretEncryption(secret_key))
    file = _delivery_file(settings.data_dir)
    async with Sender(guard, https_only=https_only) as sender:
        delivery = WebhookDelivery(store, endpoints, file, sender, signer, epoch=epoch, head=head, metrics=metrics)
        try:
            yield WebhookParts(delivery, endpoints, sender, signer, guard, https_only)
        finally:
            delivery.close()


@contextlib.asynccontextmanager
async def _callbacks(
    settings: WebhookSettings, auth: AuthSettings, store: EventStore, metrics: NotifierMetrics
) -> AsyncIterator[CallbackEngine]:
    """Open the callbacks of the replaced badminton system; addresses are checked as those of webhooks."""
    guard = AddressGuard.allowing(settings.allowed_networks(auth))
    async with Sender(guard, https_only=settings.https_only(auth)) as sender:
        yield CallbackEngine(store, sender, Artifacts(bucket_settings()), metrics)


def _delivery_file(folder: Path | None) -> DeliveryFile:
    """Open the projection of deliveries; in memory if the folder cannot be used: it is rebuilt from the streams."""
    try:
        return DeliveryFile(folder)
    except (OSError, sqlite3.Error) as error:
        log.warning("deliveries are kept in memory: %s", error)
        return DeliveryFile(None)


@dataclass(frozen=True)
class NotifierServer:
    """HTTP server and background tasks of the notifier."""

    host: str
    port: int
    authenticated: bool
    drain_s: float
    #: Connections from the origin of an embedded system.
    passed: PassedConnections | None = None

    async def run(
        self,
        app: ASGIApp,
        hub: Hub,
        tail: EventTail,
        *,
        webhooks: WebhookParts | None,
        callbacks: CallbackEngine,
        stop: asyncio.Event,
    ) -> int:
        """Run tails, heartbeats, webhooks, callbacks and server until one ends or ``stop`` is set.

        Returns the exit code.

        Raises:
            CannotServeError: the address is in use or not safe.
        """
        closing = asyncio.Event()

        async def drain() -> None:
            draining = [hub.drain(self.drain_s), callbacks.stop(self.drain_s)]
            if webhooks:
                draining.append(webhooks.delivery.stop(self.drain_s))
            await asyncio.gather(*draining)

        serving = asyncio.ensure_future(
            serve(
                app,
                self.host,
                self.port,
                authenticated=self.authenticated,
                stop=closing,
                send_buffer_bytes=SEND_BUFFER_BYTES,
                protocol=SseHttpProtocol,
                passed=self.passed,
                drain=drain,
            )
        )
        coroutines: list[Coroutine[Any, Any, None]] = [tail.run(hub.head, hub.epoch), hub.send_heartbeats()]
        coroutines.append(callbacks.run())
        if webhooks:
            coroutines += [webhooks.endpoints.run(), webhooks.delivery.run()]
        background = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
        stopping = asyncio.ensure_future(stop.wait())
        tasks: list[asyncio.Future[Any]] = [serving, *background, stopping]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            ended = [task for task in background if task.done()]
            closing.set()
            await serving
            for task in ended:
                task.result()
        except EpochChanged:
            log.warning("the stream was recreated; restarting")
            return EXIT_RESTART
        finally:
            await end(*tasks)
        return 0


@contextlib.asynccontextmanager
async def _connection(settings: NatsSettings) -> AsyncIterator[Client]:
    log.info("connecting to NATS at %s", settings.address)
    client = await connect(settings, "notifier")
    try:
        yield client
    finally:
        await client.close()


async def _declare_streams(client: Client, replicas: int) -> tuple[str, int]:
    """Declare the streams as soon as JetStream answers; return the epoch and last sequence of EVENTS."""
    while True:
        try:
            await declare(client, replicas)
            return await epoch_of(client, "EVENTS")
        except SaccadeError as error:
            log.warning("waiting for the streams: %s", error)
            await asyncio.sleep(0.5)


async def _unless_stopped(stop: asyncio.Event, awaitable: Awaitable[T]) -> T | None:
    """Await something; return None if ``stop`` is set first."""
    awaited = asyncio.ensure_future(awaitable)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([awaited, stopping], return_when=asyncio.FIRST_COMPLETED)
        return await awaited if awaited.done() else None
    finally:
        await end(awaited, stopping)
