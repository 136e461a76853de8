"""Composition root of the gateway: builds its objects, its HTTP application and its background work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse
from nats.aio.client import Client

from contracts.asyncapi import asyncapi_document
from contracts.errors import ErrorCode, SaccadeError
from contracts.streams import DISPATCHER_LEASE, EVENTS, LEASES, TELEMETRY
from kit.auth.api_keys import LOCAL_TENANT, Authenticator, AuthSettings
from kit.auth.host_guard import HostGuard
from kit.auth.tickets import Tickets
from kit.bucket import Bucket
from kit.bus.event_store import EventStore
from kit.bus.idempotency import Idempotency
from kit.bus.lease import is_held
from kit.http.body_limit import BodyLimit
from kit.http.head_requests import HeadRequests
from kit.http.health import Health, nats_check, store_check
from kit.http.openapi import openapi_of
from kit.http.problems import install_problems
from kit.network.download import Downloader
from kit.settings import WebhookAddressSettings
from kit.tasks import first_of
from services.gateway.aggregates.completion_waiters import CompletionWaiters
from services.gateway.aggregates.upload_state import Upload
from services.gateway.aggregates.view import GatewayView
from services.gateway.aggregates.view_follower import ViewFollower
from services.gateway.artifacts import routes as artifact_routes
from services.gateway.artifacts.pages import ArtifactPages
from services.gateway.artifacts.service import ArtifactService
from services.gateway.backends.reported_backends import ReportedBackends
from services.gateway.compat import nerf_routes as compat_nerf_routes
from services.gateway.compat import splat_routes as compat_splat_routes
from services.gateway.compat.badminton import addresses as badminton_addresses
from services.gateway.compat.badminton.composition import mount_badminton
from services.gateway.compat.badminton_endpoint.routes import add_badminton_endpoint
from services.gateway.compat.default_session import DefaultSessions
from services.gateway.compat.nerf_jobs import NerfJobs
from services.gateway.compat.splat_routes import GatewayHealth
from services.gateway.jobs import retention_routes
from services.gateway.jobs import routes as job_routes
from services.gateway.jobs.latest_progress import LatestJobProgress
from services.gateway.jobs.on_job import JobProjector
from services.gateway.jobs.presenter import JobPresenter
from services.gateway.jobs.service import JobService
from services.gateway.jobs.url_jobs import UrlJobs
from services.gateway.metrics import GatewayMetrics, RequestCounter
from services.gateway.reference import routes as reference_routes
from services.gateway.sessions import ply_routes, record_routes, telemetry_routes
from services.gateway.sessions import routes as session_routes
from services.gateway.sessions.latest_progress import LatestSessionProgress
from services.gateway.sessions.on_session import SessionProjector
from services.gateway.sessions.page import routes as session_page_routes
from services.gateway.sessions.ply_download import PlyDownload
from services.gateway.sessions.presenter import SessionPresenter
from services.gateway.sessions.service import SessionService
from services.gateway.sessions.session_reconciler import SessionReconciler
from services.gateway.sessions.stream import routes as session_stream_routes
from services.gateway.sessions.stream.session_streams import SessionStreams
from services.gateway.sessions.stream.socket_backlog import OpenSockets
from services.gateway.settings import (
    CompatNerfSettings,
    DiskSettings,
    GatewaySettings,
    SessionSettings,
    UrlInputSettings,
)
from services.gateway.telemetry.consumer_requests import TelemetryConsumerRequests
from services.gateway.telemetry.frame_acks import FrameAcks
from services.gateway.telemetry.nats_access import NatsAccess
from services.gateway.telemetry.publisher import TelemetryPublisher
from services.gateway.telemetry.session_ingest import SessionIngest
from services.gateway.uploads import routes as upload_routes
from services.gateway.uploads.disk import Disk
from services.gateway.uploads.fetching.upload_fetcher import UploadFetcher
from services.gateway.uploads.fetching.upload_fetches import UploadFetches
from services.gateway.uploads.fetching.url_policy import UrlPolicy
from services.gateway.uploads.fetching.url_uploads import UrlUploads
from services.gateway.uploads.media_probe_process import probe_media
from services.gateway.uploads.on_upload import UploadProjector
from services.gateway.uploads.presenter import UploadPresenter
from services.gateway.uploads.service import UploadService
from services.gateway.worker_ingest import routes as worker_ingest_routes
from services.gateway.worker_ingest.service import WorkerIngest
from services.gateway.workloads import routes as workload_routes
from services.gateway.workloads.presenter import WorkloadPresenter

log = logging.getLogger(__name__)

VERSION: Final = "0.1.0"
_FAVICON: Final = Path(__file__).parent / "favicon.svg"
_TAGS: Final = {
    "workloads": "What can be submitted, with its inputs, parameters and price",
    "uploads": "Files on their way to the bucket",
    "jobs": "Submit, follow, cancel and retry",
    "sessions": "Live streams of robots and cameras",
    "artifacts": "Files that jobs have made",
    "replaced": "Routes of the systems that Saccade replaces, unchanged",
    "service": "Health, metrics and contracts",
    "internal": "Called by workers, with the token of their job",
}


@dataclass(frozen=True)
class GatewayLoop:
    """Background work of the gateway, which must run while the application serves requests."""

    follower: ViewFollower
    reconciler: SessionReconciler
    uploads: UploadService
    fetches: UploadFetches
    url_jobs: UrlJobs
    waiters: CompletionWaiters
    #: Subscriptions that are made before events are folded.
    subscribe: Sequence[Callable[[], Awaitable[None]]]
    housekeeping_s: float

    async def run(self) -> None:
        """Follow the stream, reconcile sessions and do housekeeping until cancelled.

        Raises:
            EpochChanged: the stream of events was replaced; restart the process.
        """
        for subscribe in self.subscribe:
            await subscribe()
        caught_up = self.follower.tail.caught_up
        await first_of(
            self.follower.run(),
            self._housekeeping(),
            self.reconciler.run(caught_up),
            self.fetches.run(caught_up),
            self.url_jobs.run(caught_up),
        )

    async def _housekeeping(self) -> None:
        """Expire uploads, re-check unfinished sessions and prune the view, periodically."""
        await self.follower.tail.caught_up.wait()
        while True:
            try:
                now = datetime.now(UTC)
                if count := await self.uploads.expire(now):
                    log.info("%d uploads expired", count)
                self.reconciler.enqueue_unfinished()
                await self.fetches.sweep()
                await self.url_jobs.sweep()
                self.follower.view.prune_before(now - timedelta(seconds=EVENTS.max_age_s))
            except SaccadeError as error:
                log.warning("housekeeping: %s", error)
            await asyncio.sleep(self.housekeeping_s)


def build_gateway(
    settings: GatewaySettings,
    auth: AuthSettings,
    client: Client,
    bucket: Bucket,
    view: GatewayView,
    *,
    session_settings: SessionSettings | None = None,
    url_settings: UrlInputSettings | None = None,
) -> tuple[FastAPI, GatewayLoop]:
    """Build the HTTP application and the background work that it depends on.

    Raises:
        OSError, ValueError: a file that the settings name cannot be read.
    """
    session_settings = session_settings or SessionSettings()
    store, metrics, authenticator = EventStore(client), GatewayMetrics(), Authenticator(auth)
    open_sockets, waiters, tickets = OpenSockets(), CompletionWaiters(), _tickets(session_settings)
    follower = ViewFollower(store, view, open_sockets.on_event)
    tail = follower.tail
    idempotency, disk = Idempotency(EventStore(client, "IDEMPOTENCY")), Disk(DiskSettings().disk)
    common: Any = {"store": store, "view": view, "tail": tail, "idempotency": idempotency}
    uploads = _upload_service(settings, bucket=bucket, disk=disk, **common)
    fetches = _upload_fetches(client, uploads, bucket, disk, UrlPolicy(url_settings or UrlInputSettings(), auth))
    backends = ReportedBackends(EventStore(client, LEASES.name), settings.backends, settings.install_hint)
    common |= {"waiters": waiters, "settings": settings, "backends": backends}
    jobs = JobService(uploads=uploads, https_webhooks_only=WebhookAddressSettings().https_only(auth), **common)
    url_jobs = UrlJobs(jobs, uploads, fetches, idempotency, waiters)
    job_progress, session_progress = LatestJobProgress(client), LatestSessionProgress(client, open_sockets.on_advisory)
    sessions = SessionService(jobs=jobs, progress=session_progress, **common)
    reconciler = SessionReconciler(sessions, view)
    _set_projectors(follower, job_progress, waiters, reconciler, fetches.on_upload, url_jobs.on_upload)
    acks = FrameAcks(client, metrics)
    ingest = SessionIngest(TelemetryPublisher(client, metrics), acks)

    app = _http_application(auth, metrics, disk)
    # Dependencies of the routes: <noun>/dependencies.py, or the noun's routes.
    state = app.state
    state.authenticator = authenticator
    state.uploads, state.upload_presenter = uploads, UploadPresenter(bucket, fetches.progress)
    state.url_uploads, state.url_jobs = UrlUploads(fetches, uploads, idempotency), url_jobs
    state.jobs, state.job_presenter = jobs, JobPresenter(view, job_progress, tail, settings.scratch_hours)
    state.artifacts = ArtifactService(bucket, view)
    state.artifact_pages = ArtifactPages(bucket, state.artifacts, authenticator, tickets)
    state.compat_nerf_jobs = NerfJobs(jobs, uploads, bucket, settings, CompatNerfSettings())
    state.worker_ingest = WorkerIngest(store, EventStore(client, "PROGRESS"), settings.worker_key)
    state.backends, state.workload_presenter = backends, WorkloadPresenter(jobs)
    state.sessions, state.session_progress, state.session_ingest = sessions, session_progress, ingest
    state.session_presenter = SessionPresenter(jobs, view, session_progress, NatsAccess(session_settings), tail)
    streaming: Any = {"authenticator": authenticator, "tickets": tickets, "open_sockets": open_sockets, "tail": tail}
    state.session_streams = SessionStreams(sessions=sessions, ingest=ingest, **streaming)
    state.ply_download, state.health = PlyDownload(bucket), _health(store, bucket, disk)
    state.default_sessions = DefaultSessions(sessions, ingest, EventStore(client, TELEMETRY.name), backends)
    mount_badminton(app, follower, job_progress, bucket, disk.cause_of)
    add_badminton_endpoint(app, client, auth)
    _add_health_route(app, state.health, authenticator, state.default_sessions)
    _add_metrics_route(app, metrics, view, open_sockets)
    subscribe = (job_progress.start, session_progress.start, acks.start, TelemetryConsumerRequests(client).start)
    background = (follower, reconciler, uploads, fetches, url_jobs, waiters, subscribe, settings.housekeeping_s)
    return app, GatewayLoop(*background)


def _upload_service(settings: GatewaySettings, **common: Any) -> UploadService:
    probe = partial(probe_media, timeout_s=settings.probe_timeout_s, memory_bytes=settings.probe_memory_bytes)
    return UploadService(probe_media=probe, concurrent_checks=settings.checks_at_once, **common)


def _upload_fetches(
    client: Client, uploads: UploadService, bucket: Bucket, disk: Disk, policy: UrlPolicy
) -> UploadFetches:
    fetcher = UploadFetcher(policy, Downloader(policy.guard, policy.settings.limits), bucket, uploads, disk)
    return UploadFetches(client, uploads, fetcher, policy)


def _set_projectors(
    follower: ViewFollower,
    progress: LatestJobProgress,
    waiters: CompletionWaiters,
    reconciler: SessionReconciler,
    *on_upload: Callable[[Upload], None],
) -> None:
    view = follower.view
    follower.set_projectors(
        job=JobProjector(view, progress, waiters, reconciler.enqueue).handle,
        session=SessionProjector(view, waiters, reconciler.enqueue_later).handle,
        upload=UploadProjector(view, *on_upload).handle,
    )


def _tickets(settings: SessionSettings) -> Tickets:
    key = settings.ticket_key
    return Tickets(key.get_secret_value() if key else None)


def _http_application(auth: AuthSettings, metrics: GatewayMetrics, disk: Disk) -> FastAPI:
    """Build the application with its routes and middleware."""
    app = FastAPI(
        title="Saccade",
        version=VERSION,
        summary="Video, photos and robot streams in; events, pictures and models out.",
        docs_url=None,
        redoc_url=None,
        openapi_tags=[{"name": name, "description": description} for name, description in _TAGS.items()],
    )
    app.include_router(artifact_routes.page_router)
    for routes in (
        workload_routes,
        upload_routes,
        job_routes,
        artifact_routes,
        retention_routes,
        session_routes,
        telemetry_routes,
        ply_routes,
        record_routes,
        session_stream_routes,
        session_page_routes,
        reference_routes,
        compat_splat_routes,
        compat_nerf_routes,
        worker_ingest_routes,
    ):
        app.include_router(routes.router)
    app.openapi = partial(openapi_of, app, authenticated=auth.authenticated)  # type: ignore[method-assign]
    app.add_middleware(HeadRequests)
    app.add_middleware(BodyLimit)
    install_problems(app, disk.cause_of)
    app.add_middleware(HostGuard, settings=auth, answers_cors=badminton_addresses.is_badminton)
    app.add_middleware(RequestCounter, metrics=lambda: metrics)
    app.add_middleware(badminton_addresses.KeyInPath)
    _add_documentation_routes(app)
    return app


def _health(store: EventStore, bucket: Bucket, disk: Disk) -> Health:
    async def dispatcher() -> str:
        if not await is_held(store.client, DISPATCHER_LEASE):
            raise SaccadeError(ErrorCode.WORKER_NOT_STARTED, "No dispatcher is running: jobs stay queued.")
        return "active"

    checks = {"nats": nats_check(store.client), "events": store_check(store), "bucket": bucket.check}
    if disk.free_bytes() is not None:
        checks["disk"] = disk.check
    return Health("gateway", **checks, dispatcher=dispatcher)


def _add_health_route(
    app: FastAPI, dependencies: Health, authenticator: Authenticator, default_sessions: DefaultSessions
) -> None:
    @app.get("/health", tags=["service"], summary="Health of the gateway and its dependencies")
    async def health(request: Request) -> GatewayHealth:
        try:
            tenant = authenticator.authenticate(request.headers).tenant
        except SaccadeError:
            tenant = LOCAL_TENANT
        report = await dependencies.report()
        return GatewayHealth(**dict(report), trainer_ready=await default_sessions.accept_frames(tenant))


def _add_metrics_route(app: FastAPI, counters: GatewayMetrics, view: GatewayView, open_sockets: OpenSockets) -> None:
    text: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}

    @app.get("/metrics", tags=["service"], summary="Prometheus metrics", response_class=Response, responses=text)
    async def metrics() -> Response:
        counters.set_sessions(view.count_sessions(), len(open_sockets))
        body, content_type = counters.render(view.count_jobs(), view.sequence)
        return Response(body, headers={"Content-Type": content_type})


def _add_documentation_routes(app: FastAPI) -> None:
    @app.get("/favicon.ico", include_in_schema=False)
    async def favicon() -> Response:
        """Return the icon that browsers request for every page."""
        return FileResponse(_FAVICON, media_type="image/svg+xml", headers={"Cache-Control": "max-age=86400"})

    @app.get("/asyncapi.json", tags=["service"], summary="The events, as AsyncAPI")
    async def asyncapi(_: Request) -> dict[str, Any]:
        return asyncapi_document()
