"""``GET /docs``: the API reference in the browser.

Swagger UI renders it: it is maintained, follows OpenAPI 3.1, lists every route in one line each, also on a phone, and
sends requests from the page. (Redoc sends none and unfolds every route, many screens on a phone.) Its files are
in this folder, not on a content delivery network: a server may be offline, and the page's policy admits scripts and
connections of this server only.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request, Response

from services.gateway.page_bundle import PageBundle, load_page

router = APIRouter(include_in_schema=False)

_ASSETS: Final = "/docs/files"
#: Swagger UI's icons are SVG in data URLs, and what it downloads is shown from blobs.
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


@cache
def _reference() -> PageBundle:
    return load_page(Path(__file__).parent, _ASSETS)


@router.api_route("/docs", methods=["GET", "HEAD"])
async def show_reference(request: Request) -> Response:
    """Return the page; it loads the OpenAPI documents by itself."""
    return _reference().answer_page(request, {"Content-Security-Policy": _POLICY})


@router.api_route(_ASSETS + "/{digest}/{name:path}", methods=["GET", "HEAD"])
async def send_file(request: Request, digest: str, name: str) -> Response:
    """Return a file of the page in the version that the URL names.

    Raises:
        SaccadeError: NOT_FOUND, also for a version that this server does not have.
    """
    return _reference().answer_file(request, digest, name)
