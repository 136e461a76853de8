"""Opens WebSockets of sessions for authenticated clients."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.websockets import WebSocket

from kit.auth.api_keys import Authenticator, Principal
from kit.auth.tickets import Tickets
from kit.bus.tail import EventTail
from services.gateway.sessions.service import SessionService
from services.gateway.sessions.stream.session_socket import SessionSocket
from services.gateway.sessions.stream.socket_backlog import OpenSockets
from services.gateway.telemetry.session_ingest import SessionIngest


class SessionStreams:
    """The WebSockets of all sessions."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        tickets: Tickets,
        sessions: SessionService,
        ingest: SessionIngest,
        open_sockets: OpenSockets,
        tail: EventTail,
    ) -> None:
        """Authenticate by API key or ticket; ``open_sockets`` receives each socket while it is open."""
        self.tickets, self.open_sockets = tickets, open_sockets
        self._authenticator = authenticator
        self._sessions, self._ingest, self._tail = sessions, ingest, tail

    async def open(self, socket: WebSocket, session_id: str) -> SessionSocket:
        """Return the socket's connection to a session of the client's tenant; the caller accepts and runs it.

        Raises:
            SaccadeError: UNAUTHENTICATED, FORBIDDEN, SESSION_NOT_FOUND.
        """
        principal = self._authenticate(socket)
        session = await self._sessions.get(principal.tenant, session_id)
        return SessionSocket(
            socket,
            session,
            principal,
            sessions=self._sessions,
            ingest=self._ingest,
            open_sockets=self.open_sockets,
            tail=self._tail,
        )

    def _authenticate(self, socket: WebSocket) -> Principal:
        """Return the principal of an API key, or of the ticket in ``?ticket=``, since browsers cannot set headers.

        Raises:
            SaccadeError: UNAUTHENTICATED, FORBIDDEN.
        """
        ticket = socket.query_params.get("ticket")
        if not ticket or not self._authenticator.authenticated or "authorization" in socket.headers:
            return self._authenticator.authenticate(socket.headers, "read")
        principal = self.tickets.admit(self._authenticator, ticket, socket.url.path, datetime.now(UTC))
        principal.require("read")
        return principal
