"""Reads a session while the view catches up: from its own events and those of its job."""

from __future__ import annotations

import asyncio

from contracts.errors import ErrorCode, SaccadeError
from contracts.session import job_id_of_session
from services.gateway.aggregates.early_reads import EarlyReads
from services.gateway.sessions.presenter import SessionPresenter
from services.gateway.sessions.schemas import SessionObject


class EarlySessions:
    """Sessions of all tenants, before the history was read."""

    def __init__(self, reads: EarlyReads, presenter: SessionPresenter) -> None:
        """Present sessions as ``presenter`` does."""
        self._reads, self._presenter = reads, presenter

    @property
    def needed(self) -> bool:
        """Whether the view is behind, so that a session has to be read here."""
        return self._reads.needed

    async def read(self, tenant: str, session_id: str, wait_s: float) -> tuple[SessionObject | None, float]:
        """Return a session that includes every event stored before this call, when it has ended or after ``wait_s``.

        None, and the seconds that are left: the view has caught up meanwhile.

        Raises:
            SaccadeError: SESSION_NOT_FOUND, also for other tenants' sessions; STARTING; BUS_UNAVAILABLE,
                STORAGE_UNAVAILABLE.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + wait_s
        while True:
            async with self._reads.of(tenant) as partial:
                await partial.add("session", session_id)
                session = partial.view.session(session_id)
                if session is None:
                    raise SaccadeError(ErrorCode.SESSION_NOT_FOUND)
                if session.state.ended or (left_s := end - loop.time()) <= 0:
                    await partial.add("job", job_id := job_id_of_session(session_id))
                    return await self._presenter.early(session, partial.view.job(job_id)), 0
            await self._reads.pause(left_s)
            if not self.needed:
                return None, max(0.0, end - loop.time())
