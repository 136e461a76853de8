"""Files of a job at addresses that need no API key: HTML pages, whose relative links work, and links to one file.

A presigned URL is valid for one object: a link from report.html to spin.html would end in the bucket's error. Under
``/v1/jobs/{job_id}/pages/{ticket}/`` the links of a page keep the ticket. The worker that wrote the page must not act
as its reader: the page is sandboxed, so its origin is none, and it may connect to nothing. The session of its reader's
browser does not count in what it requests (kit/auth/own_page.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import quote, urlsplit

from fastapi.responses import Response

from contracts.errors import ErrorCode, SaccadeError
from kit.auth.api_keys import Authenticator, Principal
from kit.auth.tickets import LIFETIME, Tickets, remaining
from kit.bucket import ObjectMissing
from services.gateway.artifacts.service import ArtifactLocation, ArtifactService
from services.gateway.object_body import ObjectResponse
from services.gateway.object_reads import ObjectReads

#: Where no API key is needed, nor is a ticket: the pages keep their addresses.
_NO_TICKET: Final = "local"
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class ArtifactPages:
    """Addresses and answers of the pages."""

    def __init__(
        self, reads: ObjectReads, artifacts: ArtifactService, authenticator: Authenticator, tickets: Tickets
    ) -> None:
        """Read pages by ``reads``; ``tickets`` signs their addresses where API keys are needed."""
        self._reads, self._artifacts = reads, artifacts
        self._authenticator, self._tickets = authenticator, tickets

    def address(self, caller: Principal, job_id: str, name: str, now: datetime) -> str:
        """Return the path of a page, which a browser opens without an API key."""
        return self._address(caller, job_id, name, "", now + LIFETIME)[0]

    def link(
        self, caller: Principal, job_id: str, name: str, now: datetime, lifetime: timedelta, *, is_page: bool
    ) -> tuple[str, datetime | None]:
        """Return the path of a file for a time, and when it ends; None where no API key is needed.

        A page shows other files of its folder, so its link opens the folder; that of another file opens only that.
        """
        return self._address(caller, job_id, name, _folder(name) if is_page else name, now + lifetime)

    def _address(
        self, caller: Principal, job_id: str, name: str, opened: str, expires_at: datetime
    ) -> tuple[str, datetime | None]:
        base = _resource(job_id)
        if not self._authenticator.authenticated:
            return f"{base}/{_NO_TICKET}/{quote(name)}", None
        ticket = self._tickets.issue_for_pages(caller, f"{base}/{opened}", expires_at)
        return f"{base}/{ticket}/{quote(name)}", expires_at

    def admit(
        self, headers: Mapping[str, str], job_id: str, ticket: str, name: str, now: datetime
    ) -> tuple[Principal, timedelta | None]:
        """Return the caller whose ticket is in the path, if it opens the file, and for how long it still does.

        That is None where no API key is needed.

        Raises:
            SaccadeError: UNAUTHENTICATED, FORBIDDEN.
        """
        if not self._authenticator.authenticated:
            return self._authenticator.authenticate(headers, "read"), None
        principal = self._tickets.admit(self._authenticator, ticket, f"{_resource(job_id)}/{name}", now)
        principal.require("read")
        return principal, remaining(ticket, now)

    async def response(self, tenant: str, location: ArtifactLocation, *, head: bool = False) -> Response:
        """Return a page of a tenant's job, streamed from the bucket; with ``head`` only its headers.

        Raises:
            SaccadeError: ARTIFACT_NOT_FOUND, RATE_LIMITED, STORAGE_UNAVAILABLE.
        """
        policy = _policy(await self._artifacts.presign(location))
        async with AsyncExitStack() as stack:
            try:
                opened = await stack.enter_async_context(self._reads.opened(tenant, location.key))
            except ObjectMissing:
                raise SaccadeError(ErrorCode.ARTIFACT_NOT_FOUND, "The file was deleted from the bucket.") from None
            open_object = stack.pop_all()
        headers = {**_HEADERS, "Content-Security-Policy": policy, "Content-Length": str(opened.size_bytes)}
        if head:
            await open_object.aclose()
            return Response(headers=headers, media_type=location.media_type)
        return ObjectResponse(opened.chunks(), open_object, headers=headers, media_type=location.media_type)


def _resource(job_id: str) -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}/pages"


def _folder(name: str) -> str:
    """Return the folder of a file with its slash; empty for the job's own."""
    folder, slash, _ = name.rpartition("/")
    return folder + slash


def _policy(presigned_url: str) -> str:
    """Return the policy of a page, whose pictures and scripts are in the bucket of ``presigned_url``."""
    bucket = urlsplit(presigned_url)
    files = f"'self' {bucket.scheme}://{bucket.netloc} data: blob:"
    return "; ".join(
        (
            "sandbox allow-scripts allow-popups allow-downloads allow-modals allow-pointer-lock",
            f"default-src {files} 'unsafe-inline' 'wasm-unsafe-eval'",
            "connect-src data: blob:",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
