"""``/origin-slot/<path>?<query>``: the slot of the tenant of a request, for an origin before several cells (ADR 0052).

The origin asks it with the method and the headers of a client's request, and passes that on to the cell of the slot.
Any gateway answers, of whatever cell and while it reads its history: it needs the keys file and the key of tickets,
which all cells share. It is no authentication: where a credential names its tenant, the name is believed, because the
cell verifies it; where it names a key, it is verified, so that the answer does not tell which keys exist.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from contracts.errors import SaccadeError
from contracts.ids import TENANT_PATTERN
from contracts.partitions import slot_of
from contracts.worker_rights import run_identity
from kit.auth.api_keys import Authenticator
from kit.auth.bus_token import claimed_tags
from kit.auth.mapped_credential import known_caller
from kit.auth.tickets import claimed_tenant
from services.gateway.compat.credentials import ReplacedCredentials
from services.gateway.compat.replaced_paths import ReplacedPaths

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

#: deploy/origin_slot.conf has both.
PREFIX: Final = "/origin-slot"
HEADER: Final = "Saccade-Slot"
_PAGE: Final = re.compile(r"/v1/jobs/[^/]+/pages/([^/]+)/.*", re.DOTALL)
_RUN: Final = re.compile(r"/v1/runs/[^/]+(?:/events)?/?")


class SlotAnswers:
    """Pure ASGI middleware: answers the origin's questions before everything else of the application."""

    def __init__(self, app: ASGIApp, callers: Authenticator, credentials: ReplacedCredentials) -> None:
        """Wrap an application; ``callers`` knows the tenants of every cell."""
        self._app, self._callers = app, callers
        self._asked = ReplacedPaths(self._answer, credentials)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a question, or pass a request on."""
        if scope["type"] == "http" and scope["path"].startswith(f"{PREFIX}/"):
            await self._asked({**scope, "path": scope["path"].removeprefix(PREFIX)}, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 204 with the slot in a header, or without where any cell can answer the request."""
        headers = {"Cache-Control": "no-store"}
        if re.fullmatch(TENANT_PATTERN, tenant := self._tenant(Request(scope)) or ""):
            headers[HEADER] = str(slot_of(tenant))
        await Response(status_code=204, headers=headers)(scope, receive, send)

    def _tenant(self, request: HTTPConnection) -> str | None:
        """Return the tenant by the credential that the cell will use; None for nobody, and for all tenants."""
        path: str = request.scope["path"]
        if page := _PAGE.fullmatch(path):
            return claimed_tenant(page[1])
        if _RUN.fullmatch(path):
            return _tenant_of_run(request.headers.get("authorization", ""))
        ticket = request.query_params.get("ticket")
        if ticket and "authorization" not in request.headers:
            return claimed_tenant(ticket)
        principal = known_caller(self._callers, request)
        if principal is None or principal.across_tenants:
            return request.query_params.get("tenant") if principal else None
        return principal.tenant


def _tenant_of_run(authorization: str) -> str | None:
    try:
        return run_identity(claimed_tags(authorization.partition(" ")[2].strip())).tenant
    except SaccadeError:
        return None
