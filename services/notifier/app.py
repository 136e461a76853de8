"""Composition root of the notifier: bus, hub, webhooks, callbacks and routes, started and stopped together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI
from nats.aio.client import Client
from starlette.types import ASGIApp

from contracts.commands import ASK_REDELIVERY, NOTIFIER, AskedRedelivery, RedeliveryAccepted
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Cursor
from contracts.http_routes import is_path_of
from contracts.streams import EVENTS, IDEMPOTENCY, OPS, WEBHOOKS
from kit.auth.api_keys import AuthSettings
from kit.auth.host_guard import HostGuard
from kit.auth.tickets import Tickets
from kit.bus.audit_log import AuditLog
from kit.bus.connection import connect, declare
from kit.bus.event_store import EventStore
from kit.bus.idempotency import Idempotency
from kit.bus.lineage import StreamPosition, position_of_stream
from kit.bus.service_requests import answer_requests
from kit.bus.tail import EpochChanged, EventTail
from kit.bus.tenant_erasures import TenantErasures
from kit.history.archive_access import open_archive
from kit.history.history import History
from kit.http.health import Health, nats_check
from kit.http.passed_connections import PassedConnections
from kit.http.readiness import Readiness
from kit.http.server import EXIT_RESTART, serve
from kit.network.address_guard import AddressGuard
from kit.service_metrics import measured
from kit.settings import ArchiveSettings, NatsSettings, OriginSettings
from kit.tasks import end
from services.notifier.callbacks.artifacts import Artifacts
from services.notifier.callbacks.engine import CallbackEngine
from services.notifier.ended_subjects import EndedSubjects
from services.notifier.http_application import make_app
from services.notifier.metrics import NotifierMetrics
from services.notifier.on_event import follow_events, follow_progress
from services.notifier.replays.live_traffic import LiveTraffic
from services.notifier.replays.replays import Replays
from services.notifier.replays.target import TargetKinds
from services.notifier.replays.targets.kinds import open_target_kinds
from services.notifier.replays.targets.webhook import WebhookTargetKind
from services.notifier.settings import (
    SEND_BUFFER_BYTES,
    NotifierSettings,
    SandboxNatsSettings,
    SmtpSettings,
    WebhookSettings,
    bucket_settings,
)
from services.notifier.streams.hub import Hub
from services.notifier.streams.routes import StreamService
from services.notifier.streams.sse_connection import SseHttpProtocol
from services.notifier.streams.stream_history import StreamHistory
from services.notifier.streams.subscriber import StreamLimits
from services.notifier.webhooks.deliveries.delivery_file import DeliveryFile
from services.notifier.webhooks.deliveries.delivery_service import DeliveryService
from services.notifier.webhooks.endpoints.endpoint_service import EndpointService
from services.notifier.webhooks.endpoints.endpoint_store import EndpointStore
from services.notifier.webhooks.endpoints.secret_encryption import SecretEncryption
from services.notifier.webhooks.sending.attempt_sender import AttemptSender
from services.notifier.webhooks.sending.example_sender import ExampleSender
from services.notifier.webhooks.sending.sender import Sender
from services.notifier.webhooks.sending.smtp_sender import MailServer, SmtpSender
from services.notifier.webhooks.sent_requests.sent_request import SentRequests
from services.notifier.webhooks.signing import Signer
from services.notifier.webhooks.webhook_delivery import WebhookDelivery

T = TypeVar("T")

log = logging.getLogger(__name__)


async def run(
    settings: NotifierSettings,
    webhook_settings: WebhookSettings,
    nats: NatsSettings,
    auth: AuthSettings,
    stop: asyncio.Event,
    *,
    smtp: SmtpSettings,
    sandbox: SandboxNatsSettings,
) -> int:
    """Run the notifier until ``stop`` is set and return its exit code.

    Raises:
        CannotServeError: the address is in use or not safe.
    """
    async with contextlib.AsyncExitStack() as stack:
        client = await _unless_stopped(stop, stack.enter_async_context(_connection(nats)))
        if client is None or (position := await _unless_stopped(stop, _declare_streams(client, nats.replicas))) is None:
            return 0
        metrics = NotifierMetrics()
        hub = _hub(settings, metrics, position)
        store = EventStore(client)
        stored = History(store, await stack.enter_async_context(open_archive(bucket_settings(), ArchiveSettings())))
        opening = _webhooks(webhook_settings, auth, store, position, metrics, history=stored, mail_server=smtp.server)
        webhooks = await stack.enter_async_context(opening)
        callbacks = await stack.enter_async_context(_callbacks(webhook_settings, auth, store, metrics))
        recent = [webhooks.delivery.recent_events.on_event] if webhooks else []
        traffic, erasures, ended = LiveTraffic(), TenantErasures(position.last), EndedSubjects()
        tail = follow_events(store, *recent, *(part.on_event for part in (callbacks, traffic, erasures, ended, hub)))
        await stack.enter_async_context(measured(metrics.registry, client, tail))
        history = StreamHistory(
            tail, EventStore(client, "PROGRESS", for_display=True), hub, metrics, history=stored, rest=traffic.rest
        )
        readiness = Readiness("notifier", events=tail.reading, **(webhooks.delivery.reading if webhooks else {}))
        streams = StreamService(hub, history, metrics, _limits(settings))
        app = make_app(streams, Health("notifier", nats=nats_check(client)), readiness, auth, _tickets(settings, auth))
        idempotency = Idempotency(EventStore(client, IDEMPOTENCY.name), app.state.authenticator.quotas)
        if webhooks:
            await webhooks.add_services(app, idempotency)
        target = webhooks.replay_target(metrics, traffic) if webhooks else None
        kinds = await stack.enter_async_context(open_target_kinds(target, sandbox.connection(nats), client, traffic))
        replays = _replays(settings, tail, stored, idempotency, kinds, traffic=traffic)
        replays.add_services(app)
        relayed = [webhooks.delivery.on_progress] if webhooks else []
        await follow_progress(client, ended, *relayed, hub.on_progress, callbacks.on_progress)
        passed = PassedConnections.inherited(OriginSettings().connections_fd, is_path_of("notifier"))
        server = NotifierServer(settings.host, settings.port, auth.authenticated, settings.drain_s, passed)
        return await server.run(
            HostGuard(app, auth),
            hub,
            tail,
            webhooks=webhooks,
            callbacks=callbacks,
            replays=replays,
            erasures=erasures,
            stop=stop,
        )


def _hub(settings: NotifierSettings, metrics: NotifierMetrics, position: StreamPosition) -> Hub:
    """Return the hub of the streams, which begins after a position."""
    hub = Hub(
        metrics, ring_events=settings.ring_events, ring_bytes=settings.ring_bytes, heartbeat_s=settings.heartbeat_s
    )
    hub.begin(position.lineage, position.last)
    return hub


def _limits(settings: NotifierSettings) -> StreamLimits:
    return StreamLimits(
        max_streams=settings.max_streams,
        backlog_events=settings.backlog_events,
        backlog_bytes=settings.backlog_bytes,
        blocked_s=settings.blocked_s,
        rotate_s=settings.rotate_s,
    )


def _tickets(settings: NotifierSettings, auth: AuthSettings) -> Tickets:
    key = settings.ticket_key.get_secret_value() if settings.ticket_key else None
    if key is None and auth.authenticated:
        log.warning("NOTIFIER_TICKET_KEY is not set: tickets are only valid until this process ends")
    return Tickets(key)


async def _answer_services(client: Client, deliveries: DeliveryService, endpoints: EndpointStore) -> None:
    """Send events again that other services ask for; one notifier gets each request."""

    async def redeliver(request: AskedRedelivery) -> RedeliveryAccepted:
        await endpoints.wait_until_read()
        return await deliveries.redeliver_for(request)

    await answer_requests(client, {ASK_REDELIVERY: redeliver}, queue=NOTIFIER)


@dataclass(frozen=True)
class WebhookParts:
    """Objects that send webhooks and those that their HTTP services need."""

    delivery: WebhookDelivery
    endpoints: EndpointStore
    sender: AttemptSender
    signer: Signer
    guard: AddressGuard
    https_only: bool
    mail_server: MailServer | None

    def replay_target(self, metrics: NotifierMetrics, traffic: LiveTraffic) -> WebhookTargetKind:
        """Return the endpoints as targets of replays."""
        return WebhookTargetKind(self.delivery, self.endpoints, self.sender, metrics, traffic=traffic)

    async def add_services(self, app: FastAPI, idempotency: Idempotency) -> None:
        """Set the services of the webhook routes in the application's state, and answer other services."""
        app.state.endpoints = self.endpoints
        app.state.endpoint_service = EndpointService(
            self.endpoints,
            signer=self.signer,
            guard=self.guard,
            https_only=self.https_only,
            idempotency=idempotency,
            quotas=app.state.authenticator.quotas,
            recipients=self.mail_server.recipients if self.mail_server else None,
        )
        app.state.delivery_service = self.delivery.service
        app.state.example_sender = ExampleSender(self.endpoints, self.delivery.receivers, self.sender)
        app.state.sent_requests = SentRequests(app.state.delivery_service, self.endpoints, self.delivery)
        await _answer_services(self.endpoints.store.client, app.state.delivery_service, self.endpoints)


