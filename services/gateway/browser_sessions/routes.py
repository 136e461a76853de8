"""Routes of a browser's session: log in with an API key, who is logged in, log out (docs/browser-session.md)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from contracts.errors import ErrorCode, SaccadeError
from contracts.quotas import QuotaName
from kit.auth.api_keys import Authenticator, Principal, ScopeName
from kit.auth.browser_session import LIFETIME
from kit.auth.mapped_credential import caller_of
from kit.auth.own_page import cookie_name, is_of_foreign_page, is_over_tls
from kit.auth.principal import ACCEPTS_KEY
from kit.http.app_state import from_app_state
from kit.http.problems import problem_responses

router = APIRouter(prefix="/v1/browser-session", tags=["service"])

AuthenticatorDep = Annotated[Authenticator, from_app_state("authenticator")]
_NO_STORE: Final = {"Cache-Control": "no-store"}
_SCOPES: Final[tuple[ScopeName, ...]] = ("read", "write", "operate")


class BrowserSessionObject(BaseModel):
    """Caller of this server, as a page of it sees its user."""

    logged_in: bool = Field(description="Whether requests of this browser's pages are answered.")
    keys_required: bool = Field(description="Whether this server needs API keys; without them everybody is logged in.")
    can_log_in: bool = Field(description="Whether it can be logged in from here: by TLS, or on the server's machine.")
    tenant: str | None = None
    key_id: str | None = None
    scopes: list[ScopeName] = Field(default=[], description="What the key may do.")
    across_tenants: bool = Field(default=False, description="Whether the key operates every tenant.")
    read_only: bool = Field(default=False, description="Whether this server shows an imported window.")
    expires_at: datetime | None = Field(default=None, description="End of the session; null for a key in a header.")


@router.post(
    "",
    status_code=201,
    dependencies=[ACCEPTS_KEY],
    summary="Log in: a cookie that stands for the API key",
    responses=problem_responses(ErrorCode.TLS_REQUIRED, ErrorCode.BROWSER_SESSIONS_NOT_CONFIGURED),
)
async def log_in(request: Request, response: Response, authenticator: AuthenticatorDep) -> BrowserSessionObject:
    """Set a cookie for 12 hours with which this browser's pages of this server need no key; scripts cannot read it."""
    _refuse_foreign_page(request)
    response.headers.update(_NO_STORE)
    principal = authenticator.authenticate(request.headers)
    authenticator.quotas.take(principal.tenant, QuotaName.REQUESTS)
    if not authenticator.authenticated:
        return _object(request, authenticator, principal)
    name = cookie_name(request)
    if name is None:
        raise SaccadeError(ErrorCode.TLS_REQUIRED)
    if not authenticator.sessions.is_configured:
        raise SaccadeError(ErrorCode.BROWSER_SESSIONS_NOT_CONFIGURED)
    value, expires_at = authenticator.sessions.issue(principal, datetime.now(UTC))
    _set_cookie(request, response, name, value, int(LIFETIME.total_seconds()))
    return _object(request, authenticator, principal, expires_at)


@router.get("", summary="Who is logged in", responses=problem_responses())
async def read_session(request: Request, response: Response, authenticator: AuthenticatorDep) -> BrowserSessionObject:
    """Return tenant, key and scopes of the caller, also of one with a key; of nobody, whether a key is needed."""
    response.headers.update(_NO_STORE)
    try:
        principal = caller_of(authenticator, request)
    except SaccadeError as error:
        if error.code is not ErrorCode.UNAUTHENTICATED or "authorization" in request.headers:
            raise
        return _object(request, authenticator, None)
    return _object(request, authenticator, principal, principal.valid_until)


@router.delete("", status_code=204, summary="Log out", responses=problem_responses())
async def log_out(request: Request) -> Response:
    """Delete the cookie of this browser; to end a session whose cookie was copied, remove the key."""
    _refuse_foreign_page(request)
    response = Response(status_code=204, headers=_NO_STORE)
    if (name := cookie_name(request)) is not None:
        _set_cookie(request, response, name, "", 0)
    return response


def _refuse_foreign_page(request: Request) -> None:
    """Raise ORIGIN_NOT_ALLOWED: no other page logs a browser in as somebody else, or out."""
    if is_of_foreign_page(request):
        raise SaccadeError(
            ErrorCode.ORIGIN_NOT_ALLOWED,
            "Only pages of this server log in and out.",
            hint="Open the server's own address; a proxy in front must pass Host on, and send X-Forwarded-Proto.",
        )


def _set_cookie(request: Request, response: Response, name: str, value: str, max_age_s: int) -> None:
    response.set_cookie(
        name, value, max_age=max_age_s, path="/", secure=is_over_tls(request), httponly=True, samesite="strict"
    )


def _object(
    request: Request, authenticator: Authenticator, principal: Principal | None, expires_at: datetime | None = None
) -> BrowserSessionObject:
    can_log_in = not authenticator.authenticated or (
        cookie_name(request) is not None and authenticator.sessions.is_configured
    )
    common = BrowserSessionObject(
        logged_in=principal is not None, keys_required=authenticator.authenticated, can_log_in=can_log_in
    )
    if principal is None:
        return common
    return common.model_copy(
        update={
            "tenant": principal.tenant,
            "key_id": principal.key_id if authenticator.authenticated else None,
            "scopes": [scope for scope in _SCOPES if scope in principal.scopes],
            "across_tenants": principal.across_tenants,
            "read_only": principal.read_only,
            "expires_at": expires_at,
        }
    )
