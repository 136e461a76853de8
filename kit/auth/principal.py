"""Request authentication: the principal and the scope that a route requires."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from kit.auth.api_keys import Authenticator, Principal

#: For OpenAPI only; the authenticator reads the header, and embedded mode needs none.
_BEARER: Final = HTTPBearer(auto_error=False, description="`<id>.<secret>`; not needed in embedded mode.")


async def _read(request: Request, _: Annotated[Any, Depends(_BEARER)] = None) -> Principal:
    authenticator: Authenticator = request.app.state.authenticator
    return authenticator.authenticate(request.headers, "read")


async def _write(request: Request, _: Annotated[Any, Depends(_BEARER)] = None) -> Principal:
    authenticator: Authenticator = request.app.state.authenticator
    return authenticator.authenticate(request.headers, "write")


#: Raise UNAUTHENTICATED or FORBIDDEN. The application keeps its ``authenticator`` in its state.
Reader = Annotated[Principal, Depends(_read)]
Writer = Annotated[Principal, Depends(_write)]
