"""Live sessions: opened once, their worker submitted as a job, stopped and reset on condition, ended with their job."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events import EventData, encode
from contracts.events.session import SessionOpened
from contracts.ids import is_id, new_id
from contracts.job import Job
from contracts.limits import PAGE_DEFAULT, PAGE_MAX, SESSION_IDLE_S, SESSION_LENGTH_S
from contracts.session import Session, fold_stored, job_id_of_session, request_reset, request_stop
from contracts.streams import aggregate
from kit.bus.event_store import Conflict, EventStore
from kit.bus.idempotency import Idempotency, IdempotencyKey
from kit.bus.tail import EventTail
from services.gateway.aggregates.aggregate_reader import AggregateReader
from services.gateway.aggregates.completion_waiters import CompletionWaiters
from services.gateway.aggregates.page_cursor import decode_page_cursor, encode_page_cursor
from services.gateway.aggregates.view import GatewayView
from services.gateway.jobs.service import JobService
from services.gateway.jobs.submission import check_kind, check_metadata, check_params
from services.gateway.sessions.latest_progress import LatestSessionProgress
from services.gateway.sessions.worker_job import ending_of, submission_of
from services.gateway.settings import GatewaySettings
from services.gateway.telemetry.record import open_record
from services.gateway.uploads.service import SEEN_S, SOURCE

log = logging.getLogger(__name__)

_DECISIONS: Final = 50
_PAGES: Final = 5
_PAGE_MARK: Final = "sessions"


@dataclass(frozen=True)
class SessionRequest:
    """What a client asks for, before it was checked; times in seconds."""

    workload: str
    params: dict[str, Any]
    idle_timeout_s: float = SESSION_IDLE_S
    max_length_s: float = SESSION_LENGTH_S
    max_cost_usd: float | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    replay_of: str | None = None


class SessionService:
    """Every session of every tenant."""

    def __init__(
        self,
        *,
        store: EventStore,
        view: GatewayView,
        tail: EventTail,
        jobs: JobService,
        idempotency: Idempotency,
        waiting: CompletionWaiters,
        live: LatestSessionProgress,
        settings: GatewaySettings,
    ) -> None:
        """Use bus and view; what a worker that is gone has counted is in ``live``."""
        self._store = store
        self._view = view
        self._tail = tail
        self._jobs = jobs
        self._idempotency = idempotency
        self._reading = AggregateReader[Session](
            "session",
            ErrorCode.SESSION_NOT_FOUND,
            is_one=lambda text: is_id(text, "ses"),
            viewed=view.session,
            load=self._load,
            store=store,
            tail=tail,
            waiting=waiting,
        )
        self._live = live
        self._settings = settings

    async def open(self, tenant: str, wanted: SessionRequest, key: IdempotencyKey | None) -> Session:
        """Check and store a session and its job; the same Idempotency-Key opens the same one, whoever died between.

        Raises:
            SaccadeError: what is wrong with the request; IDEMPOTENCY_KEY_REUSED; BUS_UNAVAILABLE.
        """
        session_id = new_id("ses")
        made = await self._idempotency.recall(key) if key else None
        if made:
            if session := await self._load(tenant, made):
                return await self._begun(session)
            session_id = made
        data = await self._checked(tenant, wanted)
        if key and not made:
            session_id = await self._idempotency.claim(key, session_id)
        message = encode(data, tenant=tenant, subject_id=session_id, source=SOURCE, event_id=f"{session_id}.opened")
        try:
            await self._store.publish(message, after=0, among=aggregate(tenant, "session", session_id))
        except Conflict:
            log.info("%s was opened by another request with the same key", session_id)
        session = await self._load(tenant, session_id)
        if session is None:
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE)
        return await self._begun(session)

    async def read(self, tenant: str, session_id: str, wait_s: float = 0) -> Session:
        """Give a session as it is now: whoever was told of an event elsewhere finds it here.

        Raises:
            SaccadeError: SESSION_NOT_FOUND, for other tenants' sessions too.
        """
        return await self._reading.read(tenant, session_id, wait_s)

    async def get(self, tenant: str, session_id: str, wait_s: float = 0) -> Session:
        """Give a session as the view has it; with ``wait_s`` when it has ended, or after that time.

        Raises:
            SaccadeError: SESSION_NOT_FOUND, for other tenants' sessions too.
        """
        return await self._reading.get(tenant, session_id, wait_s)

    def known(self, session: Session) -> Session:
        """Give a session as the view has it, unless that is behind."""
        viewed = self._view.session(session.id)
        return viewed if viewed is not None and viewed.sequence >= session.sequence else session

    async def taking(self, tenant: str, session_id: str) -> Session:
        """Give a session that takes frames and joints.

        Raises:
            SaccadeError: SESSION_NOT_FOUND, SESSION_ENDED.
        """
        session = await self.get(tenant, session_id)
        if session.state.ended or session.stop_requested:
            raise SaccadeError(ErrorCode.SESSION_ENDED, f"The session is {session.state}.")
        return session

    def page(
        self, tenant: str, states: tuple[str, ...] = (), *, cursor: str | None = None, limit: int = PAGE_DEFAULT
    ) -> tuple[list[Session], str | None]:
        """List a tenant's sessions, newest first, and give the next page's cursor.

        Raises:
            SaccadeError: CURSOR_INVALID.
        """
        before = decode_page_cursor(_PAGE_MARK, cursor) if cursor is not None else None
        sessions, last = self._view.sessions(tenant, states, before=before, limit=limit)
        return sessions, encode_page_cursor(_PAGE_MARK, last) if last is not None else None

    def newest_marked(self, tenant: str, metadata: dict[str, str]) -> Session | None:
        """Give the newest of a tenant's sessions whose metadata say this; only so many are looked at."""
        before: int | None = None
        for _ in range(_PAGES):
            sessions, before = self._view.sessions(tenant, before=before, limit=PAGE_MAX)
            for session in sessions:
                if metadata.items() <= session.opened.metadata.items():
                    return session
            if before is None:
                break
        return None

    async def stop(self, tenant: str, session_id: str) -> Session:
        """Ask for a session's end, durably. One that no worker has begun ends at once. May be repeated.

        Raises:
            SaccadeError: SESSION_NOT_FOUND; BUS_UNAVAILABLE.
        """
        session = await self._decide(tenant, session_id, lambda session: request_stop(session, by=f"tenant:{tenant}"))
        if not session.state.ended:
            await self.mend(session)
        return self.known(session)

    async def reset(self, tenant: str, session_id: str) -> Session:
        """Ask a session to begin anew, durably.

        Raises:
            SaccadeError: SESSION_NOT_FOUND, SESSION_ENDED; BUS_UNAVAILABLE.
        """
        session = await self._decide(
            tenant, session_id, lambda session: request_reset(session, by=f"tenant:{tenant}")
        )  # fmt: skip
        return self.known(session)

    async def mend(self, session: Session) -> None:
        """Do what is left to do for a session: give it its job, end that which is not needed, or tell of its end.

        Whatever process died in between, and however many do this at a time: each step is on condition.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        job = await self._jobs.find(session.tenant, job_id_of_session(session.id))
        if job is None:
            await self._launch(session)
            job = await self._jobs.find(session.tenant, job_id_of_session(session.id))
        if job is None:
            return
        if job.state.ended:
            await self._end(session, job)
        elif session.stop_requested and session.ready_at is None:
            await self._jobs.cancel_unstarted(session.tenant, job.id, by=f"session:{session.id}")

    async def _begun(self, session: Session) -> Session:
        """See that a session has its job, and that the view has both."""
        await self.mend(session)
        await self._tail.wait_for(session.first_sequence, SEEN_S)
        return self.known(session)

    async def _launch(self, session: Session) -> None:
        """Submit the job of a session, unless somebody has."""
        job_id = job_id_of_session(session.id)
        try:
            workload = check_kind(session.opened.workload, "session")
        except SaccadeError as error:  # a version that does not have it any more goes on where one that had it died
            log.warning("%s cannot have a worker: %s", session.id, error)
            return
        data = submission_of(session, workload, self._jobs.estimate(workload))
        message = encode(
            data, tenant=session.tenant, subject_id=job_id, source=SOURCE, event_id=f"{job_id}.submitted"
        )  # fmt: skip
        try:
            sequence = await self._store.publish(message, after=0, among=aggregate(session.tenant, "job", job_id))
        except Conflict:
            return
        await self._tail.wait_for(sequence, SEEN_S)

    async def _end(self, session: Session, job: Job) -> None:
        """Say that a session has ended with its job, unless somebody has."""
        for _ in range(_DECISIONS):
            current = await self._load(session.tenant, session.id)
            if current is None or current.state.ended:
                return
            told = await self._live.of(current)
            data = await ending_of(current, job, told.totals, self._store.client)
            message = encode(
                data,
                tenant=session.tenant,
                subject_id=session.id,
                source=SOURCE,
                event_id=f"{session.id}.{data.type.partition('.')[2]}",
            )
            try:
                sequence = await self._store.publish(
                    message, after=current.sequence, among=aggregate(session.tenant, "session", session.id)
                )
            except Conflict:
                continue
            await self._tail.wait_for(sequence, SEEN_S)
            return

    async def _decide(
        self, tenant: str, session_id: str, decision: Callable[[Session], EventData | None]
    ) -> Session:  # fmt: skip
        """Change a session's state; when somebody else wrote first, read again and decide again."""
        if not is_id(session_id, "ses"):
            raise SaccadeError(ErrorCode.SESSION_NOT_FOUND)
        for _ in range(_DECISIONS):
            session = await self._load(tenant, session_id)
            if session is None:
                raise SaccadeError(ErrorCode.SESSION_NOT_FOUND)
            data = decision(session)
            if data is None:
                return session
            message = encode(data, tenant=tenant, subject_id=session_id, source=SOURCE)
            try:
                sequence = await self._store.publish(
                    message, after=session.sequence, among=aggregate(tenant, "session", session_id)
                )
            except Conflict:
                continue
            await self._tail.wait_for(sequence, SEEN_S)
            return fold_stored(session, message.subject, message.body, sequence) or session
        raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, "The session changes too fast to be decided about.")

    async def _load(self, tenant: str, session_id: str) -> Session | None:
        session: Session | None = None
        for stored in await self._store.load(aggregate(tenant, "session", session_id)):
            session = fold_stored(session, stored.subject, stored.body, stored.sequence)
        return session

    async def _checked(self, tenant: str, wanted: SessionRequest) -> SessionOpened:
        workload = check_kind(wanted.workload, "session")
        params = check_params(workload, wanted.params, self._settings.backends)
        check_metadata(wanted.metadata)
        if not self._settings.takes_sessions:  # before anything is launched, and paid for
            raise SaccadeError(ErrorCode.SESSIONS_NOT_CONFIGURED)
        if wanted.replay_of is not None:
            await self._check_replay(tenant, wanted.replay_of, workload.name)
        return SessionOpened(
            workload=workload.name,
            workload_version=workload.version,
            params=params,
            idle_timeout_s=wanted.idle_timeout_s,
            max_length_s=wanted.max_length_s,
            max_cost_usd=wanted.max_cost_usd,
            metadata=wanted.metadata,
            replay_of=wanted.replay_of,
        )

    async def _check_replay(self, tenant: str, session_id: str, workload: str) -> None:
        where = [{"detail": f"There is no session {session_id!r}.", "pointer": "#/replay_of"}]
        try:
            recorded = await self.get(tenant, session_id)
        except SaccadeError as error:
            raise SaccadeError(error.code, where[0]["detail"], errors=where) from None
        message = ""
        if recorded.opened.workload != workload:
            message = f"{session_id} was a session of {recorded.opened.workload}: only the same workload replays it."
        if recorded.opened.replay_of is not None:
            message = f"{session_id} is a replay itself: replay {recorded.opened.replay_of}, which has the frames."
        if message:
            raise SaccadeError(
                ErrorCode.INVALID_PARAMETER, message, errors=[{"detail": message, "pointer": "#/replay_of"}]
            )
        sent = max((await self._live.of(recorded)).totals.sent, recorded.totals.sent)
        if sent:
            record = await open_record(self._store.client, recorded, sent)
            if not record.whole:
                raise SaccadeError(
                    ErrorCode.SESSION_RECORD_EXPIRED, f"{record.counts.get('frames', 0)} of {sent} frames are kept."
                )
