"""Live session behind one connection of a client of the replaced vision system: opened, fed and stopped with it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

from contracts.caller_account import CallerAccount
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.session import SessionFailed, SessionStopped, SessionText
from contracts.session import Session
from kit.auth.api_keys import Principal
from services.gateway.compat.vision.finished_chunks import FinishedChunks
from services.gateway.compat.vision.frame_buffer import FrameBuffer, ReceivedFrame
from services.gateway.compat.vision.frame_shrink_process import FrameShrinker
from services.gateway.sessions.service import SessionRequest, SessionService
from services.gateway.sessions.words.service import SessionWords
from services.gateway.sessions.words.word_subscription import WordSubscription
from services.gateway.settings import CompatVisionSettings
from services.gateway.telemetry.frame_check import check_frame
from services.gateway.telemetry.publisher import FrameHeader
from services.gateway.telemetry.session_ingest import SessionIngest

log = logging.getLogger(__name__)

WORKLOAD: Final = "vision_stream"
METADATA: Final = {"opened_by": "replaced_vision"}
#: A session whose gateway has died ends after this long without a frame.
_IDLE_TIMEOUT_S: Final = 120.0
#: Delays between attempts to open a session while the bus is not available: they double.
_FIRST_RETRY_S, _LAST_RETRY_S = 1.0, 15.0
#: Time to open and to stop the session of a connection that is gone.
_STOP_S: Final = 10.0
#: Time for which the account of a connection that is gone is kept.
_ACCOUNT_S: Final = 60.0
#: Ends after which the next frame opens another session, as a connection of the replaced system has no end.
_RESUMABLE: Final = frozenset({"idle", "length"})


class StreamSession:
    """The session of one connection; another one follows where it ends by its own limits."""

    def __init__(
        self,
        principal: Principal,
        accepted_at_s: float,
        chunks: FinishedChunks,
        *,
        sessions: SessionService,
        ingest: SessionIngest,
        words: SessionWords,
        shrinker: FrameShrinker,
        settings: CompatVisionSettings,
        account: CallerAccount | None = None,
    ) -> None:
        """``accepted_at_s`` is when the connection began (Unix seconds); results go to ``chunks``.

        The worker runs on ``account``, the caller's own at Modal, if there is one.
        """
        self._account = account
        self._tenant = principal.tenant
        self._accepted_at_s = accepted_at_s
        self._chunks = chunks
        self._sessions, self._ingest, self._words = sessions, ingest, words
        self._shrinker, self._settings = shrinker, settings
        self._opening: asyncio.Task[Session] | None = None
        self._subscribed = contextlib.ExitStack()
        self._subscription: WordSubscription | None = None
        #: When the session's first frame came, seconds since the connection began.
        self._first_frame_s: float | None = None
        self._ended: SessionStopped | SessionFailed | None = None
        self._bus_failed = False

    def collect(self) -> None:
        """Add to the chunks what the session's worker has published since the last call."""
        if self._subscription is None:
            return
        for word in self._subscription.take():
            if isinstance(word, SessionText):
                self._chunks.add_text(word, self._first_frame_s or 0.0)
        if self._ended is None and (end := self._subscription.end) is not None:
            self._ended = end
            if isinstance(end, SessionFailed):
                self._chunks.add_error(end.error.message)
            elif end.reason not in _RESUMABLE:
                self._chunks.add_error(f"The session has ended ({end.reason}).")

    async def feed(self, buffer: FrameBuffer) -> None:
        """Open the session and send it the frames of a buffer until cancelled."""
        session = await self._open()
        while True:
            frame = await buffer.take()
            self.collect()
            if isinstance(self._ended, SessionStopped) and self._ended.reason in _RESUMABLE:
                await self.stop()
                session = await self._open()
            if session is not None and self._ended is None:
                await self._send(session, frame)

    async def stop(self) -> None:
        """Stop the session, also one that is being opened; it ends by itself where this fails."""
        opening, self._opening = self._opening, None
        if opening is None:
            return
        try:
            async with asyncio.timeout(_STOP_S):
                session = await opening
                self._release_later(session)
                if self._ended is None:
                    await self._sessions.stop(self._tenant, session.id)
        except (TimeoutError, SaccadeError) as error:
            log.warning("the session of a vision stream was not stopped: %s", error, extra={"tenant": self._tenant})
        finally:
            self._subscribed.close()
            self._subscription = None

    def _release_later(self, session: Session) -> None:
        """Forget the account when the dispatcher has had the time to end a worker that does not end by itself."""
        if self._account is not None:
            loop = asyncio.get_running_loop()
            loop.call_later(_ACCOUNT_S, lambda: loop.create_task(self._sessions.release_account(session.id)))

    async def _open(self) -> Session | None:
        """Open a session, as soon as the bus is available; None if it cannot be opened."""
        self._ended, self._first_frame_s, delay_s = None, None, _FIRST_RETRY_S
        while True:
            # A task of its own: a connection that closes meanwhile must stop the session, so it must not be lost.
            self._opening = asyncio.ensure_future(self._open_once())
            try:
                return await asyncio.shield(self._opening)
            except SaccadeError as error:
                self._opening = None
                log.warning("no session for a vision stream: %s", error, extra={"tenant": self._tenant})
                self._chunks.add_error(error.message)
                if not error.kind.retryable:
                    return None
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, _LAST_RETRY_S)

    async def _open_once(self) -> Session:
        settings = self._settings
        params: dict[str, object] = {"chunk_s": settings.chunk_s}
        if settings.prompt is not None:
            params["instruction"] = settings.prompt
        request = SessionRequest(WORKLOAD, params, idle_timeout_s=_IDLE_TIMEOUT_S, metadata=dict(METADATA))
        if self._account is None:
            session = await self._sessions.open(self._tenant, request, None)
        else:
            session = await self._sessions.open_on_account(self._tenant, request, self._account)
        self._subscription = self._subscribed.enter_context(self._words.subscribe(session))
        return session

    async def _send(self, session: Session, frame: ReceivedFrame) -> None:
        """Store a frame; one that is unusable is counted as rejected."""
        header = FrameHeader(seq=frame.number, captured_at_s=frame.received_at_s, clock_offset_s=0.0)
        if self._first_frame_s is None:
            self._first_frame_s = frame.received_at_s - self._accepted_at_s
        receipt = await self._ingest.receive_frame(session, header, await self._usable(frame.picture))
        unavailable = receipt.error if receipt.error and receipt.error.code is ErrorCode.BUS_UNAVAILABLE else None
        if unavailable and not self._bus_failed:
            self._chunks.add_error(unavailable.message)
        self._bus_failed = unavailable is not None

    async def _usable(self, picture: bytes) -> bytes:
        """Return a picture of a size that can be stored; one that is no picture as it is."""
        try:
            check_frame(picture)
        except SaccadeError as error:
            if error.code is ErrorCode.FRAME_TOO_LARGE:
                with contextlib.suppress(SaccadeError):
                    return await self._shrinker.shrink(self._tenant, picture)
        return picture
