"""Routes of the replaced badminton system's GPU endpoint: its address itself, and ``/process`` below it.

Convex sends no credential, so an API key may be in the path, as ``/badminton-endpoint/k/<id>.<secret>``, from which
ReplacedPaths moves it into the header. Of an answer Convex reads whether the status is 2xx; the text of any other goes
into the video's document, so it is short.
"""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI
from nats.aio.client import Client
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from contracts.errors import SaccadeError
from kit.auth.api_keys import Authenticator, AuthSettings
from kit.auth.mapped_credential import caller_of
from kit.http.problems import problem_headers
from kit.http.request_body import parse_body
from kit.network.address_guard import AddressGuard
from kit.settings import WebhookAddressSettings
from services.gateway.compat.badminton_endpoint.endpoint_service import BadmintonEndpoint
from services.gateway.compat.badminton_endpoint.video_request import VideoRequest
from services.gateway.settings import CompatBadmintonSettings

PREFIX: Final = "/badminton-endpoint"
_PATHS: Final = (PREFIX, f"{PREFIX}/", f"{PREFIX}/process")


def add_badminton_endpoint(app: FastAPI, client: Client, auth: AuthSettings) -> None:
    """Add the routes, which use the objects in the application's state."""
    state, addresses = app.state, WebhookAddressSettings()
    endpoint = BadmintonEndpoint(
        client,
        url_jobs=state.url_jobs,
        jobs=state.jobs,
        uploads=state.uploads,
        quotas=state.authenticator.quotas,
        guard=AddressGuard.allowing(addresses.allowed_networks(auth)),
        https_only=addresses.https_only(auth),
        default_site_url=CompatBadmintonSettings().convex_site_url,
    )

    async def process(request: Request) -> Response:
        try:
            return await _process(request, state.authenticator, endpoint)
        except SaccadeError as error:
            content = {"error": f"{error.message} {error.hint}".strip(), "code": error.code}
            return JSONResponse(content, error.kind.status, problem_headers(error))
        except ClientDisconnect:
            return Response(status_code=400)

    for path in _PATHS:
        app.router.add_route(path, process, methods=["POST"], include_in_schema=False)


async def _process(request: Request, authenticator: Authenticator, endpoint: BadmintonEndpoint) -> Response:
    """Accept a video.

    Raises:
        SaccadeError: UNAUTHENTICATED, FORBIDDEN; the request is invalid; QUOTA_EXCEEDED; BUS_UNAVAILABLE.
    """
    caller = caller_of(authenticator, request, "write")
    video = parse_body(VideoRequest, await request.body())
    await endpoint.accept(caller.tenant, video)
    return JSONResponse({"status": "accepted", "videoId": video.videoId})
