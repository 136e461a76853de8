"""One WebSocket of a session: takes frames, joints and wishes in, gives events, joints and answers out."""

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
from kit.tasks import first_of
from services.gateway.sessions.service import SessionService
from services.gateway.sessions.stream.socket_backlog import OpenSockets, SocketBacklog
from services.gateway.telemetry.joint_check import read_joints
from services.gateway.telemetry.publisher import FrameHeader
from services.gateway.telemetry.session_ingest import SessionIngest

log = logging.getLogger(__name__)

#: A client that takes nothing for this long is cut off; it resumes by its cursor.
_BLOCKED_S: Final = 20.0
_LONGEST_HEAD: Final = 4096
_AHEAD_S: Final = 1.0
#: Close codes: of RFC 6455, section 7.4.1, and for a client that is too slow that of the IANA registry.
_NORMAL: Final = 1000
_TRY_AGAIN: Final = 1013


class _Ping(BaseModel):
    model_config = ConfigDict(extra="ignore")

    sent_at_s: Finite


class SessionSocket:
    """Both directions of one socket, from when it is accepted until it ends."""

    def __init__(
        self,
        socket: WebSocket,
        session: Session,
        principal: Principal,
        *,
        sessions: SessionService,
        door: SessionIngest,
        viewers: OpenSockets,
        tail: EventTail,
    ) -> None:
        """Serve a session to whoever asks; the socket must have been accepted."""
        self._socket = socket
        self._session = session
        self._principal = principal
        self._sessions = sessions
        self._door = door
        self._viewers = viewers
        self._tail = tail
        self._viewer = SocketBacklog(tail.epoch, 0)
        self._warnings: list[str] = []

    async def run(self, after: Cursor | None, *, joints: bool) -> None:
        """Serve until the session has ended, or the client goes or is too slow."""
        self._viewers.add(self._session.id, self._viewer)
        try:
            await first_of(self._give(after, joints=joints), self._take())
        except (WebSocketDisconnect, TimeoutError):
            log.info("a client of %s is gone", self._session.id)
        except SaccadeError as error:
            log.warning("a stream of %s was cut: %s", self._session.id, error)
            with contextlib.suppress(WebSocketDisconnect, RuntimeError):
                await self._socket.close(_TRY_AGAIN, str(error.code))
        finally:
            self._viewers.remove(self._session.id, self._viewer)

    # -- out

    async def _give(self, after: Cursor | None, *, joints: bool) -> None:
        client = self._tail.store.client
        await self._give_history(after)
        subscription = await self._follow_joints(client) if joints and not self._viewer.ended else None
        try:
            while not self._viewer.ended:
                await self._viewer.news.wait()
                for text in self._viewer.take():
                    await self._send(text)
                if self._viewer.too_slow:
                    await self._socket.close(_TRY_AGAIN, "too slow: resume after your last cursor")
                    return
        finally:
            if subscription is not None and not client.is_closed:
                await subscription.unsubscribe()
        await self._socket.close(_NORMAL, "the session has ended")

    async def _give_history(self, after: Cursor | None) -> None:
        """Give what was before: what is live meanwhile waits, and what is given here is not given again."""
        viewer, store = self._viewer, self._tail.store
        # A client may have been told of an event elsewhere before this process was; further ahead is no place.
        if after is not None and not (
            after.epoch == self._tail.epoch and await self._tail.wait_for(after.sequence, _AHEAD_S)
        ):
            await self._send(json.dumps({"type": "gap", "after": str(after)}))
            after = None
        viewer.position = after.sequence if after else 0
        async for stored in store.history(
            viewer.position, aggregate(self._session.tenant, "session", self._session.id)
        ):
            await self._send(viewer.written(stored))
        await self._send(viewer.cursor())
        session = self._sessions.known(self._session)
        # A client whose cursor is behind the end has it all.
        viewer.ended = viewer.ended or (session.state.ended and session.sequence <= viewer.position)
        if not viewer.ended:
            subjects = subject_of(ADVISORY, session.tenant, "session", session.id, "*")
            for stored in await EventStore(store.client, "PROGRESS").load(subjects):
                await self._send(stored.body.decode())

    async def _follow_joints(self, client: Client) -> Any:
        async def on_joints(msg: Msg) -> None:
            try:
                self._viewer.offer_joints(JointBatch.model_validate_json(msg.data))
            except ValidationError:
                log.debug("joints of %s could not be read", self._session.id)

        return await client.subscribe(
            telemetry_subject(self._session.tenant, self._session.id, "joints"), cb=on_joints
        )  # fmt: skip

    async def _send(self, text: str) -> None:
        async with asyncio.timeout(_BLOCKED_S):
            await self._socket.send_text(text)

    # -- in

    async def _take(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005))
            picture = message.get("bytes")
            head: FrameHeader | None = None
            try:
                if picture is None:
                    await self._take_text(message.get("text") or "")
                    continue
                self._check_right()
                head, picture = read_frame_message(picture)
                session = await self._sessions.taking(self._session.tenant, self._session.id)
                await self._door.frame(session, head, picture)
            except SaccadeError as error:
                about = {} if head is None else {"source": head.source, "seq": head.seq}
                self._refuse(error, about)

    async def _take_text(self, text: str) -> None:
        try:
            asked = json.loads(text)
            kind = asked["type"]
        except (ValueError, RecursionError, KeyError, TypeError):
            raise SaccadeError(
                ErrorCode.MALFORMED_REQUEST, "The message is not a JSON object with a type.", hint=_HINT
            ) from None
        tenant, session_id = self._session.tenant, self._session.id
        match kind:
            case "clock_ping":
                self._viewer.reply(_pong(asked))
            case "joints":
                self._check_right()
                session = await self._sessions.taking(tenant, session_id)
                self._warn(await self._door.joints(session, read_joints(text)))
            case "stop":
                self._check_right()
                await self._sessions.stop(tenant, session_id)
            case "reset":
                self._check_right()
                await self._sessions.reset(tenant, session_id)
            case _:
                raise SaccadeError(
                    ErrorCode.MALFORMED_REQUEST, f"There is no message of type {str(kind)[:50]!r}.", hint=_HINT
                )

    def _check_right(self) -> None:
        self._principal.require("write")

    def _warn(self, warnings: list[str]) -> None:
        """Say what looks wrong with joints, once for as long as it stays so."""
        if warnings != self._warnings and warnings:
            self._viewer.reply(json.dumps({"type": "warning", "warnings": warnings}))
        self._warnings = warnings

    def _refuse(self, error: SaccadeError, about: dict[str, Any]) -> None:
        self._viewer.reply(json.dumps({**about, **problem(error, new_id("req")), "type": "error"}))


