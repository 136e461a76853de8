"""HTTP application of the gateway: its routes and middleware, health, metrics and contracts."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse
from starlette.requests import HTTPConnection

from contracts.asyncapi import asyncapi_document
from contracts.errors import ErrorCode, SaccadeError
from contracts.streams import DISPATCHER_LEASE
from kit.auth.api_keys import LOCAL_TENANT, Authenticator, AuthSettings, Principal
from kit.auth.caller_first import CallerFirst
from kit.auth.fair_requests import FairRequests
from kit.auth.host_guard import HostGuard
from kit.auth.mapped_credential import caller_of, known_caller
from kit.auth.quotas import Quotas
from kit.auth.tickets import Tickets
from kit.bucket import Bucket
from kit.bus.event_store import EventStore
from kit.bus.lease import is_held
from kit.http.body_limit import BodyLimit
from kit.http.head_requests import HeadRequests
from kit.http.health import Health, nats_check, store_check
from kit.http.openapi import openapi_of
from kit.http.problems import install_problems
from kit.http.readiness import Readiness, ReadyGate, ReadyReport
from kit.http.traced_requests import TracedRequests
from kit.settings import RequestLogSettings
from services.gateway.aggregates.view import GatewayView
from services.gateway.artifacts import routes as artifact_routes
from services.gateway.audit import routes as audit_routes
from services.gateway.browser_sessions import portal_routes
from services.gateway.browser_sessions import routes as browser_session_routes
from services.gateway.budgets import routes as budget_routes
from services.gateway.budgets import spend_routes
from services.gateway.compat import splat_routes as compat_splat_routes
from services.gateway.compat.badminton import addresses as badminton_addresses
from services.gateway.compat.credentials import ReplacedCredentials
from services.gateway.compat.default_session import DefaultSessions
from services.gateway.compat.laps.application import is_laps
from services.gateway.compat.nerf import photo_routes as compat_nerf_photo_routes
from services.gateway.compat.nerf import routes as compat_nerf_routes
from services.gateway.compat.replaced_paths import ReplacedPaths
from services.gateway.compat.splat_routes import GatewayHealth
from services.gateway.console import routes as console_routes
from services.gateway.dead_letters import routes as dead_letter_routes
from services.gateway.early_answers import is_answered_early
from services.gateway.erasure import routes as erasure_routes
from services.gateway.event_reference import routes as event_reference_routes
from services.gateway.job_plans import routes as job_plan_routes
from services.gateway.jobs import change_routes as job_change_routes
from services.gateway.jobs import count_routes as job_count_routes
from services.gateway.jobs import retention_routes
from services.gateway.jobs import routes as job_routes
from services.gateway.metrics import GatewayMetrics, RequestCounter
from services.gateway.reference import routes as reference_routes
from services.gateway.rules import routes as rule_routes
from services.gateway.sessions import change_routes as session_change_routes
from services.gateway.sessions import ply_routes, record_routes, telemetry_routes
from services.gateway.sessions import routes as session_routes
from services.gateway.sessions.page import routes as session_page_routes
from services.gateway.sessions.session_readers import SessionReaders
from services.gateway.sessions.stream import routes as session_stream_routes
from services.gateway.sessions.words import routes as session_word_routes
from services.gateway.settings import (
    ReplacedCredentialSettings,
)
from services.gateway.slot_answers import SlotAnswers
from services.gateway.streams import routes as stream_routes
from services.gateway.uploads import routes as upload_routes
from services.gateway.uploads.disk import Disk
from services.gateway.worker_ingest import routes as worker_ingest_routes
from services.gateway.workloads import routes as workload_routes

VERSION: Final = "0.1.0"
_FAVICON: Final = Path(__file__).parent / "favicon.svg"
_TAGS: Final = {
    "workloads": "What can be submitted, with its inputs, parameters and price",
    "uploads": "Files on their way to the bucket",
    "jobs": "Submit, follow, cancel and retry",
    "rules": "Which uploads start which jobs by themselves",
    "budgets": "What workers may cost in a day and in a month",
    "sessions": "Live streams of robots and cameras",
    "artifacts": "Files that jobs have made",
    "erasures": "Erase a tenant's data, a job or an upload, with a report",
    "replaced": "Routes of the systems that Saccade replaces, unchanged",
    "operators": "Streams, the audit log and dead letters, for keys with the scope operate",
    "service": "Health, metrics and contracts",
    "internal": "Called by workers, with the token of their job",
}

#: Modules with the routes of a noun, in the order of the reference.
_ROUTES: Final = (
    workload_routes,
    upload_routes,
    job_count_routes,
    job_plan_routes,
    job_routes,
    job_change_routes,
    rule_routes,
    budget_routes,
    spend_routes,
    artifact_routes,
    retention_routes,
    erasure_routes,
    session_routes,
    session_change_routes,
    session_word_routes,
    telemetry_routes,
    ply_routes,
    record_routes,
    session_stream_routes,
    session_page_routes,
    audit_routes,
    dead_letter_routes,
    stream_routes,
    reference_routes,
    event_reference_routes,
    console_routes,
    browser_session_routes,
    portal_routes,
    compat_splat_routes,
    compat_nerf_routes,
    compat_nerf_photo_routes,
    worker_ingest_routes,
)


def http_application(
    auth: AuthSettings, metrics: GatewayMetrics, disk: Disk, readiness: Readiness, tickets: Tickets
) -> FastAPI:
    """Build the application with its routes and middleware; until it is ready it refuses requests."""
    app = FastAPI(
        title="Saccade",
        version=VERSION,
        summary="Video, photos and robot streams in; events, pictures and models out.",
        docs_url=None,
        redoc_url=None,
        openapi_tags=[{"name": name, "description": description} for name, description in _TAGS.items()],
    )
    # The routes themselves: include_router would build each of them a second time, at the first request.
    routers = (artifact_routes.page_router, *(routes.router for routes in _ROUTES), dead_letter_routes.plan_router)
    for router in routers:
        app.router.routes.extend(router.routes)
    app.openapi = partial(openapi_of, app, authenticated=auth.authenticated)  # type: ignore[method-assign]
    app.add_middleware(HeadRequests)
    app.add_middleware(FairRequests, identify=_identify, quotas=_quotas)
    app.add_middleware(BodyLimit)  # within CallerFirst: it reads of a body that is too large before it refuses it
    app.add_middleware(CallerFirst, application=app)
    app.add_middleware(ReadyGate, readiness=readiness, admits=partial(is_answered_early, app))
    install_problems(app, disk.cause_of)
    app.add_middleware(HostGuard, settings=auth, answers_cors=_answers_cors)
    app.add_middleware(RequestCounter, metrics=lambda: metrics)
    app.add_middleware(TracedRequests, is_logged=RequestLogSettings().requests_logged)
    mapping = ReplacedCredentialSettings().replaced_credentials
    credentials = ReplacedCredentials(mapping, authenticated=auth.authenticated)
    app.add_middleware(ReplacedPaths, credentials=credentials)
    callers = Authenticator(auth.of_every_cell(), tickets.sessions, tickets.portal_links)
    app.add_middleware(SlotAnswers, callers=callers, credentials=credentials)
    _add_documentation_routes(app)
    _add_ready_route(app, readiness)
    return app


def _identify(connection: HTTPConnection) -> Principal | None:
    return known_caller(connection.app.state.authenticator, connection)


def _quotas(connection: HTTPConnection) -> Quotas:
    quotas: Quotas = connection.app.state.authenticator.quotas
    return quotas


def _answers_cors(path: str) -> bool:
    return badminton_addresses.is_badminton(path) or is_laps(path)


def health_of(store: EventStore, bucket: Bucket, disk: Disk) -> Health:
    """Return the health checks of the gateway and of what it depends on."""

    async def dispatcher() -> str:
        if not await is_held(store.client, DISPATCHER_LEASE):
            raise SaccadeError(ErrorCode.WORKER_NOT_STARTED, "No dispatcher is running: jobs stay queued.")
        return "active"

    checks = {"nats": nats_check(store.client), "events": store_check(store), "bucket": bucket.check}
    if disk.free_bytes() is not None:
        checks["disk"] = disk.check
    return Health("gateway", **checks, dispatcher=dispatcher)


def add_health_route(
    app: FastAPI, dependencies: Health, authenticator: Authenticator, default_sessions: DefaultSessions
) -> None:
    """Serve ``/health``."""

    @app.get("/health", tags=["service"], summary="Health of the gateway and its dependencies")
    async def health(request: Request) -> GatewayHealth:
        try:
            tenant = caller_of(authenticator, request).tenant
        except SaccadeError:
            tenant = LOCAL_TENANT
        report = await dependencies.report()
        return GatewayHealth(**dict(report), trainer_ready=await default_sessions.accept_frames(tenant))


def _add_ready_route(app: FastAPI, readiness: Readiness) -> None:
    @app.get("/ready", tags=["service"], summary="Whether the gateway has read its history")
    async def ready() -> ReadyReport:
        return readiness.report()


def add_metrics_route(app: FastAPI, counters: GatewayMetrics, view: GatewayView, readers: SessionReaders) -> None:
    """Serve ``/metrics``."""
    app.state.metrics = counters
    text: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}

    @app.get("/metrics", tags=["service"], summary="Prometheus metrics", response_class=Response, responses=text)
    async def metrics() -> Response:
        counters.set_sessions(view.count_sessions(), len(readers))
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
