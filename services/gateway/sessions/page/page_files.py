"""Files of a session's page, read once and addressed by a hash of their content."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from modal_workers.gaussians import viewer

_FOLDER: Final = Path(__file__).parent
_MEDIA_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
}
_PAGE: Final = "page.html"
_MIN_COMPRESSED_BYTES: Final = 1024

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


@dataclass(frozen=True)
class PageFile:
    """A file: its bytes, the compressed bytes if they are smaller, and its media type."""

    body: bytes
    compressed: bytes | None
    media_type: str


def _file(body: bytes, media_type: str) -> PageFile:
    compressed = gzip.compress(body, 6, mtime=0) if len(body) >= _MIN_COMPRESSED_BYTES else body
    return PageFile(body, compressed if len(compressed) < len(body) else None, media_type)


@dataclass(frozen=True)
class PageBundle:
    """The page and its files; ``digest`` changes with any of them, so that browsers can cache them without limit."""

    digest: str
    page: PageFile
    files: dict[str, PageFile]


@cache
def session_page(assets: str) -> PageBundle:
    """Load the page, whose files have the URLs ``<assets>/<digest>/<name>``."""
    bodies = {
        path.relative_to(_FOLDER).as_posix(): path.read_bytes()
        for path in sorted(_FOLDER.rglob("*"))
        if path.suffix in _MEDIA_TYPES
    }
    vendored = sorted(path for path in viewer.FOLDER.iterdir() if path.suffix in _MEDIA_TYPES)
    bodies |= {f"vendor/{path.name}": path.read_bytes() for path in vendored}
    html = (_FOLDER / _PAGE).read_bytes()
    digest = hashlib.sha256()
    for name, body in {_PAGE: html, **bodies}.items():
        digest.update(f"{name} {len(body)}\n".encode() + body)
    short_digest = digest.hexdigest()[:16]
    page = html.replace(b"$assets", f"{assets}/{short_digest}".encode())
    files = {name: _file(body, _MEDIA_TYPES[Path(name).suffix]) for name, body in bodies.items()}
    return PageBundle(short_digest, _file(page, "text/html; charset=utf-8"), files)
