"""One WebSocket of a session: receives frames, joints and commands; sends events, joints and answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from typing import Any, Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import ADVISORY, Cursor, subject_of
from contracts.ids import new_id
from contracts.session import Session, telemetry_subject
from contracts.streams import aggregate
from contracts.telemetry import Finite, JointBatch
from kit.auth.api_keys import Principal
from kit.bus.event_store import EventStore
from kit.bus.tail import EventTail
from kit.http.problems import invalid_values, problem
from kit.http.request_body import parse_body
from kit.tasks import first_of
from services.gateway.sessions.service import SessionService
from services.gateway.sessions.stream.socket_backlog import OpenSockets, SocketBacklog
from services.gateway.telemetry.joint_check import read_joints
from services.gateway.telemetry.publisher import FrameHeader
from services.gateway.telemetry.session_ingest import SessionIngest

log = logging.getLogger(__name__)

#: A send that takes longer ends the connection; the client resumes by its cursor.
_SEND_TIMEOUT_S: Final = 20.0
_MAX_HEADER_BYTES: Final = 4096
#: A cursor may be ahead of this process; it waits this long to catch up.
_CATCH_UP_TIMEOUT_S: Final = 1.0
#: Close codes: RFC 6455, section 7.4.1, and "try again later" of the IANA registry for slow clients.
_NORMAL: Final = 1000
_TRY_AGAIN: Final = 1013


class _Ping(BaseModel):
    model_config = ConfigDict(extra="ignore")

    sent_at_s: Finite


class SessionSocket:
    """Both directions of an accepted socket, until it closes."""

    def __init__(
        self,
        socket: WebSocket,
        session: Session,
        principal: Principal,
        *,
        sessions: SessionService,
        ingest: SessionIngest,
        open_sockets: OpenSockets,
        tail: EventTail,
    ) -> None:
        """Connect an accepted socket with a session, on behalf of ``principal``."""
        self._socket = socket
        self._session = session
        self._principal = principal
        self._sessions = sessions
        self._ingest = ingest
        self._open_sockets = open_sockets
        self._tail = tail
        self._backlog = SocketBacklog(tail.epoch, 0)
        self._last_warnings: list[str] = []

    async def run(self, after: Cursor | None, *, joints: bool) -> None:
        """Serve until the session has ended, the client disconnects or reads too slowly."""
        self._open_sockets.add(self._session.id, self._backlog)
        try:
            await first_of(self._send_all(after, joints=joints), self._receive_all())
        except (WebSocketDisconnect, TimeoutError):
            log.info("a client of %s disconnected", self._session.id)
        except SaccadeError as error:
            log.warning("a stream of %s was closed: %s", self._session.id, error)
            with contextlib.suppress(WebSocketDisconnect, RuntimeError):
                await self._socket.close(_TRY_AGAIN, str(error.code))
        finally:
            self._open_sockets.remove(self._session.id, self._backlog)

    # -- sending

    async def _send_all(self, after: Cursor | None, *, joints: bool) -> None:
        client = self._tail.store.client
        await self._send_history(after)
        subscription = await self._subscribe_joints(client) if joints and not self._backlog.ended else None
        try:
            while not self._backlog.ended:
                await self._backlog.not_empty.wait()
                for text in self._backlog.take():
                    await self._send(text)
                if self._backlog.too_slow:
                    await self._socket.close(_TRY_AGAIN, "too slow: resume after your last cursor")
                    return
        finally:
            if subscription is not None and not client.is_closed:
                await subscription.unsubscribe()
        await self._socket.close(_NORMAL, "the session has ended")

    async def _send_history(self, after: Cursor | None) -> None:
        """Send the stored events; live events wait in the backlog, which skips those sent here."""
        backlog, store = self._backlog, self._tail.store
        # The client may have received an event from another process before this one has it.
        if after is not None and not (
            after.epoch == self._tail.epoch and await self._tail.wait_for(after.sequence, _CATCH_UP_TIMEOUT_S)
        ):
            await self._send(json.dumps({"type": "gap", "after": str(after)}))
            after = None
        backlog.position = after.sequence if after else 0
        async for stored in store.history(
            backlog.position, aggregate(self._session.tenant, "session", self._session.id)
        ):
            await self._send(backlog.event_text(stored))
        await self._send(backlog.cursor_text())
        session = self._sessions.known(self._session)
        # The client's cursor may be after the session's last event.
        backlog.ended = backlog.ended or (session.state.ended and session.sequence <= backlog.position)
        if not backlog.ended:
            subjects = subject_of(ADVISORY, session.tenant, "session", session.id, "*")
            for stored in await EventStore(store.client, "PROGRESS").load(subjects):
                await self._send(stored.body.decode())

    async def _subscribe_joints(self, client: Client) -> Any:
        async def on_joints(msg: Msg) -> None:
            try:
                self._backlog.set_joints(JointBatch.model_validate_json(msg.data))
            except ValidationError:
                log.debug("invalid joints of %s", self._session.id)

        return await client.subscribe(
            telemetry_subject(self._session.tenant, self._session.id, "joints"), cb=on_joints
        )  # fmt: skip

    async def _send(self, text: str) -> None:
        async with asyncio.timeout(_SEND_TIMEOUT_S):
            await self._socket.send_text(text)

    # -- receiving

    async def _receive_all(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005))
            picture = message.get("bytes")
            header: FrameHeader | None = None
            try:
                if picture is None:
                    await self._receive_text(message.get("text") or "")
                    continue
                self._check_may_write()
                header, picture = read_frame_message(picture)
                session = await self._sessions.get_accepting_input(self._session.tenant, self._session.id)
                await self._ingest.send_frame(session, header, picture)
            except SaccadeError as error:
                frame = {} if header is None else {"source": header.source, "seq": header.seq}
                self._report_error(error, frame)

    async def _receive_text(self, text: str) -> None:
        try:
            received = json.loads(text)
            kind = received["type"]
        except (ValueError, RecursionError, KeyError, TypeError):
            raise SaccadeError(
                ErrorCode.MALFORMED_REQUEST, "The message is not a JSON object with a type.", hint=_HINT
            ) from None
        tenant, session_id = self._session.tenant, self._session.id
        match kind:
            case "clock_ping":
                self._backlog.add_reply(_pong(received))
            case "joints":
                self._check_may_write()
                session = await self._sessions.get_accepting_input(tenant, session_id)
                self._warn(await self._ingest.send_joints(session, read_joints(text)))
            case "stop":
                self._check_may_write()
                await self._sessions.stop(tenant, session_id)
            case "reset":
                self._check_may_write()
                await self._sessions.reset(tenant, session_id)
            case _:
                raise SaccadeError(
                    ErrorCode.MALFORMED_REQUEST, f"There is no message of type {str(kind)[:50]!r}.", hint=_HINT
                )

    def _check_may_write(self) -> None:
        self._principal.require("write")

    def _warn(self, warnings: list[str]) -> None:
        """Send warnings about joints when they differ from the previous ones."""
        if warnings != self._last_warnings and warnings:
            self._backlog.add_reply(json.dumps({"type": "warning", "warnings": warnings}))
        self._last_warnings = warnings

    def _report_error(self, error: SaccadeError, frame: dict[str, Any]) -> None:
        self._backlog.add_reply(json.dumps({**frame, **problem(error, new_id("req")), "type": "error"}))


_HINT: Final = "Send joints, clock_ping, stop or reset; frames are binary messages. docs/sessions.md describes each."


def read_frame_message(message: bytes) -> tuple[FrameHeader, bytes]:
    """Parse a binary message: four bytes with the header's length, the header as JSON, and the picture.

    Raises:
        SaccadeError: MALFORMED_REQUEST; INVALID_PARAMETER.
    """
    length = int.from_bytes(message[:4])
    if len(message) < 4 or length > min(_MAX_HEADER_BYTES, len(message) - 4):
        raise SaccadeError(
            ErrorCode.MALFORMED_REQUEST,
            "The message does not begin with the length of its header.",
            hint="Send four bytes (big-endian) with the length of a JSON object, the object, and the picture.",
        )
    header = parse_body(FrameHeader, message[4 : 4 + length], hint=_HINT)
    return header, message[4 + length :]


def _pong(received: dict[str, Any]) -> str:
    try:
        ping = _Ping.model_validate(received)
    except ValidationError as error:
        raise invalid_values(error.errors(include_url=False, include_input=False), hint=_HINT) from None
    return json.dumps({"type": "clock_pong", "sent_at_s": ping.sent_at_s, "time_s": time.time()})
