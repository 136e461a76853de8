"""HTTP application of the notifier: routes, middleware, health and metrics."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from fastapi import FastAPI, Response

from kit.auth.api_keys import Authenticator, AuthSettings
from kit.auth.caller_first import CallerFirst
from kit.auth.fair_requests import FairRequests
from kit.auth.tickets import Tickets
from kit.http.body_limit import BodyLimit
from kit.http.head_requests import HeadRequests
from kit.http.health import Health, HealthReport
from kit.http.openapi import openapi_of
from kit.http.problems import install_problems
from kit.http.readiness import Readiness, ReadyReport
from kit.http.traced_requests import TracedRequests
from kit.settings import RequestLogSettings
from services.notifier.replays import routes as replay_routes
from services.notifier.streams import routes as event_routes
from services.notifier.streams import ticket_routes
from services.notifier.streams.early_refusals import EarlyRefusals, refusal_for_time
from services.notifier.streams.routes import StreamService
from services.notifier.webhooks.deliveries import routes as delivery_routes
from services.notifier.webhooks.endpoints import routes as endpoint_routes
from services.notifier.webhooks.sending import routes as example_routes
from services.notifier.webhooks.sent_requests import routes as sent_request_routes

_TAGS: Final = [
    {"name": "events", "description": "Server-Sent Events of jobs, sessions and the whole tenant"},
    {"name": "webhooks", "description": "Events sent to your server, signed and retried"},
    {"name": "replays", "description": "Events of the past, sent again to one target at a pace"},
]


_WEBHOOKS: Final = (endpoint_routes.router, example_routes.router, sent_request_routes.router, delivery_routes.router)


def make_app(
    streams: StreamService, health: Health, readiness: Readiness, auth: AuthSettings, tickets: Tickets
) -> FastAPI:
    """Return the HTTP application.

    Until ``WebhookParts.add_services`` was called, its routes of webhooks answer WEBHOOKS_NOT_CONFIGURED.
    """
    app = FastAPI(title="Saccade events", version="1", docs_url=None, redoc_url=None, openapi_tags=_TAGS)
    app.add_middleware(HeadRequests)
    authenticator = Authenticator(auth, tickets.sessions, tickets.portal_links)
    identify = partial(ticket_routes.known_stream_caller, authenticator, tickets)
    app.add_middleware(EarlyRefusals, streams=streams, quotas=authenticator.quotas, identify=identify)
    app.add_middleware(FairRequests, identify=identify, shares=streams.hub.shares, refusal=refusal_for_time)
    app.add_middleware(BodyLimit)  # within CallerFirst: it reads of a body that is too large before it refuses it
    app.add_middleware(CallerFirst, application=app)
    install_problems(app)
    app.add_middleware(TracedRequests, is_logged=RequestLogSettings().requests_logged)
    app.state.streams, app.state.tickets = streams, tickets
    app.state.authenticator = authenticator
    streams.limit_tenants(authenticator.quotas)
    if authenticator.authenticated:
        streams.hub.is_still_valid = authenticator.is_still_valid
    # The routes themselves: include_router would build each of them a second time, at the first request, and hide from
    # CallerFirst whether they ask for a key.
    for router in (event_routes.router, ticket_routes.router, replay_routes.router):
        app.router.routes.extend(router.routes)
    app.state.endpoints = app.state.endpoint_service = app.state.delivery_service = app.state.example_sender = None
    app.state.sent_requests = None

    # The one origin routes this path to the notifier; its /openapi.json is the gateway's.
    @app.get("/v1/webhooks/openapi.json", include_in_schema=False)
    async def get_openapi() -> dict[str, Any]:
        return app.openapi()

    for router in _WEBHOOKS:
        app.router.routes.extend(router.routes)

    @app.get("/health", tags=["service"])
    async def get_health() -> HealthReport:
        """Return the health report."""
        return await health.report()

    @app.get("/ready", tags=["service"])
    async def get_ready() -> ReadyReport:
        """Return whether the notifier has read what it sends and the endpoints that it sends to."""
        return readiness.report()

    text: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}

    @app.get("/metrics", tags=["service"], response_class=Response, responses=text)
    async def get_metrics() -> Response:
        """Return the metrics for Prometheus."""
        body, content_type = streams.metrics.expose()
        return Response(body, media_type=content_type)

    app.openapi = partial(openapi_of, app, authenticated=auth.authenticated)  # type: ignore[method-assign]
    return app
