"""Finishes what another gateway process left unfinished for a session: its job, its end."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from contracts.errors import SaccadeError
from services.gateway.aggregates.view import GatewayView
from services.gateway.sessions.service import SessionService

log = logging.getLogger(__name__)

#: The process that opened or stopped a session has this long to finish it before another one does.
_GRACE_PERIOD_S: Final = 1.0
_RETRY_DELAY_S: Final = 2.0


class SessionReconciler:
    """Queue of sessions to reconcile, processed one at a time."""

    def __init__(self, sessions: SessionService, view: GatewayView) -> None:
        """Start with an empty queue."""
        self._sessions = sessions
        self._view = view
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._queued: set[str] = set()
        self._running = False

    def enqueue_later(self, session_id: str) -> None:
        """Enqueue a session after the grace period. Ignored before ``run``, which enqueues every session."""
        if self._running:
            asyncio.get_running_loop().call_later(_GRACE_PERIOD_S, self._enqueue, session_id)

    def enqueue(self, session_id: str) -> None:
        """Enqueue a session now: its job has ended. Ignored before ``run``, which enqueues every session."""
        if self._running:
            self._enqueue(session_id)

    def enqueue_unfinished(self) -> None:
        """Enqueue every session that has not ended; called at the start and periodically."""
        for session_id in self._view.unfinished_sessions():
            self._enqueue(session_id)

    async def run(self, view_ready: asyncio.Event) -> None:
        """Reconcile queued sessions until cancelled, once the view has caught up with the stream."""
        await view_ready.wait()
        self._running = True
        self.enqueue_unfinished()
        while True:
            session_id = await self._queue.get()
            self._queued.discard(session_id)
            session = self._view.session(session_id)
            if session is None or session.state.ended:
                continue
            try:
                await self._sessions.reconcile(session)
            except SaccadeError as error:
                log.warning("%s: reconciliation failed, retried in %g s: %s", session_id, _RETRY_DELAY_S, error)
                asyncio.get_running_loop().call_later(_RETRY_DELAY_S, self._enqueue, session_id)

    def _enqueue(self, session_id: str) -> None:
        if session_id not in self._queued:
            self._queued.add(session_id)
            self._queue.put_nowait(session_id)
