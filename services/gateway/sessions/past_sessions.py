"""Sessions as they were: one, what changed of it, and the list."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.errors import ErrorCode, SaccadeError
from contracts.ids import is_id
from contracts.job import Job
from contracts.session import Session, fold_stored, job_id_of_session
from kit.bucket import Bucket
from kit.bus.tail import EventTail
from kit.history.history import History
from services.gateway.aggregates.page_cursor import SESSIONS, decode_past_cursor, encode_past_cursor
from services.gateway.aggregates.view import GatewayView
from services.gateway.sessions.presenter import SessionPresenter
from services.gateway.sessions.schemas import SessionObject, SessionPage
from services.gateway.time_machine.past_aggregates import AggregateKind, PastAggregates
from services.gateway.time_machine.past_objects import as_of, changes_between, is_removed
from services.gateway.time_machine.past_pages import ListSearch, PastPages
from services.gateway.time_machine.points import Point, PointsInTime
from services.gateway.time_machine.schemas import Changes


class PastSessions:
    """The sessions of all tenants at points of the history."""

    def __init__(
        self,
        history: History,
        tail: EventTail,
        *,
        view: GatewayView,
        presenter: SessionPresenter,
        bucket: Bucket,
        jobs: PastAggregates[Job],
    ) -> None:
        """Read from ``view`` what has not changed since, else from ``history``."""
        kind = AggregateKind(
            "session",
            "opened",
            ErrorCode.SESSION_NOT_FOUND,
            lambda text: is_id(text, "ses"),
            fold_stored,
            None,  # every question counts, and the first of several starts
            view.session,
        )
        #: Sessions as folds, without presentation.
        self.aggregates = PastAggregates[Session](kind, history, tail)
        self.points = PointsInTime(history, tail)
        self._pages = PastPages(self.aggregates, history, tail)
        self._view, self._presenter, self._bucket, self._jobs, self._tail = view, presenter, bucket, jobs, tail

    async def read(self, tenant: str, session_id: str, point: Point) -> SessionObject:
        """Return a session as it was.

        Raises:
            SaccadeError: SESSION_NOT_FOUND, NOT_CREATED_YET, HISTORY_EXPIRED, BUS_UNAVAILABLE.
        """
        session = await self.aggregates.read(tenant, session_id, point)
        chunk = session.chunk.artifact.key if session.chunk else None
        return await self._present(session, point, files_removed=await is_removed(self._bucket, chunk))

    async def changes(self, tenant: str, session_id: str, since: Point, until: Point) -> Changes:
        """Return what changed of a session between two points.

        Raises:
            SaccadeError: as ``read``.
        """
        after = await self.aggregates.read(tenant, session_id, until)
        try:
            before = await self.aggregates.read(tenant, session_id, since)
        except SaccadeError as error:
            if error.code is not ErrorCode.NOT_CREATED_YET:
                raise
            before = None
        return changes_between(
            (since, until),
            await self._present(before, since) if before else None,
            await self._present(after, until),
            await self.aggregates.events(tenant, session_id, since.sequence, until.sequence),
            self._tail.epoch,
        )

    async def page(
        self, tenant: str, states: tuple[str, ...], at: Point | None, cursor: str | None, limit: int
    ) -> SessionPage:
        """Return a page of the list of sessions as it was; ``at`` is not needed for a further page.

        Raises:
            SaccadeError: CURSOR_INVALID, BUS_UNAVAILABLE.
        """
        before, sequence = decode_past_cursor(SESSIONS, cursor) if cursor is not None else (None, None)
        point = at if sequence is None and at is not None else await self.points.at(sequence or 0)
        search = ListSearch(
            tenant,
            lambda session: not states or str(session.state) in states,
            lambda before, limit: self._view.sessions(tenant, before=before, limit=limit),
            limit,
        )
        found, rest = await self._pages.read(search, point, before)
        return SessionPage(
            data=await self._present_all(tenant, found, point),
            next_cursor=encode_past_cursor(SESSIONS, rest, point.sequence) if rest is not None else None,
            as_of=as_of(point),
        )

    async def _present(self, session: Session, point: Point, *, files_removed: bool = False) -> SessionObject:
        job = await self._jobs.find(session.tenant, job_id_of_session(session.id), point, session.first_sequence)
        return self._presenter.past(session, job, as_of(point, files_removed=files_removed))

    async def _present_all(self, tenant: str, sessions: Sequence[Session], point: Point) -> list[SessionObject]:
        # The worker of a session is submitted after the session was opened.
        begins = {job_id_of_session(session.id): session.first_sequence for session in sessions}
        jobs = await self._jobs.find_all(tenant, begins, point) if begins else {}
        return [
            self._presenter.past(session, jobs.get(job_id_of_session(session.id)), as_of(point)) for session in sessions
        ]
