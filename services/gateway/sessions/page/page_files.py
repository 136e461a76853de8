"""Files of a session's page, and the policy that it is sent with."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from modal_workers.gaussians import viewer
from services.gateway.page_bundle import MEDIA_TYPES, PageBundle, load_page

_FOLDER: Final = Path(__file__).parent

#: Scripts and connections of this server only. Spark, the splat renderer, compiles WebAssembly and sorts splats in a
#: worker that it creates from a blob.
CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "worker-src blob:",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


#: Below the server's public path.
ASSETS: Final = "session-page"


@cache
def session_page(base_path: str) -> PageBundle:
    """Load the page, whose files have the URLs ``<base_path>session-page/<digest>/<name>``."""
    vendored = sorted(path for path in viewer.FOLDER.iterdir() if path.suffix in MEDIA_TYPES)
    return load_page(_FOLDER, base_path + ASSETS, vendored)
