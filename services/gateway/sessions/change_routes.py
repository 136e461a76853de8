"""``GET /v1/sessions/{id}/changes``: what changed of a session between two points of the history."""

from __future__ import annotations

from fastapi import APIRouter, Response

from contracts.errors import ErrorCode
from kit.auth.principal import Reader
from kit.http.path_ids import SessionId
from kit.http.problems import problem_responses
from services.gateway.sessions.dependencies import PastSessionsDep
from services.gateway.time_machine.cached_answer import UNCHANGED, IfNoneMatch, cached_answer
from services.gateway.time_machine.points import PAST_ERRORS, ChangesSince, ChangesUntil
from services.gateway.time_machine.schemas import Changes

router = APIRouter(tags=["sessions"])


@router.get(
    "/v1/sessions/{session_id}/changes",
    response_model=Changes,
    summary="Compare a session at two points",
    responses={**UNCHANGED, **problem_responses(ErrorCode.SESSION_NOT_FOUND, *PAST_ERRORS)},
)
async def session_changes(
    caller: Reader,
    session_id: SessionId,
    past: PastSessionsDep,
    *,
    since: ChangesSince,
    until: ChangesUntil = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return the fields that changed, the events in between and what was spent in between.

    `since` may lie before the session was opened.
    """
    window = await past.points.window(since, until)
    return cached_answer(await past.changes(caller.tenant, session_id, *window), window, if_none_match)
