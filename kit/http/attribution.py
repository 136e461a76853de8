"""Attribution of an act by HTTP, for the audit log."""

from __future__ import annotations

from starlette.requests import Request

from contracts.audit import Attribution
from kit.auth.api_keys import Authenticator, Principal
from kit.http.problems import request_id_of


def attribution_of(request: Request, caller: Principal, why: str) -> Attribution:
    """Return who asks and why: the key's id, which the server has checked, or the user of this machine."""
    authenticator: Authenticator = request.app.state.authenticator
    return Attribution(
        by=caller.key_id, by_verified=authenticator.authenticated, why=why, request_id=request_id_of(request.scope)
    )
