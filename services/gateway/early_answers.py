"""Requests that the gateway answers while its view catches up: those whose answers lack nothing, or say what.

- The console, whose pages read by the API.
- One object, by its id: it is read from its own events (``aggregates/early_reads.py``).
- What reads the caller's own tenant, if the view lacks none of its events.
- Lists whose caller has allowed that they are incomplete.

Nothing else: no write, because budgets, quotas and rules need all events, and no other read.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from starlette.requests import HTTPConnection

from contracts.errors import SaccadeError
from kit.auth.api_keys import Authenticator, Principal
from kit.auth.mapped_credential import known_caller

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import Scope

    from services.gateway.aggregates.early_reads import EarlyReads

_OBJECT: Final = re.compile(
    r"/v1/(jobs/(job|stg)_[^/]+(/(artifacts(/.+)?|pages/.+))?|sessions/ses_[^/]+|uploads/upl_[^/]+(/parts)?)"
)
#: They read nothing from the view: the console, and who is logged in.
_WITHOUT_VIEW: Final = re.compile(r"/|/console(/.*)?|/console-files/.+|/v1/browser-session")
#: Routes that read the caller's own tenant and no other.
_OF_TENANT: Final = re.compile(r"/v1/(jobs|job-plans|sessions|uploads|rules|budgets)(/.*)?")
#: Operators of all tenants read the spending of others too.
_SPEND: Final = "/v1/spend"
_LISTS: Final = frozenset({"/v1/jobs", "/v1/jobs/counts", "/v1/sessions"})
#: Parameter of reads as of a point of the history, which needs the list of all that there was.
_OF_THE_PAST: Final = "at"
_YES: Final = frozenset({"true", "1", "yes", "on"})


async def is_answered_early(app: FastAPI, scope: Scope) -> bool:
    """Return whether a request is answered before the view has caught up."""
    if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
        return False
    path, query = scope["path"], parse_qs(scope["query_string"].decode("latin-1"))
    if _WITHOUT_VIEW.fullmatch(path):
        return True
    if _OF_THE_PAST not in query:
        allows_incomplete = query.get("incomplete", [""])[-1].lower() in _YES
        if _OBJECT.fullmatch(path) or (path in _LISTS and allows_incomplete):
            return True
    if path != _SPEND and not _OF_TENANT.fullmatch(path):
        return False
    caller = _caller(app.state.authenticator, scope)
    if caller is None or (path == _SPEND and caller.across_tenants):
        return False
    reads: EarlyReads = app.state.early_reads
    try:
        return not await reads.gap.lacks(caller.tenant)
    except SaccadeError:
        return False


def _caller(authenticator: Authenticator, scope: Scope) -> Principal | None:
    """Return the caller of a request; None if it has no valid credential."""
    if not authenticator.authenticated:
        return authenticator.authenticate({})
    return known_caller(authenticator, HTTPConnection(scope))
