"""What every route needs of a request: who asks, for which tenant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from services.kit.auth import Principal

if TYPE_CHECKING:
    from services.gateway.app import Gateway

#: Only tells OpenAPI; the kit reads the header, and embedded mode needs none.
_BEARER: Final = HTTPBearer(auto_error=False, description="`<id>.<secret>`; not needed in embedded mode.")


def gateway_of(request: Request) -> Gateway:
    """Give what the routes work with."""
    gateway: Gateway = request.app.state.gateway
    return gateway


async def _read(request: Request, _: Annotated[Any, Depends(_BEARER)] = None) -> Principal:
    return gateway_of(request).authenticator.authenticate(request.headers, "read")


async def _write(request: Request, _: Annotated[Any, Depends(_BEARER)] = None) -> Principal:
    return gateway_of(request).authenticator.authenticate(request.headers, "write")


#: Who asks, with the scope that the route needs.
Reader = Annotated[Principal, Depends(_read)]
Writer = Annotated[Principal, Depends(_write)]
