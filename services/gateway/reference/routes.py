"""``GET /docs``: the API reference in the browser.

Swagger UI renders it: it is maintained, follows OpenAPI 3.1, lists every route in one line each, also on a phone, and
sends requests from the page. (Redoc sends none and unfolds every route, many screens on a phone.) Its files are
in this folder, not on a content delivery network: a server may be offline, and the page's policy admits scripts and
connections of this server only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from services.gateway.page_bundle import page_router

#: Swagger UI's icons are SVG in data URLs, and what it downloads is shown from blobs.
_POLICY: Final = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data: blob:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
)

router = page_router("/docs", "/docs/files", Path(__file__).parent, _POLICY)
