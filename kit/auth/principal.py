"""Request authentication: the principal, the scope that a route requires, and the tenants that an operator reaches."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.security import APIKeyQuery, HTTPBearer

from contracts.audit import SYSTEM
from contracts.errors import ErrorCode, SaccadeError
from kit.auth.api_keys import Authenticator, Principal, ScopeName
from kit.auth.mapped_credential import caller_of

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


class ScopedCaller:
    """Dependency of a route that needs a key with one of some scopes; the route states them in OpenAPI so."""

    def __init__(self, *scopes: ScopeName) -> None:
        """Require one of ``scopes``."""
        self.scopes = scopes


class _CallerWith(ScopedCaller):
    """The caller of a request, by its key or its browser's session."""

    async def __call__(self, request: Request, _: Annotated[Any, ACCEPTS_KEY] = None) -> Principal:
        authenticator: Authenticator = request.app.state.authenticator
        return caller_of(authenticator, request, *self.scopes)


def scopes_of(dependant: Dependant) -> tuple[ScopeName, ...]:
    """Return the scopes of which a key must have one to use a route; none where the route asks for no caller."""
    if isinstance(dependant.call, ScopedCaller):
        return dependant.call.scopes
    found = [scopes for inner in dependant.dependencies if (scopes := scopes_of(inner))]
    # Of several callers the strictest decides: the one with the fewest scopes.
    return min(found, key=len, default=())


def asks_for_key(dependant: Dependant) -> bool:
    """Return whether a route asks for a caller who has a key or a browser's session, and for nothing instead."""
    return isinstance(dependant.call, _CallerWith) or any(map(asks_for_key, dependant.dependencies))


#: Raise UNAUTHENTICATED, WRONG_PARTITION or FORBIDDEN. The application keeps its ``authenticator`` in its state.
Reader = Annotated[Principal, Depends(_CallerWith("read"))]
Writer = Annotated[Principal, Depends(_CallerWith("write"))]
Operator = Annotated[Principal, Depends(_CallerWith("operate"))]
#: Routes for a tenant's own keys and for operators. Their tenants come from ``tenants_of`` or ``tenant_of``, never from
#: ``principal.tenant``: an operator of all tenants is of none.
ReaderOrOperator = Annotated[Principal, Depends(_CallerWith("read", "operate"))]
WriterOrOperator = Annotated[Principal, Depends(_CallerWith("write", "operate"))]


def tenants_of(principal: Principal, asked: str | None = None) -> str | None:
    """Return the tenant that a request is about; None for every tenant, which only an operator of all can reach.

    Raises:
        SaccadeError: FORBIDDEN, when the key does not reach the tenant that is asked for; WRONG_PARTITION, when this
            server does not serve it.
    """
    if principal.across_tenants:
        if asked not in (None, SYSTEM):
            principal.partition.require(asked)
        return asked
    if asked not in (None, principal.tenant):
        raise SaccadeError(
            ErrorCode.FORBIDDEN,
            f"This API key is of the tenant {principal.tenant!r}.",
            hint=f"Use a key of the tenant {SYSTEM} with the scope operate, which reaches every tenant.",
        )
    return principal.tenant


def tenant_of(principal: Principal, asked: str | None = None) -> str:
    """Return the one tenant that a request is about: the caller's own unless another one is named.

    Raises:
        SaccadeError: FORBIDDEN, WRONG_PARTITION, as ``tenants_of``; INVALID_PARAMETER, when the key has no tenant of
            its own and none is named.
    """
    tenant = tenants_of(principal, asked) or principal.tenant
    if tenant == SYSTEM:
        raise SaccadeError(ErrorCode.INVALID_PARAMETER, "tenant: name one.", hint="Send tenant=<name>.")
    return tenant


async def _made_by(request: Request, caller: Writer) -> str | None:
    """Return the id of the caller's API key; None without keys."""
    return caller.key_id if request.app.state.authenticator.authenticated else None


MadeBy = Annotated[str | None, Depends(_made_by)]
