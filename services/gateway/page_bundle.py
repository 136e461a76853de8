"""A static page with its files, read once: files are addressed by a hash of their content, so browsers keep them."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastapi import Request, Response

from contracts.errors import ErrorCode, SaccadeError

MEDIA_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
}
_MIN_COMPRESSED_BYTES: Final = 1024
_IMMUTABLE: Final = "public, max-age=31536000, immutable"
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_PAGE_HEADERS: Final = {
    "Cross-Origin-Opener-Policy": "same-origin",
    # The page keeps its URL while its content changes with the server's version.
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True)
class PageFile:
    """A file: its bytes, the compressed bytes if they are smaller, and its media type."""

    body: bytes
    compressed: bytes | None
    media_type: str


@dataclass(frozen=True)
class PageBundle:
    """The page and its files; ``digest`` changes with any of them, so that browsers can cache them without limit."""

    digest: str
    page: PageFile
    files: dict[str, PageFile]

    def answer_page(self, request: Request, headers: Mapping[str, str]) -> Response:
        """Return the page with ``headers`` added, or 304."""
        etag = f'"{self.digest}"'
        headers = {**_PAGE_HEADERS, **headers, "ETag": etag}
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return _answer_file(request, self.page, headers)

    def answer_file(self, request: Request, digest: str, name: str) -> Response:
        """Return a file of the page in the version that the URL names.

        Raises:
            SaccadeError: NOT_FOUND, also for a version that this server does not have.
        """
        file = self.files.get(name)
        if file is None or digest != self.digest:
            raise SaccadeError(
                ErrorCode.NOT_FOUND,
                "The page has no file with this name and version.",
                hint="Reload the page: the server may have another version.",
            )
        return _answer_file(request, file, {"Cache-Control": _IMMUTABLE})


def load_page(folder: Path, assets: str, vendored: Iterable[Path] = ()) -> PageBundle:
    """Load ``page.html`` of ``folder``, whose files have the URLs ``<assets>/<digest>/<name>``."""
    bodies = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix in MEDIA_TYPES
    }
    bodies |= {f"vendor/{path.name}": path.read_bytes() for path in vendored}
    html = (folder / "page.html").read_bytes()
    digest = hashlib.sha256()
    for name, body in {"page.html": html, **bodies}.items():
        digest.update(f"{name} {len(body)}\n".encode() + body)
    short_digest = digest.hexdigest()[:16]
    page = html.replace(b"$assets", f"{assets}/{short_digest}".encode())
    files = {name: _file(body, MEDIA_TYPES[Path(name).suffix]) for name, body in bodies.items()}
    return PageBundle(short_digest, _file(page, "text/html; charset=utf-8"), files)


def _file(body: bytes, media_type: str) -> PageFile:
    compressed = gzip.compress(body, 6, mtime=0) if len(body) >= _MIN_COMPRESSED_BYTES else body
    return PageFile(body, compressed if len(compressed) < len(body) else None, media_type)


def _answer_file(request: Request, file: PageFile, headers: Mapping[str, str]) -> Response:
    headers = {**_HEADERS, **headers, "Vary": "Accept-Encoding"}
    accepted = request.headers.get("accept-encoding", "")
    if file.compressed is not None and "gzip" in accepted:
        return Response(
            file.compressed, media_type=file.media_type, headers={**headers, "Content-Encoding": "gzip"}
        )  # fmt: skip
    return Response(file.body, media_type=file.media_type, headers=headers)
