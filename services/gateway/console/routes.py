"""``GET /console``: the console, one page whose script shows what its address names, read through the API."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from kit.auth.api_keys import Authenticator
from kit.bucket import Bucket
from kit.http.app_state import from_app_state
from services.gateway.page_bundle import ConsoleSettingsDep, PageBundle, load_page

router = APIRouter(include_in_schema=False)

_FOLDER: Final = Path(__file__).parent
#: Relative to the page's ``<base>``, so that the console works under any path of a reverse proxy.
_ASSETS: Final = "console-files"
_IMPORT: Final = re.compile(r"""^(?:import|export)\s[^;]*?from\s*"(\.[^"]+)"|^import\s*"(\.[^"]+)\"""", re.MULTILINE)


@router.api_route("/", methods=["GET", "HEAD"])
async def show_start() -> Response:
    """Redirect to the console."""
    return RedirectResponse("console")


@router.api_route("/console", methods=["GET", "HEAD"])
@router.api_route("/console/{path:path}", methods=["GET", "HEAD"])
async def show_console(
    request: Request,
    bucket: Annotated[Bucket, from_app_state("console_bucket")],
    settings: ConsoleSettingsDep,
    authenticator: Annotated[Authenticator, from_app_state("authenticator")],
) -> Response:
    """Return the page; its script shows what the path names."""
    bucket_url = urlsplit(await bucket.presign_get("console"))
    may_be_embedded = authenticator.authenticated and _is_embeddable(request)
    embedders = settings.embed_origins if may_be_embedded else ()
    policy = content_security_policy(f"{bucket_url.scheme}://{bucket_url.netloc}", embedders)
    headers = {
        "Content-Security-Policy": policy,
        "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    }
    return console(settings.public_path).answer_page(request, headers)


@router.api_route("/" + _ASSETS + "/{digest}/{name:path}", methods=["GET", "HEAD"])
async def send_file(
    request: Request,
    digest: str,
    name: str,
    settings: ConsoleSettingsDep,
) -> Response:
    """Return a file of the console in the version that the URL names.

    Raises:
        SaccadeError: NOT_FOUND, also for a version that this server does not have.
    """
    return console(settings.public_path).answer_file(request, digest, name)


@cache
def console(base_path: str) -> PageBundle:
    """Load the page and its files; ``base_path`` is the server's public path, with a slash at both ends."""
    links = "\n".join(f'<link rel="modulepreload" href="$assets/{name}">' for name in preloaded_modules(_FOLDER))
    return load_page(_FOLDER, _ASSETS, values={"base": base_path, "preload": links})


def _is_embeddable(request: Request) -> bool:
    """Return whether the address is that of the webhooks for a page around them (docs/console.md)."""
    is_webhooks = re.fullmatch(r"/console/webhooks(/[^/]*)?", request.scope["path"]) is not None
    return is_webhooks and request.query_params.get("embed") == "1"


def content_security_policy(bucket_origin: str, embedders: Sequence[str] = ()) -> str:
    """Return the policy: scripts of this server only, none made from text; files also from the bucket's origin.

    Pages of this server and of ``embedders`` may show the page in a frame.
    """
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            f"img-src 'self' blob: data: {bucket_origin}",
            f"media-src 'self' blob: {bucket_origin}",
            f"connect-src 'self' {bucket_origin}",
            # Pages among the artifacts are sandboxed by their own policy (services/gateway/artifacts/pages.py).
            f"frame-src 'self' {bucket_origin}",
            "base-uri 'self'",
            "form-action 'none'",
            " ".join(("frame-ancestors 'self'", *embedders)),
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def preloaded_modules(folder: Path, entry: str = "main.js") -> list[str]:
    """Return the modules that ``entry`` imports statically, itself left out, in the order of their imports.

    Without the list a browser would learn of a nested import only after it has loaded the module around it.
    """
    found: dict[str, None] = {entry: None}
    for name in (queue := [entry]):
        source = (folder / name).read_text(encoding="utf-8")
        for match in _IMPORT.finditer(source):
            imported = posixpath.normpath(f"{PurePosixPath(name).parent}/{match[1] or match[2]}")
            if imported not in found:
                found[imported] = None
                queue.append(imported)
    return [name for name in found if name != entry]
