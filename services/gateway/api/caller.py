"""What every route needs of a request: who asks, for which tenant, with which Idempotency-Key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import Depends, Header, Request
from fastapi.security import HTTPBearer
from pydantic import BaseModel

from contracts.limits import IDEMPOTENCY_KEY_CHARS
from services.gateway.idempotency import IdempotencyKey, idempotency_key
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

IdempotencyHeader = Annotated[
    str | None,
    Header(
        description="The same key with the same body makes the same thing, for 24 hours; with another body it is "
        f"refused. 1 to {IDEMPOTENCY_KEY_CHARS} printable ASCII characters.",
        json_schema_extra={"example": "2f9d1c7e-6b0e-4f4a-8d4c-0d6a1f1b7a55"},
    ),
]


def key_of(principal: Principal, route: str, key: str | None, body: BaseModel) -> IdempotencyKey | None:
    """Read the Idempotency-Key of a request; None where there is none.

    Raises:
        SaccadeError: IDEMPOTENCY_KEY_INVALID.
    """
    if key is None:
        return None
    return idempotency_key(principal.tenant, route, key, body.model_dump(mode="json", exclude_unset=True))
