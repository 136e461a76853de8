"""Reads a session while the view catches up: from its own events and those of its job."""

from __future__ import annotations

from collections.abc import Callable

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

    async def read(self, tenant: str, session_id: str, wait_s: float) -> tuple[SessionObject | None, float]:
        """Return a session that includes every event stored before this call, when it has ended or after ``wait_s``.

        None, and the seconds that are left: the view has caught up.

        Raises:
            SaccadeError: SESSION_NOT_FOUND, also for other tenants' sessions; STARTING; BUS_UNAVAILABLE,
                STORAGE_UNAVAILABLE.
        """

        async def read(is_over: Callable[[], bool]) -> SessionObject | None:
            async with self._reads.of(tenant) as partial:
                await partial.add("session", session_id)
                session = partial.view.session(session_id)
                if session is None:
                    raise SaccadeError(ErrorCode.SESSION_NOT_FOUND)
                if session.state.ended or is_over():
                    await partial.add("job", job_id := job_id_of_session(session_id))
                    return await self._presenter.early(session, partial.view.job(job_id))
            return None

        return await self._reads.answer(read, wait_s)
