"""One WebSocket of a session: receives frames, joints, questions and commands; sends events, joints and answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from datetime import UTC, datetime
from typing import Any, Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import ADVISORY, Cursor, subject_of
from contracts.ids import new_id
from contracts.session import Session
from contracts.streams import aggregate
from kit.auth.api_keys import Principal
from kit.auth.quotas import Quotas
from kit.bus.event_store import EventStore
from kit.bus.tail import EventTail
from kit.http.problems import problem
from kit.http.request_body import parse_body
from kit.tasks import first_of
from services.gateway.message_turns import MessageTurns
from services.gateway.sessions.latest_progress import LatestSessionProgress
from services.gateway.sessions.service import SessionService
from services.gateway.sessions.session_readers import SessionReaders
from services.gateway.sessions.stream.client_messages import (
    HINT,
    PromptMessage,
    clock_pong,
    parse_message,
    read_frame_message,
    unknown_message,
)
from services.gateway.sessions.stream.going_away import NOTICE_S, GoingAway, expected_end
from services.gateway.sessions.stream.joint_feeds import JointFeeds
from services.gateway.sessions.stream.socket_backlog import SocketBacklog
from services.gateway.sessions.words.service import SessionWords
from services.gateway.telemetry.joint_check import read_joints
from services.gateway.telemetry.publisher import FrameHeader
from services.gateway.telemetry.session_ingest import SessionIngest

log = logging.getLogger(__name__)

#: A send that takes longer ends the connection; the client resumes by its cursor.
_SEND_TIMEOUT_S: Final = 20.0
#: A cursor may be ahead of this process; it waits this long to catch up.
_CATCH_UP_TIMEOUT_S: Final = 1.0
#: Questions and cancellations of one client that wait to be stored: each takes a turn of the bus, and frames go on.
_MAX_COMMANDS: Final = 16
#: Interval of the checks whether the session is about to end.
_END_CHECK_S: Final = 5.0
#: Close codes: RFC 6455, section 7.4.1, and the IANA registry: the service restarts; try again later, for slow clients.
_NORMAL: Final = 1000
_RESTART: Final = 1012
_TRY_AGAIN: Final = 1013


class SessionSocket:
    """Both directions of an accepted socket, until it closes."""

    def __init__(
        self,
        socket: WebSocket,
        session: Session,
        principal: Principal,
        *,
        sessions: SessionService,
        words: SessionWords,
        progress: LatestSessionProgress,
        ingest: SessionIngest,
        session_readers: SessionReaders,
        joint_feeds: JointFeeds,
        tail: EventTail,
        quotas: Quotas,
    ) -> None:
        """Connect an accepted socket with a session, on behalf of ``principal``."""
        # Not an error: its messages wait, and a client that is told that one was refused sends it again.
        self._turns = MessageTurns(quotas, principal.tenant, lambda reason: self._send_warnings([reason]))
        self.socket, self.principal = socket, principal
        self._session = session
        self._sessions, self._words, self._progress = sessions, words, progress
        self._ingest = ingest
        self._session_readers, self._joint_feeds = session_readers, joint_feeds
        self._tail = tail
        self._backlog = SocketBacklog(tail.epoch, 0)
        self._last_warnings: list[str] = []
        self._commands: asyncio.Queue[tuple[str, str]] = asyncio.Queue(_MAX_COMMANDS)
        self._acks = False

    async def run(self, after: Cursor | None, *, joints: bool, acks: bool = False) -> None:
        """Serve until the session has ended, the client disconnects or reads too slowly, or the service stops.

        With ``acks``, each frame is acknowledged when it is received.
        """
        self._acks = acks
        self._session_readers.add(self._session.id, self._backlog)
        try:
            await first_of(
                self._send_all(after, joints=joints),
                self._receive_all(),
                self._run_commands(),
                self._announce_end(),
            )
        except (WebSocketDisconnect, TimeoutError):
            log.info("a client of %s disconnected", self._session.id)
        except SaccadeError as error:
            log.warning("a stream of %s was closed: %s", self._session.id, error)
            with contextlib.suppress(WebSocketDisconnect, RuntimeError):
                await self.socket.close(_TRY_AGAIN, str(error.code))
        finally:
            self._session_readers.remove(self._session.id, self._backlog)

    def leave(self) -> None:
        """Send the client the notice that the service stops, and close."""
        self._backlog.leaving = True
        self._backlog.not_empty.set()

    # -- sending

    async def _send_all(self, after: Cursor | None, *, joints: bool) -> None:
        await self._send_history(after)
        async with contextlib.AsyncExitStack() as stack:
            if joints and not self._backlog.ended:
                await stack.enter_async_context(self._joint_feeds.shown(self._session, self._backlog))
            while not self._backlog.ended:
                await self._backlog.not_empty.wait()
                for text in self._backlog.take():
                    await self._send(text)
                if self._backlog.too_slow:
                    await self.socket.close(_TRY_AGAIN, "too slow: resume after your last cursor")
                    return
                if self._backlog.leaving:
                    await self._send(self._going_away_text(GoingAway("shutdown", 0.0)))
                    await self.socket.close(_RESTART, "the service restarts: resume after your last cursor")
                    return
        await self.socket.close(_NORMAL, "the session has ended")

    async def _send_history(self, after: Cursor | None) -> None:
        """Send the stored events; live events wait in the backlog, which skips those sent here."""
        backlog, store = self._backlog, self._tail.store
        # The client may have received an event from another process before this one has it.
        position = self._tail.lineage.position_of(after) if after is not None else 0
        if position is None or not await self._tail.wait_for(position, _CATCH_UP_TIMEOUT_S):
            await self._send(json.dumps({"type": "gap", "after": str(after)}))
            position = 0
        backlog.position = position
        async for stored in store.history(
            backlog.position, aggregate(self._session.tenant, "session", self._session.id)
        ):
            await self._send(backlog.event_text(stored))
            for text in backlog.take_replies():  # a long history does not delay acknowledgements
                await self._send(text)
        await self._send(backlog.cursor_text())
        session = self._sessions.known(self._session)
        # The client's cursor may be after the session's last event.
        backlog.ended = backlog.ended or (session.state.ended and session.sequence <= backlog.position)
        if self._acks:
            await self._send(_resume_text(session))
        if not backlog.ended:
            subjects = subject_of(ADVISORY, session.tenant, "session", session.id, "*")
            for stored in await EventStore(store.client, "PROGRESS", for_display=True).load(subjects):
                await self._send(stored.body.decode())

    async def _send(self, text: str) -> None:
        async with asyncio.timeout(_SEND_TIMEOUT_S):
            await self.socket.send_text(text)

    async def _announce_end(self) -> None:
        """Send the client one notice when the session is about to end by its length or cost limit; never returns."""
        announced: set[str] = set()
        while True:
            session = self._sessions.known(self._session)
            end = expected_end(session, self._progress.known(session), datetime.now(UTC))
            if end.after_s <= NOTICE_S and end.reason not in announced:
                announced.add(end.reason)
                self._backlog.add_reply(self._going_away_text(end))
            await asyncio.sleep(max(0.1, min(_END_CHECK_S, end.after_s - NOTICE_S)) if not announced else _END_CHECK_S)

    def _going_away_text(self, end: GoingAway) -> str:
        return json.dumps(
            {
                "type": "going_away",
                "reason": end.reason,
                "after_s": round(end.after_s, 1),
                "cursor": self._backlog.cursor,
            }
        )

    # -- receiving

    async def _receive_all(self) -> None:
        while True:
            message = await self.socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005))
            if (picture := message.get("bytes")) is not None:
                await self._turns.next(picture)
                await self._receive_frame(picture)
                continue
            text = message.get("text") or ""
            await self._turns.next(text)
            try:
                await self._receive_text(text)
            except SaccadeError as error:
                self._report_error(error, {})

    async def _receive_frame(self, message: bytes) -> None:
        """Pass a frame on; acknowledge it, or report what is wrong with it to a client that asks for no acks."""
        header: FrameHeader | None = None
        try:
            self._check_may_write()
            header, picture = read_frame_message(message)
            session = await self._sessions.get_accepting_input(self._session.tenant, self._session.id)
        except SaccadeError as error:
            receipt = self._ingest.refusal(self._session, header, error)
        else:
            receipt = await self._ingest.receive_frame(session, header, picture)
        if self._acks:
            self._backlog.add_reply(json.dumps(receipt.message()))
        elif receipt.error is not None:
            frame = {} if header is None else {"source": receipt.source, "seq": receipt.seq}
            self._report_error(receipt.error, frame)

    async def _receive_text(self, text: str) -> None:
        kind, received = parse_message(text)
        tenant, session_id = self._session.tenant, self._session.id
        match kind:
            case "clock_ping":
                self._backlog.add_reply(clock_pong(received))
            case "joints":
                self._check_may_write()
                session = await self._sessions.get_accepting_input(tenant, session_id)
                self._warn(await self._ingest.send_joints(session, read_joints(text)))
            case "prompt" | "cancel":
                self._check_may_write()
                if self._commands.full():
                    raise SaccadeError(
                        ErrorCode.RATE_LIMITED,
                        f"{_MAX_COMMANDS} questions of this connection are being stored.",
                        hint="Wait for prompt_accepted, then ask again.",
                        in_reply_to=kind,
                    )
                self._commands.put_nowait((kind, text))
            case "stop":
                self._check_may_write()
                await self._sessions.stop(tenant, session_id)
            case "reset":
                self._check_may_write()
                await self._sessions.reset(tenant, session_id)
            case _:
                raise unknown_message(kind)

    async def _run_commands(self) -> None:
        """Store questions and cancellations in their order, beside the frames; never returns."""
        tenant, session_id = self._session.tenant, self._session.id
        while True:
            kind, text = await self._commands.get()
            try:
                if kind == "prompt":
                    prompt = parse_body(PromptMessage, text, hint=HINT)
                    asked = await self._words.ask(tenant, session_id, prompt.text, prompt.answer_schema)
                    accepted = {"type": "prompt_accepted", "prompt_id": asked.request.prompt_id}
                    self._backlog.add_reply(json.dumps(accepted))
                else:
                    await self._words.cancel(tenant, session_id)
            except SaccadeError as error:
                self._report_error(error, {"in_reply_to": kind})

    def _check_may_write(self) -> None:
        self.principal.require("write")

    def _warn(self, warnings: list[str]) -> None:
        """Send warnings about joints when they differ from the previous ones."""
        if warnings != self._last_warnings and warnings:
            self._send_warnings(warnings)
        self._last_warnings = warnings

    def _send_warnings(self, warnings: list[str]) -> None:
        self._backlog.add_reply(json.dumps({"type": "warning", "warnings": warnings}))

    def _report_error(self, error: SaccadeError, more: dict[str, Any]) -> None:
        self._backlog.add_reply(json.dumps({**more, **problem(error, new_id("req")), "type": "error"}))


def _resume_text(session: Session) -> str:
    """Return where the session stands: what a client that reconnects needs to go on."""
    chunk = session.text.chunk if session.text else session.chunk.chunk if session.chunk else 0
    return json.dumps(
        {
            "type": "resume",
            "state": str(session.state),
            "chunk": chunk,
            "last_seq": session.text.last_seq if session.text else None,
            "prompts": [prompt.prompt_id for prompt in session.prompts],
        }
    )
