"""The one place where the notifier's parts meet: bus, hub, routes, and an end within two seconds."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI, Response
from nats.aio.client import Client
from starlette.types import ASGIApp

from contracts.errors import SaccadeError
from contracts.streams import IDEMPOTENCY, WEBHOOKS
from kit.auth.api_keys import Authenticator, AuthSettings
from kit.auth.host_guard import HostGuard
from kit.auth.tickets import Tickets
from kit.bus.connection import connect, declare, epoch_of
from kit.bus.event_store import EventStore
from kit.bus.idempotency import Idempotency
from kit.bus.tail import EpochChanged, EventTail
from kit.http.body_limit import BodyLimit
from kit.http.health import Health, HealthReport, nats_check
from kit.http.openapi import openapi_of
from kit.http.problems import install_problems
from kit.http.server import EXIT_RESTART, serve
from kit.settings import NatsSettings
from kit.tasks import end
from services.notifier.metrics import Metrics
from services.notifier.on_event import follow_events, follow_progress
from services.notifier.settings import SEND_BUFFER_BYTES, NotifierSettings, WebhookSettings
from services.notifier.streams import routes as event_routes
from services.notifier.streams import ticket_routes
from services.notifier.streams.connection import StreamingHttp
from services.notifier.streams.hub import Hub
from services.notifier.streams.replay import Replay
from services.notifier.streams.routes import Streams
from services.notifier.streams.subscriber import Bounds
from services.notifier.webhooks.deliveries import routes as delivery_routes
from services.notifier.webhooks.deliveries.view_file import ViewFile
from services.notifier.webhooks.endpoints import routes as webhook_routes
from services.notifier.webhooks.endpoints.endpoint_service import Desk, Parts
from services.notifier.webhooks.endpoints.endpoint_store import Endpoints
from services.notifier.webhooks.endpoints.secret_encryption import Sealing
from services.notifier.webhooks.sending.address_guard import AddressGuard
from services.notifier.webhooks.sending.sender import Sender
from services.notifier.webhooks.sending.signing import Signer
from services.notifier.webhooks.webhooks import Webhooks

T = TypeVar("T")

log = logging.getLogger(__name__)


def make_app(
    streams: Streams, health: Health, auth: AuthSettings, tickets: Tickets, desk: Desk | None = None
) -> ASGIApp:
    """Make the HTTP application; without a ``desk`` the routes of webhooks say that there are none."""
    app = FastAPI(title="Saccade events", version="1", docs_url=None, redoc_url=None)
    install_problems(app)
    app.state.streams, app.state.tickets = streams, tickets
    app.state.authenticator = Authenticator(auth)
    app.include_router(event_routes.router)
    app.include_router(ticket_routes.router)
    app.state.desk = desk

    # Where the one origin sends it to this service; /openapi.json there is the gateway's.
    @app.get("/v1/webhooks/openapi.json", include_in_schema=False)
    async def get_openapi() -> dict[str, Any]:
        return app.openapi()

    app.include_router(webhook_routes.router)
    app.include_router(delivery_routes.router)

    @app.get("/health", tags=["service"])
    async def get_health() -> HealthReport:
        """Say how the service is."""
        return await health.report()

    @app.get("/metrics", tags=["service"], response_class=Response)
    async def get_metrics() -> Response:
        """Give figures for Prometheus."""
        body, content_type = streams.metrics.expose()
        return Response(body, media_type=content_type)

    app.openapi = partial(openapi_of, app, authenticated=auth.authenticated)  # type: ignore[method-assign]
    return HostGuard(BodyLimit(app), auth)


async def run(
    settings: NotifierSettings,
    webhook_settings: WebhookSettings,
    nats: NatsSettings,
    auth: AuthSettings,
    stop: asyncio.Event,
) -> int:
    """Run the notifier until ``stop`` is set and give its exit code.

    Raises:
        CannotServeError: the address is taken or not safe.
    """
    async with contextlib.AsyncExitStack() as stack:
        client = await _unless(stop, stack.enter_async_context(_connection(nats)))
        if client is None or (began := await _unless(stop, _begin(client, nats.replicas))) is None:
            return 0
        epoch, head = began
        metrics = Metrics()
        hub = Hub(
            metrics,
            ring_events=settings.ring_events,
            ring_bytes=settings.ring_bytes,
            heartbeat_s=settings.heartbeat_s,
        )
        hub.begin(epoch, head)
        store = EventStore(client)
        sending = await stack.enter_async_context(_sending(webhook_settings, store, epoch, head, metrics))
        tail = follow_events(store, *([sending.webhooks.newest.on_event] if sending else []), hub.on_event)
        replay = Replay(tail, EventStore(client, "PROGRESS"), hub, metrics)
        bounds = Bounds(
            max_streams=settings.max_streams,
            backlog_events=settings.backlog_events,
            backlog_bytes=settings.backlog_bytes,
            blocked_s=settings.blocked_s,
            rotate_s=settings.rotate_s,
        )
        streams = Streams(hub, replay, metrics, bounds)
        key = settings.ticket_key.get_secret_value() if settings.ticket_key else None
        if key is None and auth.authenticated:
            log.warning("NOTIFIER_TICKET_KEY is not set: tickets end with this process")
        desk = sending.desk(replay, Idempotency(EventStore(client, IDEMPOTENCY.name))) if sending else None
        app = make_app(streams, Health("notifier", nats=nats_check(client)), auth, Tickets(key), desk)
        await follow_progress(client, *([sending.webhooks.on_progress] if sending else []), hub.on_progress)
        serving = Serving(settings.host, settings.port, auth.authenticated, settings.drain_s)
        return await serving.run(app, hub, tail, sending, stop)


@dataclass(frozen=True)
class Sending:
    """What sends webhooks, and what its desk works with."""

    webhooks: Webhooks
    endpoints: Endpoints
    sender: Sender
    signer: Signer
    guard: AddressGuard
    https_only: bool

    def desk(self, replay: Replay, idempotency: Idempotency) -> Desk:
        """Make what the HTTP routes work with."""
        parts = Parts(
            endpoints=self.endpoints,
            ledger=self.webhooks.ledger,
            receivers=self.webhooks.receivers,
            sender=self.sender,
            signer=self.signer,
            guard=self.guard,
            https_only=self.https_only,
            replay=replay,
            idempotency=idempotency,
        )
        return Desk(parts)


@contextlib.asynccontextmanager
async def _sending(
    settings: WebhookSettings, store: EventStore, epoch: str, head: int, metrics: Metrics
) -> AsyncIterator[Sending | None]:
    """Make what sends webhooks, and end it; None without the key that seals and signs."""
    if settings.secret_key is None:
        log.warning("NOTIFIER_SECRET_KEY is not set: no webhooks are sent")
        yield None
        return
    secret_key = settings.secret_key.get_secret_value()
    guard = AddressGuard.allowing(settings.webhook_allowed_networks)
    signer = Signer.from_secret_key(secret_key)
    endpoints = Endpoints(EventStore(store.client, WEBHOOKS.name), Sealing(secret_key))
    file = _view_file(settings.data_dir)
    async with Sender(guard, https_only=settings.webhook_https_only) as sender:
        webhooks = Webhooks(store, endpoints, file, sender, signer, epoch=epoch, head=head, metrics=metrics)
        try:
            yield Sending(webhooks, endpoints, sender, signer, guard, settings.webhook_https_only)
        finally:
            webhooks.close()


def _view_file(folder: Path | None) -> ViewFile:
    """Open the view of deliveries; in memory where the folder cannot be used: it is folded again from the streams."""
    try:
        return ViewFile(folder)
    except (OSError, sqlite3.Error) as error:
        log.warning("deliveries are kept in memory: %s", error)
        return ViewFile(None)


@dataclass(frozen=True)
class Serving:
    """Where the notifier listens and how it ends."""

    host: str
    port: int
    authenticated: bool
    drain_s: float

    async def run(self, app: ASGIApp, hub: Hub, tail: EventTail, sending: Sending | None, stop: asyncio.Event) -> int:
        """Run tails, heartbeat, webhooks and server until one ends or ``stop`` is set, and give the exit code.

        Raises:
            CannotServeError: the address is taken or not safe.
        """
        closing = asyncio.Event()

        async def drain() -> None:
            draining = [hub.drain(self.drain_s)]
            if sending:
                draining.append(sending.webhooks.stop(self.drain_s))
            await asyncio.gather(*draining)

        serving = asyncio.ensure_future(
            serve(
                app,
                self.host,
                self.port,
                authenticated=self.authenticated,
                stop=closing,
                send_buffer_bytes=SEND_BUFFER_BYTES,
                protocol=StreamingHttp,
                drain=drain,
            )
        )
        followed = [tail.run(hub.head, hub.epoch), hub.beat()]
        if sending:
            followed += [sending.endpoints.run(), sending.webhooks.run()]
        following = [asyncio.ensure_future(one) for one in followed]
        stopping = asyncio.ensure_future(stop.wait())
        tasks: list[asyncio.Future[Any]] = [serving, *following, stopping]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            ended = [task for task in following if task.done()]
            closing.set()
            await serving
            for task in ended:
                task.result()
        except EpochChanged:
            log.warning("the stream was made anew; starting again")
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


async def _begin(client: Client, replicas: int) -> tuple[str, int]:
    """Declare the streams, as soon as JetStream answers, and give where the events stand."""
    while True:
        try:
            await declare(client, replicas)
            return await epoch_of(client, "EVENTS")
        except SaccadeError as error:
            log.warning("waiting for the streams: %s", error)
            await asyncio.sleep(0.5)


async def _unless(stop: asyncio.Event, awaitable: Awaitable[T]) -> T | None:
    """Await something, unless the service is told to stop first."""
    wanted = asyncio.ensure_future(awaitable)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([wanted, stopping], return_when=asyncio.FIRST_COMPLETED)
        return await wanted if wanted.done() else None
    finally:
        await end(wanted, stopping)
