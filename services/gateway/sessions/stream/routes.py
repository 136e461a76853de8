"""``WS /v1/sessions/{id}/stream``: who may open it, and where it begins."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Final

from fastapi import APIRouter, Response, WebSocket

from contracts.errors import ErrorCode, SaccadeError
from contracts.events import Cursor
from contracts.ids import new_id
from kit.auth.api_keys import Principal
from kit.http.problems import PROBLEM_JSON, problem, problem_headers
from services.gateway.dependencies import gateway_behind
from services.gateway.sessions.stream.session_socket import SessionSocket

router = APIRouter()

_TRUE: Final = frozenset({"1", "true", "yes"})


def _principal(socket: WebSocket) -> Principal:
    """Tell who asks: by API key, or by the ticket in ``?ticket=``, since browsers send no headers.

    Raises:
        SaccadeError: UNAUTHENTICATED, FORBIDDEN.
    """
    gateway = gateway_behind(socket)
    text = socket.query_params.get("ticket")
    if not text or not gateway.authenticator.authenticated or "authorization" in socket.headers:
        return gateway.authenticator.authenticate(socket.headers, "read")
    principal = gateway.tickets.admit(gateway.authenticator, text, socket.url.path, datetime.now(UTC))
    principal.require("read")
    return principal


def _after(socket: WebSocket) -> Cursor | None:
    """Read where the client goes on.

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
async def stream_session(socket: WebSocket, session_id: str) -> None:
    """Open the stream, or refuse it as any other request."""
    gateway = gateway_behind(socket)
    try:
        principal = _principal(socket)
        session = await gateway.sessions.get(principal.tenant, session_id)
        after = _after(socket)
    except SaccadeError as error:
        body = json.dumps(problem(error, new_id("req")))
        await socket.send_denial_response(
            Response(body, error.kind.status, problem_headers(error), media_type=PROBLEM_JSON)
        )
        return
    await socket.accept()
    served = SessionSocket(
        socket,
        session,
        principal,
        sessions=gateway.sessions,
        door=gateway.door,
        viewers=gateway.viewers,
        tail=gateway.tail,
    )
    await served.run(after, joints=socket.query_params.get("joints", "") in _TRUE)
