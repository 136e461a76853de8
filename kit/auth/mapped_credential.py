"""Credentials of clients that know no API keys: the operator maps each to a key, and a middleware finds it.

The middleware puts what it found into the ASGI scope, which no client can write.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from starlette.requests import HTTPConnection

from contracts.errors import ErrorCode, SaccadeError
from contracts.quotas import QuotaName
from kit.auth.api_keys import Authenticator, Principal, ScopeName
from kit.auth.own_page import session_values
from kit.auth.portal_link import opens

#: Key of an ASGI scope with a ``MappedCredential``.
MAPPED_CREDENTIAL: Final = "saccade.mapped_credential"
#: Key of an ASGI scope with the caller that was found, for the next who asks.
_IDENTIFIED: Final = "saccade.identified"
#: Time since then after which the keys file is looked at again: a body takes its time, and a key may be removed then.
_BODY_S: Final = 0.1
#: Key of the state of a request: the id of the API key that it was made with, for the access log.
KEY_ID: Final = "key_id"


@dataclass(frozen=True)
class MappedCredential:
    """Result of the operator's mapping: the id of an API key, or None for a credential that is refused."""

    key_id: str | None
    #: It stands for clients that send nothing: every web page can have a browser send such a request.
    ambient: bool = False


@dataclass(frozen=True)
class _Identified:
    """The caller of a request, and all that it follows from besides the headers, which nobody changes."""

    asked: tuple[object, ...]
    principal: Principal
    at_s: float

    @property
    def is_valid(self) -> bool:
        """Whether its browser's session, or its link, lasts."""
        until = self.principal.valid_until
        return until is None or until > datetime.now(UTC)


def caller_of(authenticator: Authenticator, connection: HTTPConnection, *scopes: ScopeName) -> Principal:
    """Return the caller of a request, by the credential that was mapped for it, its API key or its browser's session.

    The request counts as one of its tenant's.

    Raises:
        SaccadeError: UNAUTHENTICATED; WRONG_PARTITION; FORBIDDEN; RATE_LIMITED.
    """
    principal = _identified(authenticator, connection, *scopes)
    connection.scope.setdefault("state", {})[KEY_ID] = principal.key_id
    authenticator.quotas.take(principal.tenant, QuotaName.REQUESTS)
    return principal


def known_caller(authenticator: Authenticator, connection: HTTPConnection) -> Principal | None:
    """Return the caller of a request, which is not counted; None when it has no valid credential, or needs none."""
    if not authenticator.authenticated:
        return None
    try:
        return _identified(authenticator, connection)
    except SaccadeError:
        return None


def refusal_of(authenticator: Authenticator, connection: HTTPConnection) -> SaccadeError | None:
    """Return the error of a request without a valid credential; None when it has one, or needs none."""
    if not authenticator.authenticated:
        return None
    try:
        _identified(authenticator, connection)
    except SaccadeError as error:
        return error if error.code is ErrorCode.UNAUTHENTICATED else None
    return None


def _identified(authenticator: Authenticator, connection: HTTPConnection, *scopes: ScopeName) -> Principal:
    """Return the caller of a request, which is found once: two middlewares ask before the route does.

    Raises:
        SaccadeError: UNAUTHENTICATED; WRONG_PARTITION; FORBIDDEN.
    """
    scope, now_s = connection.scope, time.monotonic()
    known: _Identified | None = scope.get(_IDENTIFIED)
    if known is not None and now_s > known.at_s + _BODY_S:
        authenticator.reload()
    asked = authenticator, authenticator.keys_version, scope.get(MAPPED_CREDENTIAL), scope.get("method"), scope["path"]
    if known is None or known.asked != asked or not known.is_valid:
        known = scope[_IDENTIFIED] = _Identified(asked, _found(authenticator, connection), now_s)
    known.principal.require(*scopes)
    return known.principal


def _found(authenticator: Authenticator, connection: HTTPConnection) -> Principal:
    """Return the caller of a request by what it has sent.

    Raises:
        SaccadeError: UNAUTHENTICATED; WRONG_PARTITION; FORBIDDEN.
    """
    mapped: MappedCredential | None = connection.scope.get(MAPPED_CREDENTIAL)
    if mapped is None:
        return _by_key_or_session(authenticator, connection)
    principal = None if mapped.key_id is None else authenticator.principal(mapped.key_id)
    if principal is None:
        message = "No key of this server stands for the credential that was sent."
        raise SaccadeError(ErrorCode.UNAUTHENTICATED, message, hint="Send the word or the key that its operator gave.")
    return principal


def _by_key_or_session(authenticator: Authenticator, connection: HTTPConnection) -> Principal:
    """Return the caller by its API key; of a request without one, by the session of its browser."""
    if authenticator.authenticated and "authorization" not in connection.headers:
        principal = authenticator.in_browser(session_values(connection))
        if principal is not None:
            return principal
    if (principal := authenticator.by_portal_link(connection.headers)) is not None:
        if not opens(connection.scope.get("method", ""), connection.scope["path"]):
            message = "This link opens the page of webhooks only."
            raise SaccadeError(ErrorCode.FORBIDDEN, message, hint="Use an API key for everything else.")
        return principal
    return authenticator.authenticate(connection.headers)
