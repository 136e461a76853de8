"""Request authentication: the principal and the scope that a route requires."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Depends, Request
from fastapi.security import APIKeyQuery, HTTPBearer

from kit.auth.api_keys import Authenticator, Principal

# For OpenAPI only; the authenticator reads headers and query, and embedded mode needs none.
_BEARER: Final = HTTPBearer(auto_error=False, description="`<id>.<secret>`; not needed in embedded mode.")
_TICKET: Final = APIKeyQuery(
    name="ticket", scheme_name="Ticket", auto_error=False, description="From POST /v1/tickets, for a browser."
)
_RUN_TOKEN: Final = HTTPBearer(
    scheme_name="RunToken", auto_error=False, description="The token of one run, which its worker was started with."
)
#: Dependencies that state in OpenAPI what a route accepts that authenticates by itself.
ACCEPTS_KEY: Final = Depends(_BEARER)
ACCEPTS_TICKET: Final = Depends(_TICKET)
ACCEPTS_RUN_TOKEN: Final = Depends(_RUN_TOKEN)


async def _read(request: Request, _: Annotated[Any, ACCEPTS_KEY] = None) -> Principal:
    authenticator: Authenticator = request.app.state.authenticator
    return authenticator.authenticate(request.headers, "read")


async def _write(request: Request, _: Annotated[Any, ACCEPTS_KEY] = None) -> Principal:
    authenticator: Authenticator = request.app.state.authenticator
    return authenticator.authenticate(request.headers, "write")


#: Raise UNAUTHENTICATED or FORBIDDEN. The application keeps its ``authenticator`` in its state.
Reader = Annotated[Principal, Depends(_read)]
Writer = Annotated[Principal, Depends(_write)]