_HINT: Final = "Send joints, clock_ping, stop or reset; frames are binary messages. docs/sessions.md shows each."


def read_frame_message(message: bytes) -> tuple[FrameHeader, bytes]:
    """Read a binary message: four bytes of length, that much JSON, and the picture.

    Raises:
        SaccadeError: MALFORMED_REQUEST; INVALID_PARAMETER.
    """
    length = int.from_bytes(message[:4])
    if len(message) < 4 or length > min(_LONGEST_HEAD, len(message) - 4):
        raise SaccadeError(
            ErrorCode.MALFORMED_REQUEST,
            "The message does not begin with the length of its header.",
            hint="Send four bytes (big-endian) with the length of a JSON object, the object, and the picture.",
        )
    try:
        head = FrameHeader.model_validate_json(message[4 : 4 + length])
    except ValidationError as error:
        raise invalid_values(error.errors(include_url=False, include_input=False), hint=_HINT) from None
    return head, message[4 + length :]


def _pong(asked: dict[str, Any]) -> str:
    try:
        ping = _Ping.model_validate(asked)
    except ValidationError as error:
        raise invalid_values(error.errors(include_url=False, include_input=False), hint=_HINT) from None
    return json.dumps({"type": "clock_pong", "sent_at_s": ping.sent_at_s, "time_s": time.time()})
