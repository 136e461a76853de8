"""``GET /v1/sessions/{id}/ply``: the newest model of a session, whole or its most important splats."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from contracts.errors import ErrorCode
from kit.auth.principal import Reader
from kit.http.path_ids import SessionId
from kit.http.problems import problem_responses
from services.gateway.sessions.dependencies import PlyDownloadDep, SessionServiceDep
from services.gateway.sessions.ply_download import MEDIA_TYPE

router = APIRouter(tags=["sessions"])

_E = ErrorCode


@router.get(
    "/v1/sessions/{session_id}/ply",
    response_class=Response,
    summary="Download the newest model",
    responses={
        200: {"content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}, "description": "A PLY."},
        304: {"description": "Unchanged: the model has the ETag of `If-None-Match`."},
        **problem_responses(_E.SESSION_NOT_FOUND, _E.SESSION_NOT_STARTED, _E.STORAGE_UNAVAILABLE),
    },
)
async def fetch_ply(
    caller: Reader,
    session_id: SessionId,
    *,
    sessions: SessionServiceDep,
    download: PlyDownloadDep,
    max_splats: Annotated[
        int | None, Query(ge=1, le=1_000_000_000, description="A preview: only this many of the most important splats.")
    ] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Return the model in the format of 3DGS viewers; `If-None-Match` avoids downloading an unchanged model."""
    return await download.response(await sessions.get(caller.tenant, session_id), max_splats, if_none_match)