@contextlib.asynccontextmanager
async def _webhooks(
    settings: WebhookSettings,
    auth: AuthSettings,
    store: EventStore,
    position: StreamPosition,
    metrics: NotifierMetrics,
    *,
    history: History,
    mail_server: MailServer | None,
) -> AsyncIterator[WebhookParts | None]:
    """Open the webhooks of events after the last one at ``position``, and close them at the end.

    None without the secret key for encryption and signatures, and of an imported window.
    """
    if settings.secret_key is None or auth.read_only:
        if not auth.read_only:
            log.warning("NOTIFIER_SECRET_KEY is not set: no webhooks are sent")
        yield None
        return
    secret_key = settings.secret_key.get_secret_value()
    guard = AddressGuard.allowing(settings.allowed_networks(auth))
    https_only = settings.https_only(auth)
    signer = Signer.from_secret_key(secret_key)
    endpoints = EndpointStore(EventStore(store.client, WEBHOOKS.name), SecretEncryption(secret_key))
    async with Sender(guard, https_only=https_only) as http:
        sender = AttemptSender(http, SmtpSender(mail_server) if mail_server else None)
        epoch, head = position.lineage.current.id, position.last
        parts = (store, endpoints, _delivery_file(settings.data_dir), sender, signer)
        delivery = WebhookDelivery(*parts, epoch=epoch, head=head, metrics=metrics, history=history)
        try:
            yield WebhookParts(delivery, endpoints, sender, signer, guard, https_only, mail_server)
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


