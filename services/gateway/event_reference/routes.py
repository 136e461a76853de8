"""``GET /asyncapi``: the event reference in the browser, made from ``/asyncapi.json``.

The page is our own: three small files that render what AsyncAPI says of channels, operations and schemas, with search,
an address for each entry, and colours for light and dark. AsyncAPI's component for this (3.2.1, 2.5 MB of script for
React and a validator) draws every message at once, knows no dark colours, and would be four times what the rest of
this page and its document weigh. Nothing is loaded from elsewhere: a server may be offline.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from services.gateway.page_bundle import page_router

_POLICY: Final = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
)

router = page_router("/asyncapi", "/asyncapi/files", Path(__file__).parent, _POLICY)
