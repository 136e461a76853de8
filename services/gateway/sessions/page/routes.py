"""``GET /sessions/{id}``: the HTML page of a live session. It is static and reads the session through the API."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Request, Response

from contracts.errors import ErrorCode, SaccadeError
from contracts.ids import is_id
from kit.http.app_state import from_app_state
from modal_workers import catalog
from services.gateway.aggregates.view import GatewayView
from services.gateway.page_bundle import ConsoleSettingsDep
from services.gateway.sessions.page.page_files import ASSETS, CONTENT_SECURITY_POLICY, session_page

router = APIRouter(include_in_schema=False)

_PAGE_HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}


@router.api_route("/sessions/{session_id}", methods=["GET", "HEAD"])
@router.api_route("/sessions/{session_id}/", methods=["GET", "HEAD"])  # Starlette's redirect would name the host's root
async def show_session(
    request: Request,
    session_id: str,
    view: Annotated[GatewayView, from_app_state("view")],
    settings: ConsoleSettingsDep,
) -> Response:
    """Return the page for the session's workload; it asks the API whether the session exists and is accessible.

    Raises:
        SaccadeError: SESSION_NOT_FOUND, if the id is malformed.
    """
    if not is_id(session_id, "ses"):
        raise SaccadeError(ErrorCode.SESSION_NOT_FOUND)
    session = view.session(session_id)
    workload = catalog.workloads().get(session.opened.workload) if session else None
    name = "watch/page.html" if workload is not None and workload.takes_prompts else "page.html"
    return session_page(settings.public_path).answer_page(request, _PAGE_HEADERS, name)


@router.api_route(f"/{ASSETS}" + "/{digest}/{name:path}", methods=["GET", "HEAD"])
async def send_file(request: Request, digest: str, name: str, settings: ConsoleSettingsDep) -> Response:
    """Return a file of the page in the version that the URL names.

    Raises:
        SaccadeError: NOT_FOUND, also for a version that this server does not have.
    """
    return session_page(settings.public_path).answer_file(request, digest, name)
