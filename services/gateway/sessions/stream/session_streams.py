"""Opens WebSockets of sessions for authenticated clients."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import Final

from starlette.websockets import WebSocket

from contracts.events import Cursor
from contracts.quotas import QuotaName
from kit.auth.api_keys import Authenticator, Principal
from kit.auth.mapped_credential import caller_of
from kit.auth.revocation import serve_until_revoked
from kit.auth.tickets import Tickets
from kit.bus.tail import EventTail
from services.gateway.sessions.latest_progress import LatestSessionProgress
from services.gateway.sessions.service import SessionService
from services.gateway.sessions.session_readers import SessionReaders
from services.gateway.sessions.stream.joint_feeds import JointFeeds
from services.gateway.sessions.stream.session_socket import SessionSocket
from services.gateway.sessions.words.service import SessionWords
from services.gateway.settings import SessionSettings
from services.gateway.socket_places import SocketPlaces
from services.gateway.telemetry.session_ingest import SessionIngest

#: Clients that do not read their last message in this time are closed without it.
_DRAIN_S: Final = 0.5


class SessionStreams:
    """The WebSockets of all sessions."""

    def __init__(
        self,
        settings: SessionSettings,
        *,
        authenticator: Authenticator,
        tickets: Tickets,
        sessions: SessionService,
        words: SessionWords,
        progress: LatestSessionProgress,
        ingest: SessionIngest,
        session_readers: SessionReaders,
        tail: EventTail,
    ) -> None:
        """Authenticate by API key or ticket; ``session_readers`` has each socket while it is open.

        ``settings`` limit the sockets that a tenant has open in this process.
        """
        self.tickets, self.session_readers = tickets, session_readers
        self._authenticator = authenticator
        self._sessions, self._ingest, self._tail = sessions, ingest, tail
        self._words, self._progress = words, progress
        self._joint_feeds = JointFeeds(tail.store.client)
        authenticator.quotas.defaults[QuotaName.SESSION_SOCKETS] = settings.session_sockets_per_tenant
        self.places = SocketPlaces(authenticator.quotas)
        self._running: set[SessionSocket] = set()
        self._all_closed = asyncio.Event()
        self._all_closed.set()

    async def open(self, socket: WebSocket, session_id: str) -> SessionSocket:
        """Return the socket's connection to a session of the client's tenant; the caller accepts and runs it.

        Raises:
            SaccadeError: UNAUTHENTICATED, FORBIDDEN, RATE_LIMITED, SESSION_NOT_FOUND.
        """
        principal = self._authenticate(socket)
        session = await self._sessions.get(principal.tenant, session_id)
        return SessionSocket(
            socket,
            session,
            principal,
            sessions=self._sessions,
            words=self._words,
            progress=self._progress,
            ingest=self._ingest,
            session_readers=self.session_readers,
            joint_feeds=self._joint_feeds,
            tail=self._tail,
            quotas=self._authenticator.quotas,
        )

    async def run(self, session_socket: SessionSocket, after: Cursor | None, *, joints: bool, acks: bool) -> None:
        """Serve an accepted socket until it is closed, or its client's key is no longer valid."""
        self._running.add(session_socket)
        self._all_closed.clear()
        try:
            serving = session_socket.run(after, joints=joints, acks=acks)
            await serve_until_revoked(self._authenticator, session_socket.principal, session_socket.socket, serving)
        finally:
            self._running.discard(session_socket)
            if not self._running:
                self._all_closed.set()

    async def drain(self) -> None:
        """Send every client the notice that this service stops, with its cursor, and close the sockets."""
        for session_socket in self._running:
            session_socket.leave()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                await self._all_closed.wait()

    def _authenticate(self, socket: WebSocket) -> Principal:
        """Return the caller, or the principal of the ticket in ``?ticket=``, since browsers cannot set headers.

        Raises:
            SaccadeError: UNAUTHENTICATED, FORBIDDEN, RATE_LIMITED.
        """
        ticket = socket.query_params.get("ticket")
        if not ticket or not self._authenticator.authenticated or "authorization" in socket.headers:
            return caller_of(self._authenticator, socket, "read")
        principal = self.tickets.admit(self._authenticator, ticket, socket.url.path, datetime.now(UTC))
        principal.require("read")
        self._authenticator.quotas.take(principal.tenant, QuotaName.REQUESTS)
        return principal
