"""``WS /v1/sessions/{id}/stream``: authentication and start position of a session's WebSocket."""

from __future__ import annotations

import contextlib
import json
from typing import Annotated, Final

from fastapi import APIRouter, Response, WebSocket

from contracts.errors import ErrorCode, SaccadeError
from contracts.events import Cursor
from contracts.ids import new_id
from kit.http.app_state import from_app_state
from kit.http.problems import PROBLEM_JSON, problem, problem_headers
from services.gateway.sessions.stream.session_streams import SessionStreams

router = APIRouter()

_TRUE: Final = frozenset({"1", "true", "yes"})


def _after(socket: WebSocket) -> Cursor | None:
    """Return the cursor after which the client resumes.

    Raises:
        SaccadeError: CURSOR_INVALID.
    """
    text = socket.query_params.get("after")
    if not text:
        return None
    try:
        return Cursor.parse(text)
    except ValueError:
        raise SaccadeError(
            ErrorCode.CURSOR_INVALID, hint="Send the cursor of the last cursor message, or leave it out."
        ) from None


@router.websocket("/v1/sessions/{session_id}/stream")
async def stream_session(
    socket: WebSocket, session_id: str, streams: Annotated[SessionStreams, from_app_state("session_streams")]
) -> None:
    """Open the stream, or answer with a problem as any other request does."""
    with contextlib.ExitStack() as places:
        try:
            session_socket = await streams.open(socket, session_id)
            after = _after(socket)
            places.enter_context(streams.places.place(session_socket.principal.tenant))
        except SaccadeError as error:
            body = json.dumps(problem(error, new_id("req")))
            await socket.send_denial_response(
                Response(body, error.kind.status, problem_headers(error), media_type=PROBLEM_JSON)
            )
            return
        await socket.accept()
        joints, acks = (socket.query_params.get(name, "") in _TRUE for name in ("joints", "acks"))
        await streams.run(session_socket, after, joints=joints, acks=acks)