def _replays(
    settings: NotifierSettings,
    tail: EventTail,
    stored: History,
    idempotency: Idempotency,
    kinds: TargetKinds,
    *,
    traffic: LiveTraffic,
) -> Replays:
    """Return the replays of the stream that ``tail`` follows."""

    def position_of(cursor: Cursor) -> int | None:
        if not tail.lineage.epochs:
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, "The stream's epochs are not read yet.")
        return tail.lineage.position_of(cursor)

    audit = AuditLog(EventStore(tail.store.client, OPS.name), "/notifier")
    return Replays(
        audit,
        stored,
        idempotency,
        kinds,
        position_of=position_of,
        heartbeat_s=settings.heartbeat_s,
        maximum_readers=settings.max_streams,
        traffic=traffic,
    )


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
        replays: Replays,
        erasures: TenantErasures,
        stop: asyncio.Event,
    ) -> int:
        """Run all until one ends or ``stop`` is set, and return the exit code.

        Raises:
            CannotServeError: the address is in use or not safe.
        """
        closing = asyncio.Event()

        async def drain() -> None:
            replays.stop()
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
        coroutines += [callbacks.run(), replays.run(), erasures.run()]
        if webhooks:
            coroutines += [webhooks.endpoints.run(), webhooks.delivery.run()]
        background = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
        tasks: list[asyncio.Future[Any]] = [serving, *background, asyncio.ensure_future(stop.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            ended = [task for task in background if task.done()]
            closing.set()
            await serving
            for task in ended:
                task.result()
        except EpochChanged:
            log.warning("the stream was recreated, or a tenant erased; restarting")
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


async def _declare_streams(client: Client, replicas: int) -> StreamPosition:
    """Declare the streams as soon as JetStream answers; return the epochs and last sequence of EVENTS."""
    while True:
        try:
            await declare(client, replicas)
            return await position_of_stream(client, EVENTS.name)
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
