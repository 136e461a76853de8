"""A static page with its files, read once: files are addressed by a hash of their content, so browsers keep them."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Final

from fastapi import APIRouter, Request, Response

from contracts.errors import ErrorCode, SaccadeError
from kit.http.app_state import from_app_state
from services.gateway.settings import ConsoleSettings

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
    """Pages and their files; ``digest`` changes with any of them, so that browsers can cache them without limit."""

    digest: str
    #: By path in the folder: ``page.html``, ``watch/page.html``.
    pages: dict[str, PageFile]
    files: dict[str, PageFile]

    def answer_page(self, request: Request, headers: Mapping[str, str], name: str = "page.html") -> Response:
        """Return a page with ``headers`` added, or 304."""
        etag = f'"{self.digest}"' if name == "page.html" else f'"{self.digest}-{name.partition("/")[0]}"'
        headers = {**_PAGE_HEADERS, **headers, "ETag": etag}
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return _answer_file(request, self.pages[name], headers)

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


#: Settings of all pages; the public path is that of every one of them.
ConsoleSettingsDep = Annotated[ConsoleSettings, from_app_state("console_settings")]


def page_router(path: str, assets: str, folder: Path, policy: Iterable[str]) -> APIRouter:
    """Return the routes of the page in a folder and of its files; ``policy`` is its Content-Security-Policy.

    ``$base`` in the page stands for the server's public path, with a slash at both ends.
    """
    router = APIRouter(include_in_schema=False)
    headers = {"Content-Security-Policy": "; ".join(policy)}

    @cache
    def bundle(base_path: str) -> PageBundle:
        return load_page(folder, base_path + assets.removeprefix("/"), values={"base": base_path})

    @router.api_route(path, methods=["GET", "HEAD"])
    @router.api_route(path + "/", methods=["GET", "HEAD"])  # Starlette's redirect would name the root of the host
    async def show_page(request: Request, settings: ConsoleSettingsDep) -> Response:
        return bundle(settings.public_path).answer_page(request, headers)

    @router.api_route(assets + "/{digest}/{name:path}", methods=["GET", "HEAD"])
    async def send_file(request: Request, digest: str, name: str, settings: ConsoleSettingsDep) -> Response:
        return bundle(settings.public_path).answer_file(request, digest, name)

    return router


def load_page(
    folder: Path, assets: str, vendored: Iterable[Path] = (), values: Mapping[str, str] | None = None
) -> PageBundle:
    """Load ``page.html`` of ``folder`` and its subfolders, whose files have the URLs ``<assets>/<digest>/<name>``.

    ``$header`` in a page stands for ``header.html`` of the folder, and so does each other name of an HTML file in it;
    ``$name`` stands for each of ``values``.
    """
    bodies = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix in MEDIA_TYPES
    }
    bodies |= {f"vendor/{path.name}": path.read_bytes() for path in vendored}
    shared = {path.stem: path.read_bytes() for path in folder.glob("*.html") if path.name != "page.html"}
    shared |= {name: value.encode() for name, value in (values or {}).items()}
    html = {
        path.relative_to(folder).as_posix(): _with_shared(path.read_bytes(), shared)
        for path in sorted(folder.rglob("page.html"))
    }
    digest = hashlib.sha256()
    for name, body in {**html, **bodies}.items():
        digest.update(f"{name} {len(body)}\n".encode() + body)
    short_digest = digest.hexdigest()[:16]
    addressed = {name: body.replace(b"$assets", f"{assets}/{short_digest}".encode()) for name, body in html.items()}
    pages = {name: _file(body, "text/html; charset=utf-8") for name, body in addressed.items()}
    files = {name: _file(body, MEDIA_TYPES[Path(name).suffix]) for name, body in bodies.items()}
    return PageBundle(short_digest, pages, files)


def _with_shared(page: bytes, shared: Mapping[str, bytes]) -> bytes:
    """Return a page with the files that it shares with others."""
    for name, body in shared.items():
        page = page.replace(f"${name}".encode(), body)
    return page


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
