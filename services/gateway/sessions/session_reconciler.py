"""Sees to it that what was begun for a session is finished, whichever gateway died in between."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from contracts.errors import SaccadeError
from services.gateway.aggregates.view import GatewayView
from services.gateway.sessions.service import SessionService

log = logging.getLogger(__name__)

#: Whoever opened or stopped a session has this long to finish it before somebody else does.
_PATIENCE_S: Final = 1.0
_TRY_AGAIN_S: Final = 2.0


class SessionReconciler:
    """Looks at sessions that may need a hand, one after the other."""

    def __init__(self, sessions: SessionService, view: GatewayView) -> None:
        """Look at nothing yet."""
        self._sessions = sessions
        self._view = view
        self._due: asyncio.Queue[str] = asyncio.Queue()
        self._waiting: set[str] = set()
        self._running = False

    def look_soon(self, session_id: str) -> None:
        """Look at a session when whoever is at it should be done. While history is folded all are looked at anyway."""
        if self._running:
            asyncio.get_running_loop().call_later(_PATIENCE_S, self._put, session_id)

    def look_now(self, session_id: str) -> None:
        """Look at a session: its job has ended."""
        if self._running:
            self._put(session_id)

    def look_at_all(self) -> None:
        """Look at every session that has not ended: once at the start, and from time to time."""
        for session_id in self._view.unfinished_sessions():
            self._put(session_id)

    async def run(self, ready: asyncio.Event) -> None:
        """Keep looking, until cancelled."""
        await ready.wait()
        self._running = True
        self.look_at_all()
        while True:
            session_id = await self._due.get()
            self._waiting.discard(session_id)
            session = self._view.session(session_id)
            if session is None or session.state.ended:
                continue
            try:
                await self._sessions.mend(session)
            except SaccadeError as error:
                log.warning("%s is looked at again: %s", session_id, error)
                asyncio.get_running_loop().call_later(_TRY_AGAIN_S, self._put, session_id)

    def _put(self, session_id: str) -> None:
        if session_id not in self._waiting:
            self._waiting.add(session_id)
            self._due.put_nowait(session_id)
