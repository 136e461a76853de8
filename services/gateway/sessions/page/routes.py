"""``GET /sessions/{id}``: the HTML page of a live session. It is static and reads the session through the API."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response

from contracts.errors import ErrorCode, SaccadeError
from contracts.ids import is_id
from services.gateway.sessions.page.page_files import CONTENT_SECURITY_POLICY, PageBundle, PageFile, session_page

router = APIRouter(include_in_schema=False)

_ASSETS: Final = "/session-page"
_IMMUTABLE: Final = "public, max-age=31536000, immutable"
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_PAGE_HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    # The page keeps its URL while its content changes with the server's version.
    "Cache-Control": "no-cache",
}


def _page() -> PageBundle:
    return session_page(_ASSETS)


def _file_response(request: Request, file: PageFile, headers: dict[str, str]) -> Response:
    headers = {**_HEADERS, **headers, "Vary": "Accept-Encoding"}
    accepted = request.headers.get("accept-encoding", "")
    if file.compressed is not None and "gzip" in accepted:
        return Response(
            file.compressed, media_type=file.media_type, headers={**headers, "Content-Encoding": "gzip"}
        )  # fmt: skip
    return Response(file.body, media_type=file.media_type, headers=headers)


@router.api_route("/sessions/{session_id}", methods=["GET", "HEAD"])
async def show_session(request: Request, session_id: str) -> Response:
    """Return the page; the page itself asks the API whether the session exists and is accessible.

    Raises:
        SaccadeError: SESSION_NOT_FOUND, if the id is malformed.
    """
    if not is_id(session_id, "ses"):
        raise SaccadeError(ErrorCode.SESSION_NOT_FOUND)
    page = _page()
    etag = f'"{page.digest}"'
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={**_PAGE_HEADERS, "ETag": etag})
    return _file_response(request, page.page, {**_PAGE_HEADERS, "ETag": etag})


@router.api_route(_ASSETS + "/{digest}/{name:path}", methods=["GET", "HEAD"])
async def send_file(request: Request, digest: str, name: str) -> Response:
    """Return a file of the page in the version that the URL names.

    Raises:
        SaccadeError: NOT_FOUND, also for a version that this server does not have.
    """
    page = _page()
    file = page.files.get(name)
    if file is None or digest != page.digest:
        raise SaccadeError(
            ErrorCode.NOT_FOUND,
            "The page has no file with this name and version.",
            hint="Reload the page: the server may have another version.",
        )
    return _file_response(request, file, {"Cache-Control": _IMMUTABLE})
