"""The one place where the gateway's objects meet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from nats.aio.client import Client

from contracts.asyncapi import asyncapi_document
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Envelope, decode_at
from contracts.streams import EVENTS, LIVE_EVENTS, TELEMETRY
from kit.auth.api_keys import Authenticator, AuthSettings
from kit.auth.host_guard import HostGuard
from kit.auth.tickets import Tickets
from kit.bucket import Bucket
from kit.bus.connection import epoch_of
from kit.bus.event_store import EventStore, StoredEvent
from kit.bus.idempotency import Idempotency
from kit.bus.tail import EventTail
from kit.http.body_limit import BodyLimit
from kit.http.health import Health, nats_check
from kit.http.openapi import openapi_of
from kit.http.problems import install_problems
from kit.tasks import first_of
from services.gateway.aggregates.completion_waiters import CompletionWaiters
from services.gateway.aggregates.view import GatewayView
from services.gateway.artifacts import routes as artifact_routes
from services.gateway.artifacts.service import ArtifactService
from services.gateway.compat import nerf_routes as replaced_nerf_routes
from services.gateway.compat import splat_routes as replaced_splat_routes
from services.gateway.compat.default_session import DefaultSessions
from services.gateway.compat.splat_routes import GatewayHealth, trainer_ready
from services.gateway.jobs import retention_routes
from services.gateway.jobs import routes as job_routes
from services.gateway.jobs.latest_progress import LatestJobProgress
from services.gateway.jobs.on_job import JobProjector
from services.gateway.jobs.service import JobService
from services.gateway.metrics import GatewayMetrics, RequestCounter
from services.gateway.sessions import ply_routes as session_ply_routes
from services.gateway.sessions import record_routes as session_record_routes
from services.gateway.sessions import routes as session_routes
from services.gateway.sessions import telemetry_routes as session_input_routes
from services.gateway.sessions.latest_progress import LatestSessionProgress
from services.gateway.sessions.on_session import SessionProjector
from services.gateway.sessions.page import routes as session_page_routes
from services.gateway.sessions.service import SessionService
from services.gateway.sessions.session_reconciler import SessionReconciler
from services.gateway.sessions.stream import routes as session_stream_routes
from services.gateway.sessions.stream.socket_backlog import OpenSockets
from services.gateway.settings import CompatNerfSettings, GatewaySettings, SessionSettings
from services.gateway.telemetry.consumer_requests import TelemetryConsumerRequests
from services.gateway.telemetry.nats_access import NatsAccess
from services.gateway.telemetry.publisher import TelemetryPublisher
from services.gateway.telemetry.session_ingest import SessionIngest
from services.gateway.uploads import routes as upload_routes
from services.gateway.uploads.media_probe_process import probe_media
from services.gateway.uploads.on_upload import UploadProjector
from services.gateway.uploads.service import UploadService, utc_now
from services.gateway.worker_ingest import routes as ingest_routes
from services.gateway.worker_ingest.service import WorkerIngest
from services.gateway.workloads import routes as workload_routes

log = logging.getLogger(__name__)

VERSION: Final = "0.1.0"
_DOCS: Final = Path(__file__).parent / "docs.html"
_COMMIT_S: Final = 0.25
Reaction = Callable[[Envelope, int], None]

_DISPATCHER_LEASE: Final = "saccade.lease.dispatcher"


@dataclass
class Gateway:
    """What the routes work with."""

    settings: GatewaySettings
    auth: AuthSettings
    authenticator: Authenticator
    bucket: Bucket
    view: GatewayView
    tail: EventTail
    progress: LatestJobProgress
    waiting: CompletionWaiters
    session_waiting: CompletionWaiters
    uploads: UploadService
    jobs: JobService
    sessions: SessionService
    keeper: SessionReconciler
    live: LatestSessionProgress
    door: SessionIngest
    feeds: TelemetryConsumerRequests
    default_sessions: DefaultSessions
    viewers: OpenSockets
    ingest: NatsAccess
    tickets: Tickets
    artifacts: ArtifactService
    replaced_nerf: CompatNerfSettings
    runs: WorkerIngest
    health: Health
    metrics: GatewayMetrics

    async def run(self) -> None:
        """Fold events into the view and keep house, until cancelled.

        Raises:
            EpochChanged: the stream is another one than it was; start again.
        """
        # No TaskGroup: it cancels each of its tasks once, and that can be swallowed (kit/tasks.py).
        await first_of(
            self._fold(), self._commit(), self._keep_house(), self.keeper.run(self.tail.caught_up)
        )  # fmt: skip

    async def _fold(self) -> None:
        epoch, last = await epoch_of(self.tail.store.client, self.tail.store.stream)
        if self.view.epoch != epoch or self.view.sequence > last:
            self.view.reset(epoch)
        await self.progress.start()
        await self.live.start()
        await self.feeds.start()
        await self.tail.run(self.view.sequence, epoch)

    async def _commit(self) -> None:
        while True:
            await asyncio.sleep(_COMMIT_S)
            self.view.commit()

    async def _keep_house(self) -> None:
        await self.tail.caught_up.wait()
        while True:
            try:
                if count := await self.uploads.give_up_expired(utc_now()):
                    log.info("%d uploads expired", count)
                self.keeper.look_at_all()
                self.view.forget_before(utc_now() - timedelta(seconds=EVENTS.max_age_s))
            except SaccadeError as error:
                log.warning("housekeeping: %s", error)
            await asyncio.sleep(self.settings.housekeeping_s)


def build_gateway(
    settings: GatewaySettings,
    auth: AuthSettings,
    client: Client,
    bucket: Bucket,
    view: GatewayView,
    *,
    session_settings: SessionSettings | None = None,
) -> Gateway:
    """Put the gateway together; ``run`` makes it live.

    Raises:
        OSError, ValueError: what the settings name cannot be read.
    """
    store, metrics, viewers = EventStore(client), GatewayMetrics(), OpenSockets()
    progress, waiting, session_waiting = LatestJobProgress(client), CompletionWaiters(), CompletionWaiters()
    session_settings = session_settings or SessionSettings()
    reactions: dict[str, Reaction] = {}
    tail = EventTail(store, partial(_on_event, view, viewers, reactions), live=LIVE_EVENTS, name="gateway")
    uploads = _uploads(settings, client, bucket, view, tail)
    idempotency = Idempotency(EventStore(client, "IDEMPOTENCY"))
    common: Any = {"store": store, "view": view, "tail": tail, "idempotency": idempotency, "settings": settings}
    jobs = JobService(uploads=uploads, waiting=waiting, **common)
    live = LatestSessionProgress(client, metrics, viewers.on_advisory)
    sessions = SessionService(jobs=jobs, waiting=session_waiting, live=live, **common)
    keeper = SessionReconciler(sessions, view)
    door = SessionIngest(TelemetryPublisher(client, metrics), live)
    reactions |= {
        "job": JobProjector(view, progress, waiting, keeper.look_now).handle,
        "session": SessionProjector(view, session_waiting, keeper.look_soon).handle,
        "upload": UploadProjector(view).handle,
    }
    key = session_settings.ticket_key
    return Gateway(
        settings=settings,
        auth=auth,
        authenticator=Authenticator(auth),
        bucket=bucket,
        view=view,
        tail=tail,
        progress=progress,
        waiting=waiting,
        session_waiting=session_waiting,
        uploads=uploads,
        jobs=jobs,
        sessions=sessions,
        keeper=keeper,
        live=live,
        door=door,
        feeds=TelemetryConsumerRequests(client),
        default_sessions=DefaultSessions(sessions, door, EventStore(client, TELEMETRY.name)),
        viewers=viewers,
        ingest=NatsAccess(session_settings),
        tickets=Tickets(key.get_secret_value() if key else None),
        artifacts=ArtifactService(bucket, view),
        replaced_nerf=CompatNerfSettings(),
        runs=WorkerIngest(store, EventStore(client, "PROGRESS"), settings.worker_key),
        health=_health(client, bucket),
        metrics=metrics,
    )


def _on_event(view: GatewayView, viewers: OpenSockets, reactions: Mapping[str, Reaction], stored: StoredEvent) -> None:
    """Take over one event of the stream; whoever looks at a session is given it as it is."""
    view.reached(stored.sequence)
    noun = stored.subject.split(".")[3]
    if reaction := reactions.get(noun):
        reaction(decode_at(stored.subject, stored.body), stored.sequence)
    if noun == "session":
        viewers.on_event(stored)


def _uploads(
    settings: GatewaySettings, client: Client, bucket: Bucket, view: GatewayView, tail: EventTail
) -> UploadService:
    check = partial(probe_media, timeout_s=settings.probe_timeout_s, memory_bytes=settings.probe_memory_bytes)
    return UploadService(
        store=tail.store,
        bucket=bucket,
        view=view,
        tail=tail,
        idempotency=Idempotency(EventStore(client, "IDEMPOTENCY")),
        check=check,
        checks_at_once=settings.checks_at_once,
    )


def _health(client: Client, bucket: Bucket) -> Health:
    leases = EventStore(client, "LEASES")

    async def dispatcher() -> str:
        found = await leases.load(_DISPATCHER_LEASE, deadline_s=1.0)
        if not found or not found[-1].body:
            raise SaccadeError(ErrorCode.WORKER_NOT_STARTED, "no dispatcher runs: jobs wait")
        return "active"

    return Health("gateway", nats=nats_check(client), bucket=bucket.check, dispatcher=dispatcher)


def build_app(gateway: Gateway) -> FastAPI:
    """Make the HTTP application."""
    app = FastAPI(
        title="Saccade",
        version=VERSION,
        summary="Video, photos and robot streams in; events, pictures and models out.",
        docs_url=None,
        redoc_url=None,
        openapi_tags=[
            {"name": name}
            for name in ("workloads", "uploads", "jobs", "sessions", "artifacts", "replaced", "service", "internal")
        ],
    )
    app.state.gateway, app.state.authenticator = gateway, gateway.authenticator
    for routes in (
        workload_routes,
        upload_routes,
        job_routes,
        artifact_routes,
        retention_routes,
        session_routes,
        session_input_routes,
        session_ply_routes,
        session_record_routes,
        session_stream_routes,
        session_page_routes,
        replaced_splat_routes,
        replaced_nerf_routes,
        ingest_routes,
    ):
        app.include_router(routes.router)
    _add_service_routes(app, gateway)
    app.openapi = partial(openapi_of, app, authenticated=gateway.auth.authenticated)  # type: ignore[method-assign]
    app.add_middleware(BodyLimit)
    install_problems(app)
    app.add_middleware(HostGuard, settings=gateway.auth)
    app.add_middleware(RequestCounter, metrics=lambda: gateway.metrics)
    return app


def _add_service_routes(app: FastAPI, gateway: Gateway) -> None:
    @app.get("/health", tags=["service"], summary="How the gateway and its dependencies are")
    async def health(request: Request) -> GatewayHealth:
        report = await gateway.health.report()
        return GatewayHealth(**dict(report), trainer_ready=trainer_ready(request))

    @app.get("/metrics", tags=["service"], summary="Prometheus metrics", response_class=Response)
    async def metrics() -> Response:
        gateway.metrics.live(gateway.view.count_sessions(), len(gateway.viewers))
        body, content_type = gateway.metrics.page(gateway.view.count_jobs(), gateway.view.sequence)
        return Response(body, headers={"Content-Type": content_type})

    @app.get("/docs", include_in_schema=False, response_class=HTMLResponse)
    async def docs() -> HTMLResponse:
        # One file of our own: FastAPI's page needs a content delivery network, and this server may be offline.
        return HTMLResponse(_DOCS.read_text(encoding="utf-8"))

    @app.get("/asyncapi.json", tags=["service"], summary="The events, as AsyncAPI")
    async def asyncapi(_: Request) -> dict[str, Any]:
        return asyncapi_document()
